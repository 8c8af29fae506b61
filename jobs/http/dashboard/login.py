"""The page of signing in; the form goes to :mod:`jobs.http.login`."""

from __future__ import annotations

from flask import Response, request

from jobs.http.dashboard.desk import Desk, inside

PROBLEMS = {
    "unknown": "No such token, or it is revoked or past its time.",
    "throttled": "Too many failed tries. Wait a few minutes and try again.",
}


def show(desk: Desk) -> Response:
    """``GET /login``."""
    problem = PROBLEMS.get(request.args.get("error", ""))
    return desk.page("login.html", problem=problem, next=inside(request.args.get("next", "")))
