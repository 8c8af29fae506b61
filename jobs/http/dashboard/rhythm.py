"""The cron's heartbeat and what queues did lately, from the records that ticks leave."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from statistics import median
from typing import Any, NamedTuple

from jobs.http.dashboard.desk import Desk

TICKS_SHOWN = 30
ACTIVITY_SECONDS, ACTIVITY_BUCKETS = 3600.0, 30
# Triggers that come by themselves; the others come because somebody rang.
OF_THEMSELVES = frozenset({"cron", "worker", "local"})
MISSED_BEATS = 3
LEAST_OVERDUE_SECONDS = 180.0


class Heart(NamedTuple):
    """The last ticks, newest first; ``every_seconds`` is how often the cron seems to come."""

    ticks: tuple[Any, ...]
    last_at: datetime | None
    every_seconds: float | None
    is_overdue: bool


class Activity(NamedTuple):
    """What a queue did in each bucket of the last hour, oldest first."""

    completed: list[int]
    failed: list[int]


def heartbeat(desk: Desk) -> Heart:
    """The heartbeat as of now."""
    ticks = tuple(desk.store.ticks(TICKS_SHOWN))
    beats = [tick.began_at for tick in ticks if tick.trigger in OF_THEMSELVES]
    gaps = [(one - other).total_seconds() for one, other in zip(beats, beats[1:], strict=False)]
    every = median(gaps) if gaps else None
    last = max((tick.began_at for tick in ticks), default=None)
    overdue = False
    if last is not None and every is not None:
        silence = (desk.now - last).total_seconds()
        overdue = silence > max(LEAST_OVERDUE_SECONDS, MISSED_BEATS * every)
    return Heart(ticks, last, every, overdue)


def by_queue(desk: Desk) -> dict[str, Activity]:
    """What every queue did in the last hour."""
    size = ACTIVITY_SECONDS / ACTIVITY_BUCKETS
    found: dict[str, Activity] = defaultdict(
        lambda: Activity([0] * ACTIVITY_BUCKETS, [0] * ACTIVITY_BUCKETS)
    )
    begin = desk.now - timedelta(seconds=ACTIVITY_SECONDS)
    for start, _, queue, _, tally in desk.store.measures(
        ACTIVITY_SECONDS, size, tenant=desk.tenant
    ):
        place = int((start - begin).total_seconds() // size)
        place = min(max(place, 0), ACTIVITY_BUCKETS - 1)
        found[queue].completed[place] += tally.completed
        found[queue].failed[place] += tally.failed + tally.retried
    return dict(found)


def open_alerts(desk: Desk) -> list[Any]:
    """The alerts that are open; none where a tenant looks, since they speak of all jobs."""
    alerts = getattr(desk.tickwork, "alerts", None)
    if alerts is None or desk.tenant is not None:
        return []
    return [alert for alert in alerts() if alert.state != "ok"]
