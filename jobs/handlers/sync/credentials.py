"""Credentials of a platform: named, and read when they are sent; never in a payload or an error.

Bearer("env:STRIPE_KEY")
Basic("env:WOO_KEY", "env:WOO_SECRET")
HeaderToken("X-Shopify-Access-Token", lambda: decrypt(row.token))     # one for each customer
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from jobs.core.errors import ConfigurationError
from jobs.handlers.sync.contract import PlatformRefused

Secret = str | Callable[[], str]
"""`env:NAME`, or a function that returns the secret. A secret itself in code is refused."""

_ENV: Final = "env:"
_sendable = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?").fullmatch


class Credentials(Protocol):
    """What makes the headers that say who asks."""

    def headers(self) -> dict[str, str]:
        """Return them. Raises PlatformRefused when a secret is not set or cannot be sent."""
        ...


def _check(secret: Secret) -> None:
    if not callable(secret) and not secret.startswith(_ENV):
        raise ConfigurationError(
            "a secret is written env:NAME, for the variable that holds it, or given as a function; "
            "it does not stand in the code"
        )


def read_secret(secret: Secret) -> str:
    """Return the secret. Raises PlatformRefused, without showing it."""
    if callable(secret):
        value, what = secret(), "the function for a secret returned what"
    else:
        name = secret.removeprefix(_ENV)
        if not os.environ.get(name):
            raise PlatformRefused(f"the variable {name} is not set: it holds a platform's secret")
        value, what = os.environ[name], f"the variable {name} holds what"
    # The HTTP library would repeat a value that it cannot send in its error.
    if not _sendable(str(value)):
        raise PlatformRefused(f"{what} cannot be sent: printable ASCII, no space at its ends")
    return value


@dataclass(frozen=True)
class Bearer:
    """`Authorization: Bearer ...`."""

    token: Secret = field(repr=False)

    def __post_init__(self) -> None:
        _check(self.token)

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {read_secret(self.token)}"}


@dataclass(frozen=True)
class Basic:
    """`Authorization: Basic ...` (RFC 7617)."""

    user: Secret = field(repr=False)
    password: Secret = field(repr=False)

    def __post_init__(self) -> None:
        _check(self.user)
        _check(self.password)

    def headers(self) -> dict[str, str]:
        pair = f"{read_secret(self.user)}:{read_secret(self.password)}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


@dataclass(frozen=True)
class HeaderToken:
    """A header of the platform's own."""

    header: str
    token: Secret = field(repr=False)

    def __post_init__(self) -> None:
        _check(self.token)

    def headers(self) -> dict[str, str]:
        return {self.header: read_secret(self.token)}
