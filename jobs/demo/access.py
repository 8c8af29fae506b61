"""Who may ask the shop for an export: whoever brings `ADMIN_TOKEN`.

A real shop asks its own login here. Without the variable the routes are closed; in development
they are open to the machine itself, so that `curl` works on a laptop.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import ParamSpec

from flask import Request, current_app, request
from flask.typing import ResponseReturnValue

from jobs.core.settings import Settings
from jobs.http.auth import is_this_machine
from jobs.http.problems import problem

P = ParamSpec("P")


def admin_only(view: Callable[P, ResponseReturnValue]) -> Callable[P, ResponseReturnValue]:
    """Call the view for those who may, and answer 401 or 503 to everybody else."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
        refused = _refusal(request, current_app.extensions["tickwork"].settings)
        return view(*args, **kwargs) if refused is None else refused

    return guarded


def _refusal(asking: Request, settings: Settings) -> ResponseReturnValue | None:
    token = settings.admin_token
    if token:
        # A server hands the header's bytes over as latin-1, and compare_digest wants bytes.
        presented = asking.headers.get("Authorization", "").encode("latin-1", "replace")
        expected = b"Bearer " + token.encode("utf-8", "surrogateescape")
        if hmac.compare_digest(presented, expected):
            return None
        return problem(
            HTTPStatus.UNAUTHORIZED,
            "Send the shop's token as `Authorization: Bearer <ADMIN_TOKEN>`.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    if settings.is_development and is_this_machine(asking):
        return None
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "This shop has no ADMIN_TOKEN, so nobody can prove a right to its exports. Set one.",
    )
