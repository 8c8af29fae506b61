"""A state machine over a store: everything that can be done to jobs, in orders nobody thought of.

Hypothesis makes up sequences of steps (enqueue, claim, end, lose a lease, cancel, pause, retry,
clean, tick, wait). Each is done to the store and to a plain model, and after each the two are
compared and the promises checked. A sequence that breaks one is cut down to its shortest form.

    from jobs.testing.machine import run_machine

    def test_my_store_in_any_order():
        run_machine(lambda clock: MyStore(clock=clock))

This one needs Hypothesis. Stores are to follow ``clock``, a :class:`~jobs.testing.ManualClock`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobs.core.backoff import fixed
from jobs.core.clock import ManualClock
from jobs.core.errors import Discard, JobCancelled, JobStateConflict, Snooze
from jobs.core.job import TERMINAL, Claimed, Job, State
from jobs.core.outcome import Ending, NotStarted, Outcome, Raised, Returned, decide
from jobs.core.store import JobFilter, Store, Touch
from jobs.runtime.settle import settle_all
from jobs.system import Tickwork
from jobs.testing import promises
from jobs.testing.model import (
    BACKOFF_SECONDS,
    FOREIGN,
    HANDLED,
    KEEP_COMPLETED_SECONDS,
    KEEP_FAILED_SECONDS,
    LIVE,
    QUEUES_AT_ONCE,
    SNOOZE_SECONDS,
    WINDOW_SECONDS,
    Model,
    Row,
    seen,
    wanted,
)

Thing = TypeVar("Thing")
LEASE_SECONDS, TICK_SLOTS = 30.0, 3
ALL_ROWS = 100_000
# Around the machine's own durations, and at them: backoff, snooze, rate, lease, window, keeping.
WAITS = (0, 1, 5, 9, 10, 30, 31, 40, 60, 300, 7 * 86_400)
ENDINGS: dict[str, Callable[[], Ending]] = {
    "return": lambda: Returned(None),
    "fail": lambda: Raised(ValueError("boom")),
    "discard": lambda: Raised(Discard("no use")),
    "snooze": lambda: Raised(Snooze(SNOOZE_SECONDS)),
    "release": NotStarted,
    "stop": lambda: Raised(JobCancelled()),
}
PUTS_BACK = ("fail", "snooze", "release")  # as cancelled, if that was asked for

_picks = st.integers(0, 30)
# The likely first: what is held back all the time is no test of what runs.
_kinds = st.sampled_from(["few", "keyed", "paced", "plain", "few", "keyed", "paced", FOREIGN])
_unique_kinds = st.sampled_from(["plain", "plain", "few"])
_subjects = st.sampled_from(["queue/mail", "kind/few", "queue/default", "queue/all"])
_endings = st.sampled_from([name for name in ENDINGS if name != "stop"])
_plain = {
    "queue": st.sampled_from(["default", "mail"]),
    "priority": st.integers(1, 3),
    "delay": st.sampled_from([0, 0, 1, 5]),
    "tenant": st.sampled_from(["", "acme", "zeta"]),
    "concurrency_key": st.sampled_from(["k1", "k2"]),
    "max_attempts": st.integers(1, 3),
    "does": st.sampled_from(["return", "fail", "discard", "snooze"]),
}
_named = {
    "dedupe_key": st.just("d1"),
    "job_id": st.sampled_from(["a1", "a2"]),
    "replace": st.just(True),
}
_options = st.fixed_dictionaries({}, optional=_plain)
_named_options = st.fixed_dictionaries({}, optional={**_plain, **_named})


def run_machine(
    make_store: Callable[[ManualClock], Store],
    *,
    examples: int = 60,
    steps: int = 40,
    at_random: bool = False,
) -> None:
    """Run so many made-up sequences of up to so many steps; raises what the first bad one raised.

    ``make_store`` is called for each with a clock of its own, and must give a store without rows: a
    fresh namespace will do. They are the same at every run, unless ``at_random``.
    """
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=not at_random,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    machine: Any = partial(StoreMachine, make_store)
    with _quietly():
        run_state_machine_as_test(machine, settings=chosen)


class StoreMachine(RuleBasedStateMachine):
    """The steps. Beside the system's own ticks there is a second runner, which the rules play."""

    def __init__(self, make_store: Callable[[ManualClock], Store]) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.store = make_store(self.clock)
        self.tickwork = _system(self.store, self.clock)
        self.model = Model()
        self.held: list[Claimed] = []  # every claim that the second runner ever had
        self.before: dict[str, Job] = {}
        self.retried: set[str] = set()
        self.may_go: Callable[[Job], bool] = _nothing

    def teardown(self) -> None:
        self.tickwork.close()

    # -- enqueue -------------------------------------------------------------------------------

    @rule(kind=_unique_kinds, options=_named_options)
    def enqueue(self, kind: str, options: dict[str, Any]) -> None:
        if options.keys().isdisjoint({"dedupe_key", "job_id"}):  # nothing to replace by
            options = _without(options, "replace")
        want = wanted("", kind, self.now, options)
        holder = self.model.holder(want, self.now)
        job = self.tickwork.enqueue(kind, _payload(options), **_said(options))
        assert job.existing == (holder is not None), f"held by {holder}, yet: {job}"
        self._enqueued(job.id, kind, options)

    @rule(kind=_kinds, options=_options, count=st.integers(2, 9))
    def enqueue_many(self, kind: str, options: dict[str, Any], count: int) -> None:
        same = [(kind, _payload(options), _said(options))] * count
        for job_id in self.tickwork.enqueue_many(same):
            self._enqueued(job_id, kind, options)

    @rule(kind=_unique_kinds, several=st.lists(_named_options, min_size=1, max_size=4))
    def enqueue_many_named(self, kind: str, several: list[dict[str, Any]]) -> None:
        several = [_without(options, "replace") for options in several]
        given = [(kind, _payload(options), _said(options)) for options in several]
        for job_id, options in zip(self.tickwork.enqueue_many(given), several, strict=True):
            self._enqueued(job_id, kind, options)

    def _enqueued(self, job_id: str, kind: str, options: dict[str, Any]) -> None:
        want = wanted(job_id, kind, self.now, options)
        holder = self.model.holder(want, self.now)
        if holder is None:
            assert job_id not in self.model.rows, f"nothing held its names, yet it is {job_id}"
            self.model.add(want, self.now, options.get("dedupe_window", WINDOW_SECONDS))
            return
        assert job_id == holder, f"{holder} holds its names, yet it is {job_id}"
        if "replace" in options:
            self.model.replace(holder, want)

    # -- the second runner ---------------------------------------------------------------------

    @rule(limit=st.integers(1, 9), mark=st.integers(0, 3), probed=st.booleans())
    @precondition(lambda self: self.model.startable(self.now))
    def claim(self, limit: int, mark: int, probed: bool) -> None:
        lanes = self.store.probe().lanes if probed else None
        self._claimed(self._claim(limit, mark, lanes=lanes), limit, mark, rated_places=mark or None)

    @rule(
        picks=st.lists(_picks, min_size=1, max_size=5),
        limit=st.integers(1, 5),
        mark=st.integers(0, 3),
    )
    @precondition(lambda self: self.model.rows)
    def claim_by_ids(self, picks: list[int], limit: int, mark: int) -> None:
        ids = [self._pick(pick).id for pick in picks]
        claimed = self._claim(limit, mark, ids=ids)
        self._claimed(claimed, limit, mark, rated_places=None, among=ids)

    def _claim(self, limit: int, mark: int, **options: Any) -> list[Claimed]:
        return self.store.claim(
            limit,
            kinds=self.tickwork.registry.kinds,
            lease_seconds=LEASE_SECONDS,
            mark=mark,
            limits=self.tickwork._runtime.limits,
            **options,
        )

    def _claimed(self, claimed: list[Claimed], limit: int, mark: int, **options: Any) -> None:
        self.model.claim(
            [job.id for job in claimed],
            self.now,
            limit=limit,
            lease_seconds=LEASE_SECONDS,
            mark=mark,
            **options,
        )
        for job in claimed:
            row = self.model.rows[job.id]
            assert (job.attempt, job.fence) == (row.attempts, row.fence), f"{job} is not {row}"
            assert job.marked == row.started, f"the claim and the row disagree: {job}, {row}"
        self.held += claimed

    @rule(picks=st.lists(_picks, min_size=1, max_size=3))
    @precondition(lambda self: self._in_hand())
    def start(self, picks: list[int]) -> None:
        jobs = self._hands(picks)
        report = self.store.touch([Touch(job.id, job.fence, started=True) for job in jobs])
        assert not report.lost, f"held, yet lost: {report}"
        for job in jobs:
            self.model.rows[job.id].started = True

    @rule(picks=st.lists(_picks, min_size=1, max_size=3))
    @precondition(lambda self: self._in_hand())
    def heartbeat(self, picks: list[int]) -> None:
        jobs, later = self._hands(picks), self.now + timedelta(seconds=LEASE_SECONDS)
        touches = [Touch(job.id, job.fence) for job in jobs]
        report = self.store.touch(touches, lease_seconds=LEASE_SECONDS)
        assert not report.lost, f"held, yet lost: {report}"
        rows = [self.model.rows[job.id] for job in jobs]
        assert report.cancelled == {row.id for row in rows if row.cancel_requested}
        for row in rows:
            row.lease_until = later

    @rule(picks=st.lists(_picks, min_size=1, max_size=3), ending=_endings)
    @precondition(lambda self: self._in_hand())
    def end(self, picks: list[int], ending: str) -> None:
        jobs = self._hands(picks)
        late = settle_all(self.tickwork._runtime, [self._outcome(job, ending) for job in jobs])
        assert not late, f"held, yet late: {late}"
        for job in jobs:
            self.model.end(self.model.rows[job.id], ending, self.now)

    @rule()
    @precondition(lambda self: self._asked_to_stop())
    def stop(self) -> None:
        job = self._asked_to_stop()[0]
        assert not settle_all(self.tickwork._runtime, [self._outcome(job, "stop")])
        self.model.end(self.model.rows[job.id], "stop", self.now)

    @rule(pick=_picks, ending=_endings)
    @precondition(lambda self: self._superseded())
    def end_late(self, pick: int, ending: str) -> None:
        """A runner that was frozen wakes up, and writes as if nothing had happened."""
        self._end_late(_chosen(self._superseded()[::-1], pick), ending)

    def _end_late(self, job: Claimed, ending: str) -> None:
        outcome, row = self._outcome(job, ending), self.model.rows.get(job.id)
        # What stands as it would have been written may have been written by a try before.
        states = {outcome.verdict.state, "cancelled" if ending in PUTS_BACK else ""}
        wrote = row is not None and row.fence == job.fence and row.state in states
        late = settle_all(self.tickwork._runtime, [outcome])
        assert late == {job.id} or (wrote and not late), f"written with an old fence: {job}"
        report = self.store.touch([Touch(job.id, job.fence, started=True)], lease_seconds=3600)
        assert report.lost == {job.id}, f"touched with an old fence: {job}"

    # Two stories that single steps seldom come to by themselves.

    @rule(pick=_picks, ending=_endings, marked=st.booleans())
    @precondition(lambda self: self._in_hand())
    def overtake(self, pick: int, ending: str, marked: bool) -> None:
        """A runner freezes, its lease runs out, its job is taken over, and it wakes up."""
        job = _chosen(self._in_hand(), pick)
        self.reclaim(int(LEASE_SECONDS) + 1)
        self.clock.advance(BACKOFF_SECONDS)
        self._claimed(
            self._claim(1, int(marked), ids=[job.id]),
            1,
            int(marked),
            rated_places=None,
            among=[job.id],
        )
        self._end_late(job, ending)

    @rule(
        kind=st.sampled_from(["few", "keyed", "paced"]),
        key=st.sampled_from(["k1", "k2"]),
        seconds=st.sampled_from([0, 5, 9, 10, 31]),
    )
    def crowd(self, kind: str, key: str, seconds: int) -> None:
        """More than a limit lets through, twice; what was claimed first may have stalled."""
        options = {"concurrency_key": key, "priority": 1}
        for _ in range(2):
            self.enqueue_many(kind, options, 4)
            self._claimed(self._claim(9, 0), 9, 0, rated_places=None)
            self.clock.advance(seconds)

    def _outcome(self, job: Claimed, ending: str) -> Outcome:
        policy = self.tickwork._runtime.policy(job.kind, job.queue)
        return decide(job, ENDINGS[ending](), policy, at=self.now)

    # -- time, upkeep, ticks -------------------------------------------------------------------

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([0, 31]))
    @precondition(lambda self: self.model.in_state(State.PROCESSING))
    def reclaim(self, seconds: int) -> None:
        """Perhaps after a time in which no runner was heard of."""
        self.clock.advance(seconds)
        reclaimed, expected = self.tickwork.reclaim(), self.model.reclaim(self.now)
        assert reclaimed == expected, f"{reclaimed} reclaimed, not {expected}"

    @rule(limit=st.integers(1, 3))
    @precondition(lambda self: self.model.outstayed(self.now))
    def purge(self, limit: int) -> None:
        outstayed = self.model.outstayed(self.now)
        self.may_go = self._has_outstayed
        purged = self.store.purge(limit)
        assert purged == min(limit, len(outstayed)), f"{purged} purged of {len(outstayed)}"
        gone = [row for row in outstayed if self.store.get(row.id) is None]
        assert len(gone) == purged
        self.model.remove(gone)

    @rule(limit=st.integers(1, 3))
    @precondition(lambda self: self.store.probe().keys)
    def purge_keys(self, limit: int) -> None:
        self.store.purge_keys(limit)

    @rule(limit=st.integers(1, 9))
    @precondition(lambda self: self.model.startable(self.now) or self.model.outstayed(self.now))
    def tick(self, limit: int) -> None:
        now, model = self.now, self.model
        reclaimed = model.reclaim(now)
        model.remove(model.outstayed(now))
        self.may_go = self._has_outstayed
        result = self.tickwork.tick(limit=limit)
        fences = {job_id: job.fence for job_id, job in self._stored().items()}
        ran = [row for row in model.rows.values() if fences.get(row.id, row.fence) != row.fence]
        ran.sort(key=lambda row: row.order)
        model.claim(
            [row.id for row in ran],
            now,
            limit=limit,
            lease_seconds=LEASE_SECONDS,
            mark=limit,
            rated_places=min(TICK_SLOTS, limit),
        )
        for row in ran:
            model.end(row, row.does, now)
        assert set(result.jobs) == {row.id for row in ran}
        assert (result.processed, result.reclaimed) == (len(ran), reclaimed), str(result)

    # -- people --------------------------------------------------------------------------------

    @rule(pick=_picks)
    @precondition(lambda self: self.model.rows)
    def cancel(self, pick: int) -> None:
        row = self._pick(pick)
        with _refused_if(row.state in TERMINAL):
            self.tickwork.cancel(row.id)
        self.model.cancel(row, self.now)

    @rule(kind=st.sampled_from(["few", "keyed"]))
    @precondition(lambda self: len(self.model.in_state(State.PENDING)) > 5)
    def cancel_many(self, kind: str) -> None:
        rows = [row for row in self.model.rows.values() if row.kind == kind]
        expected = sum(self.model.cancel(row, self.now) for row in rows)
        assert self.tickwork.cancel_many(kind=kind) == expected

    @rule(pick=_picks, force=st.booleans())
    @precondition(lambda self: self.model.rows)
    def retry(self, pick: int, force: bool) -> None:
        """Of one that has ended, if there is one."""
        ended = [row for row in self.model.rows.values() if row.state in TERMINAL]
        row = _chosen(ended, pick) if ended else self._pick(pick)
        may = self.model.retry(row, self.now, force=force)
        with _refused_if(not may):
            self.tickwork.retry(row.id, force=force)
        if may:
            self.retried.add(row.id)

    @rule(kind=_unique_kinds, again=st.booleans())
    def retry_beside(self, kind: str, again: bool) -> None:
        """A job is cancelled, perhaps another takes its key, and the first one is wanted again."""
        options = {"dedupe_key": "d1"}
        self.enqueue(kind, options)
        first = self.model.names["dedupe", "", kind, "d1"][0]
        row = self.model.rows.get(first)
        if row is None or row.state is not State.PENDING:
            return
        self.tickwork.cancel(first)
        self.model.cancel(row, self.now)
        if again:
            self.enqueue(kind, options)
        with _refused_if(again):
            self.tickwork.retry(first)
        if self.model.retry(row, self.now, force=False):
            self.retried.add(first)

    @rule(state=st.sampled_from([State.FAILED, State.CANCELLED]))
    @precondition(lambda self: self.model.in_state(State.FAILED))
    def retry_many(self, state: State) -> None:
        rows = sorted(self.model.in_state(state), key=lambda row: row.id)
        self.retried |= {row.id for row in rows if self.model.retry(row, self.now, force=False)}
        assert self.tickwork.retry_many(state) == len(self.retried)

    @rule(pick=_picks)
    @precondition(lambda self: self.model.rows)
    def remove(self, pick: int) -> None:
        row = self._pick(pick)
        runs = row.state is State.PROCESSING
        with _refused_if(runs):
            self.tickwork.remove(row.id)
        if not runs:
            self.may_go = lambda job: job.id == row.id
            self.model.remove([row])

    @rule(grace=st.sampled_from([0, 10, 60]), limit=st.sampled_from([0, 0, 1]), pick=_picks)
    @precondition(lambda self: any(row.state in TERMINAL for row in self.model.rows.values()))
    def clean(self, grace: int, limit: int, pick: int) -> None:
        state = _chosen([r for r in self.model.rows.values() if r.state in TERMINAL], pick).state
        by = self.now - timedelta(seconds=grace)
        old = [
            row for row in self.model.in_state(state) if row.finished_at and row.finished_at <= by
        ]
        chosen = sorted(old, key=lambda row: row.id)[: limit or None]
        self.may_go = lambda job: bool(job.finished_at and job.finished_at <= by)
        cleaned = self.tickwork.clean(grace, limit, state)
        assert cleaned == self.model.remove(chosen), f"{cleaned} cleaned of {len(old)}"

    @rule(queue=st.sampled_from(["mail", "mail", "all"]))
    @precondition(lambda self: len(self.model.in_state(State.PENDING)) > 5)
    def empty(self, queue: str) -> None:
        waiting = self.model.in_state(State.PENDING)
        chosen = [row for row in waiting if queue in ("all", row.queue)]
        self.may_go = lambda job: job.state is State.PENDING
        assert self.tickwork.empty(queue) == self.model.remove(chosen)

    @rule(subject=_subjects)
    @precondition(lambda self: not self.model.paused and self.model.startable(self.now))
    def pause(self, subject: str) -> None:
        what, _, name = subject.partition("/")
        self.tickwork.pause(**{what: name})
        self.model.paused.add(subject)

    @rule()
    @precondition(lambda self: self.model.paused)
    def resume(self) -> None:
        what, _, name = self.model.paused.pop().partition("/")
        assert self.tickwork.resume(**{what: name})
        assert not self.tickwork.resume(**{what: name})

    @rule()
    def look(self) -> None:
        """What upkeep and people are told."""
        model, due = self.model, self.store.probe()
        running = model.in_state(State.PROCESSING)
        assert due.stalled == any(row.is_stalled(self.now) for row in running)
        assert due.outstayed == bool(model.outstayed(self.now))
        assert due.said.paused == model.paused
        startable = len(model.startable(self.now))
        kinds = self.tickwork.registry.kinds
        assert self.store.due_count(kinds, ALL_ROWS) == startable
        assert self.store.due_count(kinds, ALL_ROWS, lanes=due.lanes) == startable

    # -- after every step ----------------------------------------------------------------------

    @invariant()
    def keeps_its_promises(self) -> None:
        before, after = self.before, self._stored()
        promises.ends_stand(before, after, self.retried)
        promises.fences_rise(before, after)
        promises.attempts_are_within_budget(after)
        promises.ends_are_whole(after)
        promises.keys_are_unique(after)
        promises.limits_hold(after)
        promises.rates_hold(self.model.claims)
        promises.removals_are_right(before, after, self.may_go)
        self._agrees(after)
        self.before, self.retried, self.may_go = after, set(), _nothing

    def _agrees(self, stored: dict[str, Job]) -> None:
        rows = self.model.rows
        assert stored.keys() == rows.keys(), f"only one has {sorted(stored.keys() ^ rows.keys())}"
        for job_id, row in rows.items():
            assert seen(stored[job_id]) == seen(row), f"{stored[job_id]} should be {row}"

    # -- parts ---------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def _stored(self) -> dict[str, Job]:
        return {job.id: job for job in self.store.list(JobFilter(), ALL_ROWS)}

    def _pick(self, pick: int) -> Row:
        return _chosen(sorted(self.model.rows.values(), key=lambda row: row.id), pick)

    def _hands(self, picks: list[int]) -> list[Claimed]:
        chosen = [_chosen(self._in_hand(), pick) for pick in picks]
        return list({job.id: job for job in chosen}.values())

    def _in_hand(self) -> list[Claimed]:
        return [job for job in self.held if self._holds(job)]

    def _superseded(self) -> list[Claimed]:
        """What it does not hold any more; last what runs in other hands by now."""
        old = [job for job in self.held if not self._holds(job)]
        rows = self.model.rows
        running = {job_id for job_id, row in rows.items() if row.state is State.PROCESSING}
        return sorted(old, key=lambda job: job.id in running)

    def _asked_to_stop(self) -> list[Claimed]:
        return [job for job in self._in_hand() if self.model.rows[job.id].cancel_requested]

    def _holds(self, job: Claimed) -> bool:
        row = self.model.rows.get(job.id)
        return row is not None and (row.state, row.fence) == (State.PROCESSING, job.fence)

    def _has_outstayed(self, job: Job) -> bool:
        ended = job.state not in LIVE
        return ended and job.keep_until is not None and job.keep_until <= self.now


def _system(store: Store, clock: ManualClock) -> Tickwork:
    tickwork = Tickwork(
        store=store,
        clock=clock,
        concurrency=TICK_SLOTS,
        keep_completed=KEEP_COMPLETED_SECONDS,
        keep_failed=KEEP_FAILED_SECONDS,
    )
    for name, most in QUEUES_AT_ONCE.items():
        if most is not None:
            tickwork.queue(name, max_concurrency=most)
    for kind in HANDLED.values():
        tickwork.register_handler(
            kind.name,
            _do,
            backoff=fixed(BACKOFF_SECONDS, jitter=0),
            max_concurrency=kind.at_once,
            max_concurrency_per_key=kind.per_key,
            rate_limit=kind.rate and f"{kind.rate[0]}/{kind.rate[1]:g}s",
        )
    return tickwork


def _do(payload: dict[str, str]) -> None:
    ending = ENDINGS[payload["does"]]()
    if isinstance(ending, Raised):
        raise ending.error


def _payload(options: dict[str, Any]) -> dict[str, str]:
    return {"does": options.get("does", "return")}


def _said(options: dict[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in options.items() if name != "does"}
    return {**said, "dedupe_window": WINDOW_SECONDS} if "dedupe_key" in said else said


def _without(options: dict[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in options.items() if each != name}


def _chosen(things: Sequence[Thing], pick: int) -> Thing:
    return things[pick % len(things)]


def _nothing(job: Job) -> bool:
    return False


@contextmanager
def _quietly() -> Iterator[None]:
    """Thousands of lost runners and unknown kinds are no news here."""
    log = logging.getLogger("tickwork")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _refused_if(expected: bool) -> Iterator[None]:
    """The step raises JobStateConflict if it is expected to, and only then."""
    refused = False
    try:
        yield
    except JobStateConflict:
        refused = True
    assert refused == expected, "refused" if refused else "not refused"
