"""The weekly report of every organisation: one schedule, and a job for each."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from jobs import JobContext, handler
from jobs.handlers.report import queue_report

from .tables import organizations


@handler("weekly-compliance", queue="reports", transactional=True)
def weekly_compliance(payload: dict[str, Any], ctx: JobContext) -> dict[str, int]:
    """Enqueue the reports; they commit together with the end of this job, or not at all."""
    found = ctx.session.execute(sa.select(organizations.c.id, organizations.c.admin_email)).all()
    for organization in found:
        queue_report(
            type="compliance",
            organization_id=organization.id,
            format="pdf",
            notify_email=organization.admin_email,
            session=ctx.session,
        )
    return {"organizations": len(found)}
