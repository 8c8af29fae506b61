"""Metrics: throughput, waits, runs and failures over time, beside what would be healthy."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from flask import Response, request

from jobs.core.measure import Measure, bucket_start
from jobs.http.dashboard.desk import Desk

# Period: how far back, and how long a bucket is, in seconds.
PERIODS = {
    "1h": (3600.0, 120.0),
    "6h": (6 * 3600.0, 600.0),
    "24h": (86_400.0, 1800.0),
    "7d": (7 * 86_400.0, 4 * 3600.0),
    "30d": (30 * 86_400.0, 86_400.0),
}
P95_TARGET_MS, P95_ALERT_MS = 300_000.0, 600_000.0
FAILED_TARGET, FAILED_ALERT = 0.01, 0.05
RETRIED_TARGET, RETRIED_ALERT = 0.10, 0.25


class Stretch(NamedTuple):
    """A line of the table: a bucket of time and what was measured in it."""

    at: datetime
    measure: Measure

    @property
    def failed_share(self) -> float | None:
        """The part that failed for good of what ended."""
        return failed_share(self.measure)


def failed_share(measure: Measure) -> float | None:
    """The part (0 to 1) that failed for good of what ended; ``None`` if nothing did."""
    ended = measure.completed + measure.failed
    return measure.failed / ended if ended else None


def retried_share(measure: Measure) -> float | None:
    """The part (0 to 1) of the attempts that is tried again; ``None`` without an attempt."""
    return measure.retried / measure.attempts if measure.attempts else None


class Figure(NamedTuple):
    """A figure beside its targets; ``verdict`` is good, warn or bad, empty where nothing was."""

    name: str
    value: Any
    target: str
    verdict: str


def show(desk: Desk) -> Response:
    """``GET /metrics``."""
    period = request.args.get("period", "24h")
    period = period if period in PERIODS else "24h"
    seconds, size = PERIODS[period]
    kind, queue = request.args.get("kind") or None, request.args.get("queue") or None
    buckets = desk.store.measures(seconds, size, tenant=desk.tenant, queue=queue, kind=kind)
    total, by_kind, by_time = Measure(), dict[str, Measure](), dict[datetime, Measure]()
    for bucket in buckets:
        total.add(bucket.measure)
        by_kind.setdefault(bucket.kind, Measure()).add(bucket.measure)
        by_time.setdefault(bucket.starts_at, Measure()).add(bucket.measure)
    return desk.page(
        "metrics.html",
        period=period,
        periods=PERIODS,
        kind=kind,
        queue=queue,
        kinds=sorted(desk.tickwork.registry.kinds | by_kind.keys()),
        queues=sorted({handler.queue for handler in desk.tickwork.registry}),
        stretches=_stretches(by_time, desk.now, seconds, size),
        figures=figures(total),
        by_kind=sorted(by_kind.items(), key=lambda each: -each[1].attempts),
        size_seconds=size,
        p95_target_ms=P95_TARGET_MS,
        p95_alert_ms=P95_ALERT_MS,
        failed_target=FAILED_TARGET,
        failed_alert=FAILED_ALERT,
    )


def figures(total: Measure) -> list[Figure]:
    """The whole period beside its targets."""
    p95, failed, retried = total.ran.quantile_ms(0.95), failed_share(total), retried_share(total)
    return [
        Figure(
            "Success",
            None if failed is None else 1 - failed,
            "over 99 %, alert under 95 %",
            _over(failed, FAILED_TARGET, FAILED_ALERT),
        ),
        Figure(
            "Run p95",
            p95,
            "under 5 min, alert over 10 min",
            _over(p95, P95_TARGET_MS, P95_ALERT_MS),
        ),
        Figure(
            "Failed",
            failed,
            "under 1 %, alert over 5 %",
            _over(failed, FAILED_TARGET, FAILED_ALERT),
        ),
        Figure(
            "Retried",
            retried,
            "under 10 %, alert over 25 %",
            _over(retried, RETRIED_TARGET, RETRIED_ALERT),
        ),
    ]


def _over(value: float | None, target: float, alert: float) -> str:
    if value is None:
        return ""
    return "good" if value <= target else "warn" if value <= alert else "bad"


def _stretches(
    found: dict[datetime, Measure], now: datetime, seconds: float, size: float
) -> list[Stretch]:
    """Every bucket of the period, oldest first, those without a job as well."""
    at = bucket_start(now - timedelta(seconds=seconds), size)
    stretches = []
    while at <= now:
        stretches.append(Stretch(at, found.get(at, Measure())))
        at += timedelta(seconds=size)
    return stretches
