"""Record: what a tick did, counted while it goes on and written down when it has ended."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from jobs.core.errors import SchemaError, StoreUnavailable
from jobs.core.ids import new_id
from jobs.core.job import Claimed
from jobs.core.measure import ERROR_CHARS, REGULAR, Key, Measure, Measures, TickRecord
from jobs.core.outcome import Outcome
from jobs.runtime.base import Runtime
from jobs.runtime.execute import BatchReport
from jobs.runtime.recorder import GATHERED, runner_name

RAN = frozenset({"completed", "failed", "retried", "snoozed", "continued"})


@dataclass(slots=True)
class Note:
    """What a tick has done so far; it holds for a tick that raises half-way as well.

    ``began`` in monotonic seconds. ``seen_at`` is the store's time at ``seen`` (monotonic): what a
    job has waited is reckoned from it, so that a runner's skewed clock does not matter.
    """

    trigger: str
    limit: int
    began: float
    claimed: int = 0
    reclaimed: int = 0
    remaining: int = 0
    more: bool = False
    seen_at: datetime | None = None
    seen: float = 0.0
    measures: Measures = field(default_factory=dict)
    reports: list[BatchReport] = field(default_factory=list)
    ticks: int = 1
    names: Counter[str] = field(default_factory=Counter)

    def see(self, at: datetime | None, now: float) -> None:
        """The store's time and ours are one instant."""
        self.seen_at, self.seen = at, now

    def record(self, now: float, error: BaseException | None) -> TickRecord:
        """The record of the tick that ended ``now`` (monotonic seconds)."""
        for report in self.reports:
            self.count(report)
        names = self.names
        said = None if error is None else f"{type(error).__name__}: {error}"[:ERROR_CHARS]
        return TickRecord(
            id=new_id(),
            trigger=self.trigger,
            runner=runner_name(),
            duration_ms=round((now - self.began) * 1000, 1),
            ticks=self.ticks,
            limit=self.limit,
            claimed=self.claimed,
            processed=sum(names[name] for name in RAN),
            succeeded=names["completed"],
            failed=names["failed"],
            retried=names["retried"],
            released=names["released"],
            reclaimed=self.reclaimed,
            remaining=self.remaining,
            more=self.more,
            error=said,
            measures=self.measures,
        )

    def count(self, report: BatchReport) -> None:
        """Count what a report says, which is then not among the ``reports``."""
        for outcome in report.written():
            self.names[outcome.name] += 1
            self._count(report.jobs[outcome.verdict.id], outcome)

    def _count(self, job: Claimed, outcome: Outcome) -> None:
        measure = measure_of(self.measures, job)
        measure.count(outcome.name)
        if outcome.started is None or outcome.verdict.duration_ms is None:
            return
        measure.ran.note(outcome.verdict.duration_ms)
        if self.seen_at is not None:
            due_for = (self.seen_at - job.run_at).total_seconds()
            measure.waited.note((due_for + outcome.started - self.seen) * 1000)


def measure_of(measures: Measures, job: Claimed) -> Measure:
    """The measure that a job counts for."""
    key = Key(job.tenant, job.queue, job.kind)
    found = measures.get(key)
    if found is None:
        found = measures[key] = Measure()
    return found


def count_reclaimed(
    measures: Measures,
    jobs: Collection[Claimed],
    outcomes: Collection[Outcome],
    late: Collection[str],
) -> None:
    """Count what became of jobs whose runner died, those of them that had begun as lost."""
    for job, outcome in zip(jobs, outcomes, strict=True):
        if job.id not in late:
            measure = measure_of(measures, job)
            measure.count(outcome.name)
            measure.lost += job.marked


@contextlib.contextmanager
def written_down(runtime: Runtime, note: Note, *, gather: bool = False) -> Iterator[Note]:
    """Record the tick that happens inside, and tell the watchdog outside how it ended."""
    error: Exception | None = None
    try:
        yield note
    except Exception as raised:
        error = raised
        raise
    finally:
        # Where the database cannot be reached, trying to write that down would only take time.
        if not isinstance(error, (StoreUnavailable, SchemaError)):
            now = runtime.clock.monotonic()
            runtime.recorder.add(
                runtime.store,
                note.record(now, error),
                now,
                gather=gather or note.trigger in GATHERED,
            )
        if runtime.heartbeat is not None and note.trigger in REGULAR:
            runtime.heartbeat(error is None)
