"""The dashboard's sessions: a signed cookie that names a token, for twelve hours.

Nothing is stored: the cookie says which token it was begun with, and every request asks the store
whether that one still lives. One begun with ``ADMIN_TOKEN`` ends when that changes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta
from typing import NamedTuple

from flask import Request, Response
from itsdangerous import BadSignature, URLSafeSerializer

from jobs.core.access import as_bytes
from jobs.core.clock import Clock

SESSION_SECONDS = 12 * 3600
COOKIE, SECURE_COOKIE = "tickwork_session", "__Host-tickwork_session"


class Session(NamedTuple):
    """What the cookie says: the token's id (empty for ``ADMIN_TOKEN``), a nonce, and its end."""

    token_id: str
    nonce: str
    ends_at: int


class Sessions:
    """Signs cookies and reads them; without a key there are none."""

    def __init__(self, secret_key: str | None, admin: bytes | None, clock: Clock) -> None:
        self._clock = clock
        key = as_bytes(secret_key or "")
        base = key or admin
        self._key: bytes | None = None
        if base:
            # With ADMIN_TOKEN in it, a new one ends the sessions of the old.
            self._key = hmac.digest(base, b"tickwork session " + (admin or b""), "sha256")

    @property
    def are_possible(self) -> bool:
        """Whether there is a key to sign with: ``SECRET_KEY`` or ``ADMIN_TOKEN``."""
        return self._key is not None

    def new(self, token_id: str) -> Session:
        """A session that begins now."""
        ends = self._clock.now() + timedelta(seconds=SESSION_SECONDS)
        return Session(token_id, secrets.token_urlsafe(16), int(ends.timestamp()))

    def read(self, asking: Request) -> Session | None:
        """The session that a request brings, if it is ours and not over."""
        raw = asking.cookies.get(SECURE_COOKIE if asking.is_secure else COOKIE)
        if raw is None or self._key is None:
            return None
        try:
            token_id, nonce, ends_at = self._serializer().loads(raw)
        except (BadSignature, ValueError, TypeError):
            return None
        if ends_at <= self._clock.now().timestamp():
            return None
        return Session(token_id, nonce, ends_at)

    def write(self, response: Response, session: Session, asking: Request) -> None:
        """Give the browser its cookie: out of reach for scripts and for other sites."""
        response.set_cookie(
            SECURE_COOKIE if asking.is_secure else COOKIE,
            str(self._serializer().dumps(list(session))),
            max_age=SESSION_SECONDS,
            path="/",
            secure=asking.is_secure,
            httponly=True,
            samesite="Lax",
        )

    def forget(self, response: Response, asking: Request) -> None:
        """Take the cookie back."""
        name = SECURE_COOKIE if asking.is_secure else COOKIE
        response.delete_cookie(
            name, path="/", secure=asking.is_secure, httponly=True, samesite="Lax"
        )

    def csrf_token(self, session: Session) -> str:
        """What the session's own forms send back, which no other page can know."""
        assert self._key is not None
        return hmac.new(self._key, f"csrf {session.nonce}".encode(), hashlib.sha256).hexdigest()

    def knows(self, session: Session, token: str) -> bool:
        """Whether a form of that session sent this."""
        expected = self.csrf_token(session).encode()
        return hmac.compare_digest(expected, as_bytes(token))

    def _serializer(self) -> URLSafeSerializer:
        assert self._key is not None
        return URLSafeSerializer(self._key, salt="tickwork.session")
