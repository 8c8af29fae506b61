"""What somebody likes pages to be, kept in a cookie: light or dark, and how often renewed."""

from __future__ import annotations

from typing import NamedTuple

from flask import Request

COOKIE = "tickwork_look"
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
