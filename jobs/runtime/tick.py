"""The tick: one run of the loop. Upkeep, claim, execute and settle, then say what is left."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from jobs.core.deadline import Budget, tick_budget
from jobs.core.events import ticking
from jobs.core.outcome import pace_marks
from jobs.runtime.apart import merged, run_apart, suspects_apart
from jobs.runtime.base import Runtime
from jobs.runtime.execute import FLUSH_SECONDS, BatchReport
from jobs.runtime.record import RAN, Note, written_down
from jobs.runtime.upkeep import run_upkeep
from jobs.runtime.watch import look_at_alerts

log = logging.getLogger("tickwork.tick")
REMAINING_CAP = 1000


class TickResult(Struct, frozen=True):
    """What a tick did.

    ``processed`` counts jobs whose handler ran and whose end was written. ``remaining`` is how many
    due jobs are left, counted up to 1,000; past that ``more`` is true. ``scheduled`` counts the
    jobs that schedules made. ``next_due_at`` is, where nothing is left and the caller asked, when
    something will be due (``None``: nothing is known).
    """

    processed: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    released: int = 0
    remaining: int = 0
    more: bool = False
    jobs: tuple[str, ...] = ()
    duration_ms: float = 0.0
    cancelled: int = 0
    snoozed: int = 0
    late: int = 0
    reclaimed: int = 0
    next_due_at: datetime | None = None
    scheduled: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The tick's answer over HTTP."""
        return {
            "processed": self.processed,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "retried": self.retried,
            "released": self.released,
            "remaining": self.remaining,
            "more": self.more,
            "jobs": list(self.jobs),
            "duration_ms": self.duration_ms,
            "next_due_at": None if self.next_due_at is None else self.next_due_at.isoformat(),
        }


@ticking()
def run_tick(
    runtime: Runtime,
    *,
    limit: int | None = None,
    time_budget: float | None = None,
    tick_limit: float | None = None,
    slots: int | None = None,
    budget: Budget | None = None,
    kinds: frozenset[str] | None = None,
    begun: float | None = None,
    overdue_seconds: float | None = None,
    handlers_ended: Callable[[], None] | None = None,
    counts_left: bool = False,
    looks_ahead: bool = False,
    trigger: str = "call",
    gather: bool = False,
) -> TickResult:
    """Claim up to ``limit`` due jobs and run them; durations in seconds, settings by default.

    The durations count from ``begun`` (monotonic seconds), when the platform's clock began to run;
    now by default. ``budget`` replaces them for a runner that has no platform limit. With a queue
    beside the table only what has been due for ``overdue_seconds`` is run. ``handlers_ended`` is
    called when all handlers of the tick have, before their last results are written; it may not
    have been when the tick raises. With ``counts_left`` what came while it ran counts as left as
    well; with ``looks_ahead`` the result tells when something is next due. What it did is recorded,
    with the ``trigger`` that started it (one of :data:`jobs.core.measure.TRIGGERS`); with
    ``gather`` together with the ticks that follow.
    """
    settings = runtime.settings
    now = runtime.clock.monotonic()
    begun = now if begun is None else begun
    limit = settings.batch_size if limit is None else limit
    budget = budget or tick_budget(
        begun,
        now,
        settings.time_budget if time_budget is None else time_budget,
        settings.tick_limit if tick_limit is None else tick_limit,
    )
    wanted = _Wanted(
        limit,
        settings.concurrency if slots is None else slots,
        runtime.registry.kinds if kinds is None else runtime.registry.kinds & kinds,
        runtime.overdue_seconds if overdue_seconds is None else overdue_seconds,
        handlers_ended,
        counts_left=counts_left,
        looks_ahead=looks_ahead,
    )
    with written_down(runtime, Note(trigger, limit, begun), gather=gather) as note:
        result = _run(runtime, wanted, budget, note)
        note.remaining, note.more = result.remaining, result.more
        return result


class _Wanted(Struct, frozen=True):
    """What is asked of one tick, with the settings' defaults filled in."""

    limit: int
    slots: int
    handled: frozenset[str]
    overdue: float
    handlers_ended: Callable[[], None] | None
    counts_left: bool
    looks_ahead: bool


def _run(runtime: Runtime, wanted: _Wanted, budget: Budget, note: Note) -> TickResult:
    limit, slots, handled, overdue = wanted.limit, wanted.slots, wanted.handled, wanted.overdue
    _declare_schedules(runtime)
    due = runtime.store.probe(rings=runtime.rules is not None)
    seen = runtime.clock.monotonic()
    note.see(due.at, seen)
    runtime.queues.learn(due.said.settings, seen)
    reclaimed = run_upkeep(runtime, due, note)
    watched = due.alerts.is_for(ran=False, waits=bool(due.lanes))
    if watched:  # before the jobs, which may cost a tick its life
        look_at_alerts(runtime)
    scheduled = _fire_schedules(runtime) if due.scheduled else 0
    # A reclaim or a schedule may have opened lanes that the probe did not see.
    lanes = None if reclaimed or scheduled else due.lanes
    ahead = None
    if wanted.looks_ahead and lanes:
        # Most ticks that look find nothing, and a claim that finds nothing costs more.
        ahead = runtime.store.next_due(handled, lanes)
        if ahead.rows_in_seconds != 0:
            lanes = ()
    limits = runtime.limits
    claimed = []
    starts = not runtime.stopping.is_set() and not _is_clogged(runtime)
    if (lanes is None or lanes) and starts:
        claimed = runtime.store.claim(
            limit,
            kinds=handled,
            lease_seconds=budget.lease_seconds,
            mark=pace_marks(
                round(runtime.starts_per_second), 1.0, min(slots, limit), FLUSH_SECONDS
            ),
            lanes=lanes,
            overdue_seconds=overdue,
            limits=limits,
        )
    note.claimed = len(claimed)
    drafts = runtime.drafts
    batches = suspects_apart(runtime, ([job] for job in claimed), budget)
    ended = wanted.handlers_ended
    reports = run_apart(runtime, batches, budget, slots=slots, note=note, when_ended=ended)
    report = merged(reports)
    may_be_left = len(claimed) >= limit or not starts or runtime.stopping.is_set()
    # Handlers may have enqueued, and so may others in this process.
    came_meanwhile = bool(claimed) and (wanted.counts_left or runtime.drafts != drafts)
    # Nor has a short claim taken what its jobs were followed by.
    followed = any(outcome.may_be_followed for outcome in report.outcomes)
    if not may_be_left:
        # A claim that came back short has taken all there was, but for what came back due at once,
        # or was held back by a limit that may be free again now that these have ended.
        returned = any(outcome.is_due_again for outcome in report.outcomes)
        may_be_left = returned or followed or came_meanwhile or bool(claimed and limits)
    # What came meanwhile, or follows, may have opened lanes of its own.
    lanes = None if came_meanwhile or followed else lanes
    if wanted.looks_ahead and (ahead is None or claimed):
        ahead = runtime.store.next_due(handled, lanes)
    remaining = 0
    if may_be_left and (ahead is None or ahead.rows_in_seconds == 0):
        remaining = runtime.store.due_count(
            handled, REMAINING_CAP + 1, lanes=lanes, overdue_seconds=overdue
        )
    if not watched and due.alerts.is_for(ran=bool(claimed or reclaimed), waits=remaining > 0):
        look_at_alerts(runtime)
    next_due_at = None if ahead is None or remaining else ahead.at
    elapsed_seconds = runtime.clock.monotonic() - note.began
    result = _result(report, remaining, reclaimed, elapsed_seconds, next_due_at)
    return replace(result, scheduled=scheduled) if scheduled else result


def _is_clogged(runtime: Runtime) -> bool:
    if not runtime.is_clogged:
        return False
    log.error(
        "%d handlers that were given up on still run: this process starts no more jobs until they "
        "end. Let handlers wait with timeouts of their own, and end this process",
        runtime.still_abandoned(),
    )
    return True


def _declare_schedules(runtime: Runtime) -> None:
    if runtime.declared.is_new:
        from jobs.runtime.schedules import synchronise  # late: most deployments have none

        synchronise(runtime)


def _fire_schedules(runtime: Runtime) -> int:
    from jobs.runtime.schedules import fire_due  # late, as above

    return fire_due(runtime)


def _result(
    report: BatchReport,
    remaining: int,
    reclaimed: int,
    elapsed_seconds: float,
    next_due_at: datetime | None,
) -> TickResult:
    written = report.written()
    names = Counter(outcome.name for outcome in written)
    ran = tuple(outcome.verdict.id for outcome in written if outcome.name in RAN)
    result = TickResult(
        processed=len(ran),
        succeeded=names["completed"],
        failed=names["failed"],
        retried=names["retried"],
        released=names["released"],
        remaining=min(remaining, REMAINING_CAP),
        more=remaining > REMAINING_CAP,
        jobs=ran,
        duration_ms=round(elapsed_seconds * 1000, 1),
        cancelled=names["cancelled"],
        snoozed=names["snoozed"],
        late=len(report.late),
        reclaimed=reclaimed,
        next_due_at=next_due_at,
    )
    level = logging.INFO if ran or reclaimed else logging.DEBUG
    log.log(
        level,
        "tick: %d processed, %d succeeded, %d failed, %d retried, %d released, %d reclaimed, "
        "%d remaining, %.0f ms",
        result.processed,
        result.succeeded,
        result.failed,
        result.retried,
        result.released,
        reclaimed,
        result.remaining,
        result.duration_ms,
    )
    return result
