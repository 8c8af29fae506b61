"""Keeps what somebody likes pages to be."""

from __future__ import annotations

from flask import Response, request
from werkzeug.exceptions import Forbidden

from jobs.http.access import foreign
from jobs.http.dashboard.desk import Desk
from jobs.http.dashboard.preferences import COOKIE, POLLS, THEMES, Preferences
from jobs.http.login import HOME_PATH as HOME

YEAR_SECONDS = 365 * 86_400


def keep(desk: Desk) -> Response:
    """``POST /settings``: for anybody, also for who has not signed in yet."""
    if foreign(request):
        raise Forbidden("A page of another site asked for this.")
    now = Preferences.of(request)
    theme, poll = request.form.get("theme", ""), request.form.get("poll", "")
    chosen = Preferences(
        theme if theme in THEMES else now.theme,
        int(poll) if poll in map(str, POLLS) else now.poll_seconds,
    )
    response = desk.back()
    response.set_cookie(
        COOKIE,
        f"{chosen.theme}.{chosen.poll_seconds}",
        max_age=YEAR_SECONDS,
        path=HOME,
        samesite="Lax",
        httponly=True,
        secure=request.is_secure,
    )
    return response
