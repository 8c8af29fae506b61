"""When what is done for whom: the schedules of an organisation, by its plan and integrations.

The kind `timetable` brings them in line with the tables, so a change of those only has to enqueue
it, in its own transaction. Every morning it runs for all, should anything have been forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from jobs import JobContext, Tickwork, handler
from jobs.handlers.sync import (
    Integration,
    SyncSchedule,
    data_sync,
    install_sync_schedules,
    integrations_of,
    on_auth_error,
)
from jobs.handlers.sync.integrations import AUTH_ERROR

from .tables import integrations, organizations

EVERY_HOUR = "0 * * * *"
EVERY_SIX_HOURS = "0 */6 * * *"
EVERY_MORNING = "0 8 * * *"
MONDAYS_AT_8 = "0 8 * * 1"
FIRST_OF_THE_MONTH = "0 8 1 * *"


@dataclass(frozen=True)
class Timetable:
    """The payload; without an organisation it is about all of them."""

    organizationId: str | None = None  # noqa: N815 - as the other payloads write it


@handler("timetable", queue="timetable", max_concurrency=1)
def timetable(payload: Timetable, ctx: JobContext) -> dict[str, int]:
    """Install what is missing, change what is otherwise; again changes nothing."""
    tickwork: Tickwork = timetable.system
    chosen = sa.select(organizations)
    if payload.organizationId is not None:
        chosen = chosen.where(organizations.c.id == payload.organizationId)
    with tickwork.engine.connect() as connection:
        found = connection.execute(chosen).all()
    count = 0
    for organization in found:
        ctx.checkpoint()
        _plan_insights_and_reports(tickwork, organization)
        count += _plan_syncs(tickwork, organization)
    return {"organizations": len(found), "integrations": count}


def _plan_insights_and_reports(tickwork: Tickwork, organization: sa.Row[Any]) -> None:
    own = organization.id
    tickwork.add_recurring_job(
        "insights",
        f"insights-{own}",
        {"organizationId": own, "period": "7d"},
        EVERY_SIX_HOURS,
        kind="insights",
        tenant=own,
    )
    # Monday's is about the seven days up to Sunday, that of the first about the month before.
    for report_type, period, cron in (
        ("weekly", "7d", MONDAYS_AT_8),
        ("monthly", "last-month", FIRST_OF_THE_MONTH),
    ):
        tickwork.add_recurring_job(
            "reports",
            f"{report_type}-report-{own}",
            {
                "reportId": "recurring",
                "organizationId": own,
                "reportType": report_type,
                "period": period,
                "recipientEmails": [organization.admin_email],
            },
            cron,
            kind="report",
            tenant=own,
        )


def _plan_syncs(tickwork: Tickwork, organization: sa.Row[Any]) -> int:
    chosen = sa.select(integrations).where(integrations.c.organization_id == organization.id)
    with tickwork.engine.connect() as connection:
        found = connection.execute(chosen).all()
    wanted = [
        SyncSchedule(each.id, organization.id, each.platform, organization.tier) for each in found
    ]
    install_sync_schedules(tickwork, wanted)
    refused = {
        each.integration_id
        for each in integrations_of(tickwork).list(organization.id)
        if each.status == AUTH_ERROR
    }
    for each in wanted:
        _switch(tickwork, each.name, organization.id, on=each.integration_id not in refused)
    return len(wanted)


@on_auth_error
def stop_syncing(integration: Integration) -> None:
    """Make no more jobs for an integration whose credentials are refused."""
    name = SyncSchedule(
        integration.integration_id, integration.organization_id, integration.platform
    ).name
    tickwork: Tickwork = data_sync.system
    if tickwork.schedules.get(name, integration.organization_id) is not None:
        _switch(tickwork, name, integration.organization_id, on=False)


def _switch(tickwork: Tickwork, name: str, organization_id: str, *, on: bool) -> None:
    if on:
        tickwork.schedules.enable(name, organization_id, by="timetable")
    else:
        tickwork.schedules.disable(name, organization_id, by="timetable")
