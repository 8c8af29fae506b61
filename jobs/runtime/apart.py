"""Apart: a job whose last runner died runs alone; if it kills another, nothing dies with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from jobs.core.deadline import Budget, Fit, fit
from jobs.core.delivery import has_lost_a_runner
from jobs.core.job import Claimed
from jobs.core.store import Touch
from jobs.runtime.base import Runtime
from jobs.runtime.execute import Batch, BatchReport
from jobs.runtime.record import Note
from jobs.runtime.upkeep import trim_finished

Line = list[Claimed]  # jobs that run one after the other; where there is no order, one alone


def run_apart(
    runtime: Runtime,
    batches: Sequence[Sequence[Line]],
    budget: Budget,
    *,
    slots: int,
    note: Note,
    when_ended: Callable[[], None] | None = None,
) -> list[BatchReport]:
    """Run batches one after the other, the lines of each side by side; returns their reports.

    Each begins when the ends of the one before are written. ``when_ended`` is called once all
    handlers have ended, before the last results are written; of no jobs at all it is not called.
    """
    batches = [each for each in batches if each]
    reports: list[BatchReport] = []
    for number, together in enumerate(batches):
        batch = Batch(
            runtime,
            [line[0] for line in together],
            budget,
            slots=slots,
            followers={line[0].id: line[1:] for line in together if line[1:]},
            fresh=not any(report.started for report in reports),
            when_ended=when_ended if number == len(batches) - 1 else None,
        )
        note.reports.append(batch.report)
        reports.append(batch.run())
        trim_finished(runtime, reports[-1])
    return reports


def suspects_apart(
    runtime: Runtime, lines: Iterable[Line], tick: Budget | None = None
) -> list[list[Line]]:
    """All that can be trusted in one batch; then, each in its own, what may kill its runner.

    Of a ``tick`` one that fits none except as its first gets that place, as any other such job.
    """
    trusted: list[Line] = []
    suspect: list[Line] = []
    for line in lines:
        (suspect if any(map(has_lost_a_runner, line)) else trusted).append(line)
    batches = [trusted, *([line] for line in suspect)]
    for number, line in enumerate(suspect):
        if tick is not None and _is_oversize(runtime, line[0], tick):
            batches.insert(0, batches.pop(number + 1))
            break
    return _first_with_marks(runtime, batches)


def merged(reports: Sequence[BatchReport]) -> BatchReport:
    """One report of several batches."""
    if len(reports) == 1:
        return reports[0]
    whole = BatchReport()
    for report in reports:
        whole.jobs |= report.jobs
        whole.outcomes += report.outcomes
        whole.late |= report.late
        whole.started += report.started
    return whole


def _is_oversize(runtime: Runtime, job: Claimed, budget: Budget) -> bool:
    if job.kind not in runtime.registry.kinds:
        return False
    declared = job.timeout_seconds or runtime.terms(job.kind, job.queue).timeout
    now = runtime.clock.monotonic()
    fitting = fit(declared, runtime.settings.timeout, budget, now=now, first=False)
    return fitting.verdict is Fit.NOT_NOW


def _first_with_marks(runtime: Runtime, batches: list[list[Line]]) -> list[list[Line]]:
    """Later ones do not start soon: should another job kill the runner, these have not run."""
    first, *later = [each for each in batches if each] or [[]]
    unmarked = without_marks(runtime, [job for batch in later for line in batch for job in line])
    rest = iter(unmarked)
    return [first, *([[next(rest) for _ in line] for line in batch] for batch in later)]


def without_marks(runtime: Runtime, jobs: Sequence[Claimed]) -> list[Claimed]:
    """The jobs as they are once their start marks are taken back."""
    marked = [Touch(job.id, job.fence, False) for job in jobs if job.marked]
    if marked:
        runtime.store.touch(marked)
    return [job._replace(marked=False) for job in jobs]
