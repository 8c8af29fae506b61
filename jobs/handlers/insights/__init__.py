"""The job kind `insights`: what the last days of a business say, without any paid service.

    register_insights(Daily("sales", dataset="sales-by-day", values=["amount", "orders"]))
    queue_insights(organization_id="org-1", period="30d")
    tickwork.schedule("insights-org-1", "0 */6 * * *", "insights",
                      {"organizationId": "org-1", "period": "30d"}, tenant="org-1")

The result says for each column the total, the mean, the change against as many days before, the
trend, and days that are unlike the others; see `statistics` for the methods. The days are those up
to yesterday, so the result is the same all day: it is kept in the blob store and reused, unless
`forceRegenerate` is true.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from typing import Any, Final, Literal, Unpack

from jobs.core.context import JobContext
from jobs.core.errors import Discard
from jobs.core.job import Job
from jobs.core.registry import handler
from jobs.handlers.blob import BlobStore, open_blob_store
from jobs.handlers.datasets import find_dataset
from jobs.handlers.delivering import Order
from jobs.handlers.errors import BlobError, PermanentError
from jobs.handlers.exporting import open_settings_source
from jobs.handlers.insights.daily import daily_values
from jobs.handlers.insights.definition import Daily, find_insights, register_insights
from jobs.handlers.insights.statistics import Summary, summarise
from jobs.handlers.queueing import enqueue, from_outside
from jobs.handlers.reports.building import bind_period
from jobs.handlers.reports.periods import Period, read_period, read_zone
from jobs.handlers.source import Source
from jobs.runtime.enqueue import EnqueueOptions

__all__ = ["Daily", "InsightsJob", "insights", "producers", "queue_insights", "register_insights"]

_HISTORY_DAYS: Final = 56
"""How many days anomalies are judged by at least: eight of each weekday."""
_MOST_BYTES: Final = 1024 * 1024
_METHODS: Final = 1
"""Raise it when the statistics change: what is kept is made anew then."""


@dataclass(frozen=True)
class InsightsJob:
    """The payload of the kind `insights`.

    period: so many days up to yesterday
    forceRegenerate: compute anew, whatever is kept
    metrics: names of registered insights; all of them if there are none
    organizationId: whose; it must be the job's tenant
    """

    period: Literal["7d", "30d", "90d", "1y"] = "30d"
    forceRegenerate: bool = False  # noqa: N815 - forerunners' names
    metrics: list[str] = field(default_factory=list)
    organizationId: str | None = None  # noqa: N815


@handler("insights", queue="insights", max_attempts=3, timeout=180)
def insights(request: InsightsJob, ctx: JobContext) -> dict[str, Any]:
    """Compute the insights, or take those that are kept; a mistake gives the job up at once."""
    order = Order.of(ctx)
    try:
        order.check_organization(request.organizationId)
        asked = find_insights(request.metrics)
        blobs = open_blob_store(order.settings.blob_url)
        keys = {daily.name: _key(daily, request.period, order) for daily in asked}
        found: dict[str, Any] = {}
        for number, daily in enumerate(asked):
            order.watch.progress(100 * number / len(asked), daily.name)
            kept = None if request.forceRegenerate else _kept(blobs, keys[daily.name])
            found[daily.name] = {**(kept or _computed(daily, request, order)), "reused": bool(kept)}
            if kept is None:
                fresh = {name: each for name, each in found[daily.name].items() if name != "reused"}
                blobs.put(keys[daily.name], _as_file(fresh), "application/json")
    except PermanentError as error:
        raise Discard(str(error)) from error
    return {"period": request.period, "metrics": found}


def _key(daily: Daily, period: str, order: Order) -> str:
    """Where a result is kept: by tenant, definition, period and day, none of which can be read."""
    day = order.asked_at.astimezone(read_zone(daily.timezone)).date()
    said = [_METHODS, order.tenant, asdict(daily), period, day.isoformat()]
    digest = hashlib.sha256(json.dumps(said, default=list).encode()).hexdigest()
    return f"insights/{digest[:40]}.json"


def _kept(blobs: BlobStore, key: str) -> dict[str, Any] | None:
    try:
        kept: dict[str, Any] = json.loads(blobs.read(key, _MOST_BYTES))
    except (BlobError, ValueError):
        return None  # not there, or not whole: it is made anew
    return kept


def _as_file(document: dict[str, Any]) -> io.BytesIO:
    return io.BytesIO(json.dumps(document).encode())


def _computed(daily: Daily, request: InsightsJob, order: Order) -> dict[str, Any]:
    zone = read_zone(daily.timezone)
    period = read_period(request.period, order.asked_at, zone)
    reach = max(2 * period.days, _HISTORY_DAYS)
    history = Period(period.end - timedelta(days=reach), period.end, "history")
    dataset = find_dataset(daily.dataset, order.settings.export_datasets)
    dataset.check_access(order.tenant)
    bound = bind_period(history, zone, dataset, (daily.since, daily.until))
    statement = dataset.statement(bound, order.tenant)
    with open_settings_source(order.settings) as source:
        values = _read(source, statement, daily, history, order)
    return {
        "start": period.start.isoformat(),
        "end": period.end.isoformat(),
        "timezone": daily.timezone,
        "days": period.days,
        "values": {name: _told(summarise(days, period.days)) for name, days in values.items()},
    }


def _read(source: Source, statement: Any, daily: Daily, history: Period, order: Order) -> Any:
    span = (history.start, history.end)
    with source.stream(statement) as rows:
        watched = order.watch.over(rows, None)
        return daily_values(daily, rows.columns, watched, span, read_zone(daily.timezone))


def _told(summary: Summary) -> dict[str, Any]:
    told: dict[str, Any] = _plain(asdict(summary))
    return told


def _plain(value: Any) -> Any:
    """As JSON takes it, numbers to nine digits: more would only be the noise of floats."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.9g}")
    return value.isoformat() if isinstance(value, date) else value


# --- producers


class InsightsOptions(EnqueueOptions, total=False):
    """What `queue_insights` takes: the payload's fields, and the options of `enqueue`."""

    period: str
    force_regenerate: bool
    metrics: Sequence[str]
    organization_id: str


def queue_insights(
    *, session: Any = None, tickwork: Any = None, **said: Unpack[InsightsOptions]
) -> Job:
    """Enqueue insights and return their job.

    session: the caller's SQLAlchemy session or connection; the job commits with it or not at all
    tickwork: the system; the one that this module is registered with if not given
    said: the fields of InsightsJob in snake case, `organization_id` (which is the tenant) among
        them, and the options of `Tickwork.enqueue`
    """
    return enqueue(insights, said, session=session, tickwork=tickwork)


producers = {"insights": from_outside(insights, ("period", "forceRegenerate", "metrics"))}
