"""What webhooks are signed with: kept encrypted beside the job, or named, never in the clear.

A job's `secret` is one of two things:

    {"$sealed": "gAAAA..."}      encrypted (Fernet) with JOBS_ENCRYPTION_KEYS, else with a key made
                                 from SECRET_KEY; good for the URL it was given for alone
    "env:WEBHOOK_SECRET_ACME"    the name of a variable that holds secrets, comma-separated

Names begin with WEBHOOK_SECRET, so that a reference can name nothing else of the environment. Of
several secrets every one signs: the new one first, the old one until the receivers have changed.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from jobs.core.sealed import is_sealed
from jobs.core.settings import NO_SECRETS
from jobs.handlers.errors import SecretError
from jobs.handlers.signing import digest, key_of
from jobs.stores.sealing import KeyRing

REFERENCE: Final = "env:"
_NAMES_BEGIN: Final = "WEBHOOK_SECRET"
_MOST: Final = 3
_SHORTEST_CHARS, _LONGEST_CHARS = 8, 500
_DERIVED_FOR: Final = b"tickwork webhook secrets"


class SecretSettings(Protocol):
    """What keeping secrets needs to know; the project's settings have it."""

    @property
    def encryption_keys(self) -> tuple[str, ...]: ...
    @property
    def secret_key(self) -> str | None: ...


def kept(secret: object, url: str, settings: SecretSettings) -> str | dict[str, Any]:
    """A secret as a job may hold it.

    secret: a text, several in a list (the new one first), or `env:WEBHOOK_SECRET_...`
    url: what it signs for
    Raises SecretError for what is no secret, and for one in the clear where no key is set.
    """
    if isinstance(secret, str) and secret.startswith(REFERENCE):
        return check_kept(secret)
    secrets = [secret] if isinstance(secret, str) else secret
    if not isinstance(secrets, list | tuple) or not 1 <= len(secrets) <= _MOST:
        raise SecretError(f"a webhook is signed with a secret, or with up to {_MOST} in a list")
    checked = [_checked(each, "the secret") for each in secrets]
    ring = _ring(settings)
    if ring is None:
        raise SecretError(
            "a secret is kept encrypted, and there is no key: set JOBS_ENCRYPTION_KEYS (or "
            f"SECRET_KEY), or name a variable that holds it, as {REFERENCE}{_NAMES_BEGIN}_ACME"
        )
    return ring.seal({"url": url, "secrets": checked})


def check_kept(secret: Any) -> str | dict[str, Any]:
    """The secret of a payload, if it is one that may stand in a row. Raises SecretError."""
    if is_sealed(secret):
        sealed: dict[str, Any] = secret
        return sealed
    if isinstance(secret, str) and secret.startswith(REFERENCE):
        name = secret.removeprefix(REFERENCE)
        if not name.startswith(_NAMES_BEGIN) or not name.isidentifier():
            raise SecretError(f"a secret is named as {REFERENCE}{_NAMES_BEGIN}_...")
        return secret
    raise SecretError(
        "a secret stands in no payload: queue_webhook(...) and POST /api/jobs/webhooks encrypt it"
    )


def secrets_of(
    secret: Any,
    url: str,
    settings: SecretSettings,
    environ: Mapping[str, str] = os.environ,
) -> Sequence[str]:
    """What to sign with, the newest first.

    secret, url: as the job has them
    Raises SecretError when they cannot be had: no such variable, no key that opens them, or sealed
    for another URL.
    """
    if isinstance(secret, str):
        name = str(check_kept(secret)).removeprefix(REFERENCE)
        named = [each.strip() for each in environ.get(name, "").split(",") if each.strip()]
        if not named:
            raise SecretError(f"{name} is not set: it holds what this webhook is signed with")
        return [_checked(each, name) for each in named[:_MOST]]
    ring = _ring(settings)
    opened = secret if ring is None else ring.open(secret)
    if is_sealed(opened) or not isinstance(opened, dict):
        raise SecretError(
            "no key here opens the webhook's secret: put the old key behind the new one in "
            "JOBS_ENCRYPTION_KEYS (or set the SECRET_KEY of before), and retry the job"
        )
    if opened.get("url") != url:
        raise SecretError("the webhook's secret was given for another URL")
    secrets: Sequence[str] = opened["secrets"]
    return secrets


def _ring(settings: SecretSettings) -> KeyRing | None:
    keys = list(settings.encryption_keys)
    if settings.secret_key:
        key = settings.secret_key.encode("utf-8", "surrogateescape")
        keys.append(base64.urlsafe_b64encode(digest(key, _DERIVED_FOR)).decode())
    return KeyRing(keys) if keys else None


def _checked(secret: object, what: str) -> str:
    """The message has nothing of the secret."""
    if (
        not isinstance(secret, str)
        or not _SHORTEST_CHARS <= len(secret) <= _LONGEST_CHARS
        or not secret.isprintable()
        or secret.strip().lower() in NO_SECRETS
    ):
        raise SecretError(
            f"{what} is not printable text of {_SHORTEST_CHARS} to {_LONGEST_CHARS} characters"
        )
    try:
        key_of(secret)
    except ValueError:
        raise SecretError(f"{what} begins with whsec_, and what follows is not base64") from None
    return secret
