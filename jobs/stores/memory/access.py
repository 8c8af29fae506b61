"""Tokens and the audit log of the stub."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice

from jobs.core.access import (
    AUDIT_KEEP_SECONDS,
    AUDIT_PURGED_AT_ONCE,
    LAST_USED_SECONDS,
    Change,
    ChangeFilter,
    NewChange,
    NewToken,
    Token,
)
from jobs.stores.memory.base import MemoryRows


class Access(MemoryRows):
    """Tokens by id, changes by id: both in the order they were made."""

    def add_token(self, token: NewToken) -> Token:
        with self._lock:
            now, seconds = self.now(), token.expires_in_seconds
            made = Token(
                *(token.id, token.name, token.role, token.tenant, now, token.created_by),
                expires_at=None if seconds is None else now + timedelta(seconds=seconds),
                last_used_at=None,
                revoked_at=None,
                revoked_by=None,
            )
            self._tokens[token.id] = made
            self._digests[token.digest] = token.id
            return made

    def tokens(self, tenant: str | None = None, limit: int = 1000) -> list[Token]:
        with self._lock:
            mine = (each for each in self._tokens.values() if tenant in (None, each.tenant))
            return sorted(mine, key=lambda token: token.id, reverse=True)[:limit]

    def find_token(self, *, digest: str | None = None, token_id: str | None = None) -> Token | None:
        with self._lock:
            if digest is not None:
                token_id = self._digests.get(digest)
            token = self._tokens.get(token_id or "")
            now = self.now()
            if token is None or token.state(now) != "live":
                return None
            if _is_long_ago(token.last_used_at, now):
                token = self._tokens[token.id] = token._replace(last_used_at=now)
            return token

    def revoke_token(
        self, token_id: str, *, by: str | None, tenant: str | None = None
    ) -> Token | None:
        with self._lock:
            token = self._tokens.get(token_id)
            if token is None or tenant not in (None, token.tenant):
                return None
            if token.revoked_at is None:
                token = token._replace(revoked_at=self.now(), revoked_by=by)
                self._tokens[token_id] = token
            return token

    def note_changes(self, changes: Sequence[NewChange]) -> None:
        with self._lock:
            now = self.now()
            by = now - timedelta(seconds=AUDIT_KEEP_SECONDS)
            old = (change.id for change in self._changes.values() if change.at < by)
            for change_id in list(islice(old, AUDIT_PURGED_AT_ONCE)):
                del self._changes[change_id]
            for new in changes:
                self._changes[new.id] = Change(new.id, now, *new[1:])

    def changes(self, where: ChangeFilter, limit: int) -> list[Change]:
        with self._lock:
            found = [
                change
                for change in self._changes.values()
                if (where.before_id is None or change.id < where.before_id)
                and all(
                    wanted is None or wanted == actual
                    for wanted, actual in (
                        (where.tenant, change.tenant),
                        (where.by, change.by),
                        (where.action, change.action),
                        (where.subject, change.subject),
                    )
                )
            ]
            return sorted(found, key=lambda change: change.id, reverse=True)[:limit]


def _is_long_ago(at: datetime | None, now: datetime) -> bool:
    return at is None or now - at >= timedelta(seconds=LAST_USED_SECONDS)
