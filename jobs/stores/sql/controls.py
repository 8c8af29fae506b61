"""Controls: rows that say who is paused and what was set at run time; ticks probe them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, TextClause, select, text

from jobs.core.controls import NOTHING_SAID, Control, Said, changed_settings, open_lanes
from jobs.stores.sql.statements import Statements


def read_said(texts: Iterable[str]) -> Said:
    """What the rows of ``Statements.said`` say."""
    paused, settings = set(), {}
    for each in texts:
        pause, subject, said = each.split(" ", 2)
        if pause == "paused":
            paused.add(subject)
        if said:
            settings[subject] = said
    return Said(frozenset(paused), settings)


def live_lanes(lanes: Sequence[str], others: Sequence[Any]) -> tuple[tuple[str, ...], Said]:
    """The lanes that are open, and what the controls say, from the rows beside the lanes."""
    texts = [row[1] for row in others if row[0] == "control"]
    if not texts:
        return tuple(lanes), NOTHING_SAID
    said = read_said(texts)
    return open_lanes(lanes, said.paused), said


class Controls:
    """Writes and lists the controls; parameters bring the namespace and the present."""

    def __init__(self, statements: Statements) -> None:
        self.statements = statements

    def pause(
        self,
        connection: Connection,
        subject: str,
        by: str | None,
        because: str | None,
        parameters: Mapping[str, Any],
    ) -> None:
        """The instant of an earlier pause stays."""
        self._ensure(connection, subject, by, parameters)
        values = {**parameters, "subject": subject, "changed_by": by, "because": because}
        connection.execute(self._pause, values)

    @cached_property
    def _pause(self) -> TextClause:
        now = self.statements.sql.now
        return text(
            f"UPDATE {self.statements.controls} SET paused_at = coalesce(paused_at, {now}), "
            f"paused_by = :changed_by, paused_because = :because, changed_at = {now}, "
            "changed_by = :changed_by WHERE namespace = :namespace AND subject = :subject"
        )

    def resume(
        self, connection: Connection, subject: str, by: str | None, parameters: Mapping[str, Any]
    ) -> bool:
        """Whether it was paused."""
        values = {**parameters, "subject": subject, "changed_by": by}
        return connection.execute(self._resume, values).rowcount > 0

    @cached_property
    def _resume(self) -> TextClause:
        return text(
            f"UPDATE {self.statements.controls} SET paused_at = NULL, paused_by = NULL, "
            f"paused_because = NULL, changed_at = {self.statements.sql.now}, "
            "changed_by = :changed_by WHERE namespace = :namespace AND subject = :subject "
            "AND paused_at IS NOT NULL"
        )

    def change(
        self,
        connection: Connection,
        subject: str,
        changes: Mapping[str, Any],
        by: str | None,
        parameters: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Read and written in one transaction, so that of two changes neither is lost."""
        self._ensure(connection, subject, by, parameters)
        values = {**parameters, "subject": subject, "changed_by": by}
        earlier = connection.execute(self._lock, values).scalar_one()
        settings, said = changed_settings(earlier, changes)
        connection.execute(self._change, {**values, "settings": said})
        return settings

    @cached_property
    def _lock(self) -> TextClause:
        # SQLite's writer is alone from the beginning of its transaction.
        locks = "" if self.statements.sql.name == "sqlite" else " FOR UPDATE"
        return text(
            f"SELECT settings FROM {self.statements.controls} "
            f"WHERE namespace = :namespace AND subject = :subject{locks}"
        )

    @cached_property
    def _change(self) -> TextClause:
        return text(
            f"UPDATE {self.statements.controls} SET settings = :settings, "
            f"changed_at = {self.statements.sql.now}, changed_by = :changed_by "
            "WHERE namespace = :namespace AND subject = :subject"
        )

    def _ensure(
        self, connection: Connection, subject: str, by: str | None, parameters: Mapping[str, Any]
    ) -> None:
        connection.execute(self._insert, {**parameters, "subject": subject, "changed_by": by})

    @cached_property
    def _insert(self) -> TextClause:
        values = (
            f"INTO {self.statements.controls} (namespace, subject, changed_at, changed_by) "
            f"VALUES (:namespace, :subject, {self.statements.sql.now}, :changed_by)"
        )
        if self.statements.sql.name == "mysql":
            return text(f"INSERT {values} ON DUPLICATE KEY UPDATE subject = subject")
        return text(f"INSERT {values} ON CONFLICT (namespace, subject) DO NOTHING")

    def listed(self, connection: Connection, namespace: str) -> list[Control]:
        """Every control, by subject."""
        c = self.statements.tables.controls.c
        statement = (
            select(
                *(c.subject, c.paused_at, c.paused_by, c.paused_because),
                *(c.settings, c.changed_at, c.changed_by),
            )
            .where(c.namespace == namespace)
            .order_by(c.subject)
        )
        return [Control(*row) for row in connection.execute(statement)]

    def said(self, connection: Connection, parameters: Mapping[str, Any]) -> Said:
        """What the controls say."""
        found = connection.execute(self.statements.said, parameters).all()
        return read_said(row[1] for row in found)
