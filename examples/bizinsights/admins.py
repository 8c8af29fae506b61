"""Who hears an alert: each becomes a row, and HIGH and CRITICAL go to the admin by mail."""

from __future__ import annotations

import sqlalchemy as sa

from jobs import Tickwork
from jobs.handlers.alert import Alert, alert, alert_hook
from jobs.handlers.email import queue_email

from .tables import alerts, organizations

MAILED = ("HIGH", "CRITICAL")


@alert_hook("admins")
def tell_admins(raised: Alert, key: str) -> None:
    """Write the row and enqueue the mail, both or neither; a second time there is nothing to do."""
    tickwork: Tickwork = alert.system
    with tickwork.engine.begin() as connection:
        if connection.scalar(sa.select(alerts.c.key).where(alerts.c.key == key)) is not None:
            return
        connection.execute(
            sa.insert(alerts).values(
                key=key,
                organization_id=raised.organizationId,
                alert_type=raised.alertType,
                severity=raised.severity,
                message=raised.message,
                metadata=raised.metadata,
            )
        )
        if raised.severity in MAILED:
            admin = sa.select(organizations.c.admin_email).where(
                organizations.c.id == raised.organizationId
            )
            queue_email(
                to=connection.scalar(admin),
                template="alert-notification",
                data={
                    "severity": raised.severity,
                    "alertType": raised.alertType,
                    "message": raised.message,
                    "metadata": raised.metadata,
                },
                organization_id=raised.organizationId,
                priority=1,
                session=connection,
                tickwork=tickwork,
            )
