"""The tables as SQLAlchemy MetaData: for this code, for its migrations, and for a team's own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Computed,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    text,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator, TypeEngine

SQLITE_TIME_FORMAT = "%Y-%m-%d %H:%M:%S.%f"
HEAD_REVISION = "0001"


class Timestamp(TypeDecorator[datetime]):
    """An instant in UTC, to the microsecond, as an aware datetime on every database.

    ``timestamptz`` on PostgreSQL, ``DATETIME(6)`` holding UTC on MySQL (its default drops the
    fraction), and sortable text on SQLite, which has no time type.
    """

    impl = String(26)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(String(26))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        utc = value.astimezone(UTC)
        if dialect.name == "sqlite":
            return utc.strftime(SQLITE_TIME_FORMAT)
        return utc.replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if value.tzinfo is None:
            return value.replace(tzinfo=UTC)  # type: ignore[no-any-return]
        return value.astimezone(UTC)  # type: ignore[no-any-return]


def ascii_text(length: int) -> String:
    """Names and ids: ASCII by their own rules, compared byte by byte, cheap in indexes."""
    return (
        String(length)
        .with_variant(String(length, collation="C"), "postgresql")
        .with_variant(
            mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
        )
    )


def exact_text(length: int) -> String:
    """Any text, compared exactly: MySQL's default collation would take 'Acme' for 'acme'."""
    return String(length).with_variant(
        mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
    )


def long_text() -> Text:
    """Text of any length; MySQL's plain TEXT ends at 64 KiB."""
    return Text().with_variant(
        mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
    )


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables under one prefix and schema."""

    metadata: MetaData
    jobs: Table
    prefix: str
    schema: str | None

    @property
    def version_table(self) -> str:
        """Where the migrations note their revision."""
        return f"{self.prefix}alembic_version"


def build_tables(
    prefix: str = "tickwork_",
    schema: str | None = None,
    metadata: MetaData | None = None,
    dialect: str | None = None,
) -> Tables:
    """The tables, in ``metadata`` if given, so that a team's own Alembic sees them.

    A team that lets Alembic write its migrations names its ``dialect`` (``postgresql``, ``mysql``,
    ``mariadb``, ``sqlite``) as well: Alembic would add the other databases' indexes too.

    >>> build_tables().jobs.name
    'tickwork_jobs'
    """
    metadata = metadata if metadata is not None else MetaData()
    jobs = Table(
        f"{prefix}jobs",
        metadata,
        Column("id", ascii_text(36), primary_key=True),
        Column("namespace", ascii_text(100), nullable=False),
        Column("tenant", exact_text(100), nullable=False),
        Column("queue", ascii_text(100), nullable=False),
        Column("kind", ascii_text(100), nullable=False),
        Column("priority", SmallInteger, nullable=False),
        # Where the row waits: one bounded index range per lane lets a claim step over a million
        # delayed or unclaimable rows. The database derives it, so a hand-made UPDATE of queue or
        # priority moves the job as well.
        Column("lane", ascii_text(210), _lane()),
        Column("state", ascii_text(12), nullable=False),
        Column("payload", long_text(), nullable=False),
        Column("result", long_text()),
        Column("error", long_text()),
        Column("errors", long_text()),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
        Column("max_attempts", Integer, nullable=False),
        Column("fence", BigInteger, nullable=False, server_default=text("0")),
        Column("cancel_requested", Boolean, nullable=False, server_default=false()),
        Column("progress", Double, nullable=False, server_default=text("0")),
        Column("progress_note", exact_text(500)),
        Column("timeout_seconds", Double),
        Column("backoff", long_text()),
        Column("run_at", Timestamp, nullable=False),
        Column("created_at", Timestamp, nullable=False),
        Column("started_at", Timestamp),
        Column("finished_at", Timestamp),
        Column("lease_until", Timestamp),
        Column("expires_at", Timestamp),
        Column("keep_until", Timestamp),
        Column("duration_ms", Double),
        schema=schema,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        # Room on each page for the row's next versions, and eager vacuum: a queue updates its rows
        # more than it reads them.
        postgresql_with={"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.02},
    )
    _indexes(jobs, prefix, dialect)
    return Tables(metadata, jobs, prefix, schema)


class LaneExpression(ColumnElement[str]):
    """``priority/queue/kind``, in each database's own way to join text."""

    inherit_cache = True


@compiles(LaneExpression)
def _join_by_bars(_element: LaneExpression, _compiler: Any, **_: Any) -> str:
    return "CAST(priority AS TEXT) || '/' || queue || '/' || kind"


@compiles(LaneExpression, "mysql", "mariadb")
def _join_by_concat(_element: LaneExpression, _compiler: Any, **_: Any) -> str:
    return "CONCAT(priority, '/', queue, '/', kind)"


def _lane() -> Computed:
    return Computed(LaneExpression(), persisted=True)


def _indexes(jobs: Table, prefix: str, dialect: str | None) -> None:
    """Partial indexes where there are any; MySQL has none and leads with the state instead."""
    c = jobs.c
    for name, columns, condition in (
        ("pending", (c.lane, c.run_at, c.id), "state = 'pending'"),
        ("held", (c.lease_until,), "state = 'processing'"),
    ):
        partial = text(condition)
        if dialect is None or dialect in _PARTIAL:
            Index(
                f"ix_{prefix}jobs_{name}",
                c.namespace,
                *columns,
                postgresql_where=partial,
                sqlite_where=partial,
            ).ddl_if(callable_=_has_partial_indexes)
        if dialect is None or dialect not in _PARTIAL:
            Index(f"ix_{prefix}jobs_{name}_by_state", c.namespace, c.state, *columns).ddl_if(
                callable_=_lacks_partial_indexes
            )
    for name, columns, condition in (
        ("kept", (c.keep_until,), "keep_until IS NOT NULL"),
        ("finished", (c.kind, c.state, c.finished_at), "finished_at IS NOT NULL"),
    ):
        partial = text(condition)
        Index(
            f"ix_{prefix}jobs_{name}",
            c.namespace,
            *columns,
            postgresql_where=partial,
            sqlite_where=partial,
        )


_PARTIAL = ("postgresql", "sqlite")


def _has_partial_indexes(*_: Any, dialect: Dialect, **__: Any) -> bool:
    return dialect.name in _PARTIAL


def _lacks_partial_indexes(*_: Any, dialect: Dialect, **__: Any) -> bool:
    return dialect.name not in _PARTIAL
