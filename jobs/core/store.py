"""The store contract: where rows live. Stores store; what should become of a job is decided above.

Every write after a claim names the fence it was claimed with, and changes nothing when another
claim, a cancel or a reclaim came between. Times are the store's own *now*; only durations travel.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jobs.core.access import AccessStore
from jobs.core.chain import Hold
from jobs.core.controls import NOTHING_SAID, Control, Said
from jobs.core.group import Group, NewGroup
from jobs.core.job import Claimed, Job, NewJob, State, stored_state
from jobs.core.limits import Limits, LimitStatus, LimitUse, Tally
from jobs.core.look import Look
from jobs.core.schedule import Schedule

if TYPE_CHECKING:
    from jobs.core.alerts import Alert, Evaluation
    from jobs.core.measure import Bucket, Depth, Measures, TickRecord

# A job cancelled before it started has no policy at hand; it stays as long as a failed one.
CANCELLED_KEEP_SECONDS = 7 * 86_400.0
# How long a slot that made its job can make no other, even after its schedule was removed and made
# anew. The schedule itself never goes back: this is for those races alone.
SLOT_HELD_SECONDS = 86_400.0
# Records of ticks: once there are more than the most, all but the newest are folded. Of the regular
# ones some stay longer, as the cadence is learnt from them.
MOST_TICKS, KEPT_TICKS, KEPT_REGULAR = 2000, 1000, 50
MINUTES_KEPT_SECONDS, HOURS_KEPT_SECONDS = 3 * 3600.0, 30 * 86_400.0


class Capability(StrEnum):
    """What a store can do beyond the contract; callers ask for these, never for a name."""

    DURABLE = "durable"  # rows outlive the process
    SESSIONS = "sessions"  # enqueue inside the caller's transaction
    TRANSACTIONS = "transactions"  # transactional handlers
    CONCURRENT_WRITERS = "concurrent-writers"  # two transactions may write at once
    SHARED = "shared"  # several processes may use the same rows


class Verdict(NamedTuple):
    """What to write for one execution that ended.

    ``delay_seconds`` is how far ahead a pending row becomes due (``None`` leaves its time alone),
    ``attempts_back`` is 1 to give the attempt back, ``keep_seconds`` how long a finished row stays
    (``None``: for ever). ``errors`` replaces the row's history when given. A pending verdict on a
    row whose cancel was requested meanwhile is written as cancelled. ``ring_after_seconds`` is when
    a tick is to ring the row again (``None`` leaves that alone).

    ``cursor`` is the JSON that a long job goes on from (``None`` leaves it). With
    ``continue_within_seconds`` the row is put off and counts it in ``continues``; a row created
    longer ago than that is not written and told as late. Verdicts with ``group_id`` (that of the
    job) or ``follow`` (jobs inserted if and only if this is written) go to
    :meth:`Store.settle_more`.
    """

    id: str
    fence: int
    state: str
    result: str | None = None
    error: str | None = None
    errors: str | None = None
    delay_seconds: float | None = None
    attempts_back: int = 0
    duration_ms: float | None = None
    keep_seconds: float | None = None
    progress: float | None = None
    progress_note: str | None = None
    ring_after_seconds: float | None = None
    cursor: str | None = None
    continue_within_seconds: float | None = None
    group_id: str | None = None
    follow: tuple[NewJob, ...] = ()


class Settled(NamedTuple):
    """Which verdicts came late, and the jobs that were inserted with the others."""

    late: frozenset[str]
    inserted: tuple[NewJob, ...]


class Touch(NamedTuple):
    """A fenced note on a row that is being worked on.

    ``started``: ``True`` writes the start mark, ``False`` takes it back, ``None`` leaves it.
    ``cursor`` is the JSON that the job goes on from should it end here (``None`` leaves it).
    """

    id: str
    fence: int
    started: bool | None = None
    progress: float | None = None
    progress_note: str | None = None
    cursor: str | None = None


class TouchReport(NamedTuple):
    """Which touched rows are no longer held, and which of the held ones are to be cancelled."""

    lost: frozenset[str]
    cancelled: frozenset[str]


class CancelReport(NamedTuple):
    """The job after a cancel, and whether the cancel was ``accepted``: the job had not ended."""

    job: Job
    accepted: bool


class Due(NamedTuple):
    """What the one probe of a tick found.

    ``stalled``: a lease ran out; ``outstayed``: a finished row is past its keeping; ``lanes``: the
    lanes (``priority/queue/kind/flow``) that hold pending rows, due or not, and are not paused, but
    of very many flows only some, others each time; ``unrung``: a pending row is to be rung;
    ``scheduled``: the slot of a schedule has come; ``keys``: a name is to be looked at, whether a
    job still holds it; ``said``: what the controls say; ``groups``: a group is to be looked at;
    ``ticks``: there are more records of ticks than are kept; ``at``: the store's now;
    ``alerts``: who is to look at the alerts.
    """

    stalled: bool
    outstayed: bool
    lanes: tuple[str, ...]
    unrung: bool = False
    groups: bool = False
    scheduled: bool = False
    keys: bool = False
    said: Said = NOTHING_SAID
    ticks: bool = False
    at: datetime | None = None
    alerts: Look = Look.NOBODY


class Ahead(NamedTuple):
    """When there will be something to do.

    ``at`` is the next instant for whatever reason, past if it is now and ``None`` if nothing waits
    for anything, ``in_seconds`` how far that is ahead; ``rows_in_seconds`` is until the first
    pending row alone is due (0: it is).
    """

    at: datetime | None
    rows_in_seconds: float | None
    in_seconds: float | None = None


def ahead_of(rows: Sequence[datetime], others: Sequence[datetime], now: datetime) -> Ahead:
    """What these pending rows' instants, and those of leases and schedules, come to."""
    first = min(rows, default=None)
    at = min((*rows, *others), default=None)
    return Ahead(
        at,
        None if first is None else max(0.0, (first - now).total_seconds()),
        None if at is None else max(0.0, (at - now).total_seconds()),
    )


class Unrung(NamedTuple):
    """A pending row taken to be rung: ``rings`` counts this one, ``delay_seconds`` is until due."""

    id: str
    kind: str
    tenant: str
    rings: int
    delay_seconds: float
    concurrency_key: str | None = None


class Standing(NamedTuple):
    """How a row stands right now, for somebody who was told its id.

    ``due_in_seconds`` is 0 once it is due, ``lease_left_seconds`` negative once the lease ran out
    and ``None`` where there is none; ``paused`` says that a pause holds its queue or kind back.
    """

    id: str
    kind: str
    queue: str
    state: str
    due_in_seconds: float
    lease_left_seconds: float | None
    paused: bool = False

    @property
    def is_stalled(self) -> bool:
        """Whether the runner that holds the row has let its lease run out."""
        left = self.lease_left_seconds
        return self.state == State.PROCESSING and left is not None and left < 0


def standing_at(
    job_id: str,
    kind: str,
    queue: str,
    state: str,
    run_at: datetime,
    lease_until: datetime | None,
    now: datetime,
    *,
    paused: bool = False,
) -> Standing:
    """The standing of a row with these columns at the store's ``now``."""
    left = None if lease_until is None else (lease_until - now).total_seconds()
    due_in = max(0.0, (run_at - now).total_seconds())
    return Standing(job_id, kind, queue, str(state), due_in, left, paused)


class JobFilter(NamedTuple):
    """Which jobs to list; ``None`` means any. ``before_id`` continues a listing (newest first).

    ``error`` is text that the last error holds, letter by letter; ``older_than_seconds`` is how
    long ago a job ended, or was enqueued if it has not. With ``after_id`` (``""`` for the
    beginning) the oldest come first.

    ``shown`` is a state as people are told it (:data:`jobs.core.job.SHOWN_STATES`), ``since`` and
    ``until`` are when the job was enqueued, ``parent_id`` is the job that enqueued it (in a group
    or a chain), ``text`` is held, letter by letter, by its id, alias,
    dedupe key, error or payload. ``ids`` are the only jobs meant.

    With ``window`` no more rows than that are looked at: the first of those that the indexes find
    (:func:`indexed_part`), of which the rest of the filter then chooses.
    """

    state: State | None = None
    kind: str | None = None
    queue: str | None = None
    tenant: str | None = None
    before_id: str | None = None
    error: str | None = None
    older_than_seconds: float | None = None
    after_id: str | None = None
    shown: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    ids: tuple[str, ...] | None = None
    window: int | None = None
    parent_id: str | None = None

    @property
    def states(self) -> tuple[State, ...]:
        """The stored states that its jobs may be in."""
        wanted = tuple(State) if self.state is None else (self.state,)
        if self.shown is None:
            return wanted
        return tuple(state for state in wanted if state is stored_state(self.shown))

    @property
    def lead(self) -> str | None:
        """The field whose index finds its jobs, of those that it names; else the state's does."""
        for name in ("tenant", "kind", "queue"):
            if getattr(self, name):
                return name
        return None

    def lead_in(self, state: State) -> str | None:
        """As :attr:`lead`, of the jobs in ``state``: what waits has an index by tenant."""
        return None if state is State.PENDING and self.lead != "tenant" else self.lead


def is_indexed(where: JobFilter, field: str) -> bool:
    """Whether the indexes alone choose by ``field``, in whichever state a job may be."""
    return all(where.lead_in(state) == field for state in where.states)


def indexed_part(where: JobFilter, state: State) -> JobFilter:
    """What the indexes find of a filter, in the order of ids: its lead and one of its states."""
    lead = where.lead_in(state)
    return JobFilter(
        state=state,
        before_id=where.before_id,
        after_id=where.after_id,
        **({} if lead is None else {lead: getattr(where, lead)}),
    )


def needs_looking(where: JobFilter) -> bool:
    """Whether rows are to be looked at beyond what the indexes find."""
    named = [name for name in ("tenant", "kind", "queue") if getattr(where, name) is not None]
    is_clocked = where.shown is not None and stored_state(where.shown) in (
        State.PENDING,
        State.PROCESSING,
    )
    return (
        is_clocked
        or not all(is_indexed(where, name) for name in named)
        or any(
            value is not None
            for value in (
                *(where.error, where.older_than_seconds, where.text),
                *(where.since, where.until, where.ids, where.parent_id),
            )
        )
    )


class Survey(NamedTuple):
    """How many jobs a filter finds: ``found``, or more if ``capped``.

    ``looked_until`` is the id where the window of rows to look at ended, ``None`` if it held all.
    """

    found: int
    capped: bool = False
    looked_until: str | None = None


class QueueCount(NamedTuple):
    """How many jobs of a queue are in a shown state, or more if ``capped``.

    ``oldest_at`` is when the one that has waited longest became due, of those that wait.
    """

    queue: str
    shown: str
    jobs: int
    capped: bool = False
    oldest_at: datetime | None = None


class Board(NamedTuple):
    """The queues at a glance: the store's ``now``, counts by queue and shown state, and pauses."""

    now: datetime
    counts: tuple[QueueCount, ...]
    paused: frozenset[str]


class Glance(NamedTuple):
    """How things go: the newest ticks, what ticks counted lately, and the alerts."""

    ticks: list[TickRecord]
    buckets: list[Bucket]
    alerts: list[Alert]


class Failure(NamedTuple):
    """A failed job in short: ``error`` is the beginning of its last error."""

    id: str
    kind: str
    queue: str
    tenant: str
    attempts: int
    finished_at: datetime | None
    error: str


class Revival(NamedTuple):
    """A job to be put back to pending, as it stood when somebody decided so.

    It is due ``delay_seconds`` from now. ``max_attempts`` replaces the row's if given, ``errors``
    its history, ``ring_after_seconds`` is as in a :class:`Verdict`.
    """

    job: Job
    delay_seconds: float
    max_attempts: int | None = None
    errors: str | None = None
    ring_after_seconds: float | None = None


class StoreTransaction(Protocol):
    """The settling transaction of a transactional handler."""

    @property
    def session(self) -> Any: ...

    def settle(self, verdict: Verdict) -> bool:
        """Write the verdict inside; ``False`` if the row is no longer held (then roll back)."""
        ...

    @property
    def inserted(self) -> Sequence[NewJob]:
        """The jobs that the verdict brought along: to be told of once this has committed."""
        ...

    def abort(self) -> None:
        """Roll back from another thread: the handler is given up on."""
        ...


class Store(AccessStore, Protocol):
    """Every operation, one sentence each. Implementations are safe to call from several threads."""

    namespace: str
    capabilities: frozenset[Capability]

    def create_schema(self) -> None:
        """Make what is missing; harmless when everything is there."""
        ...

    def check_schema(self) -> None:
        """Raise :class:`SchemaError`, naming the mend, unless the tables fit this code."""
        ...

    def now(self) -> datetime:
        """The store's own time."""
        ...

    def insert(self, jobs: Sequence[NewJob], session: Any = None) -> list[Job]:
        """Write jobs, in ``session``'s transaction if given; returns them as written.

        One whose dedupe key or alias is held (:func:`jobs.core.keys.holds`) is not written: in its
        place comes the job that holds it, ``existing``, onto which, if it still waits, what
        ``replaces`` names was written. A name that an open transaction has just taken is waited
        for. If the holder's row is gone, its id comes with what was asked for.
        """
        ...

    def insert_many(
        self,
        jobs: Iterable[NewJob],
        session: Any = None,
        *,
        existing: dict[str, str] | None = None,
    ) -> int:
        """Write many jobs by the fastest way there is, all or nothing; returns how many.

        ``existing`` is given, by the ids of those not written, the ids of the jobs that hold their
        names; the first of several in one call holds it for the others.
        """
        ...

    async def ainsert(self, jobs: Sequence[NewJob], session: Any) -> list[Job]:
        """As :meth:`insert`, in an async session's transaction."""
        ...

    def after_commit(
        self, session: Any, tell: Callable[[list[Any]], None], items: Sequence[Any]
    ) -> None:
        """Call ``tell`` with these items once ``session``'s transaction has committed.

        What was handed over in one transaction for an equal ``tell`` comes in one call. Nothing is
        told after a rollback, nor of items from a savepoint that was rolled back.
        """
        ...

    def claim(
        self,
        limit: int,
        *,
        kinds: Collection[str],
        lease_seconds: float,
        mark: int = 0,
        ids: Collection[str] | None = None,
        queues: Collection[str] | None = None,
        lanes: Sequence[str] | None = None,
        overdue_seconds: float = 0.0,
        limits: Limits | None = None,
    ) -> list[Claimed]:
        """Take up to ``limit`` due rows of these kinds, best first: priority, run_at, id.

        Of one priority, tenants take turns. Of each name in ``limits`` no more are taken than it
        leaves free, over all claims at once; what is held back holds up nothing behind it. Of names
        with a rate only the first ``mark`` places are taken, as those start at once.

        Raises the fence, counts the attempt, sets the lease, and writes the start mark of the first
        ``mark`` rows, in one short transaction. With ``ids``, only those rows; ``lanes`` are those
        of a probe just made, to save looking again; ``overdue_seconds`` is how long a row must have
        been due. Two claims at once get disjoint rows.
        """
        ...

    def settle(self, verdicts: Sequence[Verdict], *, stalled_only: bool = False) -> frozenset[str]:
        """Write verdicts where id and fence still match; returns the ids that came late.

        ``stalled_only`` also demands that the lease has run out: for a reclaim.
        """
        ...

    def settle_more(self, verdicts: Sequence[Verdict], *, stalled_only: bool = False) -> Settled:
        """As :meth:`settle`, for verdicts of a group's jobs and those that others follow.

        In one transaction: the verdicts that are still in time, the jobs that follow those, and
        the end of a group whose last job this was. A repeated call inserts nothing again.
        """
        ...

    def touch(self, touches: Sequence[Touch], *, lease_seconds: float | None = None) -> TouchReport:
        """Write marks and progress on held rows, and renew their leases if given seconds."""
        ...

    def note_results(self, results: Sequence[Tally]) -> None:
        """Count ends of attempts for circuit breakers, by ``BreakerState.after``."""
        ...

    def limits_now(self, limits: Limits) -> list[LimitStatus]:
        """Every limit as it stands, by name; of keys the newest thousand that were looked at."""
        ...

    def limits_of(self, lane: str, limits: Limits) -> builtins.list[LimitUse]:
        """The limits on the jobs of a lane (``priority/queue/kind/flow``), as a claim sees them."""
        ...

    def reset_breaker(self, name: str) -> bool:
        """Close a breaker and forget what it counted; whether there is one of that name."""
        ...

    def transaction(self) -> AbstractContextManager[StoreTransaction]:
        """A transaction for a transactional handler; commits on a clean exit."""
        ...

    def writer_busy(self) -> bool:
        """Whether a transactional handler of this process holds the only writer right now."""
        ...

    def probe(self, *, rings: bool = False) -> Due:
        """What upkeep is due, in one statement; with ``rings`` also whether a row is to be rung."""
        ...

    def stalled(self, limit: int, ids: Collection[str] | None = None) -> list[Claimed]:
        """Rows in processing whose lease ran out, oldest lease first; nothing is changed.

        With ``ids``, only those rows.
        """
        ...

    def standing(self, ids: Collection[str]) -> dict[str, Standing]:
        """How these rows stand, in one statement; ids without a row here are left out."""
        ...

    def purge(self, limit: int) -> int:
        """Delete up to ``limit`` finished rows that are past their keeping; returns how many.

        Rows of a group that has not ended stay, here and in :meth:`trim`.
        """
        ...

    def purge_keys(self, limit: int) -> int:
        """Of up to ``limit`` names to be looked at, free those not held; returns how many."""
        ...

    def trim(self, kind: str, state: State, keep: int, limit: int) -> int:
        """Delete finished rows of a kind beyond the newest ``keep``, at most ``limit``."""
        ...

    def due_count(
        self,
        kinds: Collection[str],
        cap: int,
        lanes: Sequence[str] | None = None,
        *,
        overdue_seconds: float = 0.0,
    ) -> int:
        """How many rows of these kinds are due (for that long) and not paused, up to ``cap``."""
        ...

    def ahead(self, job: Job, kinds: Collection[str], cap: int) -> int:
        """How many due rows a claim of these kinds takes before ``job``, counted up to ``cap``.

        By priority, ``run_at`` and id, among those that no pause holds back.
        """
        ...

    def next_due(self, kinds: Collection[str], lanes: Sequence[str] | None = None) -> Ahead:
        """When the next row of these kinds becomes due, a lease runs out or a schedule fires.

        ``lanes`` are those of a probe just made, to save looking again.
        """
        ...

    def hold_chain(self, chain_id: str, *, seconds: float, per_hour: int) -> Hold:
        """Hold the namespace's one chain for so long, unless another does or the hour is spent.

        A grant counts as one tick of the hour. One that finds it held is remembered for
        :meth:`free_chain`.
        """
        ...

    def free_chain(self, chain_id: str) -> bool:
        """Hold it no longer; ``False`` (and it is still held) if another asked for it meanwhile."""
        ...

    def take_rings(self, limit: int) -> list[Unrung]:
        """Take up to ``limit`` pending rows whose time to be rung has come, and set the next.

        The next is ``jobs.core.ring.RING_AGAIN_SECONDS`` after they are due (or after now, if they
        are), doubled with every ring of a row, up to ``LONGEST_RING_AGAIN_SECONDS``. Two calls at
        once get disjoint rows.
        """
        ...

    def ring_again(self, ids: Collection[str]) -> None:
        """Have the next :meth:`take_rings` find these rows, those that are still pending."""
        ...

    def insert_group(
        self, group: NewGroup, jobs: Sequence[NewJob], session: Any = None
    ) -> list[NewJob]:
        """Write a group and its jobs at once, in ``session``'s transaction if given.

        Returns the jobs that its end enqueued: a group of no jobs ends at once.
        """
        ...

    def check_groups(self, limit: int, ids: Collection[str] | None = None) -> list[NewJob]:
        """End the groups without unfinished jobs: of ``ids``, or up to ``limit`` whose time to be
        looked at has come; returns the jobs enqueued by that.

        Groups that ended ``jobs.core.group.GROUP_KEEP_SECONDS`` ago are forgotten.
        """
        ...

    def groups_of(self, ids: Collection[str]) -> frozenset[str]:
        """The groups that those jobs belong to."""
        ...

    def group(self, group_id: str) -> Group | None:
        """A group with its jobs counted by state, or ``None``."""
        ...

    def schedules(
        self, tenant: str | None = None, *, source: str | None = None, limit: int = 10_000
    ) -> list[Schedule]:
        """The schedules (of a tenant, of a source), by tenant and name."""
        ...

    def get_schedule(self, name: str, tenant: str = "") -> Schedule | None:
        """One schedule, or ``None``."""
        ...

    def add_schedule(self, schedule: Schedule) -> bool:
        """Write a new schedule; ``False``, and nothing is written, if its name is taken."""
        ...

    def replace_schedule(self, before: Schedule, after: Schedule) -> bool:
        """Write ``after`` over ``before``; ``False`` if somebody has changed the row since.

        Tenant, name, source and ``created_at`` stay.
        """
        ...

    def remove_schedule(self, name: str, tenant: str = "") -> bool:
        """Delete a schedule; its jobs stay. ``False`` if there is none."""
        ...

    def due_schedules(self, kinds: Collection[str], limit: int) -> tuple[datetime, list[Schedule]]:
        """Now, and up to ``limit`` schedules of these kinds whose ``next_at`` has come."""
        ...

    def fire_schedule(
        self, before: Schedule, after: Schedule, jobs: Sequence[NewJob]
    ) -> list[NewJob]:
        """Write ``after`` over ``before`` and insert the jobs of the slots, in one transaction.

        Nothing happens if the row has changed since, as when another tick was first. A slot that
        has had its job gets no other, whatever became of the row since. Returns the jobs written;
        the last of them becomes the row's ``last_job_id``.
        """
        ...

    def next_schedule_at(self) -> datetime | None:
        """The earliest slot to come of all schedules, if there is one."""
        ...

    def get(self, job_id: str) -> Job | None:
        """One job, or ``None``."""
        ...

    def id_of(self, alias: str, tenant: str) -> str | None:
        """The id of the job that a tenant calls by this alias, or ``None``."""
        ...

    def list(self, where: JobFilter, limit: int) -> list[Job]:
        """Jobs by filter, newest first."""
        ...

    def counts(self, tenant: str | None = None) -> dict[tuple[str, str, str], int]:
        """Rows (of a tenant) by (queue, kind, shown state): pending, paused, delayed, ..."""
        ...

    # What a page shows: bounded, however many rows there are.

    def survey(self, where: JobFilter, cap: int) -> Survey:
        """How many jobs :meth:`list` would find with this filter, counted up to ``cap``."""
        ...

    def board(self, cap: int, tenant: str | None = None, *, completed: bool = False) -> Board:
        """The counts of every queue (for a tenant: of its jobs), up to ``cap`` in each lane.

        Rows that are completed are counted only if asked for: they are history, and the most.
        """
        ...

    def failures(self, limit: int, tenant: str | None = None) -> builtins.list[Failure]:
        """The newest ``limit`` failed jobs, by id, with the beginnings of their errors."""
        ...

    def cancel(self, job_id: str) -> CancelReport | None:
        """Cancel: a row that has not started ends at once, a running one is asked to stop.

        Returns what became of it, or ``None`` if there is no such job. Terminal rows stay.
        """
        ...

    # What people do to many rows: they look for ids first, without locks, and then change those
    # rows by their keys, where each still is what it was found to be.

    def find(self, where: JobFilter, limit: int) -> builtins.list[str]:
        """As :meth:`list`, the ids alone."""
        ...

    def discard(self, job: Job, error: str, errors: str, keep_seconds: float | None) -> bool:
        """End a pending row as failed, with this error and history, if it is as ``job`` found it.

        ``keep_seconds`` is how long it stays (``None``: for ever).
        """
        ...

    def cancel_many(self, ids: Collection[str]) -> int:
        """Cancel these as :meth:`cancel` does; returns how many ended or were asked to stop."""
        ...

    def remove(
        self,
        ids: Collection[str],
        states: Collection[State],
        *,
        ended_for_seconds: float | None = None,
    ) -> int:
        """Delete those of these rows that are in such a state, and ended for so long if given.

        Returns how many. A row in processing is never deleted.
        """
        ...

    def revive(
        self,
        revivals: Sequence[Revival],
        *,
        run_at: datetime | None = None,
        refused: dict[str, str] | None = None,
    ) -> int:
        """Put jobs back to pending; one that is not any more as the revival found it stays.

        One that had ended takes its dedupe key again; if another live job has it, it stays as well,
        and ``refused`` is given, by its id, that of the other.

        One that had ended begins anew: attempts count from 0, result, finish and expiry are gone,
        its fence stays. One that is pending is only brought forward: one that is due before its
        delay ends keeps its place. With ``run_at`` all are due at that instant, whatever their
        delays. Returns how many.
        """
        ...

    def stuck(self, running_for_seconds: float, limit: int) -> builtins.list[Claimed]:
        """Rows in processing that started so long ago, oldest first; nothing is changed.

        Their leases may still run. One that has not started is held by its lease alone.
        """
        ...

    def pause(self, subject: str, *, by: str | None, because: str | None) -> None:
        """Hold back the pending jobs of a subject (see :class:`Control`) from every claim.

        A second pause keeps the instant of the first.
        """
        ...

    def resume(self, subject: str, *, by: str | None) -> bool:
        """Take a pause back; returns whether there was one."""
        ...

    def set_settings(
        self, subject: str, changes: Mapping[str, Any], *, by: str | None
    ) -> dict[str, Any]:
        """Change a subject's settings by name, ``None`` taking one away; returns them all.

        Two changes at once both hold.
        """
        ...

    def controls(self) -> builtins.list[Control]:
        """Every control, by subject; those taken back still say who did."""
        ...

    def paused(self) -> frozenset[str]:
        """The subjects that are paused."""
        ...

    # Records of ticks are only ever added, each in one statement that waits for nobody. The oldest
    # are folded into measures of a minute or an hour, and all that was folded into totals.

    def record_tick(self, record: TickRecord) -> None:
        """Write a tick down, as of now; ``ended_at`` is the store's present."""
        ...

    def ticks(
        self,
        limit: int,
        *,
        before: tuple[datetime, str] | None = None,
        triggers: Collection[str] | None = None,
    ) -> builtins.list[TickRecord]:
        """The last ticks, newest first, of these triggers if given.

        ``before`` is ``(ended_at, id)`` of the last one seen, to go on from there.
        """
        ...

    def last_tick(self) -> TickRecord | None:
        """The newest record, whatever the tick was started by."""
        ...

    def fold_ticks(self, limit: int, *, keep: int = KEPT_TICKS) -> int:
        """Fold up to ``limit`` of the oldest records into measures; returns how many.

        The newest ``keep`` stay, and beyond those the newest ``KEPT_REGULAR`` regular ones.
        Each is counted once, however many do this at a time. Measures of minutes become those of
        hours after ``MINUTES_KEPT_SECONDS``, and those are gone after ``HOURS_KEPT_SECONDS``.
        """
        ...

    def measures(
        self,
        since_seconds: float,
        bucket_seconds: float,
        *,
        tenant: str | None = None,
        queue: str | None = None,
        kind: str | None = None,
    ) -> builtins.list[Bucket]:
        """What ticks of the last ``since_seconds`` did, by bucket and key, oldest first.

        Exact for the ticks that are still recorded; what was folded stands where its minute or its
        hour began. ``None`` means any; every bucket tells of one tenant, queue and kind.
        """
        ...

    def glance(self, ticks: int, since_seconds: float, bucket_seconds: float) -> Glance:
        """As :meth:`ticks`, :meth:`measures` and :meth:`alerts`, read at once."""
        ...

    def totals(self) -> Measures:
        """What all ticks did since the beginning, by queue and kind (the tenant is left out).

        Under the queue ``TICKS_QUEUE`` are the ticks themselves, by trigger. Never lower than
        before, whatever is folded or forgotten meanwhile.
        """
        ...

    def depths(self, cap: int) -> builtins.list[Depth]:
        """How many unfinished jobs there are by queue, kind and state.

        Counted along indexes, up to ``cap`` of each priority, queue and kind, and of all that run.
        """
        ...

    def failed_counts(self, kinds: Collection[str], cap: int) -> dict[str, int]:
        """How many dead letters there are of each of these kinds, each counted up to ``cap``."""
        ...

    # Alerts are rows by rule and subject. One evaluation at a time is let in, and what it decided
    # is written only if nobody wrote a row since it was read.

    def claim_alerts(self, every_seconds: float) -> bool:
        """Whether it is the caller who looks at the alerts now: nobody did for so long."""
        ...

    def alerts(self) -> builtins.list[Alert]:
        """Every alert, by name and subject, those that are over for a while included."""
        ...

    def save_alerts(self, evaluation: Evaluation, jobs: Sequence[NewJob]) -> bool:
        """Write what was decided, and ``jobs`` with it; ``False``, and nothing of it, if a row has
        changed since it was read."""
        ...

    def acknowledge_alert(self, name: str, subject: str | None, by: str) -> int:
        """Note who knows of the open alerts of a rule (``subject`` ``None``: all); how many."""
        ...

    def clear(self) -> int:
        """Delete every row of this namespace; returns how many jobs. Records of ticks stay."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...
