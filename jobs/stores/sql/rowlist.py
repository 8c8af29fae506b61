"""Many rows in one statement: what differs between them goes as a list, the rest is bound once.

Most columns of most batches say the same in every row. Bound once they cost nothing per row: no
text to send and to parse, and an expression over them alone is worked out before the first row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jobs.stores.sql.dialects import Columns, DialectSql


class RowList(NamedTuple):
    """The names of the columns that differ, which choose the statement, and its parameters."""

    varying: tuple[str, ...]
    parameters: dict[str, Any]


def row_list(sql: DialectSql, columns: Columns, rows: Sequence[Sequence[Any]]) -> RowList:
    """Rows (at least one, each beginning in the order of ``columns``) for a statement over them.

    The first column is the key that the statement finds its rows by, and always listed.
    """
    listed: list[tuple[str, str]] = []
    values_listed: list[Sequence[Any]] = []
    parameters: dict[str, Any] = {}
    for column, values in zip(columns, zip(*rows, strict=True), strict=False):
        if listed and values.count(values[0]) == len(values):
            parameters[f"same_{column[0]}"] = values[0]
        else:
            listed.append(column)
            values_listed.append(values)
    return RowList(
        tuple(name for name, _ in listed), {**parameters, **sql.pack(listed, values_listed)}
    )


class Listed:
    """How a statement over a row list reads its columns: ``v.name``, or the one bound value."""

    def __init__(self, sql: DialectSql, columns: Columns, varying: Sequence[str]) -> None:
        self.columns: Columns = [column for column in columns if column[0] in varying]
        self._expressions = {
            name: f"v.{name}" if name in varying else sql.same_for_all(name, kind)
            for name, kind in columns
        }

    def __getitem__(self, name: str) -> str:
        return self._expressions[name]
