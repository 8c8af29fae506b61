"""Schedules that make no jobs, or jobs that nobody runs."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.core.errors import ConfigurationError
from jobs.core.slots import rule_of
from jobs.ops.doctor.base import Family, Finding, Surroundings, error, warning
from jobs.ops.words import age


def without_handler(around: Surroundings) -> Iterator[Finding]:
    """Schedules of kinds that have no handler here."""
    if around.store is None or not around.kinds:
        return
    for schedule in around.store.schedules():
        if schedule.enabled and schedule.kind not in around.kinds:
            yield warning(
                "schedule-without-handler",
                f"schedule {schedule.name!r} makes jobs of kind {schedule.kind!r}, which has no "
                "handler here: they wait",
                "name its module in JOBS_HANDLERS, or switch the schedule off: "
                f"`tickwork schedules disable {schedule.name}`",
            )


def unreadable(around: Surroundings) -> Iterator[Finding]:
    """Schedules whose rule or time zone cannot be read here."""
    if around.store is None:
        return
    for schedule in around.store.schedules():
        if not schedule.enabled:
            continue
        try:
            rule_of(schedule)
        except ConfigurationError as failure:
            yield error(
                "schedule-unreadable",
                f"schedule {schedule.name!r} cannot be read here, so it makes no jobs: {failure}",
                "add it again with a right rule; for a missing time zone pip install tzdata",
            )


def overdue(around: Surroundings) -> Iterator[Finding]:
    """Slots that have come, and no tick has made their jobs."""
    store = around.store
    if store is None:
        return
    now = store.now()
    for schedule in store.schedules():
        late = 0.0 if schedule.next_at is None else (now - schedule.next_at).total_seconds()
        if schedule.enabled and late > around.late_seconds:
            yield warning(
                "schedule-overdue",
                f"schedule {schedule.name!r} should have made a job {age(late)} ago, and no tick "
                "came to do it",
                "look at the platform's cron log; `tickwork tick` runs one by hand",
            )


FAMILY = Family("schedules", (without_handler, unreadable, overdue))
