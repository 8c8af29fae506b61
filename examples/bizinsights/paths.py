"""The paths of two kinds: `POST /api/jobs/data-sync` and `POST /api/jobs/alerts`.

Their job is the caller's organisation's, and a payload that names another one is given up.
"""

from __future__ import annotations

from typing import Any

from jobs.handlers.alert import PRIORITIES, alert
from jobs.handlers.sync import data_sync

Produced = tuple[str, dict[str, Any], dict[str, Any]]


def sync_now(body: dict[str, Any]) -> Produced:
    """`{integrationId, organizationId, platform, syncType, startDate?, endDate?}`, at once."""
    return data_sync.kind, body, {"priority": 1}


def raise_alert(body: dict[str, Any]) -> Produced:
    """`{organizationId, alertType, severity, message, metadata}`, as urgent as it is severe."""
    severity = body.get("severity")
    urgent = PRIORITIES.get(severity) if isinstance(severity, str) else None
    return alert.kind, body, {} if urgent is None else {"priority": urgent}


producers = {"data-sync": sync_now, "alerts": raise_alert}
