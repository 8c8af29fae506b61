"""Ticks, measures and alerts in one statement: what the first page tells of how things go.

Each row of the answer has room for the columns of all three tables, and fills those of its own.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    Table,
    case,
    cast,
    literal_column,
    null,
    select,
    text,
    type_coerce,
    union_all,
)

from jobs.core.measure import Key, in_buckets
from jobs.core.store import Glance
from jobs.stores.sql.alerting import to_alert
from jobs.stores.sql.statements import Statements
from jobs.stores.sql.ticks import HOUR, MINUTE, summed, to_record

_TICK, _MEASURE, _ALERT = range(3)


class Glances:
    """The statement of one store, and how its rows are read."""

    def __init__(self, statements: Statements) -> None:
        self.statements = statements
        self.sql = statements.sql

    def read(
        self, connection: Connection, parameters: dict[str, Any], ticks: int, bucket_seconds: float
    ) -> Glance:
        """The newest ``ticks``; ``parameters`` bring ``since_seconds``, namespace and present."""
        found: tuple[list[Any], ...] = ([], [], [])
        measured: list[tuple[Any, Key | None, str | None]] = []
        for place, is_recent, *values in connection.execute(
            self._glance, {**parameters, "ticks": ticks}
        ):
            row = self._row_of(place, values)
            found[place].append(row)
            if place == _TICK and is_recent:
                measured.append((row.ended_at, None, row.measures))
            elif place == _MEASURE:
                measured.append((row.starts_at, Key(row.tenant, row.queue, row.kind), row.measure))
        records = sorted(
            map(to_record, found[_TICK]), key=lambda each: (each.ended_at, each.id), reverse=True
        )
        return Glance(
            records[:ticks],
            in_buckets(summed(measured, bucket_seconds), bucket_seconds),
            sorted(map(to_alert, found[_ALERT]), key=lambda each: (each.name, each.subject)),
        )

    @cached_property
    def _glanced(self) -> tuple[Table, ...]:
        tables = self.statements.tables
        return tables.ticks, tables.measures, tables.alerts

    @cached_property
    def _kinds_of_row(self) -> list[tuple[int, int, Any]]:
        """Of each table: where its columns begin and end, and what they are read as."""
        kinds, begin = [], 0
        for table in self._glanced:
            names = [column.name for column in table.columns]
            made = namedtuple("Row", names)  # type: ignore[misc]
            kinds.append((begin, begin + len(names), made))
            begin += len(names)
        return kinds

    def _row_of(self, place: int, values: Sequence[Any]) -> Any:
        begin, end, made = self._kinds_of_row[place]
        return made(*values[begin:end])

    @cached_property
    def _glance(self) -> Any:
        """Binds ``ticks`` (how many), ``since_seconds``, the namespace and the present."""
        since = self.sql.later(f"-{self.sql.number('since_seconds')}")
        newest = (
            f"SELECT min(ended_at) FROM (SELECT ended_at FROM {self.statements.ticks} "
            "WHERE namespace = :namespace ORDER BY ended_at DESC LIMIT :ticks) AS newest"
        )
        wanted = (
            (f"(ended_at >= {since} OR ended_at >= ({newest}))", f"ended_at >= {since}"),
            (f"span_seconds IN ({MINUTE}, {HOUR}) AND starts_at >= {since}", "1 = 1"),
            ("name <> ''", "1 = 1"),
        )
        return union_all(*(self._glance_at(place, *each) for place, each in enumerate(wanted)))

    def _glance_at(self, place: int, condition: str, is_recent: str) -> Select[Any]:
        """The rows of one of the tables, wide enough for all of them."""
        own = self._glanced[place]
        return select(
            literal_column(str(place)).label("place"),
            case((text(is_recent), 1), else_=0).label("is_recent"),
            *(self._column(column, own) for table in self._glanced for column in table.columns),
        ).where(text(f"namespace = :namespace AND {condition}"))

    def _column(self, column: Column[Any], table: Table) -> ColumnElement[Any]:
        """The column in a row of ``table``: empty if it is another table's, but of its type."""
        if column.table is table:
            return column.label(f"{table.name}_{column.name}")
        # MySQL casts to fewer types than it has, and needs none here.
        typed = cast if self.sql.name == "postgresql" else type_coerce
        return typed(null(), column.type).label(f"{column.table.name}_{column.name}")
