"""Who may do what: roles, tokens as they are stored, and the log of what people changed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from jobs.core.errors import ConfigurationError

TOKEN_PREFIX = "tw_"  # noqa: S105 - what a token begins with, so that scanners for leaks know it
TOKEN_BYTES = 32
# How exactly it is known when a token was last used: not every request writes.
LAST_USED_SECONDS = 300.0
AUDIT_KEEP_SECONDS = 365 * 86_400.0
# What is past its keeping goes as new entries come, so many at a time.
AUDIT_PURGED_AT_ONCE = 100
LABEL_MAX_CHARS, SUBJECT_MAX_CHARS, REASON_MAX_CHARS = 200, 500, 500


class Role(StrEnum):
    """What somebody may do: look, also steer jobs and queues, also manage access and settings."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def _rank(self) -> int:
        return list(Role).index(self)

    def __lt__(self, other: str) -> bool:
        return self._rank < Role(other)._rank

    def __le__(self, other: str) -> bool:
        return self._rank <= Role(other)._rank

    def __gt__(self, other: str) -> bool:
        return self._rank > Role(other)._rank

    def __ge__(self, other: str) -> bool:
        return self._rank >= Role(other)._rank


def as_role(name: object) -> Role:
    """The role of that name, or a ConfigurationError."""
    try:
        return Role(str(name))
    except ValueError:
        raise ConfigurationError(f"{name!r} is not a role: there are {', '.join(Role)}") from None


def new_secret() -> str:
    """A token as its owner gets it, once: 256 random bits behind ``tw_``."""
    return TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def digest_of(secret: str) -> str:
    """What is stored of a token. Of so many random bits a plain hash cannot be turned back."""
    return hashlib.sha256(as_bytes(secret)).hexdigest()


def as_bytes(text: str) -> bytes:
    """Any text as bytes, as an environment or a request brings it: secrets are compared so."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        return text.encode("utf-8", "surrogatepass")


class NewToken(NamedTuple):
    """A token to be written. ``tenant`` ``None`` is every tenant, and ``""`` jobs of none."""

    id: str
    name: str
    role: str
    tenant: str | None
    digest: str
    created_by: str | None = None
    expires_in_seconds: float | None = None


class Token(NamedTuple):
    """A token as it stands in the store; what it is itself only its owner knows."""

    id: str
    name: str
    role: str
    tenant: str | None
    created_at: datetime
    created_by: str | None
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None

    def state(self, now: datetime) -> str:
        """``live``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "live"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values, times as ISO 8601 in UTC."""
        return _plain(self)


class NewChange(NamedTuple):
    """What somebody changed: an entry of the audit log to be written.

    ``action`` is a word such as ``job.retry``; ``subject`` what it was done to; ``tenant`` whose
    that is (``None``: of several); ``concerned`` how many it was done to.
    Neither secrets nor payloads are part of it.
    """

    id: str
    by: str
    action: str
    subject: str
    tenant: str | None = None
    concerned: int = 1
    reason: str | None = None


class Change(NamedTuple):
    """An entry of the audit log."""

    id: str
    at: datetime
    by: str
    action: str
    subject: str
    tenant: str | None
    concerned: int
    reason: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values, times as ISO 8601 in UTC; ``concerned`` is called ``count``."""
        return {"count" if name == "concerned" else name: v for name, v in _plain(self).items()}


class ChangeFilter(NamedTuple):
    """Which entries to list, newest first; ``None`` means any, ``before_id`` continues."""

    tenant: str | None = None
    by: str | None = None
    action: str | None = None
    subject: str | None = None
    before_id: str | None = None


class AccessStore(Protocol):
    """What a store keeps of access: tokens by their digests, and an append-only audit log."""

    def add_token(self, token: NewToken) -> Token:
        """Write a token."""
        ...

    def tokens(self, tenant: str | None = None, limit: int = 1000) -> list[Token]:
        """The tokens (of a tenant), newest first, those that are over included."""
        ...

    def find_token(self, *, digest: str | None = None, token_id: str | None = None) -> Token | None:
        """The live token with that digest or id: neither revoked nor past its time, or ``None``.

        Notes that it was used, once every :data:`LAST_USED_SECONDS`.
        """
        ...

    def revoke_token(
        self, token_id: str, *, by: str | None, tenant: str | None = None
    ) -> Token | None:
        """End a token (of ``tenant``, if given), or ``None``; the first to do so stays named."""
        ...

    def note_changes(self, changes: Sequence[NewChange]) -> None:
        """Write entries of the audit log; a few that are past their keeping are deleted."""
        ...

    def changes(self, where: ChangeFilter, limit: int) -> list[Change]:
        """Entries of the audit log, newest first."""
        ...


def _plain(entry: Any) -> dict[str, Any]:
    return {
        name: value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
        for name, value in entry._asdict().items()
    }
