"""A group: how many of its jobs have ended, and how."""

from __future__ import annotations

from flask import Response
from werkzeug.exceptions import NotFound

from jobs.http.dashboard.desk import Desk


def show(desk: Desk, group_id: str) -> Response:
    """``GET /groups/<id>``."""
    group = desk.store.group(group_id)
    if group is None or desk.tenant not in (None, group.tenant):
        raise NotFound
    return desk.page("group.html", group=group)
