"""Who may run a tick: whoever brings the secret. With no secret set, nobody in production."""

from __future__ import annotations

import hmac
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import ParamSpec

from flask import Request, Response, request
from flask.typing import ResponseReturnValue

from jobs.core.settings import NO_SECRETS, WEAK_SECRET_CHARS, Settings, on_platform
from jobs.http.problems import problem

log = logging.getLogger("tickwork.http")
P = ParamSpec("P")
SCHEME = b"Bearer "
# A proxy or a tunnel speaks for somebody who is not on this machine.
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-Ip")


class Gatekeeper:
    """Checks ``Authorization: Bearer <secret>`` against ``CRON_SECRET`` and the one before it.

    With no secret set it is closed, with two answers: 503 in production, and in development 503
    for everybody but the machine itself, so that ``curl`` works on a laptop. A request that a proxy
    or a tunnel forwarded does not come from the machine itself, and on a platform none does.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
        """Reads the secrets once, and warns of what is missing or weak."""
        self._secrets = usable_secrets(
            {
                "CRON_SECRET": settings.cron_secret,
                "CRON_SECRET_PREVIOUS": settings.cron_secret_previous,
            }
        )
        self._laptop = settings.is_development and not on_platform(environ)
        if not self._secrets and not self._laptop:
            log.error(
                "CRON_SECRET is not set: every tick over HTTP is refused (503) and no job runs; "
                "set it to 16 or more random characters"
            )

    @property
    def has_secrets(self) -> bool:
        """Whether anybody can prove a right to it."""
        return bool(self._secrets)

    def refusal(self, asking: Request) -> Response | None:
        """The answer to somebody who may not, or ``None``."""
        if self._secrets:
            return None if bearer_is_one_of(asking, self._secrets) else unauthorized()
        if self._laptop and is_this_machine(asking):
            return None
        log.error("a tick was refused: CRON_SECRET is not set, so nobody can prove a right to it")
        return problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "This server has no CRON_SECRET, so it serves no ticks. Set one and send it as "
            "`Authorization: Bearer <secret>`.",
        )

    def guards(self, view: Callable[P, ResponseReturnValue]) -> Callable[P, ResponseReturnValue]:
        """The view, for those who may; it is not called for anybody else."""

        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
            refused = self.refusal(request)
            return view(*args, **kwargs) if refused is None else refused

        return guarded


def usable_secrets(named: Mapping[str, str | None]) -> list[bytes]:
    """Those that are secrets, as a header's bytes will come; warns of what is none, or weak."""
    # An environment may hold any bytes.
    return [
        value.encode("utf-8", "surrogateescape")
        for name, secret in named.items()
        if (value := _checked(name, secret))
    ]


def bearer_is_one_of(asking: Request, secrets: Sequence[bytes]) -> bool:
    """Whether ``Authorization: Bearer <secret>`` brings one of these."""
    # A server hands the header's bytes over as latin-1. All secrets are always compared, so that
    # the time taken does not tell which one was near.
    presented = asking.headers.get("Authorization", "").encode("latin-1", "replace")
    known = [hmac.compare_digest(presented, SCHEME + secret) for secret in secrets]
    return any(known)


def unauthorized() -> Response:
    """The 401 that callers of forerunners' endpoint know."""
    return Response(
        '{"error": "Unauthorized"}',
        HTTPStatus.UNAUTHORIZED,
        {"WWW-Authenticate": "Bearer"},
        content_type="application/json",
    )


def _checked(name: str, secret: str | None) -> str | None:
    secret = (secret or "").strip()
    if secret.lower() in NO_SECRETS:
        log.error("%s is a placeholder for no value, not a secret: it is ignored", name)
        return None
    if secret and len(secret) < WEAK_SECRET_CHARS:
        log.warning(
            "%s has %d characters and can be guessed: use %d or more random ones",
            name,
            len(secret),
            WEAK_SECRET_CHARS,
        )
    return secret or None


def is_this_machine(asking: Request) -> bool:
    """Whether a program on this machine asks, and asks for itself."""
    if any(name in asking.headers for name in _FORWARDED):
        return False
    try:
        address = ip_address(asking.remote_addr or "")
    except ValueError:  # a UNIX socket has no address; who is behind it is not known
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback
