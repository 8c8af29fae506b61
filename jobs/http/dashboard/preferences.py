"""What somebody likes a page to be, kept in a cookie: light or dark, and how often it is renewed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flask import Request, Response, request
from werkzeug.exceptions import Forbidden

from jobs.http.access import foreign
from jobs.http.pages import HOME

if TYPE_CHECKING:
    from jobs.http.dashboard.desk import Desk

COOKIE = "tickwork_look"
YEAR_SECONDS = 365 * 86_400
POLLS = (2, 5, 15, 0)
THEMES = ("auto", "light", "dark")


class Preferences(NamedTuple):
    """``poll_seconds`` 0 is off; the theme ``auto`` is the system's."""

    theme: str = "auto"
    poll_seconds: int = 5

    @classmethod
    def of(cls, asking: Request) -> Preferences:
        """As the cookie says, as far as it makes sense."""
        theme, _, poll = asking.cookies.get(COOKIE, "").partition(".")
        return cls(
            theme if theme in THEMES else cls().theme,
            int(poll) if poll in map(str, POLLS) else cls().poll_seconds,
        )


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
