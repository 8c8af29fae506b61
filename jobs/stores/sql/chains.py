"""The one chain of a namespace: who holds it, and how many ticks it has had this hour.

It is a row of the limits: ``label`` is the chain that holds it until ``open_until``, ``successes``
the ticks since ``window_at``, and ``failures`` is 1 once another chain has asked for it meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, TextClause, exc, text

from jobs.core.chain import Hold
from jobs.stores.sql.statements import Statements

NAME = "chain"
WINDOW_SECONDS = 3600
TRIES = 3
Run = Callable[[Callable[[Connection], Any]], Any]


class ChainRow:
    """The row of one store. Each statement is a transaction of its own, so that none can wait for
    another and each sees what is committed."""

    def __init__(self, statements: Statements) -> None:
        self.sql = statements.sql
        prefix = f"{statements.tables.schema}." if statements.tables.schema else ""
        self.limits = f"{prefix}{statements.tables.limits.name}"

    def hold(self, run: Run, parameters: dict[str, Any]) -> Hold:
        """For ``:chain``, for ``:hold_seconds``, if this hour has had fewer than ``:per_hour``."""
        for _ in range(TRIES):
            if self._rows(run, self._take, parameters):
                return Hold.GRANTED
            if self._rows(run, self._want, parameters):
                return Hold.HELD
            # Nobody holds it now: it is spent, or not there yet, or was freed between the two.
            ticks = run(lambda connection: connection.execute(self._spent, parameters).scalar())
            if ticks is None:
                self._make(run, parameters)
            elif ticks >= parameters["per_hour"]:
                return Hold.SPENT
        return Hold.HELD

    def free(self, run: Run, parameters: dict[str, Any]) -> bool:
        """Give it up; ``False`` if it is still held, since somebody has asked for it meanwhile."""
        if self._rows(run, self._free, parameters):
            return True
        return not run(lambda connection: connection.execute(self._is_mine, parameters).scalar())

    def _rows(self, run: Run, statement: TextClause, parameters: dict[str, Any]) -> int:
        count: int = run(lambda connection: connection.execute(statement, parameters).rowcount)
        return count

    def _make(self, run: Run, parameters: dict[str, Any]) -> None:
        try:
            run(lambda connection: connection.execute(self._insert, parameters).rowcount)
        except exc.IntegrityError:
            return  # another tick was first

    @property
    def _row(self) -> str:
        return f"namespace = :namespace AND name = '{NAME}'"

    @property
    def _window_is_over(self) -> str:
        return f"(window_at IS NULL OR window_at <= {self.sql.later(f'-{WINDOW_SECONDS}')})"

    @property
    def _is_free(self) -> str:
        return f"(label IS NULL OR open_until IS NULL OR open_until < {self.sql.now})"

    @cached_property
    def _take(self) -> TextClause:
        # MySQL assigns from left to right, so what is read stands before what changes it.
        over, now = self._window_is_over, self.sql.now
        return text(f"""
            UPDATE {self.limits} SET
                successes = CASE WHEN {over} THEN 1 ELSE successes + 1 END,
                window_at = CASE WHEN {over} THEN {now} ELSE window_at END,
                failures = 0, used_at = {now}, label = :chain,
                open_until = {self.sql.later(self.sql.number("hold_seconds"))}
            WHERE {self._row} AND (label = :chain OR {self._is_free})
                AND ({over} OR successes < :per_hour) AND :per_hour > 0
            """)

    @cached_property
    def _want(self) -> TextClause:
        return text(
            f"UPDATE {self.limits} SET failures = 1 "
            f"WHERE {self._row} AND label <> :chain AND NOT {self._is_free}"
        )

    @cached_property
    def _spent(self) -> TextClause:
        return text(
            f"SELECT CASE WHEN {self._window_is_over} AND :per_hour > 0 THEN 0 "
            f"ELSE successes END FROM {self.limits} WHERE {self._row}"
        )

    @cached_property
    def _insert(self) -> TextClause:
        return text(
            f"INSERT INTO {self.limits} (namespace, name, used_at, successes, failures) "
            f"VALUES (:namespace, '{NAME}', {self.sql.now}, 0, 0)"
        )

    @cached_property
    def _free(self) -> TextClause:
        return text(
            f"UPDATE {self.limits} SET label = NULL, open_until = NULL "
            f"WHERE {self._row} AND label = :chain AND failures = 0"
        )

    @cached_property
    def _is_mine(self) -> TextClause:
        return text(
            f"SELECT count(*) FROM {self.limits} WHERE {self._row} AND label = :chain "
            f"AND open_until >= {self.sql.now}"
        )
