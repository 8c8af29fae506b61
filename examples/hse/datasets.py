"""What may be exported and reported, by name. Each is bound to the tenant of the job that reads it.

No request can say whose rows it wants: `organizationId` of a dataset is that of the caller's token.
"""

from __future__ import annotations

import sqlalchemy as sa

from jobs.handlers.datasets import Filter, register_dataset
from jobs.handlers.reports import Section, register_report

from .tables import audits, contractors, incidents, stations, users, work_permits

_DATED = {
    "incidents": incidents,
    "audits": audits,
    "work-permits": work_permits,
    "stations": stations,
    "contractors": contractors,
}


def declare() -> None:
    """Make the six datasets and the report `compliance` known."""
    for name, table in _DATED.items():
        columns = [column for column in table.c if column.name not in ("id", "organization_id")]
        register_dataset(
            name,
            sa.select(*columns).order_by(table.c.day, table.c.id),
            filters={
                "organizationId": table.c.organization_id,
                "status": table.c.status,
                "since": Filter("date", where=lambda day, table=table: table.c.day >= day),
                "until": Filter("date", where=lambda day, table=table: table.c.day < day),
            },
            tenant="organizationId",
        )
    register_dataset(
        "users",
        sa.select(users.c.name, users.c.email).order_by(users.c.email),
        filters={"organizationId": users.c.organization_id},
        tenant="organizationId",
    )
    register_report(
        "compliance",
        title="Compliance of the week",
        period="7d",
        sections=[
            Section("Incidents", "incidents"),
            Section("Audits", "audits"),
            Section("Work permits", "work-permits"),
        ],
    )


declare()
