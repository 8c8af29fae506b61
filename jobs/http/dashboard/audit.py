"""The audit log: who changed what, and when."""

from __future__ import annotations

from flask import Response, request

from jobs.core.access import ChangeFilter
from jobs.core.names import NAME
from jobs.http.dashboard.desk import Desk, link

PER_PAGE = 50
_TEXT_MAX_CHARS = 200


def show(desk: Desk) -> Response:
    """``GET /audit``."""
    asked = {
        name: request.args.get(name, "").strip()[:_TEXT_MAX_CHARS]
        for name in ("by", "action", "subject")
    }
    before = request.args.get("before", "")
    where = ChangeFilter(
        tenant=desk.tenant,
        by=asked["by"] or None,
        action=asked["action"] or None,
        subject=asked["subject"] or None,
        before_id=before if NAME.fullmatch(before) else None,
    )
    found = desk.store.changes(where, PER_PAGE + 1)
    older = link("/audit", **asked, before=found[PER_PAGE - 1].id) if found[PER_PAGE:] else None
    return desk.page("audit.html", asked=asked, changes=found[:PER_PAGE], older=older)
