"""The store contract: where rows live. Stores store; what should become of a job is decided above.

Every write after a claim names the fence it was claimed with, and changes nothing when another
claim, a cancel or a reclaim came between. Times are the store's own *now*; only durations travel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from jobs.core.chain import Hold
from jobs.core.job import Claimed, Job, NewJob, State

# A job cancelled before it started has no policy at hand; it stays as long as a failed one.
CANCELLED_KEEP_SECONDS = 7 * 86_400.0


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


class Touch(NamedTuple):
    """A fenced note on a row that is being worked on.

    ``started``: ``True`` writes the start mark, ``False`` takes it back, ``None`` leaves it.
    """

    id: str
    fence: int
    started: bool | None = None
    progress: float | None = None
    progress_note: str | None = None


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
    lanes (``priority/queue/kind/flow``) that hold pending rows, due or not; ``unrung``: a pending
    row is to be rung.
    """

    stalled: bool
    outstayed: bool
    lanes: tuple[str, ...]
    unrung: bool = False


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
    and ``None`` where there is none.
    """

    id: str
    kind: str
    queue: str
    state: str
    due_in_seconds: float
    lease_left_seconds: float | None

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
) -> Standing:
    """The standing of a row with these columns at the store's ``now``."""
    left = None if lease_until is None else (lease_until - now).total_seconds()
    due_in = max(0.0, (run_at - now).total_seconds())
    return Standing(job_id, kind, queue, str(state), due_in, left)


class JobFilter(NamedTuple):
    """Which jobs to list; ``None`` means any. ``before_id`` continues a listing (newest first)."""

    state: State | None = None
    kind: str | None = None
    queue: str | None = None
    tenant: str | None = None
    before_id: str | None = None


class StoreTransaction(Protocol):
    """The settling transaction of a transactional handler."""

    @property
    def session(self) -> Any: ...

    def settle(self, verdict: Verdict) -> bool:
        """Write the verdict inside; ``False`` if the row is no longer held (then roll back)."""
        ...

    def abort(self) -> None:
        """Roll back from another thread: the handler is given up on."""
        ...


class Store(Protocol):
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
        """Write jobs, in ``session``'s transaction if given; returns them as written."""
        ...

    def insert_many(self, jobs: Iterable[NewJob], session: Any = None) -> int:
        """Write many jobs by the fastest way there is, all or nothing; returns how many."""
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
    ) -> list[Claimed]:
        """Take up to ``limit`` due rows of these kinds, best first: priority, run_at, id.

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

    def touch(self, touches: Sequence[Touch], *, lease_seconds: float | None = None) -> TouchReport:
        """Write marks and progress on held rows, and renew their leases if given seconds."""
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
        """Delete up to ``limit`` finished rows that are past their keeping; returns how many."""
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
        """How many rows of these kinds are due (for that long), counted up to ``cap``."""
        ...

    def next_due(self, kinds: Collection[str]) -> datetime | None:
        """When the next row of these kinds becomes due, a lease runs out or a schedule fires.

        An instant that is past means now; ``None`` that nothing waits for anything.
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

    def get(self, job_id: str) -> Job | None:
        """One job, or ``None``."""
        ...

    def list(self, where: JobFilter, limit: int) -> list[Job]:
        """Jobs by filter, newest first."""
        ...

    def counts(self) -> dict[tuple[str, str, str], int]:
        """Rows by (queue, kind, shown state): pending, delayed, retrying, processing, ..."""
        ...

    def cancel(self, job_id: str) -> CancelReport | None:
        """Cancel: a row that has not started ends at once, a running one is asked to stop.

        Returns what became of it, or ``None`` if there is no such job. Terminal rows stay.
        """
        ...

    def clear(self) -> int:
        """Delete every row of this namespace; returns how many."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...
