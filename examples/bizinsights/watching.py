"""Looks every hour for what people should hear of: syncs that keep failing, days that are unusual.

What it finds becomes an alert under a name of its own: while that job is kept (a day), the same
finding is the same job. So trouble that lasts is told once a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa

from jobs import JobContext, State, Tickwork, handler
from jobs.handlers.alert import queue_alert
from jobs.handlers.sync import Integration, integrations_of
from jobs.handlers.sync.integrations import AUTH_ERROR

from .tables import organizations

FAILED_ATTEMPTS = 3  # a whole sync: it is a dead letter then


@handler("watch", queue="alerts", max_concurrency=1)
def watch(_: dict[str, Any], ctx: JobContext) -> dict[str, int]:
    """Raise alerts for every organisation; each reads its own rows alone."""
    tickwork: Tickwork = watch.system
    with tickwork.engine.connect() as connection:
        found = connection.scalars(sa.select(organizations.c.id)).all()
    for organization_id in found:
        ctx.checkpoint()
        for each in integrations_of(tickwork).list(organization_id):
            if each.status != AUTH_ERROR and each.failures >= FAILED_ATTEMPTS:
                _tell_of_trouble(tickwork, each)
        _tell_of_unusual_days(tickwork, organization_id)
    return {"organizations": len(found)}


@handler("remind", queue="alerts", max_concurrency=1)
def remind(_: dict[str, Any], ctx: JobContext) -> dict[str, int]:
    """Every morning: which integrations still wait for somebody to connect them again."""
    tickwork: Tickwork = remind.system
    with tickwork.engine.connect() as connection:
        found = connection.scalars(sa.select(organizations.c.id)).all()
    count = 0
    for organization_id in found:
        ctx.checkpoint()
        for each in integrations_of(tickwork).list(organization_id):
            if each.status == AUTH_ERROR:
                count += 1
                queue_alert(
                    tickwork=tickwork,
                    organization_id=organization_id,
                    alert_type="INTEGRATION_DISCONNECTED",
                    severity="HIGH",
                    message=f"{each.platform} is still disconnected: its data are not updated",
                    metadata={"integrationId": each.integration_id},
                    job_id=f"disconnected:{each.integration_id}:{ctx.job_id}",
                )
    return {"disconnected": count}


def _tell_of_trouble(tickwork: Tickwork, integration: Integration) -> None:
    told = integration.as_dict()
    since = told["syncedUntil"] or "it was connected"
    queue_alert(
        tickwork=tickwork,
        organization_id=integration.organization_id,
        alert_type="SYNC_FAILING",
        severity="CRITICAL",
        message=f"{integration.platform} cannot be synced since {since}",
        metadata={name: told[name] for name in ("integrationId", "failures", "lastError")},
        job_id=f"failing:{integration.integration_id}:{told['syncedUntil']}",
    )


def _tell_of_unusual_days(tickwork: Tickwork, organization_id: str) -> None:
    """By the newest insights: yesterday, if it was unlike such days."""
    newest = tickwork.list(kind="insights", tenant=organization_id, state=State.COMPLETED, limit=1)
    for job in newest:
        for metric in job.result["metrics"].values():
            yesterday = _day_before(metric["end"])
            for name, summary in metric["values"].items():
                for odd in summary["anomalies"]:
                    if odd["day"] == yesterday:
                        _tell_of_unusual_day(tickwork, organization_id, name, odd)


def _tell_of_unusual_day(
    tickwork: Tickwork, organization_id: str, name: str, odd: Mapping[str, Any]
) -> None:
    direction = "below" if odd["value"] < odd["expected"] else "above"
    queue_alert(
        tickwork=tickwork,
        organization_id=organization_id,
        alert_type="DATA_ANOMALY",
        severity="HIGH" if direction == "below" else "MEDIUM",
        message=f"{name.replace('_', ' ').capitalize()}: {odd['day']} is far {direction} such days",
        metadata={"metric": name, "value": odd["value"], "expected": odd["expected"]},
        job_id=f"anomaly:{name}:{odd['day']}",
    )


def _day_before(text: str) -> str:
    return (date.fromisoformat(text) - timedelta(days=1)).isoformat()
