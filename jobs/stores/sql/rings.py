"""Rings: which rows are to be rung, taken so that two ticks at once do not both ring one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, TextClause, bindparam, text

from jobs.core.store import Unrung
from jobs.stores.sql.statements import Statements


class RingTaker:
    """Takes the rows of one store that are to be rung; keeps the statements it has built."""

    def __init__(self, statements: Statements) -> None:
        self.statements = statements
        self._built: dict[str, TextClause] = {}

    def take(self, connection: Connection, parameters: dict[str, Any]) -> list[Unrung]:
        """Up to ``:limit`` rows, in the transaction of the connection."""
        taking = {"postgresql": self._postgresql, "sqlite": self._sqlite}
        take = taking.get(self.statements.sql.name, self._mysql)
        read = self.statements.sql.read_instant
        taken = []
        for job_id, kind, tenant, rings, key, run_at, now in take(connection, parameters):
            delay_seconds = _seconds_between(read(now), read(run_at))
            taken.append(Unrung(job_id, kind, tenant, rings, delay_seconds, key))
        return taken

    def _postgresql(self, connection: Connection, parameters: dict[str, Any]) -> Sequence[Any]:
        s = self.statements
        statement = self._once(
            "take",
            f"""
            WITH due AS MATERIALIZED ({s.unrung} FOR UPDATE SKIP LOCKED)
            UPDATE {s.jobs} AS j SET {s.rung} WHERE j.id = ANY(ARRAY(SELECT id FROM due))
            RETURNING j.id, j.kind, j.tenant, j.rings, j.concurrency_key, j.run_at,
                {s.sql.now} AS now
            """,
        )
        return connection.execute(statement, parameters).all()

    def _sqlite(self, connection: Connection, parameters: dict[str, Any]) -> Sequence[Any]:
        s = self.statements
        statement = self._once(
            "take",
            f"""
            UPDATE {s.jobs} AS j SET {s.rung} WHERE j.id IN ({s.unrung})
            RETURNING id, kind, tenant, rings, concurrency_key, run_at, {s.sql.now} AS now
            """,
        )
        return connection.execute(statement, parameters).all()

    def _mysql(self, connection: Connection, parameters: dict[str, Any]) -> Sequence[Any]:
        """No RETURNING: a locking read, an update by key, and a read of what was written."""
        s = self.statements
        lock = self._once("lock", f"{s.unrung} FOR UPDATE SKIP LOCKED")
        ids = sorted(connection.execute(lock, parameters).scalars())
        if not ids:
            return []
        found = {**parameters, "ids": ids}
        connection.execute(
            self._once(
                "take", f"UPDATE {s.jobs} AS j {s.sql.by_key} SET {s.rung} WHERE j.id IN :ids"
            ),
            found,
        )
        read = self._once(
            "read",
            f"SELECT id, kind, tenant, rings, concurrency_key, run_at, {s.sql.now} AS now "
            f"FROM {s.jobs} WHERE id IN :ids",
        )
        return connection.execute(read, found).all()

    def _once(self, name: str, statement: str) -> TextClause:
        built = self._built.get(name)
        if built is None:
            built = text(statement)
            if ":ids" in statement:
                built = built.bindparams(bindparam("ids", expanding=True))
            self._built[name] = built
        return built


def _seconds_between(now: datetime, then: datetime) -> float:
    return max(0.0, (then - now).total_seconds())
