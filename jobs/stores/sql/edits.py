"""What people do to many rows: removed, and put back to pending. By key, where they still fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, TextClause, bindparam, text

from jobs.core.job import State
from jobs.core.store import Revival
from jobs.stores.sql.dialects import INTEGER, NUMBER, TEXT
from jobs.stores.sql.rowlist import Listed, row_list
from jobs.stores.sql.statements import Statements

REVIVAL_COLUMNS = (
    ("id", TEXT),
    ("fence", INTEGER),
    ("was", TEXT),
    ("delay_seconds", NUMBER),
    ("max_attempts", INTEGER),
    ("errors", TEXT),
    ("ring_after_seconds", NUMBER),
)


class Edits:
    """The statements of one store; parameters bring the namespace and the present."""

    def __init__(self, statements: Statements) -> None:
        self.statements = statements
        self._built: dict[Any, TextClause] = {}

    def remove(
        self,
        connection: Connection,
        ids: Collection[str],
        states: Collection[State],
        ended_for_seconds: float | None,
        parameters: Mapping[str, Any],
    ) -> int:
        """Delete those of ``ids`` that are in one of ``states``, and ended that long ago.

        With a time, rows that a group counts on stay.
        """
        values = {**parameters, "ids": sorted(ids), "states": sorted(map(str, states))}
        if ended_for_seconds is not None:
            values["ended_for_seconds"] = ended_for_seconds
        statement = self._remove(timed=ended_for_seconds is not None)
        return connection.execute(statement, values).rowcount

    def _remove(self, *, timed: bool) -> TextClause:
        statement = self._built.get(("remove", timed))
        if statement is None:
            s = self.statements
            # MySQL locks every row that a delete looks at: it is led to those found before.
            aimed = f"DELETE j FROM {s.jobs} AS j {s.sql.by_key}"
            which = aimed if s.sql.name == "mysql" else f"DELETE FROM {s.jobs} AS j"
            by = s.sql.later(f"-{s.sql.number('ended_for_seconds')}")
            statement = self._built["remove", timed] = text(
                f"{which} WHERE j.id IN :ids AND j.namespace = :namespace "
                "AND j.state IN :states AND j.state <> 'processing'"
                + (f" AND j.finished_at <= {by} AND {s.let_go('j')}" if timed else "")
            ).bindparams(bindparam("ids", expanding=True), bindparam("states", expanding=True))
        return statement

    def revive(
        self, connection: Connection, revivals: Sequence[Revival], parameters: Mapping[str, Any]
    ) -> int:
        """Put rows back to pending that still are what their revivals found; binds ``run_at``."""
        rows = sorted(
            (
                *(each.job.id, each.job.fence, str(each.job.state), each.delay_seconds),
                *(each.max_attempts, each.errors, each.ring_after_seconds),
            )
            for each in revivals
            if each.job.state is not State.PROCESSING
        )
        if not rows:
            return 0
        varying, packed = row_list(self.statements.sql, REVIVAL_COLUMNS, rows)
        statement = self._built.get(varying)
        if statement is None:
            statement = self._built[varying] = text(self._revive(varying))
        return connection.execute(statement, {**parameters, **packed}).rowcount

    def _revive(self, varying: tuple[str, ...]) -> str:
        sql, v = self.statements.sql, Listed(self.statements.sql, REVIVAL_COLUMNS, varying)
        waited, after = f"{v['was']} = 'pending'", v["ring_after_seconds"]

        def anew(column: str, value: str = "NULL") -> str:
            return f"CASE WHEN {waited} THEN j.{column} ELSE {value} END"

        due_at = sql.later(v["delay_seconds"])
        # No value reads a column that is assigned before it: MySQL would see the new one.
        assignments = {
            # One that waits is only brought forward: what is due keeps its place.
            "run_at": f"coalesce({sql.instant('run_at')}, CASE WHEN {waited} "
            f"AND j.run_at <= {due_at} THEN j.run_at ELSE {due_at} END)",
            "errors": f"coalesce({v['errors']}, j.errors)",
            "attempts": anew("attempts", "0"),
            "max_attempts": f"coalesce({v['max_attempts']}, j.max_attempts)",
            "result": anew("result"),
            "finished_at": "NULL",
            "keep_until": "NULL",
            "started_at": "NULL",
            "lease_until": "NULL",
            "expires_at": anew("expires_at"),
            "duration_ms": anew("duration_ms"),
            "progress": anew("progress", "0"),
            "progress_note": anew("progress_note"),
            "continues": anew("continues", "0"),
            "cancel_requested": anew("cancel_requested", "false"),
            "ring_at": f"CASE WHEN {after} IS NULL THEN j.ring_at ELSE {sql.later(after)} END",
            "state": "'pending'",
        }
        matches = f"j.id = {v['id']} AND j.fence = {v['fence']} AND j.state = {v['was']}"
        return sql.update_from(
            self.statements.jobs,
            v.columns,
            f"{matches} AND j.namespace = :namespace",
            assignments,
        )

    @cached_property
    def discard(self) -> TextClause:
        """One row that waits ends as failed, if it is as it was found."""
        s = self.statements
        keep = s.sql.number("keep_seconds")
        return text(
            f"UPDATE {s.jobs} SET error = :error, errors = :errors, finished_at = {s.sql.now}, "
            f"keep_until = CASE WHEN {keep} IS NULL THEN NULL ELSE {s.sql.later(keep)} END, "
            "lease_until = NULL, state = 'failed' WHERE id = :id AND namespace = :namespace "
            "AND fence = :fence AND state = 'pending'"
        )

    @cached_property
    def stuck(self) -> TextClause:
        """Rows as of ``Statements.stalled``, by when they started."""
        s = self.statements
        by = s.sql.later(f"-{s.sql.number('running_for_seconds')}")
        return text(
            f"SELECT {s.claimed_columns}, j.started_at, j.cancel_requested "
            f"FROM {s.jobs} j WHERE namespace = :namespace AND state = 'processing' "
            f"AND started_at <= {by} ORDER BY started_at, id LIMIT :limit"
        )
