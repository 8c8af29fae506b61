"""What a store should hold: the rules of a job's life once more, as plainly as they can be said.

The state machine (:mod:`jobs.testing.machine`) does everything twice, to a store and to this model,
and compares. Nothing here is shared with what decides in production, or a mistake in a rule would
stand on both sides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from jobs.core.job import Job, State

KEEP_COMPLETED_SECONDS, KEEP_FAILED_SECONDS = 60.0, 300.0
KEEP_CANCELLED_SECONDS = 7 * 86_400.0
BACKOFF_SECONDS, SNOOZE_SECONDS = 5.0, 10.0
WINDOW_SECONDS = 40.0
LIVE = frozenset({State.PENDING, State.PROCESSING})


class Kind(NamedTuple):
    """A kind of the machine, and its limits: at once, at once per key, and (most, seconds)."""

    name: str
    at_once: int | None = None
    per_key: int | None = None
    rate: tuple[int, float] | None = None


HANDLED = {
    kind.name: kind
    for kind in (
        Kind("plain"),
        Kind("few", at_once=2),
        Kind("keyed", per_key=1),
        Kind("paced", rate=(3, 10.0)),
    )
}
FOREIGN = "foreign"  # nobody here handles it: its jobs wait
QUEUES_AT_ONCE = {"default": None, "mail": 3}


@dataclass(slots=True)
class Row:
    """A job as it should stand."""

    id: str
    kind: str
    run_at: datetime
    does: str = "return"
    queue: str = "default"
    tenant: str = ""
    key: str | None = None
    priority: int = 3
    max_attempts: int = 3
    dedupe: str | None = None
    alias: str | None = None
    state: State = State.PENDING
    attempts: int = 0
    fence: int = 0
    lease_until: datetime | None = None
    started: bool = False
    cancel_requested: bool = False
    finished_at: datetime | None = None
    keep_until: datetime | None = None

    @property
    def order(self) -> tuple[int, datetime, str]:
        return self.priority, self.run_at, self.id

    def is_stalled(self, now: datetime) -> bool:
        return self.lease_until is not None and self.lease_until < now


class Seen(NamedTuple):
    """What model and store must agree on."""

    state: State
    attempts: int
    fence: int
    priority: int
    run_at: datetime
    lease_until: datetime | None
    running: bool
    cancel_requested: bool
    finished_at: datetime | None
    keep_until: datetime | None


def seen(job: Job | Row) -> Seen:
    """A job of the store, or a row of the model, as far as both know it."""
    started = job.started if isinstance(job, Row) else job.started_at is not None
    return Seen(
        job.state,
        job.attempts,
        job.fence,
        job.priority,
        job.run_at,
        job.lease_until,
        started and job.state is State.PROCESSING,
        job.cancel_requested,
        job.finished_at,
        job.keep_until,
    )


@dataclass
class Model:
    """All rows, who holds which name until when, what is paused, and when jobs were claimed."""

    rows: dict[str, Row] = field(default_factory=dict)
    names: dict[tuple[str, ...], tuple[str, datetime]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    claims: list[tuple[datetime, str]] = field(default_factory=list)

    # -- enqueue -------------------------------------------------------------------------------

    def holder(self, want: Row, now: datetime) -> str | None:
        """The job that has a name which this one wants, the alias looked at first."""
        for name in _names_of(want):
            if name in self.names and self._holds(name, now):
                return self.names[name][0]
        return None

    def _holds(self, name: tuple[str, ...], now: datetime) -> bool:
        job_id, until = self.names[name]
        row = self.rows.get(job_id)
        if name[0] == "alias":
            return row is not None
        if row is None or row.state is State.COMPLETED:
            return until > now
        return row.state in LIVE

    def add(self, row: Row, now: datetime, window_seconds: float) -> None:
        """A job that is new, with the names it wanted."""
        self.rows[row.id] = row
        for name in _names_of(row):
            self.names[name] = row.id, now + timedelta(seconds=window_seconds)

    def replace(self, job_id: str, want: Row) -> None:
        """A second enqueue that replaces what the first one said, if that still waits."""
        row = self.rows.get(job_id)
        if row is not None and row.state is State.PENDING:
            row.does, row.priority, row.run_at = want.does, want.priority, want.run_at

    # -- claim ---------------------------------------------------------------------------------

    def is_paused(self, row: Row) -> bool:
        return not self.paused.isdisjoint({"queue/all", f"queue/{row.queue}", f"kind/{row.kind}"})

    def may_start(self, row: Row, now: datetime) -> bool:
        """Whether it waits, is due, and nothing but a limit holds it back."""
        waits = row.state is State.PENDING and row.run_at <= now
        return waits and row.kind in HANDLED and not self.is_paused(row)

    def startable(self, now: datetime) -> list[Row]:
        return [row for row in self.rows.values() if self.may_start(row, now)]

    def is_full(self, row: Row, now: datetime) -> bool:
        """Whether a limit lets no more of its like start."""
        return any(used >= most for _, most, used in self.uses(row, now))

    def uses(self, row: Row, now: datetime) -> Iterator[tuple[str, int, int]]:
        """The limits on a row: what of, how many, and how many there are."""
        kind, running = HANDLED[row.kind], self.in_state(State.PROCESSING)
        of_kind = [each for each in running if each.kind == row.kind]
        most_in_queue = QUEUES_AT_ONCE[row.queue]
        if most_in_queue is not None:
            same = sum(each.queue == row.queue for each in running)
            yield f"queue {row.queue}", most_in_queue, same
        if kind.at_once is not None:
            yield f"kind {row.kind}", kind.at_once, len(of_kind)
        if kind.per_key is not None and (row.tenant or row.key is not None):
            owner = row.tenant, row.key
            same = sum((each.tenant, each.key) == owner for each in of_kind)
            yield f"key {owner} of {row.kind}", kind.per_key, same
        if kind.rate is not None:
            most, seconds = kind.rate
            since = now - timedelta(seconds=seconds)
            taken = sum(name == row.kind and at > since for at, name in self.claims)
            yield f"rate of {row.kind}", most, taken

    def claim(
        self,
        ids: Sequence[str],
        now: datetime,
        *,
        limit: int,
        lease_seconds: float,
        mark: int,
        rated_places: int | None,
        among: Collection[str] | None = None,
    ) -> None:
        """Take these rows, as a claim just did, if it was right to take these and no others.

        Turns between tenants leave some choice; the rest is checked. ``rated_places`` is how many
        places of a claim jobs with a rate may have, ``None`` for any.
        """
        startable = [r for r in self.startable(now) if among is None or r.id in among]
        taken = [self.rows[job_id] for job_id in ids]
        assert len(set(ids)) == len(ids) <= limit, f"{len(ids)} claimed, not {limit}"
        for row in taken:
            assert row in startable, f"claimed, but not due, not waiting or paused: {row}"
        assert taken == sorted(taken, key=lambda row: row.order), "claimed out of order"
        for place, row in enumerate(taken):
            row.state, row.started = State.PROCESSING, place < mark
            row.fence, row.attempts = row.fence + 1, row.attempts + 1
            row.lease_until = now + timedelta(seconds=lease_seconds)
            self.claims.append((now, row.kind))
        for row in taken:
            for what, most, used in self.uses(row, now):
                assert used <= most, f"{used} of {what}, where {most} are allowed"
        no_more_rated = rated_places is not None and len(taken) >= rated_places
        for row in startable:
            rated = HANDLED[row.kind].rate is not None
            if row in taken or self.is_full(row, now) or (rated and no_more_rated):
                continue
            better = [each for each in taken if _overtakes(each, row)]
            assert not better, f"overtaken by {better[0]}: {row}"
            assert len(taken) == limit, f"left behind with {len(taken)} of {limit} taken: {row}"

    # -- ends ----------------------------------------------------------------------------------

    def end(self, row: Row, ending: str, now: datetime) -> None:
        """What becomes of a running job whose handler ended so."""
        last = row.attempts >= row.max_attempts
        match ending:
            case "return":
                self._finish(row, State.COMPLETED, now, KEEP_COMPLETED_SECONDS)
            case "discard":
                self._finish(row, State.FAILED, now, KEEP_FAILED_SECONDS)
            case "stop":
                self._finish(row, State.CANCELLED, now, KEEP_FAILED_SECONDS)
            case "fail" if last:
                self._finish(row, State.FAILED, now, KEEP_FAILED_SECONDS)
            case "fail":
                self._back(row, now, BACKOFF_SECONDS)
            case "snooze":
                row.attempts -= 1
                self._back(row, now, SNOOZE_SECONDS)
            case "release":
                row.attempts -= 1
                self._back(row, now, None)

    def reclaim(self, now: datetime) -> int:
        """Rows whose lease ran out: those that had started pay for it, the others do not."""
        stalled = [row for row in self.in_state(State.PROCESSING) if row.is_stalled(now)]
        for row in stalled:
            if row.cancel_requested:
                self._finish(row, State.CANCELLED, now, KEEP_FAILED_SECONDS)
            else:
                self.end(row, "fail" if row.started else "release", now)
        return len(stalled)

    def _back(self, row: Row, now: datetime, delay_seconds: float | None) -> None:
        if delay_seconds is not None:
            row.run_at = now + timedelta(seconds=delay_seconds)
        if row.cancel_requested:
            self._finish(row, State.CANCELLED, now, KEEP_FAILED_SECONDS)
        else:
            row.state, row.lease_until, row.started = State.PENDING, None, False

    def _finish(self, row: Row, state: State, now: datetime, keep_seconds: float) -> None:
        row.state, row.lease_until, row.finished_at = state, None, now
        row.keep_until = now + timedelta(seconds=keep_seconds)

    # -- people --------------------------------------------------------------------------------

    def cancel(self, row: Row, now: datetime) -> bool:
        """Cancel: at once what has not started. Returns whether it had not ended."""
        if row.state not in LIVE:
            return False
        if row.state is State.PROCESSING and row.started:
            row.cancel_requested = True
        else:
            self._finish(row, State.CANCELLED, now, KEEP_CANCELLED_SECONDS)
        return True

    def retry(self, row: Row, now: datetime, *, force: bool) -> bool:
        """Put back what has ended, bring forward what waits; whether that may be."""
        if row.state is State.PROCESSING or (row.state is State.COMPLETED and not force):
            return False
        if row.state is not State.PENDING:
            if row.dedupe is not None and not self._take_again(_dedupe_of(row, row.dedupe), row):
                return False
            row.attempts, row.cancel_requested = 0, False
            row.finished_at = row.keep_until = None
            row.state, row.started = State.PENDING, False
            row.run_at = now
        row.run_at = min(row.run_at, now)  # one that is due keeps its place
        return True

    def _take_again(self, name: tuple[str, ...], row: Row) -> bool:
        holder, until = self.names.get(name, (row.id, row.run_at))
        other = self.rows.get(holder)
        if holder != row.id and other is not None and other.state in LIVE:
            return False
        # Without a window: a time that has passed.
        self.names[name] = (
            row.id,
            until if holder == row.id else datetime.min.replace(tzinfo=row.run_at.tzinfo),
        )
        return True

    def remove(self, rows: Iterable[Row]) -> int:
        """Take rows away; names of rows that are gone stay with them while their window runs."""
        gone = list(rows)
        for row in gone:
            del self.rows[row.id]
        return len(gone)

    def outstayed(self, now: datetime) -> list[Row]:
        """Ended rows past their keeping."""
        return [r for r in self.rows.values() if r.keep_until is not None and r.keep_until <= now]

    def in_state(self, state: State) -> list[Row]:
        return [row for row in self.rows.values() if row.state is state]


def _overtakes(taken: Row, left: Row) -> bool:
    """Whether it stood behind: of a later priority, or behind it in its own tenant's line."""
    if taken.priority != left.priority:
        return taken.priority > left.priority
    return taken.tenant == left.tenant and taken.order > left.order


def _names_of(row: Row) -> list[tuple[str, ...]]:
    names: list[tuple[str, ...]] = []
    if row.alias is not None:
        names.append(("alias", row.tenant, row.alias))
    if row.dedupe is not None:
        names.append(_dedupe_of(row, row.dedupe))
    return names


def _dedupe_of(row: Row, name: str) -> tuple[str, ...]:
    return "dedupe", row.tenant, row.kind, name


def wanted(job_id: str, kind: str, now: datetime, options: dict[str, Any]) -> Row:
    """The row that an enqueue with these options asks for."""
    return Row(
        job_id,
        kind,
        now + timedelta(seconds=options.get("delay", 0)),
        does=options.get("does", "return"),
        queue=options.get("queue", "default"),
        tenant=options.get("tenant", ""),
        key=options.get("concurrency_key"),
        priority=options.get("priority", 3),
        max_attempts=options.get("max_attempts", 3),
        dedupe=options.get("dedupe_key"),
        alias=options.get("job_id"),
    )
