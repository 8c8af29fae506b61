"""Tokens and the audit log in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Table, TextClause, select, text

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
from jobs.core.codec import clean_text
from jobs.stores.sql.base import StoreBase, may_be_name

# Words of SQL's own make no columns.
_COLUMNS = {"at": "changed_at", "by": "changed_by"}


class Access(StoreBase):
    """Tokens by digest, changes by id; both outlive :meth:`clear`, which is for jobs."""

    # -- tokens --------------------------------------------------------------------------------

    def add_token(self, token: NewToken) -> Token:
        values = {name: value for name, value in token._asdict().items() if name != "digest"}
        values |= {"digest": token.digest}

        def run(connection: Connection) -> Token:
            connection.execute(self._add_token, self._parameters(**values))
            (made,) = self._tokens_by(connection, {"id": token.id})
            return made

        return self._write(run)

    @cached_property
    def _add_token(self) -> TextClause:
        seconds = self.sql.number("expires_in_seconds")
        expires = f"CASE WHEN {seconds} IS NULL THEN NULL ELSE {self.sql.later(seconds)} END"
        return text(
            f"INSERT INTO {self._tokens_name} (id, namespace, name, role, tenant, digest, "
            "created_at, created_by, expires_at) VALUES (:id, :namespace, :name, :role, :tenant, "
            f":digest, {self.sql.now}, :created_by, {expires})"
        )

    def tokens(self, tenant: str | None = None, limit: int = 1000) -> list[Token]:
        where = {} if tenant is None else {"tenant": tenant}
        if tenant is not None and clean_text(tenant) != tenant:
            return []
        return self._read(lambda connection: self._tokens_by(connection, where, limit))

    def find_token(self, *, digest: str | None = None, token_id: str | None = None) -> Token | None:
        column, value = ("digest", digest) if digest is not None else ("id", token_id)
        if value is None or not may_be_name(value):
            return None

        def look(connection: Connection) -> tuple[Token, bool] | None:
            by = self.sql.later(f"-{self.sql.number('used_seconds')}")
            live = f"revoked_at IS NULL AND (expires_at IS NULL OR expires_at > {self.sql.now})"
            c = self.tables.tokens.c
            statement = select(
                *(c[name] for name in Token._fields),
                text(f"CASE WHEN last_used_at > {by} THEN 0 ELSE 1 END"),
            ).where(text("namespace = :namespace"), c[column] == value, text(live))
            row = connection.execute(
                statement, self._parameters(used_seconds=LAST_USED_SECONDS)
            ).first()
            return None if row is None else (Token(*row[:-1]), bool(row[-1]))

        found = self._read(look)
        if found is None:
            return None
        token, stale = found
        if stale:
            self._count(self._use_token, id=token.id)
        return token

    @cached_property
    def _use_token(self) -> TextClause:
        return text(
            f"UPDATE {self._tokens_name} SET last_used_at = {self.sql.now} "
            "WHERE namespace = :namespace AND id = :id"
        )

    def revoke_token(
        self, token_id: str, *, by: str | None, tenant: str | None = None
    ) -> Token | None:
        if not may_be_name(token_id):
            return None
        where = {"id": token_id} if tenant is None else {"id": token_id, "tenant": tenant}

        def run(connection: Connection) -> Token | None:
            if not self._tokens_by(connection, where):
                return None
            connection.execute(self._revoke_token, self._parameters(id=token_id, revoked_by=by))
            (token,) = self._tokens_by(connection, where)
            return token

        return self._write(run)

    @cached_property
    def _revoke_token(self) -> TextClause:
        return text(
            f"UPDATE {self._tokens_name} SET revoked_at = {self.sql.now}, revoked_by = :revoked_by "
            "WHERE namespace = :namespace AND id = :id AND revoked_at IS NULL"
        )

    def _tokens_by(
        self, connection: Connection, where: Mapping[str, Any], limit: int = 1
    ) -> list[Token]:
        rows = _listed(connection, self.tables.tokens, Token._fields, self.namespace, where, limit)
        return [Token(*row) for row in rows]

    @property
    def _tokens_name(self) -> str:
        return self.tables.name_of("tokens")

    # -- audit log -----------------------------------------------------------------------------

    def note_changes(self, changes: Sequence[NewChange]) -> None:
        if not changes:
            return

        def run(connection: Connection) -> None:
            keep = self._parameters(keep_seconds=AUDIT_KEEP_SECONDS, limit=AUDIT_PURGED_AT_ONCE)
            if old := [row[0] for row in connection.execute(self._old_changes, keep)]:
                audit = self.tables.audit
                connection.execute(audit.delete().where(audit.c.id.in_(old)))
            connection.execute(
                self._note_change, [self._parameters(**each._asdict()) for each in changes]
            )

        self._write(run)

    @cached_property
    def _old_changes(self) -> TextClause:
        by = self.sql.later(f"-{self.sql.number('keep_seconds')}")
        return text(
            f"SELECT id FROM {self._audit_name} WHERE namespace = :namespace AND changed_at < {by} "
            "ORDER BY changed_at LIMIT :limit"
        )

    @cached_property
    def _note_change(self) -> TextClause:
        return text(
            f"INSERT INTO {self._audit_name} (id, namespace, changed_at, changed_by, action, "
            f"subject, tenant, concerned, reason) VALUES (:id, :namespace, {self.sql.now}, :by, "
            ":action, :subject, :tenant, :concerned, :reason)"
        )

    def changes(self, where: ChangeFilter, limit: int) -> list[Change]:
        before_id = where.before_id
        values = {_COLUMNS.get(name, name): value for name, value in where._asdict().items()}
        del values["before_id"]
        wanted = {name: value for name, value in values.items() if value is not None}
        if not all(clean_text(value) == value for value in (*wanted.values(), before_id or "")):
            return []
        if before_id is not None and not may_be_name(before_id):
            return []
        return [
            Change(*row)
            for row in self._read(
                lambda connection: _listed(
                    connection,
                    self.tables.audit,
                    [_COLUMNS.get(name, name) for name in Change._fields],
                    self.namespace,
                    wanted,
                    limit,
                    before_id,
                )
            )
        ]

    @property
    def _audit_name(self) -> str:
        return self.tables.name_of("audit")


def _listed(
    connection: Connection,
    table: Table,
    names: Sequence[str],
    namespace: str,
    where: Mapping[str, Any],
    limit: int,
    before_id: str | None = None,
) -> Sequence[Any]:
    """Rows of a table, newest first: ids sort by creation."""
    c = table.c
    statement = select(*(c[name] for name in names)).where(c.namespace == namespace)
    for name, value in where.items():
        statement = statement.where(c[name] == value)
    if before_id is not None:
        statement = statement.where(c.id < before_id)
    return connection.execute(statement.order_by(c.id.desc()).limit(limit)).all()
