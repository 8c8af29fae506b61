"""Who asks, and what they may: bearer tokens, the dashboard's session, the host's own say.

Everything of the management is closed unless one of the three knows who asks. Where nothing could
ever know (no ``ADMIN_TOKEN``, no token, no hook) production answers 503; in development this
machine itself may do everything, as with the ticks.
"""

from __future__ import annotations

import hmac
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from http import HTTPStatus
from ipaddress import ip_address
from typing import ParamSpec
from urllib.parse import quote, urlsplit

from flask import Flask, Request, g, redirect, request
from flask.typing import ResponseReturnValue

from jobs.core.access import TOKEN_PREFIX, Role, Token, as_bytes, digest_of
from jobs.core.settings import NO_SECRETS, WEAK_SECRET_CHARS, on_platform
from jobs.http.auth import is_this_machine
from jobs.http.problems import problem
from jobs.http.rates import Rates
from jobs.http.sessions import Session, Sessions
from jobs.system import Tickwork

__all__ = ["Access", "Identify", "Identity", "Role", "csrf_token", "current"]

log = logging.getLogger("tickwork.http")
P = ParamSpec("P")
LOGIN_PATH = "/api/jobs/dashboard/login"
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf_token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Of one identity, in one process: each process of a deployment counts for itself.
REQUESTS_PER_MINUTE = 600


@dataclass(frozen=True)
class Identity:
    """Who asks. ``name`` goes to the audit log; ``tenant`` ``None`` is every tenant.

    The empty tenant is no wildcard: it is the jobs that belong to nobody.
    """

    name: str
    role: Role
    tenant: str | None


# What the host application says of a request: who it is, or ``None``.
Identify = Callable[[Request], Identity | None]


class Access:
    """Knows who asks and refuses the others; one for an application."""

    def __init__(
        self,
        tickwork: Tickwork,
        identify: Identify | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Reads the credentials once, and tells of one that is none."""
        self._tickwork = tickwork
        self._identify = identify
        settings = tickwork.settings
        self._laptop = settings.is_development and not on_platform(environ)
        self._admin = _admin_token(settings.admin_token, strict=not settings.is_development)
        self.sessions = Sessions(settings.secret_key, self._admin, tickwork.clock)
        self._rates = Rates(tickwork.clock, REQUESTS_PER_MINUTE, 60.0)

    # -- who -----------------------------------------------------------------------------------

    def identity(self, asking: Request) -> Identity | None:
        """Who asks, or ``None``: by bearer token, else by the dashboard's session, else the host's.

        A bearer of ours that is not known is nobody, whatever else the request brings.
        """
        return self._identified(asking)[0]

    def _identified(self, asking: Request) -> tuple[Identity | None, Session | None, bool]:
        """Also the session, and whether a browser may have been made to ask (see CSRF)."""
        scheme, _, presented = asking.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and presented:
            # A server hands the header's bytes over as latin-1.
            presented = presented.encode("latin-1", "replace").decode("utf-8", "surrogateescape")
            found = self.of_secret(presented)
            if found is not None:
                return found, None, False
            if presented.startswith(TOKEN_PREFIX):
                return None, None, False
        session = self.sessions.read(asking)
        if session is not None:
            known = self._of_session(session)
            if known is not None:
                return known, session, True
        if self._identify is not None:
            said = self._identify(asking)
            if said is not None:
                return said, None, True
        if self._laptop and not self._has_credentials() and _is_local(asking):
            return Identity("this machine", Role.ADMIN, None), None, True
        return None, None, False

    def of_secret(self, presented: str) -> Identity | None:
        """Who has this secret: ``ADMIN_TOKEN``, or a token that is live."""
        return self._known(presented)[0]

    def begin_session(self, presented: str) -> tuple[Identity, Session] | None:
        """A session for whoever has this secret; it ends when the token does."""
        identity, token = self._known(presented)
        if identity is None:
            return None
        return identity, self.sessions.new("" if token is None else token.id)

    def _known(self, presented: str) -> tuple[Identity | None, Token | None]:
        if self._is_admin(presented):
            return Identity("admin", Role.ADMIN, None), None
        if not presented.startswith(TOKEN_PREFIX):
            return None, None
        # Found by its hash, so that the time taken tells nothing of the tokens there are.
        token = self._tickwork.store.find_token(digest=digest_of(presented))
        return (None, None) if token is None else (_of_token(token), token)

    def _is_admin(self, presented: str) -> bool:
        # As bytes: a header may hold any, and a comparison of texts refuses some of them.
        return self._admin is not None and hmac.compare_digest(as_bytes(presented), self._admin)

    def _of_session(self, session: Session) -> Identity | None:
        if not session.token_id:
            return None if self._admin is None else Identity("admin", Role.ADMIN, None)
        token = self._tickwork.store.find_token(token_id=session.token_id)
        return None if token is None else _of_token(token)

    def _has_credentials(self) -> bool:
        return (
            self._admin is not None
            or self._identify is not None
            or bool(self._tickwork.store.tokens(limit=1))
        )

    # -- may they ------------------------------------------------------------------------------

    def guards(
        self,
        role: Role,
        view: Callable[P, ResponseReturnValue],
        *,
        page: bool = False,
    ) -> Callable[P, ResponseReturnValue]:
        """The view, for those of at least this role; it is not called for anybody else.

        Who asks stands in ``flask.g.identity`` then (:func:`current`). Others get a problem: 401,
        403, or 503 where no credential exists. With ``page`` a stranger is sent to sign in.
        """

        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
            refused = self._refusal(role, page=page)
            return view(*args, **kwargs) if refused is None else refused

        guarded.tickwork_role = role  # type: ignore[attr-defined]
        return guarded

    def _refusal(self, role: Role, *, page: bool) -> ResponseReturnValue | None:
        identity, session, by_browser = self._identified(request)
        if identity is None:
            return self._stranger(page=page)
        g.csrf_token = "" if session is None else self.sessions.csrf_token(session)
        if not identity.role >= role:
            return problem(
                HTTPStatus.FORBIDDEN,
                f"This needs the role {role}; {identity.name} is {identity.role}.",
            )
        if by_browser and request.method not in SAFE_METHODS:
            reason = self._forged(session)
            if reason is not None:
                return problem(HTTPStatus.FORBIDDEN, reason)
        wait_seconds = self._rates.wait_seconds(identity.name)
        if wait_seconds:
            return problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"More than {REQUESTS_PER_MINUTE} requests a minute; wait and go on.",
                headers={"Retry-After": str(wait_seconds)},
            )
        g.identity = identity
        return None

    def _stranger(self, *, page: bool) -> ResponseReturnValue:
        if not self._has_credentials():
            if self._laptop:
                detail = (
                    "Without ADMIN_TOKEN only this machine itself may manage jobs: set it, and "
                    "send it as `Authorization: Bearer <token>`."
                )
            else:
                detail = (
                    "No credential exists, so nobody may manage jobs here: set ADMIN_TOKEN (16 or "
                    "more random characters) or make a token with `tickwork tokens create`."
                )
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)
        if page and request.method in SAFE_METHODS:
            asked = quote(request.full_path.rstrip("?"))
            return redirect(f"{LOGIN_PATH}?next={asked}", HTTPStatus.SEE_OTHER)
        return problem(
            HTTPStatus.UNAUTHORIZED,
            "Send a token as `Authorization: Bearer <token>`.",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _forged(self, session: Session | None) -> str | None:
        """Why a browser may have been made to send this by somebody else's page."""
        reason = foreign(request)
        if reason is None and session is not None:
            given = request.headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD, "")
            if not self.sessions.knows(session, given):
                reason = (
                    f"The form's token is missing or old: send it as {CSRF_HEADER} or as the field "
                    f"{CSRF_FIELD}, or load the page again."
                )
        return reason


def install(app: Flask, tickwork: Tickwork, identify: Identify | None = None) -> Access:
    """The application's access, in ``app.extensions["tickwork.access"]`` as well."""
    access = Access(tickwork, identify)
    app.extensions["tickwork.access"] = access
    return access


def current() -> Identity:
    """Who asks, in a view that :meth:`Access.guards` lets them into."""
    identity: Identity = g.identity
    return identity


def csrf_token() -> str:
    """What a form of this session sends back as ``csrf_token``; empty without a session."""
    token: str = g.get("csrf_token", "")
    return token


def foreign(asking: Request) -> str | None:
    """Why a request that changes something does not come from a page of ours, or ``None``.

    Browsers say where a request comes from; programs say nothing, and bring no cookies unasked.
    """
    site = asking.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        return "A page of another site asked for this."
    origin = asking.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != asking.host.lower():
        return "A page of another origin asked for this."
    return None


def _of_token(token: Token) -> Identity:
    return Identity(f"token:{token.name}", Role(token.role), token.tenant)


def _admin_token(given: str | None, *, strict: bool) -> bytes | None:
    token = (given or "").strip()
    if token.lower() in NO_SECRETS:
        log.error("ADMIN_TOKEN is a placeholder for no value, not a secret: it is ignored")
        return None
    if token and len(token) < WEAK_SECRET_CHARS:
        log.error(
            "ADMIN_TOKEN has %d characters and can be guessed%s: use %d or more random ones",
            len(token),
            ", so it is ignored" if strict else "",
            WEAK_SECRET_CHARS,
        )
        if strict:
            return None
    return as_bytes(token) or None


def _is_local(asking: Request) -> bool:
    """From this machine and to it by name: a foreign name that leads here is somebody's trick."""
    host = (urlsplit(f"//{asking.host}").hostname or "").lower()
    if host != "localhost" and not host.endswith(".localhost"):
        try:
            if not ip_address(host).is_loopback:
                return False
        except ValueError:
            return False
    return is_this_machine(asking)
