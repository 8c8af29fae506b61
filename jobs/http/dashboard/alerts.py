"""Open alerts: somebody is at one of them."""

from __future__ import annotations

from flask import Response, request

from jobs.http.dashboard.desk import Desk


def acknowledge(desk: Desk, name: str) -> Response:
    """``POST /alerts/<name>/acknowledge``."""
    desk.need_control()
    desk.managing.acknowledge(name, request.form.get("subject", ""))
    return desk.back(f"{name} is known to {desk.managing.by}, until it gets worse or is over.")
