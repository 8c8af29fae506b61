"""What every page stands on: who looks, what may be seen, and how an answer is drawn and sent."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote, urlencode

from flask import Response, g, request
from flask.typing import ResponseReturnValue
from jinja2 import Environment, PackageLoader, StrictUndefined
from werkzeug.exceptions import HTTPException, NotFound

from jobs.core.controls import state_now
from jobs.core.errors import (
    ConfigurationError,
    JobNotFound,
    JobStateConflict,
    NoSuchAlert,
    NoSuchLimit,
    NotAllowed,
    PayloadError,
    ScheduleNotFound,
    StoreUnavailable,
    UnknownKind,
)
from jobs.core.job import SHOWN_STATES, Job
from jobs.core.redact import Redactor
from jobs.http.access import Identity, Role, csrf_token
from jobs.http.dashboard import assets, charts, words
from jobs.http.dashboard.preferences import POLLS, Preferences
from jobs.http.login import HOME_PATH as HOME
from jobs.managing import Managing, hidden_fields, redactor
from jobs.system import Tickwork

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
NOTICE_COOKIE = "tickwork_notice"
NOTICE_MAX_CHARS = 600
LINE_MAX_CHARS = 200
_LOOKED_AT_CHARS = 2000
# Told from the outside as what they are; anything else is a fault of ours.
_TOLD = (ConfigurationError, JobStateConflict, PayloadError, UnknownKind)
_NOT_THERE = (JobNotFound, ScheduleNotFound, NoSuchAlert, NoSuchLimit)
_RELATIVE = re.compile(r'(<time[^>]*>)[^<]*|<meta name="served-at"[^>]*>')

env = Environment(
    loader=PackageLoader("jobs.http", "templates/dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
env.globals.update(
    home=HOME,
    asset=assets.url_of,
    polls=POLLS,
    shown_states=SHOWN_STATES,
    sparkline=charts.sparkline,
)
env.filters.update(words.FILTERS)

View = Callable[..., ResponseReturnValue]


class Desk:
    """One request of somebody who may look at what it asks for."""

    def __init__(self, tickwork: Tickwork) -> None:
        self.tickwork = tickwork
        self.store = tickwork.store

    @property
    def identity(self) -> Identity | None:
        """Who looks; ``None`` on the page of signing in."""
        found: Identity | None = g.get("identity")
        return found

    @property
    def tenant(self) -> str | None:
        """Whose jobs are seen; ``None`` is everybody's."""
        return None if self.identity is None else self.identity.tenant

    def may(self, role: str) -> bool:
        """Whether the one who looks has at least this role."""
        return self.identity is not None and self.identity.role >= Role(role)

    @property
    def may_control(self) -> bool:
        """Whether they may change what concerns every tenant: queues, limits, breakers."""
        return self.may("operator") and self.tenant is None

    @property
    def is_encrypted(self) -> bool:
        """Whether rows hold payloads that no search can read."""
        return bool(self.tickwork.settings.encryption_keys)

    def need_control(self) -> None:
        """Refuse whoever sees only one tenant's jobs: there is no such thing there."""
        if self.tenant is not None:
            raise NotFound

    @cached_property
    def now(self) -> Any:
        """The store's time, asked once."""
        return self.store.now()

    def shown(self, job: Job, paused: Collection[str]) -> str:
        """A job's state as people are told it."""
        return state_now(job, self.now, paused)

    def masked(self, text: str | None) -> str:
        """A text without the secrets that it says by name."""
        return self._redactor.text(text) or ""

    def redacted(self, value: Any, kind: str) -> Any:
        """A payload or result of a kind, without what nobody is shown."""
        return self._masked(self.unnamed(value, kind))

    def unnamed(self, value: Any, kind: str) -> Any:
        """The same without secret names alone, as the API tells it: its texts are whole."""
        handler = self.tickwork.registry.find(kind)
        hidden = () if handler is None else hidden_fields(handler)
        return self._redactor.value(value, hidden)

    def _masked(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._masked(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._masked(inner) for inner in value]
        return self._redactor.text(value) if isinstance(value, str) else value

    @property
    def _redactor(self) -> Redactor:
        return redactor(self.tickwork.settings.redact)

    def line(self, error: str | None) -> str:
        """The first line of an error, for a list."""
        lines = self.masked((error or "")[:_LOOKED_AT_CHARS]).strip().splitlines()
        return lines[0][:LINE_MAX_CHARS] if lines else ""

    @property
    def managing(self) -> Managing:
        """What the one who looks does: within their tenant, and written down."""
        assert self.identity is not None
        return Managing(self.tickwork, self.identity.name, self.identity.tenant)

    # -- answers -------------------------------------------------------------------------------

    def page(self, template: str, status: int = HTTPStatus.OK, **values: Any) -> Response:
        """A page; 304 if it would look just as the one who asks has it already.

        Relative times do not count: the browser draws those anew by itself.
        """
        preferences = Preferences.of(request)
        notice = _read_notice()
        text = env.get_template(template).render(
            desk=self,
            identity=self.identity,
            csrf=csrf_token(),
            preferences=preferences,
            notice=notice,
            desk_path=request.path.removeprefix(HOME),
            here=request.full_path.rstrip("?"),
            **{"now": self.now if self.identity else None, **values},
        )
        response = Response(text, status, content_type="text/html; charset=utf-8")
        if status == HTTPStatus.OK and notice is None:
            digest = hashlib.blake2b(_RELATIVE.sub(r"\1", text).encode(), digest_size=16)
            response.set_etag(digest.hexdigest(), weak=True)
            response.make_conditional(request)
        if notice is not None:
            response.delete_cookie(NOTICE_COOKIE, path=HOME)
        return response

    def go(self, path: str, notice: str | None = None, *, problem: bool = False) -> Response:
        """Send the browser on to a page of the dashboard, which then tells ``notice`` once."""
        response = Response(status=HTTPStatus.SEE_OTHER)
        response.headers["Location"] = path
        if notice is not None:
            said = json.dumps({"text": notice[:NOTICE_MAX_CHARS], "problem": problem})
            response.set_cookie(
                NOTICE_COOKIE,
                quote(said),
                max_age=60,
                path=HOME,
                httponly=True,
                samesite="Strict",
                secure=request.is_secure,
            )
        return response

    def back(self, notice: str | None = None, *, problem: bool = False) -> Response:
        """As :meth:`go`, to the page whose form was sent, if it is one of ours."""
        return self.go(inside(request.form.get("back", "")), notice, problem=problem)


def answer(tickwork: Tickwork, view: View, values: dict[str, Any]) -> ResponseReturnValue:
    """Draw a view's page, and what it could not do as a page as well."""
    desk = Desk(tickwork)
    try:
        response = view(desk, **values)
    except _TOLD as error:
        response = _refused(desk, HTTPStatus.CONFLICT, str(error))
    except NotAllowed as error:
        response = _refused(desk, HTTPStatus.FORBIDDEN, str(error))
    except (*_NOT_THERE, NotFound):
        response = _refused(desk, HTTPStatus.NOT_FOUND, "There is nothing here by that name.")
    except HTTPException as error:
        response = _refused(desk, error.code or 500, error.description or "")
    except StoreUnavailable:
        response = _refused(
            desk,
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The database does not answer, or not in time. Jobs wait and nothing is lost.",
        )
    if isinstance(response, Response) and "Content-Security-Policy" not in response.headers:
        response.headers["Content-Security-Policy"] = CSP
        # Without any referrer a browser would not say either that a form is this page's own.
        response.headers["Referrer-Policy"] = "same-origin"
    return response


def _refused(desk: Desk, status: int, text: str) -> Response:
    if request.method == "POST" and status == HTTPStatus.CONFLICT and request.form.get("back"):
        return desk.back(text, problem=True)
    return desk.page("refused.html", status, code=status, text=text, now=None)


def _read_notice() -> dict[str, Any] | None:
    try:
        said = json.loads(unquote(request.cookies.get(NOTICE_COOKIE, "")))
        return {"text": str(said["text"]), "problem": bool(said["problem"])}
    except (ValueError, TypeError, KeyError):
        return None


def inside(path: str) -> str:
    """A path within the dashboard, or its first page for any other."""
    if (path == HOME or path.startswith((f"{HOME}/", f"{HOME}?"))) and path.isprintable():
        return quote(path, safe="/?&=%+-._~:,@!$'()*;")
    return HOME


def link(path: str, **asked: Any) -> str:
    """The address of a page, with what is asked there; ``None`` and empty text are left out."""
    said = {name: value for name, value in asked.items() if value not in (None, "")}
    return f"{HOME}{path}{'?' + urlencode(said) if said else ''}"


env.globals["link"] = link
