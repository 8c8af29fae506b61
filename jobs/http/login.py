"""Signing in and out of the dashboard: a token for a session cookie.

A form is answered with a redirect (back to the page of signing in with ``?error=...``), a program's
JSON with JSON. Failed tries are counted in this process, by address and over all, and beyond that
nobody signs in for a while: the limits slow a guesser down, and what stops one are the 256 random
bits of a token, and an ADMIN_TOKEN that is not short.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit

from flask import Flask, Request, jsonify, redirect, request
from flask.typing import ResponseReturnValue

from jobs.core.access import NewChange
from jobs.core.ids import new_id
from jobs.core.settings import on_platform
from jobs.http.access import LOGIN_PATH, Access, Identity, Role, current, foreign
from jobs.http.problems import problem
from jobs.http.rates import Rates
from jobs.system import Tickwork

log = logging.getLogger("tickwork.http")
HOME_PATH = "/api/jobs/dashboard"
LOGOUT_PATH = f"{HOME_PATH}/logout"
FAILURES_PER_ADDRESS, FAILURES_OVER_ALL, FAILURE_SECONDS = 10, 200, 300.0
_SECRET_MAX_CHARS = 1000


def install(app: Flask, tickwork: Tickwork, access: Access) -> None:
    """Serve ``POST /api/jobs/dashboard/login`` and ``logout``."""
    login = Login(tickwork, access)
    for path, name, view in (
        (LOGIN_PATH, "login", login.log_in),
        (LOGOUT_PATH, "logout", access.guards(Role.VIEWER, login.log_out)),
    ):
        app.add_url_rule(
            path, f"tickwork.{name}", view, methods=["POST"], provide_automatic_options=False
        )


class Login:
    """The views, and the count of failed tries."""

    def __init__(self, tickwork: Tickwork, access: Access) -> None:
        self._tickwork = tickwork
        self._access = access
        self._by_address = Rates(tickwork.clock, FAILURES_PER_ADDRESS, FAILURE_SECONDS)
        self._over_all = Rates(tickwork.clock, FAILURES_OVER_ALL, FAILURE_SECONDS)

    def log_in(self) -> ResponseReturnValue:
        """``{"token": ..., "next": ...}``, as JSON or as a form."""
        asked_by_form = not request.is_json
        body = request.form if asked_by_form else request.get_json(silent=True)
        given = body.get("token") if isinstance(body, Mapping) else None
        reason = foreign(request)
        if reason is not None:
            return problem(HTTPStatus.FORBIDDEN, reason)
        address = _address(request)
        wait_seconds = max(self._by_address.is_spent(address), self._over_all.is_spent(""))
        if wait_seconds:
            return self._refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "throttled",
                "Too many failed tries; wait and try again.",
                asked_by_form,
                {"Retry-After": str(wait_seconds)},
            )
        if not self._access.sessions.are_possible:
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "There is nothing to sign a session with: set SECRET_KEY (or ADMIN_TOKEN).",
            )
        secret = given.strip() if isinstance(given, str) else ""
        begun = self._access.begin_session(secret) if 0 < len(secret) <= _SECRET_MAX_CHARS else None
        if begun is None:
            self._by_address.wait_seconds(address)
            self._over_all.wait_seconds("")
            log.warning("a sign-in to the dashboard was refused, from %r", address)
            return self._refused(
                HTTPStatus.UNAUTHORIZED, "unknown", "No such token.", asked_by_form, {}
            )
        identity, session = begun
        self._note(identity, "session.begin")
        response = (
            redirect(_within(request.form.get("next", "")), HTTPStatus.SEE_OTHER)
            if asked_by_form
            else jsonify(name=identity.name, role=str(identity.role), tenant=identity.tenant)
        )
        self._access.sessions.write(response, session, request)  # type: ignore[arg-type]
        return response

    def log_out(self) -> ResponseReturnValue:
        """Take the session back."""
        self._note(current(), "session.end")
        response = (
            jsonify(signed_out=True)
            if request.is_json
            else redirect(LOGIN_PATH, HTTPStatus.SEE_OTHER)
        )
        self._access.sessions.forget(response, request)  # type: ignore[arg-type]
        return response

    def _refused(
        self, status: HTTPStatus, error: str, detail: str, by_form: bool, headers: dict[str, str]
    ) -> ResponseReturnValue:
        if not by_form:
            return problem(status, detail, headers=headers)
        asked = {"error": error}
        if request.form.get("next"):
            asked["next"] = _within(request.form["next"])
        return redirect(f"{LOGIN_PATH}?{urlencode(asked)}", HTTPStatus.SEE_OTHER)

    def _note(self, identity: Identity, action: str) -> None:
        entry = NewChange(new_id(), identity.name, action, "dashboard", identity.tenant)
        self._tickwork.store.note_changes([entry])


def _within(path: str) -> str:
    """Where to go afterwards: a page of the dashboard, whatever was asked for."""
    parts = urlsplit(path.replace("\\", "/"))
    inside = parts.path == HOME_PATH or parts.path.startswith(f"{HOME_PATH}/")
    if parts.scheme or parts.netloc or not inside or not path.isprintable():
        return HOME_PATH
    return path


def _address(asking: Request) -> str:
    """Whose tries they are; a platform's proxy says it, and overwrites what a client claims."""
    if on_platform(os.environ):
        return asking.headers.get("X-Real-Ip") or asking.remote_addr or ""
    return asking.remote_addr or ""
