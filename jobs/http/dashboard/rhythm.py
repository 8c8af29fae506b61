"""The cron's heartbeat and what queues did lately, from the records that ticks leave."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from jobs.core.measure import Bucket, Pulse, TickRecord, bucket_start, take_pulse
from jobs.core.store import Glance
from jobs.http.dashboard.desk import Desk
from jobs.ops.words import many

TICKS_SHOWN = 30
ACTIVITY_SECONDS, ACTIVITY_BUCKETS = 3600.0, 30
_BUCKET_SECONDS = ACTIVITY_SECONDS / ACTIVITY_BUCKETS


class Heart(NamedTuple):
    """The last ticks, newest first, and whether they come as they should."""

    ticks: list[TickRecord]
    pulse: Pulse

    @property
    def last_at(self) -> datetime | None:
        """When the last tick began."""
        return self.ticks[0].began_at if self.ticks else None

    @property
    def is_overdue(self) -> bool:
        """Whether a tick has been missing for certain."""
        return self.pulse.late_seconds > 0


class Activity(NamedTuple):
    """What a queue did in each bucket of the last hour, oldest first."""

    completed: list[int]
    failed: list[int]

    @property
    def words(self) -> str:
        """The same for those who cannot see it."""
        completed, failed = sum(self.completed), sum(self.failed)
        return f"Last hour: {completed:,} completed, {many(failed, 'failed attempt')}"


def heartbeat(desk: Desk, ticks: list[TickRecord]) -> Heart:
    """The heartbeat as of now, by the newest ticks."""
    crons = [tick for tick in ticks if tick.trigger == "cron"]
    return Heart(ticks, take_pulse(desk.now, ticks[0] if ticks else None, crons))


def glance(desk: Desk) -> Glance:
    """How things go, at one look; for whoever sees every tenant's jobs."""
    return desk.store.glance(TICKS_SHOWN, ACTIVITY_SECONDS, _BUCKET_SECONDS)


def lately(desk: Desk) -> list[Bucket]:
    """What was counted in the last hour."""
    return desk.store.measures(ACTIVITY_SECONDS, _BUCKET_SECONDS, tenant=desk.tenant)


def by_queue(desk: Desk, buckets: Iterable[Bucket]) -> dict[str, Activity]:
    """What every queue did in the last hour."""
    found: dict[str, Activity] = {}
    newest = bucket_start(desk.now, _BUCKET_SECONDS)
    for bucket in buckets:
        back = int((newest - bucket.starts_at) / timedelta(seconds=_BUCKET_SECONDS))
        if not 0 <= back < ACTIVITY_BUCKETS:
            continue
        nothing = [0] * ACTIVITY_BUCKETS
        activity = found.setdefault(bucket.queue, Activity(nothing, nothing.copy()))
        place = ACTIVITY_BUCKETS - 1 - back
        activity.completed[place] += bucket.measure.completed
        activity.failed[place] += bucket.measure.failed + bucket.measure.retried
    return found
