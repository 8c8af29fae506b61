"""Who may manage this deployment: ADMIN_TOKEN, tokens, sessions; and the keys of encryption."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from jobs.core.settings import NO_SECRETS, WEAK_SECRET_CHARS
from jobs.ops.doctor.base import Family, Finding, Surroundings, error, note, warning
from jobs.ops.doctor.secrets import is_guessable, is_sample

_MAKE_ONE = "make one with `openssl rand -hex 32` and set it on the platform"
_KEY_BYTES = 32


def admin_token(around: Surroundings) -> Iterator[Finding]:
    """An ADMIN_TOKEN that is none, is known to everybody, or can be guessed."""
    settings = around.settings
    token = "" if settings is None else (settings.admin_token or "").strip()
    if settings is None or not token:
        return
    # Production ignores what is too short, as it opens every tenant's jobs.
    is_ignored = not settings.is_development and len(token) < WEAK_SECRET_CHARS
    if token.lower() in NO_SECRETS:
        yield error(
            "admin-token-placeholder",
            "ADMIN_TOKEN is a placeholder for no value, not a secret: it is ignored",
            _MAKE_ONE,
        )
    elif is_sample(token):
        yield error(
            "admin-token-sample",
            "ADMIN_TOKEN is the sample of an example or a tutorial: anybody may manage every job",
            _MAKE_ONE,
        )
    elif is_ignored:
        yield error(
            "admin-token-ignored",
            f"ADMIN_TOKEN has {len(token)} characters and can be guessed: production ignores it, "
            "and nobody can sign in with it",
            f"{_MAKE_ONE}: {WEAK_SECRET_CHARS} or more random characters",
        )
    elif is_guessable(token):
        yield warning(
            "admin-token-weak",
            f"ADMIN_TOKEN has {len(token)} characters, {len(set(token))} different ones: it can be "
            "guessed, and opens every tenant's jobs",
            f"{_MAKE_ONE}: {WEAK_SECRET_CHARS} or more random characters",
        )


def session_key(around: Surroundings) -> Iterator[Finding]:
    """What the dashboard's sessions are signed with."""
    settings = around.settings
    if settings is None or settings.is_development:
        return
    key = (settings.secret_key or "").strip()
    if key:
        if is_sample(key) or key.lower() in NO_SECRETS or is_guessable(key):
            yield error(
                "secret-key-weak",
                "SECRET_KEY can be guessed: whoever does signs sessions of the dashboard",
                _MAKE_ONE,
            )
    elif settings.admin_token:
        yield note(
            "secret-key-missing",
            "SECRET_KEY is not set: the dashboard's sessions are signed with ADMIN_TOKEN, and all "
            "end when it changes",
            _MAKE_ONE,
        )


def encryption_keys(around: Surroundings) -> Iterator[Finding]:
    """Keys that encrypt nothing, since they are none."""
    settings = around.settings
    keys = () if settings is None else settings.encryption_keys
    for place, key in enumerate(keys, 1):
        if not _is_key(key):
            yield error(
                "encryption-key-malformed",
                f"key {place} of {len(keys)} in JOBS_ENCRYPTION_KEYS is no key: nothing starts",
                f"a key is {_KEY_BYTES} random bytes in URL-safe base64: `python -c 'from "
                "cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'`",
            )


def _is_key(key: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(key)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def tokens(around: Surroundings) -> Iterator[Finding]:
    """Tokens without sessions, and ADMIN_TOKEN without tokens."""
    settings, store = around.settings, around.store
    if settings is None or store is None or settings.is_development:
        return
    now = store.now()
    has_tokens = any(token.state(now) == "live" for token in store.tokens(limit=1000))
    if settings.admin_token and not has_tokens:
        yield note(
            "admin-token-alone",
            "everybody who manages this deployment shares ADMIN_TOKEN: the audit log cannot tell "
            "one from the other, and nobody's access can be ended alone",
            "`tickwork tokens create --role operator --all-tenants --name NAME` for each of them",
        )
    if has_tokens and not settings.admin_token and not settings.secret_key:
        yield warning(
            "session-key-missing",
            "neither SECRET_KEY nor ADMIN_TOKEN is set: there are tokens, but nobody can sign in "
            "to the dashboard with one",
            f"SECRET_KEY: {_MAKE_ONE}",
        )


STATIC = Family("access", (admin_token, session_key, encryption_keys))
LIVE = Family("tokens", (tokens,))
