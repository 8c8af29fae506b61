"""What is looked at: one dataset with a row a day, for insights, reports and exports alike."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from jobs.handlers.datasets import Filter, register_dataset
from jobs.handlers.insights import Daily, register_insights
from jobs.handlers.reports import Chart, Section, register_report

from .tables import integrations, records

DATASET = "business-by-day"


def _sum(measure: str) -> sa.ColumnElement[Any]:
    return sa.func.sum(sa.case((records.c.measure == measure, records.c.amount), else_=0))


def declare() -> None:
    """Make the datasets, the insights `business` and the three reports known."""
    filters: dict[str, sa.ColumnElement[Any] | Filter] = {
        "organizationId": records.c.organization_id,
        "since": Filter("date", where=lambda day: records.c.day >= day),
        "until": Filter("date", where=lambda day: records.c.day < day),
    }
    register_dataset(
        DATASET,
        sa.select(
            records.c.day,
            _sum("sales").label("sales"),
            _sum("payments").label("payments"),
            _sum("visits").label("visits"),
            _sum("ad-spend").label("ad_spend"),
        )
        .group_by(records.c.day)
        .order_by(records.c.day),
        filters=filters,
        tenant="organizationId",
    )
    register_dataset(
        "business-by-platform",
        sa.select(
            integrations.c.platform,
            records.c.measure,
            sa.func.count().label("items"),
            sa.func.sum(records.c.amount).label("amount"),
        )
        .join_from(records, integrations)
        .group_by(integrations.c.platform, records.c.measure)
        .order_by(integrations.c.platform),
        filters=filters,
        tenant="organizationId",
    )
    register_insights(
        Daily("business", dataset=DATASET, values=["sales", "payments", "visits", "ad_spend"])
    )
    for name, period in (
        ("weekly", "last-week"),
        ("monthly", "last-month"),
        ("quarterly", "last-quarter"),
    ):
        register_report(
            name,
            title=f"Your business, {name}",
            period=period,
            sections=[
                Section(
                    "By day",
                    DATASET,
                    columns={
                        "day": "Day",
                        "sales": "Sales",
                        "payments": "Payments",
                        "visits": "Visits",
                        "ad_spend": "Advertising",
                    },
                    chart=Chart("line", x="day", y=["sales", "payments"]),
                    totals=["sales", "payments", "visits", "ad_spend"],
                ),
                Section("By platform", "business-by-platform"),
            ],
        )
