"""Who may ask the shop for an export: whoever brings `ADMIN_TOKEN`.

A real shop asks its own login here. Without the variable the routes are closed; in development
they are open to the machine itself, so that `curl` works on a laptop.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from ipaddress import ip_address
from typing import ParamSpec

from flask import Request, current_app, request
from flask.typing import ResponseReturnValue

from jobs.core.settings import Settings
from jobs.http.problems import problem

P = ParamSpec("P")
# A proxy or a tunnel speaks for somebody who is not on this machine.
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-Ip")


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
    if settings.is_development and _is_this_machine(asking):
        return None
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "This shop has no ADMIN_TOKEN, so nobody can prove a right to its exports. Set one.",
    )


def _is_this_machine(asking: Request) -> bool:
    if any(name in asking.headers for name in _FORWARDED):
        return False
    try:
        return ip_address(asking.remote_addr or "").is_loopback
    except ValueError:  # a UNIX socket has no address
        return False
