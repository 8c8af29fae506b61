"""Alerts: those that are open, and who knows of them."""

from __future__ import annotations

from typing import Any

from jobs.core.errors import NotAllowed
from jobs.http.manage.models import AcknowledgeBody, AcknowledgedTold, AlertsQuery, AlertsTold
from jobs.http.manage.operations import Call, operation


@operation(
    "List alerts and warnings, the worst first",
    "alerts",
    query=AlertsQuery,
    answers={200: AlertsTold},
    problems=(403,),
)
def list_alerts(call: Call, query: AlertsQuery) -> dict[str, Any]:
    """As of when a tick last looked at them."""
    if call.desk.tenant is not None:
        raise NotAllowed("alerts are every tenant's: this needs access to all")
    return {"alerts": [alert.as_dict() for alert in call.tickwork.alerts(all=query.all)]}


@operation(
    "Acknowledge an open alert",
    "alerts",
    body=AcknowledgeBody,
    body_is_optional=True,
    answers={200: AcknowledgedTold},
    problems=(403, 404),
)
def acknowledge_alert(call: Call, alert: str, body: AcknowledgeBody) -> dict[str, Any]:
    """Says who is at it, until it gets worse or is over."""
    total = call.desk.acknowledge(alert, body.subject, body.reason)
    return {"success": True, "name": alert, "acknowledged": total}
