"""Execute: a claimed batch through its handlers, inside the time there is.

Slots are threads that take the next job that may start. One coordinator (the calling thread)
watches deadlines and flushes: in one go it settles what finished and writes, ahead, the start
marks of what is expected to start before the next flush. No handler starts before its mark is
committed, so a job that kills its runner has paid for the attempt and those behind it have not.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from msgspec import Struct, field

from jobs.core.deadline import Budget, Fit, Fitting, fit
from jobs.core.errors import JobCancelled, StoreUnavailable
from jobs.core.events import EventName, current_tick
from jobs.core.job import TERMINAL, Claimed
from jobs.core.outcome import (
    Ending,
    Expired,
    NotStarted,
    Outcome,
    Raised,
    Returned,
    decide,
    pace_marks,
)
from jobs.core.ring import current_hops
from jobs.core.store import Capability, Touch
from jobs.runtime.base import Runtime
from jobs.runtime.breakers import note_ends
from jobs.runtime.gate import places_of
from jobs.runtime.run import Run
from jobs.runtime.settle import settle_all

log = logging.getLogger("tickwork.execute")
FLUSH_SECONDS = 0.25
_LINE = attrgetter("kind", "queue")
_TIMEOUT = attrgetter("timeout_seconds")
_NAME = attrgetter("name")
_TOLD: tuple[EventName, ...] = ("completed", "failed", "retried", "released")


def tell(
    runtime: Runtime, job: Claimed, outcome: Outcome, exception: BaseException | None = None
) -> None:
    """Tell the listeners what became of a job; only once that is written."""
    if outcome.name in _TOLD:
        verdict = outcome.verdict
        runtime.tell(
            outcome.name,
            job,
            result=outcome.value,
            error=verdict.error,
            duration_ms=verdict.duration_ms,
            delay_seconds=verdict.delay_seconds,
            exception=exception,
        )


class BatchReport(Struct):
    """What became of a batch. ``late`` are results that came too late to be written; ``jobs`` are
    those of the batch by id."""

    jobs: dict[str, Claimed] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    late: set[str] = field(default_factory=set)
    started: int = 0

    def written(self) -> list[Outcome]:
        """The outcomes that were written."""
        if not self.late:
            return self.outcomes
        return [outcome for outcome in self.outcomes if outcome.verdict.id not in self.late]


class Batch:
    """One claimed batch on its way through the handlers.

    ``followers`` are further claimed jobs, without marks, that run one after the other behind a job
    of the batch, by its id: each only once the end of the one before is written, and none any more
    once one of them has not come to its end for good. With ``fresh`` false time was used before: no
    job is the first that may be oversize.
    """

    def __init__(
        self,
        runtime: Runtime,
        claimed: Sequence[Claimed],
        budget: Budget,
        *,
        slots: int,
        followers: Mapping[str, Sequence[Claimed]] | None = None,
        fresh: bool = True,
        when_ended: Callable[[], None] | None = None,
    ) -> None:
        """``when_ended`` is called once all have, before their last results are written."""
        self.runtime = runtime
        self.budget = budget
        self.slots = max(1, min(slots, len(claimed)))
        self._followers = {job_id: list(line) for job_id, line in (followers or {}).items()}
        behind = [job for line in self._followers.values() for job in line]
        self._behind = len(behind)  # how many of them wait for the one before
        self._fresh = fresh
        self.total = len(behind)
        self._claimed_by_id = {job.id: job for job in behind}
        self.report = BatchReport(self._claimed_by_id)
        self._when_ended = when_ended
        # Jobs that may start now (their marks are committed), and those still without one.
        self._ready: deque[Claimed] = deque()
        self._waiting: deque[Claimed] = deque()
        # Jobs that do not fit the time left, unless it shows that their kind takes less.
        self._put_off: deque[Claimed] = deque()
        self._put_off_unmarked: set[str] = set()
        # Jobs that wait for a place in this process, and what the others of those kinds hold.
        self._places: dict[str, tuple[tuple[str, int], ...]] = {}
        self._held: deque[Claimed] = deque()
        self._held_unmarked: set[str] = set()
        self._held_lock = threading.Lock()
        self._entered: dict[str, tuple[tuple[str, int], ...]] = {}
        self._running: dict[str, Run] = {}
        self._ended: list[Outcome] = []  # only ever appended to; flushed up to _flushed
        self._committed: set[str] = set()  # settled in a transaction of their own
        # What handlers raised whose jobs failed, until the listeners are told: frames are heavy.
        self._raised: dict[str, BaseException] = {}
        self._flushed = 0
        self._starts: list[None] = []  # one for each start; appending needs no lock
        self._start_lock = threading.Lock()
        lock = threading.Lock()
        self._wake_slots = threading.Condition(lock)
        self._wake_coordinator = threading.Condition(lock)
        self._hungry = 0
        self._closed = False
        # Not the whole context: what else hangs at a request is none of the handlers' business.
        self._hops, self._tick = current_hops.get(), current_tick.get()
        self._monotonic = runtime.clock.monotonic
        self._last_flush = self._monotonic()
        self._flush_failed = False
        self._started_at_last_flush = 0
        self._last_renewal = self._last_flush
        # On a database with one writer, nobody reclaims a job while its transaction is open.
        self._renews_transactional = Capability.CONCURRENT_WRITERS in runtime.store.capabilities
        self._admit(claimed)

    def _admit(self, claimed: Sequence[Claimed]) -> None:
        """Take in claimed jobs; those with a mark may start now."""
        if not claimed:
            return
        self.total += len(claimed)
        self._claimed_by_id.update((job.id, job) for job in claimed)
        if self.runtime.queues.limits_in_process(self.runtime.registry):
            for job in claimed:
                handler = self.runtime.registry.find(job.kind)
                places = places_of(self.runtime.queues.of_queue(job.queue), handler, job)
                if places:
                    self._places[job.id] = places
        self._waiting.extend(job for job in claimed if not job.marked)
        with self._wake_slots:
            self._ready.extend(job for job in claimed if job.marked)
            self._wake_slots.notify_all()

    # -- the coordinator ---------------------------------------------------------------------

    def run(self) -> BatchReport:
        """Run the batch to its end; returns when every job has an outcome that is written."""
        if self.total:
            begun = self._monotonic()
            self._let_one_oversize_job_be_first()
            for _ in range(self.slots):
                self._add_slot()
            try:
                self._coordinate()
            finally:
                self._close()
            elapsed = max(self._monotonic() - begun, 0.001)
            self.runtime.starts_per_second = self._started / elapsed
        self.report.started = self._started
        return self.report

    def _let_one_oversize_job_be_first(self) -> None:
        """A job that fits no tick but as its first gets that place, or it would never get it."""
        jobs = (*self._ready, *self._waiting)
        known = self.runtime.registry.kinds
        # Read in C: of a thousand jobs that say nothing of their time none is looked at here.
        lines = [line for line in set(map(_LINE, jobs)) if line[0] in known]
        timeouts = {line: self.runtime.terms(*line).timeout for line in lines}
        if not any(timeouts.values()) and not any(map(_TIMEOUT, jobs)):
            return
        now = self._monotonic()
        for job in jobs:
            timeout = job.timeout_seconds or timeouts.get(_LINE(job))
            if timeout is None or job.kind not in known:
                continue
            if self._fit(job, timeout, now, first=False).verdict is not Fit.NOT_NOW:
                continue
            if job.marked:
                self._ready.remove(job)
            else:
                self._waiting.remove(job)
                if job.id in self.runtime.store.touch([Touch(job.id, job.fence, True)]).lost:
                    self._end(self._unstarted(job, NotStarted()))  # cancelled meanwhile
                    return
            self._ready.appendleft(job)
            return

    def _coordinate(self) -> None:
        while True:
            self._rest()
            now = self._monotonic()
            self._give_up_overdue(now)
            self._reconsider(now)
            stopping = self.runtime.stopping.is_set()
            if stopping or now >= self.budget.start_deadline or self.runtime.is_clogged:
                self._release_unstarted()
            self._take_more(now)
            all_ended = self._is_over()
            if all_ended and self._when_ended is not None:
                self._when_ended()
                self._when_ended = None
            if all_ended or self._is_urgent() or now - self._last_flush >= FLUSH_SECONDS:
                self._flush(now, final=all_ended)
            if all_ended and self._flushed == self.total:
                return

    def _take_more(self, now: float) -> None:
        """A batch is claimed before it begins; a stream takes in more here."""

    def _is_over(self) -> bool:
        """Whether all jobs have ended and no more will come."""
        return len(self._ended) == self.total

    def _needs_slots(self) -> bool:
        """Whether the thread of a job that was given up on is to be replaced."""
        return bool(self._ready or self._waiting or self._behind)

    def _rest(self) -> None:
        """Sleep until something is to be done, at most until the next flush."""
        with self._wake_coordinator:
            if self._nothing_else() or self._is_urgent():
                return
            self._wake_coordinator.wait(max(0.001, self._rest_until() - self._monotonic()))

    def _rest_until(self) -> float:
        deadlines = [run.deadline for run in list(self._running.values())]
        wake = min([self._last_flush + FLUSH_SECONDS, *deadlines])
        if self._running:
            wake = min(wake, self.runtime.give_up_at)
        if self._ready or self._waiting or self._held:  # else nobody is left to be handed back
            wake = min(wake, self.budget.start_deadline)
        return wake

    def _nothing_else(self) -> bool:
        """Whether all have ended but those put off and those behind them."""
        return len(self._ended) + len(self._put_off) + self._behind == self.total

    def _is_urgent(self) -> bool:
        """Whether somebody waits for the next flush, and nothing stands in its way."""
        waits = self._is_starving() or self._is_awaited()
        return waits and not self._flush_failed and not self.runtime.store.writer_busy()

    def _is_awaited(self) -> bool:
        """Whether an end is to be written that followers wait for."""
        return bool(self._followers) and any(
            outcome.verdict.id in self._followers for outcome in self._ended[self._flushed :]
        )

    def _is_starving(self) -> bool:
        return bool(self._hungry and self._waiting and not self._ready)

    def _give_up_overdue(self, now: float) -> None:
        process_ends = now >= self.runtime.give_up_at
        for job_id, run in list(self._running.items()):
            # Whoever pops the run owns its ending: the slot that finishes it, or we.
            if run.deadline > now and not process_ends and not run.is_stranded():
                continue
            if self._running.pop(job_id, None) is not None:
                had_its_chance = run.give_up()
                self._leave(job_id)
                if run.submission is None:
                    self.runtime.abandoned.add(run.thread)
                if process_ends:
                    run.ends_with_process = True
                self._end(run.timed_out(now) if had_its_chance else run.decide(NotStarted(), now))
                if not self._closed and self._needs_slots():
                    self._add_slot()

    def _reconsider(self, now: float) -> None:
        """Start put-off jobs after all if they now fit; hand them back if nothing else is left."""
        if not self._put_off:
            return
        nothing_else = self._nothing_else()
        for _ in range(len(self._put_off)):
            job = self._put_off.popleft()
            if self._fit(job, self.runtime.timeout(job), now, first=False).verdict is Fit.START:
                self._put_off_unmarked.discard(job.id)
                self._waiting.append(job)
            elif nothing_else:
                log.info("job %s of kind %r does not fit this tick; released", job.id, job.kind)
                self._end(self._unstarted(job, NotStarted()))
            else:
                self._put_off.append(job)

    def _release_unstarted(self) -> None:
        while self._put_off:
            self._end(self._unstarted(self._put_off.popleft(), NotStarted()))
        while self._waiting:
            self._end(self._unstarted(self._waiting.popleft(), NotStarted()))
        with self._held_lock:
            held = list(self._held)
            self._held.clear()
        for job in held:
            self._end(self._unstarted(job, NotStarted()))
        while True:
            try:
                job = self._ready.popleft()
            except IndexError:  # a slot took the last one
                return
            self._end(self._unstarted(job, NotStarted()))

    def _unstarted(self, claimed: Claimed, ending: Ending) -> Outcome:
        policy = self.runtime.policy(claimed.kind, claimed.queue)
        return decide(claimed, ending, policy, at=self.runtime.clock.now())

    def _end(self, outcome: Outcome) -> None:
        self._ended.append(outcome)

    def _end_lines(self, ended: Sequence[Outcome]) -> None:
        """Hand back what stands behind a job that has not come to its end for good."""
        for outcome in ended:
            if outcome.verdict.state not in TERMINAL or outcome.verdict.id in self.report.late:
                for job in self._line_behind(outcome):
                    self._end(self._unstarted(job, NotStarted()))

    def _admit_followers(self, ended: Sequence[Outcome]) -> None:
        """Let the next of each line start, now that the end of the one before is written."""
        for outcome in ended:
            line = self._line_behind(outcome)
            if line:
                self._waiting.append(line[0])
            if line[1:]:
                self._followers[line[0].id] = line[1:]
                self._behind += len(line) - 1

    def _line_behind(self, outcome: Outcome) -> list[Claimed]:
        line = self._followers.pop(outcome.verdict.id, [])
        self._behind -= len(line)
        return line

    # -- flush -------------------------------------------------------------------------------

    def _flush(self, now: float, *, final: bool) -> None:
        if self.runtime.store.writer_busy() and not final:
            self._last_flush = now  # a transactional handler holds SQLite's only writer
            return
        try:
            self._settle_ended()
            self._touch(now)
            self._flush_failed = False
        except StoreUnavailable:
            if now >= min(self.budget.give_up_deadline, self.runtime.give_up_at):
                raise
            if not self._flush_failed:
                log.warning("the database cannot be reached; trying again", exc_info=True)
            self._flush_failed = True
        self._last_flush = self._monotonic()
        self._started_at_last_flush = self._started

    def _settle_ended(self) -> None:
        if self._followers:
            self._end_lines(self._ended[self._flushed :])
        ended = self._ended[self._flushed :]
        own = ended[:]
        if self._committed:
            own = [outcome for outcome in ended if outcome.verdict.id not in self._committed]
        decided = own[:]
        late = settle_all(self.runtime, own) if own else frozenset()
        if own != decided:  # some were written as something else
            written = {outcome.verdict.id: outcome for outcome in own}
            ended = [written.get(outcome.verdict.id, outcome) for outcome in ended]
        self._flushed += len(ended)
        self.report.outcomes.extend(ended)
        self.report.late |= late
        if self._followers:
            self._end_lines(ended)  # of those that came late
            self._admit_followers(ended)
        note_ends(self.runtime, self._claimed_by_id, ended, late)
        told = set(filter(self.runtime.events.wanted, _TOLD))
        if not late and not told.intersection(map(_NAME, ended)):
            return
        for outcome in ended:
            if outcome.verdict.id in late:
                log.warning(
                    "job %s: its result (%s) came too late and was dropped; another runner or a "
                    "cancel holds the row",
                    outcome.verdict.id,
                    outcome.name,
                )
            elif outcome.name in told:
                self._tell(outcome)

    def _touch(self, now: float) -> None:
        marks = self._choose_marks(now)
        touches = [Touch(job.id, job.fence, True) for job in marks]
        touches += [Touch(job.id, job.fence, False) for job in self._take_back_marks(now)]
        off = [job for job in list(self._put_off) if job.id not in self._put_off_unmarked]
        touches += [Touch(job.id, job.fence, False) for job in off]
        self._put_off_unmarked.update(job.id for job in off)
        touches += [Touch(job.id, job.fence, False) for job in self._unmark_held()]
        renew = self._renewal(now)
        for run in list(self._running.values()):
            if run.handler.transactional:  # what it tells of itself commits with it
                if renew is not None and self._renews_transactional:
                    touches.append(Touch(run.claimed.id, run.claimed.fence))
                continue
            written = run.progress
            dirty = written is not None and written is not run.progress_written
            if not (dirty or renew is not None):
                continue
            percent, note = written or (None, None)
            touches.append(Touch(run.claimed.id, run.claimed.fence, None, percent, note))
            run.progress_written = written
        if not touches:
            return
        if renew is not None:
            touches += [Touch(job.id, job.fence) for job in self._not_started()]
        try:
            report = self.runtime.store.touch(touches, lease_seconds=renew)
        except BaseException:
            # Unmarked they may not start; out of both queues they would never end either.
            self._waiting.extendleft(reversed(marks))
            raise
        for run in list(self._running.values()):
            run.cancelled = run.cancelled or run.claimed.id in report.cancelled
        startable = []
        for job in marks:
            if job.id in report.lost:
                self._end(self._unstarted(job, NotStarted()))  # cancelled meanwhile: will be late
            elif job.id in report.cancelled:
                self._end(self._unstarted(job, Raised(JobCancelled("cancelled"))))
            else:
                startable.append(job)
        if startable:
            with self._wake_slots:
                self._ready.extend(startable)
                self._wake_slots.notify_all()

    def _not_started(self) -> list[Claimed]:
        """Those whose leases are held for them."""
        with self._held_lock:
            return [*self._ready, *self._waiting, *self._put_off, *self._held]

    def _choose_marks(self, now: float) -> list[Claimed]:
        expected = self._expected_starts(now) - len(self._ready)
        if self._places:
            return self._choose_open(expected)
        return [self._waiting.popleft() for _ in range(min(expected, len(self._waiting)))]

    def _choose_open(self, expected: int) -> list[Claimed]:
        """As many that there are places for; those that must wait for one step aside."""
        chosen: list[Claimed] = []
        passed: list[Claimed] = []
        promised: Counter[str] = Counter()
        while len(chosen) < expected:
            try:
                job = self._waiting.popleft()
            except IndexError:
                break
            places = self._places.get(job.id, ())
            with self._held_lock:
                is_open = self.runtime.gate.is_open(places, promised, self._let_in)
                if is_open is False:
                    self._held_unmarked.add(job.id)
                    self._held.append(job)
            if is_open:
                chosen.append(job)
                promised.update(name for name, _ in places)
            elif is_open is None:
                passed.append(job)
        self._waiting.extendleft(reversed(passed))
        return chosen

    def _unmark_held(self) -> list[Claimed]:
        """Those that wait for a place will not start before the next flush: they lose their marks.

        They are known to have none before that is written: nobody starts them meanwhile.
        """
        with self._held_lock:
            marked = [job for job in self._held if job.id not in self._held_unmarked]
            self._held_unmarked.update(job.id for job in marked)
        return marked

    def _take_back_marks(self, now: float) -> list[Claimed]:
        """Marked jobs that will not start before the next flush after all lose their marks."""
        surplus = len(self._ready) - self._expected_starts(now)
        taken: list[Claimed] = []
        while surplus > len(taken):
            try:
                taken.append(self._ready.pop())
            except IndexError:
                break
        self._waiting.extendleft(taken)
        return taken

    def _expected_starts(self, now: float) -> int:
        started = self._started - self._started_at_last_flush
        if not started and now - self._last_flush >= FLUSH_SECONDS:
            # Slow jobs: a slot that ends one has the next marked at once, so that none need bear a
            # mark meanwhile, and pay for a runner that dies of another.
            return self._hungry
        if self._is_starving():
            # All that were marked have begun and more could have: what was seen is too low a guess.
            started *= 4
        return pace_marks(started, now - self._last_flush, self.slots, FLUSH_SECONDS)

    def _renewal(self, now: float) -> float | None:
        """The lease to renew to, when it is time; a tick's lease outlives it and needs none."""
        lease = self.budget.heartbeat_lease_seconds
        if lease is None or now - self._last_renewal < lease / 3:
            return None
        self._last_renewal = now
        return lease

    def _tell(self, outcome: Outcome) -> None:
        job = self._claimed_by_id.get(outcome.verdict.id)
        if job is not None:
            tell(self.runtime, job, outcome, self._raised.pop(job.id, None))

    # -- the slots ---------------------------------------------------------------------------

    def _add_slot(self) -> None:
        # Daemon threads: one that hangs must not keep the process from ending.
        threading.Thread(target=self._work, name="tickwork-slot", daemon=True).start()

    def _work(self) -> None:
        current_hops.set(self._hops)
        current_tick.set(self._tick)
        while True:
            claimed = self._next()
            if claimed is None:
                return
            if self._places and not self._enter(claimed):
                continue
            goes_on = self._execute_or_tell(claimed)
            self._leave(claimed.id)
            if not goes_on:
                return
            if self._put_off or self._is_awaited() or len(self._ended) == self.total:
                with self._wake_coordinator:
                    self._wake_coordinator.notify()

    def _next(self) -> Claimed | None:
        while True:
            try:
                return self._ready.popleft()
            except IndexError:
                pass
            with self._wake_slots:
                if self._ready:
                    continue
                if self._closed:
                    return None
                self._hungry += 1
                self._wake_coordinator.notify()
                self._wake_slots.wait()
                self._hungry -= 1

    def _enter(self, claimed: Claimed) -> bool:
        """Take the places that the job needs in this process, or have it wait for them."""
        places = self._places.get(claimed.id)
        if places is None:
            return True
        with self._held_lock:
            if self.runtime.gate.enter(places, self._let_in):
                self._entered[claimed.id] = places
                return True
            self._held.append(claimed)
            return False

    def _leave(self, job_id: str) -> None:
        places = self._entered.pop(job_id, None)
        if places is not None:
            self.runtime.gate.leave(places)

    def _let_in(self) -> None:
        """A place became free somewhere in this process: those that wait try again."""
        with self._held_lock:
            held = list(self._held)
            self._held.clear()
            unmarked = [job for job in held if job.id in self._held_unmarked]
            marked = [job for job in held if job.id not in self._held_unmarked]
            self._held_unmarked.difference_update(job.id for job in unmarked)
        self._waiting.extendleft(reversed(unmarked))
        with self._wake_slots:
            self._ready.extendleft(reversed(marked))
            self._wake_slots.notify_all()
            self._wake_coordinator.notify()

    def _execute_or_tell(self, claimed: Claimed) -> bool:
        """As :meth:`_execute`; a fault around the handler fails the attempt.

        A job without an end would keep its whole batch waiting for ever.
        """
        try:
            return self._execute(claimed)
        except Exception as error:
            log.exception("job %s: it could not be run", claimed.id)
            self._running.pop(claimed.id, None)
            self._end(self._unstarted(claimed, Raised(error)))
            return True

    def _execute(self, claimed: Claimed) -> bool:
        """Run one job; ``False`` when this thread was given up on meanwhile."""
        now = self._monotonic()
        handler = self.runtime.registry.get(claimed.kind)
        if claimed.expired or claimed.cancel_requested:
            reason = Expired() if claimed.expired else Raised(JobCancelled("cancelled"))
            self._end(self._unstarted(claimed, reason))
            return True
        if self.runtime.stopping.is_set() or self.runtime.is_clogged:
            self._end(self._unstarted(claimed, NotStarted()))
            return True
        terms = self.runtime.terms(claimed.kind, claimed.queue)
        declared = claimed.timeout_seconds or terms.timeout
        fitting = self._begin(claimed, declared, now)
        if fitting.verdict is Fit.NOT_NOW:
            self._put_off.append(claimed)
            return True
        if fitting.verdict is Fit.RELEASE:
            self._end(self._unstarted(claimed, NotStarted()))
            return True
        if fitting.verdict is Fit.START_WITH_WARNING:
            log.warning(
                "job %s of kind %r may take %.3g s but a tick has %.3g s: it is cut off there; "
                "raise JOBS_TICK_LIMIT with the platform's limit, or split the work",
                claimed.id,
                claimed.kind,
                declared or 0.0,
                fitting.timeout_seconds,
            )
        run = Run(
            self.runtime,
            claimed,
            handler,
            terms,
            now=now,
            timeout=fitting.timeout_seconds,
            cut_off=fitting.cut_off,
            thread=threading.current_thread(),
            budget=self.budget,
        )
        self._running[claimed.id] = run
        self.runtime.tell("started", claimed)
        outcome = None
        if handler.transactional:
            ending, outcome = run.execute_and_settle(
                self._monotonic, lambda: self._give_up_overdue(self._monotonic())
            )
        else:
            ending = run.execute()
        if self._running.pop(claimed.id, None) is None:
            log.warning("job %s ended after it was given up; its result is dropped", claimed.id)
            self.runtime.abandoned.discard(threading.current_thread())
            return False
        if outcome is not None:
            self._committed.add(claimed.id)
        ended_at = self._monotonic()
        if declared is not None and isinstance(ending, Returned):
            self.runtime.note_duration(claimed.kind, ended_at - run.started)
        outcome = outcome or run.decide(ending, ended_at)
        if (
            outcome.name == "failed"
            and isinstance(ending, Raised)
            and self.runtime.events.wanted("failed")
        ):
            self._raised[claimed.id] = ending.error
        self._end(outcome)
        return True

    @property
    def _started(self) -> int:
        return len(self._starts)

    def _begin(self, claimed: Claimed, declared: float | None, now: float) -> Fitting:
        """Whether the job fits the time left; if so it has started."""
        if self._starts or not self._fresh:  # nobody is the first any more
            fitting = self._fit(claimed, declared, now, first=False)
            if fitting.starts:
                self._starts.append(None)
            return fitting
        with self._start_lock:  # only one can be
            fitting = self._fit(claimed, declared, now, first=not self._starts)
            if fitting.starts:
                self._starts.append(None)
            return fitting

    def _fit(self, claimed: Claimed, declared: float | None, now: float, *, first: bool) -> Fitting:
        """Whether the job, whose timeout is ``declared`` if anybody said one, fits the time left.

        One that failed before is not judged by what its kind usually takes: it may take longer.
        """
        default = self.runtime.settings.timeout
        fitting = fit(declared, default, self.budget, now=now, first=first)
        if not fitting.starts and claimed.attempt == 1:
            usual = self.runtime.usual_seconds(claimed.kind)
            fitting = fit(declared, default, self.budget, now=now, first=first, usual_seconds=usual)
        return fitting

    def _close(self) -> None:
        with self._wake_slots:
            self._closed = True
            self._wake_slots.notify_all()
