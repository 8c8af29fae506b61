"""Reports: sections of named datasets for a period, as JSON, CSV or PDF.

    register_report("weekly", title="The week", period="last-week", timezone="Europe/Berlin",
        sections=[
            Section("Sales by day", "sales-by-day", chart=Chart("line", x="day", y="amount"),
                    totals=["amount"]),
            Section("Best customers", "best-customers", columns={"name": "Customer"}),
        ])

- `periods`: `last-week`, `30d`, `2024-Q2`: whole days in a time zone (pure)
- `definition`: what a report is, and those that are registered
- `building`: binds period, filters and tenant
- `writing`: JSON and CSV; `gathering`, `scales`, `fonts`, `sheet`, `tables`, `charts`, `pdf`: PDF
"""

from __future__ import annotations

from jobs.handlers.reports.definition import (
    Chart,
    Report,
    Section,
    find_report,
    register_report,
)

__all__ = ["Chart", "Report", "Section", "find_report", "register_report"]
