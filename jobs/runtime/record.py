"""Record: what a tick did, counted while it goes on and written down when it has ended."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter

from msgspec import Struct, field

from jobs.core.errors import SchemaError, StoreUnavailable
from jobs.core.ids import new_id
from jobs.core.job import Claimed
from jobs.core.measure import ERROR_CHARS, REGULAR, Key, Measure, Measures, TickRecord
from jobs.core.outcome import Outcome
from jobs.runtime.base import Runtime
from jobs.runtime.execute import BatchReport
from jobs.runtime.recorder import GATHERED, runner_name

_KEY = attrgetter("tenant", "queue", "kind")
_NAME = attrgetter("name")
RAN = frozenset({"completed", "failed", "retried", "snoozed", "continued"})


class Note(Struct):
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
        grouped: defaultdict[tuple[str, str, str], list[Outcome]] = defaultdict(list)
        jobs = report.jobs
        for outcome in report.written():
            grouped[_KEY(jobs[outcome.verdict.id])].append(outcome)
        for key, outcomes in grouped.items():
            self._count(Key(*key), outcomes, jobs)

    def _count(self, key: Key, outcomes: Sequence[Outcome], jobs: Mapping[str, Claimed]) -> None:
        measure = measure_of(self.measures, key)
        names = Counter(map(_NAME, outcomes))
        self.names.update(names)
        for name, times in names.items():
            measure.count(name, times)
        ran = [
            (outcome.verdict, outcome.started)
            for outcome in outcomes
            if outcome.started is not None and outcome.verdict.duration_ms is not None
        ]
        measure.ran.note_all([verdict.duration_ms or 0.0 for verdict, _ in ran])
        if self.seen_at is not None:
            # What makes the store's time of our monotonic seconds.
            ahead = self.seen_at.timestamp() - self.seen
            measure.waited.note_all(
                [
                    (ahead + started - jobs[verdict.id].run_at.timestamp()) * 1000
                    for verdict, started in ran
                ]
            )


def measure_of(measures: Measures, key: Key) -> Measure:
    """The measure of a key, a new one if there is none."""
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
            measure = measure_of(measures, Key(*_KEY(job)))
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
