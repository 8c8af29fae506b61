"""What differs between databases, and only that: time, row lists, locks and errors."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from jobs.stores.sql.tables import SQLITE_TIME_FORMAT

# The columns of a row list, by what they hold.
TEXT, INTEGER, NUMBER = "text", "integer", "number"
# Texts short enough for a key: names and ids, and any others.
ASCII, SHORT = "ascii", "short"
Columns = Sequence[tuple[str, str]]
_NUMERIC = frozenset({INTEGER, NUMBER})
# With a digit in front none of them is the word NULL.
_SAFE_ELEMENTS = re.compile(r"[0-9][A-Za-z0-9-]*(,[0-9][A-Za-z0-9-]*)*")


class DialectSql(ABC):
    """SQL fragments of one database. With ``frozen``, *now* is the bound parameter ``:now``."""

    name: ClassVar[str]
    concurrent_writers: ClassVar[bool] = True
    # Whether a server answers, which may fall silent.
    over_network: ClassVar[bool] = True
    # Whether an index may be of some rows alone.
    has_partial_indexes: ClassVar[bool] = True
    # Whether an operation of one statement goes without BEGIN and COMMIT: a third of the round
    # trips, which is most of a tick's time where the database is far away.
    autocommits: ClassVar[bool] = False
    # Whether the columns of a claim come just as a Claimed holds them.
    returns_claimed: ClassVar[bool] = False
    # Whether an UPDATE can answer with the rows it wrote.
    returns_updated: ClassVar[bool] = True
    # Whether rows to delete are looked up first, without locks.
    deletes_by_key: ClassVar[bool] = False
    # How a statement is led to its rows by their ids, whatever the optimizer thinks of it.
    by_key: ClassVar[str] = ""

    def __init__(self, *, frozen: bool) -> None:
        self.frozen = frozen

    def by_index(self, index: str) -> str:
        """How a statement is led to its rows by an index; nothing where it finds it by itself."""
        return ""

    @property
    @abstractmethod
    def now(self) -> str:
        """An expression for the present instant, the same all through a statement."""

    def later(self, seconds: str) -> str:
        """An expression for now plus the number of seconds that the expression yields."""
        return self.after(self.now, seconds)

    @abstractmethod
    def after(self, instant: str, seconds: str) -> str:
        """An expression for an instant plus the number of seconds that the expression yields."""

    def instant(self, parameter: str) -> str:
        """A bound instant, typed."""
        return f":{parameter}"

    def bind_instant(self, at: datetime | None) -> Any:
        """The value to bind for an instant."""
        return at

    def read_instant(self, value: Any) -> datetime:
        """An instant as the driver returned it, made aware."""
        return value  # type: ignore[no-any-return]

    @property
    def now_as_text(self) -> str:
        """The present instant in UTC as ISO text, for a column of texts."""
        return self.now

    @property
    def still_processing(self) -> str:
        """A condition on ``j`` for rows found by their key."""
        return "j.state = 'processing'"

    @property
    def still_pending(self) -> str:
        """As :attr:`still_processing`, for rows that wait."""
        return "j.state = 'pending'"

    def number(self, parameter: str) -> str:
        """A bound number, typed."""
        return f":{parameter}"

    def joined(self, *texts: str) -> str:
        """An expression for these texts, one after the other."""
        return " || ".join(texts)

    def holds_text(self, column: str, parameter: str) -> str:
        """A condition: the column holds the bound text, letter by letter."""
        return f"instr({column}, :{parameter}) > 0"

    def same_for_all(self, name: str, kind: str) -> str:
        """A value that is the same in every row of a list, bound once and typed."""
        return f":same_{name}"

    @abstractmethod
    def rows(self, columns: Columns, *, any_driver: bool = False) -> str:
        """A FROM item ``v`` with these columns, fed by :meth:`pack`: one statement, many rows.

        With ``any_driver`` also for a connection of the caller's, whose driver may be another.
        """

    def pack(self, columns: Columns, by_column: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """The parameters of :meth:`rows`, from the values of each column."""
        rows = list(zip(*by_column, strict=True))
        return {"rows": json.dumps(rows, ensure_ascii=False, separators=(",", ":"))}

    def update_from(
        self, table: str, columns: Columns, matches: str, assignments: Mapping[str, str]
    ) -> str:
        """An UPDATE of ``table j`` joined to the row list ``v``; columns map to expressions."""
        listed = ", ".join(f"{column} = {value}" for column, value in assignments.items())
        return f"UPDATE {table} AS j SET {listed} FROM {self.rows(columns)} WHERE {matches}"

    @abstractmethod
    def is_passing(self, error: BaseException) -> bool:
        """Whether this driver error is worth trying the transaction again: lost a lock race."""


class PostgresqlSql(DialectSql):
    name = "postgresql"
    autocommits = True
    returns_claimed = True
    # Serialization failure, deadlock, lock not available, and a server that is starting or going.
    _passing = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03"})
    _types: ClassVar[dict[str, str]] = {
        **dict.fromkeys((TEXT, ASCII, SHORT), "text"),
        INTEGER: "bigint",
        NUMBER: "float8",
    }

    @property
    def now(self) -> str:
        # The statement's time: now() is the transaction's, stale in a caller's long one, and
        # clock_timestamp() is volatile, which bars the index range.
        return "CAST(:now AS timestamptz)" if self.frozen else "statement_timestamp()"

    def after(self, instant: str, seconds: str) -> str:
        return f"({instant} + ({seconds}) * interval '1 second')"

    def instant(self, parameter: str) -> str:
        return f"CAST(:{parameter} AS timestamptz)"

    def read_instant(self, value: Any) -> datetime:
        """An instant as the driver returned it, made aware."""
        return value  # type: ignore[no-any-return]

    @property
    def now_as_text(self) -> str:
        return f"to_char({self.now} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"

    @property
    def still_processing(self) -> str:
        # Written so that the index of held rows does not offer itself: statistics taken between
        # ticks say that it is empty, and it would then be searched whole for every key.
        return "(j.state || '') = 'processing'"

    @property
    def still_pending(self) -> str:
        return "(j.state || '') = 'pending'"

    def number(self, parameter: str) -> str:
        return f"CAST(:{parameter} AS float8)"

    def holds_text(self, column: str, parameter: str) -> str:
        return f"strpos({column}, :{parameter}) > 0"

    def same_for_all(self, name: str, kind: str) -> str:
        return f"CAST(:same_{name} AS {self._types[kind]})"

    def rows(self, columns: Columns, *, any_driver: bool = False) -> str:
        # Some drivers (asyncpg) want a list where an array is expected; for text all take text.
        given = "CAST(:c_{} AS text)" if any_driver else ":c_{}"
        arrays = ", ".join(
            f"CAST({given.format(name)} AS {self._types[kind]}[])" for name, kind in columns
        )
        return f"unnest({arrays}) AS v({', '.join(name for name, _ in columns)})"

    def update_from(
        self, table: str, columns: Columns, matches: str, assignments: Mapping[str, str]
    ) -> str:
        # The array sends the planner to the primary key; by the join alone it would rather scan
        # the table, history and all, for a list of a thousand.
        listed = ", ".join(f"{column} = {value}" for column, value in assignments.items())
        return (
            f"WITH v AS MATERIALIZED (SELECT * FROM {self.rows(columns)}) "
            f"UPDATE {table} AS j SET {listed} FROM v "
            f"WHERE j.id = ANY(ARRAY(SELECT id FROM v)) AND {matches}"
        )

    def pack(self, columns: Columns, by_column: Sequence[Sequence[Any]]) -> dict[str, Any]:
        return {
            f"c_{name}": _array(values, kind)
            for (name, kind), values in zip(columns, by_column, strict=True)
        }

    def is_passing(self, error: BaseException) -> bool:
        return getattr(error, "sqlstate", None) in self._passing


def _array(values: Sequence[Any], kind: str) -> str:
    """An array literal; the driver's own array dumper costs several times the whole row."""
    if None in values:
        elements = ["NULL" if value is None else _element(value, kind) for value in values]
        return f"{{{','.join(elements)}}}"
    if kind in _NUMERIC:
        return f"{{{','.join(map(repr, values))}}}"
    joined = ",".join(values)
    # Looked at in one go: ids need no quotes, and are what every list has.
    if _SAFE_ELEMENTS.fullmatch(joined) and joined.count(",") == len(values) - 1:
        return f"{{{joined}}}"
    return f"{{{','.join(_element(value, kind) for value in values)}}}"


def _element(value: Any, kind: str) -> str:
    if kind in _NUMERIC:
        return repr(value)
    text: str = value
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class SqliteSql(DialectSql):
    name = "sqlite"
    concurrent_writers = False
    over_network = False
    # SQLite's own clock has milliseconds; the zeros keep all instants comparable as text.
    _format = "'%Y-%m-%d %H:%M:%f000'"

    def by_index(self, index: str) -> str:
        # Of indexes that seem alike its planner takes the one that was made last, or none at all:
        # of a partial index without a row it has no statistics.
        return f"INDEXED BY {index}"

    @property
    def now(self) -> str:
        return ":now" if self.frozen else f"strftime({self._format}, 'now')"

    def later(self, seconds: str) -> str:
        return self.after(":now" if self.frozen else "'now'", seconds)

    def after(self, instant: str, seconds: str) -> str:
        return f"strftime({self._format}, {instant}, printf('%.3f seconds', {seconds}))"

    def bind_instant(self, at: datetime | None) -> Any:
        # To the millisecond, as its own clock: strftime would round the present into the future.
        return None if at is None else f"{at.strftime(SQLITE_TIME_FORMAT)[:-3]}000"

    def read_instant(self, value: Any) -> datetime:
        return datetime.fromisoformat(value).replace(tzinfo=UTC)

    def rows(self, columns: Columns, *, any_driver: bool = False) -> str:
        picked = ", ".join(
            f"json_extract(value, '$[{place}]') AS {name}"
            for place, (name, _) in enumerate(columns)
        )
        return f"(SELECT {picked} FROM json_each(:rows)) AS v"

    def is_passing(self, error: BaseException) -> bool:
        text = str(error)
        return "database is locked" in text or "database table is locked" in text


class MysqlSql(DialectSql):
    name = "mysql"
    has_partial_indexes = False
    returns_updated = False
    deletes_by_key = True
    # On a small table it would rather scan, and wait for every row that anybody has locked.
    by_key = "FORCE INDEX (PRIMARY)"
    _passing = frozenset({1205, 1213, 3572})  # lock wait timeout, deadlock, NOWAIT
    _types: ClassVar[dict[str, str]] = {
        TEXT: "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        ASCII: "VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin",
        SHORT: "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        INTEGER: "BIGINT",
        NUMBER: "DOUBLE",
    }

    @property
    def now(self) -> str:
        return "CAST(:now AS DATETIME(6))" if self.frozen else "UTC_TIMESTAMP(6)"

    def after(self, instant: str, seconds: str) -> str:
        return f"({instant} + INTERVAL CAST(({seconds}) * 1000000 AS SIGNED) MICROSECOND)"

    @property
    def now_as_text(self) -> str:
        return f"CAST({self.now} AS CHAR)"

    def instant(self, parameter: str) -> str:
        return f"CAST(:{parameter} AS DATETIME(6))"

    def bind_instant(self, at: datetime | None) -> Any:
        return None if at is None else at.replace(tzinfo=None)

    def read_instant(self, value: Any) -> datetime:
        return value.replace(tzinfo=UTC)  # type: ignore[no-any-return]

    def joined(self, *texts: str) -> str:
        return f"CONCAT({', '.join(texts)})"

    def rows(self, columns: Columns, *, any_driver: bool = False) -> str:
        listed = ", ".join(
            f"{name} {self._column_type(name, kind)} PATH '$[{place}]'"
            for place, (name, kind) in enumerate(columns)
        )
        return f"JSON_TABLE(:rows, '$[*]' COLUMNS({listed})) AS v"

    def _column_type(self, name: str, kind: str) -> str:
        # Typed like the primary key, or the join would convert and scan the table instead.
        return (
            "VARCHAR(36) CHARACTER SET ascii COLLATE ascii_bin"
            if name == "id"
            else self._types[kind]
        )

    def update_from(
        self, table: str, columns: Columns, matches: str, assignments: Mapping[str, str]
    ) -> str:
        listed = ", ".join(f"j.{column} = {value}" for column, value in assignments.items())
        return (
            f"UPDATE {self.rows(columns)} STRAIGHT_JOIN {table} AS j {self.by_key} "
            f"ON {matches} SET {listed}"
        )

    def is_passing(self, error: BaseException) -> bool:
        code = error.args[0] if error.args else None
        return code in self._passing


_DIALECTS: dict[str, type[DialectSql]] = {
    "postgresql": PostgresqlSql,
    "sqlite": SqliteSql,
    "mysql": MysqlSql,
    "mariadb": MysqlSql,
}


def dialect_sql(name: str, *, frozen: bool) -> DialectSql:
    """The fragments for SQLAlchemy's dialect ``name``."""
    return _DIALECTS[name](frozen=frozen)
