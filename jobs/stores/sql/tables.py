"""The tables as SQLAlchemy MetaData: for this code, for its migrations, and for a team's own."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    TIMESTAMP,
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
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator, TypeEngine

from jobs.core.flow import FLOW_CHARS

SQLITE_TIME_FORMAT = "%Y-%m-%d %H:%M:%S.%f"
HEAD_REVISION = "0006"


class Timestamp(TypeDecorator[datetime]):
    """An instant in UTC, to the microsecond, as an aware datetime on every database.

    ``timestamptz`` on PostgreSQL, ``DATETIME(6)`` holding UTC on MySQL (its default drops the
    fraction), and sortable text on SQLite, which has no time type.
    """

    impl = String(26)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        if dialect.name in ("mysql", "mariadb"):
            from sqlalchemy.dialects import mysql  # late: see ExactText

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


class ExactText(TypeDecorator[str]):
    """Text compared byte by byte on every database.

    MySQL's default collation would take 'Acme' for 'acme', and PostgreSQL's costs more in indexes.
    ``ascii`` is for names and ids, which are ASCII by their own rules. ``length=None`` is text of
    any length; MySQL's plain TEXT ends at 64 KiB. A dialect's own types are imported only for it:
    those of the other databases would cost a cold start their import.
    """

    impl = Text
    cache_ok = True

    def __init__(self, length: int | None, *, ascii: bool = False) -> None:  # noqa: A002
        super().__init__()
        self.length = length
        self.ascii = ascii

    def __repr__(self) -> str:
        # What Alembic writes into a migration of a team's own.
        return f"ExactText({self.length!r}, ascii={self.ascii!r})"

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            from sqlalchemy.dialects import mysql

            charset = "ascii" if self.ascii else "utf8mb4"
            if self.length is None:
                return mysql.LONGTEXT(charset=charset, collation=f"{charset}_bin")
            return mysql.VARCHAR(self.length, charset=charset, collation=f"{charset}_bin")
        if self.length is None:
            return Text()
        in_c = self.ascii and dialect.name == "postgresql"
        return String(self.length, collation="C" if in_c else None)


def ascii_text(length: int) -> ExactText:
    """Names and ids."""
    return ExactText(length, ascii=True)


def exact_text(length: int) -> ExactText:
    """Any text of at most ``length`` characters."""
    return ExactText(length)


def long_text() -> ExactText:
    """Text of any length."""
    return ExactText(None)


class Tables:
    """The tables under one prefix and schema, described when something first asks for more than
    their names: a tick does not, and its cold start would pay for nine of them."""

    def __init__(
        self,
        prefix: str = "tickwork_",
        schema: str | None = None,
        metadata: MetaData | None = None,
        dialect: str | None = None,
    ) -> None:
        self.prefix = prefix
        self.schema = schema
        self._into = metadata
        self._dialect = dialect
        self._lock = threading.Lock()
        self._described: dict[str, Table] | None = None

    def name_of(self, table: str) -> str:
        """How SQL names a table, ``jobs`` for example."""
        within = f"{self.schema}." if self.schema else ""
        return f"{within}{self.prefix}{table}"

    @property
    def version_table(self) -> str:
        """Where the migrations note their revision."""
        return f"{self.prefix}alembic_version"

    @property
    def metadata(self) -> MetaData:
        """What all of them are described in."""
        return self.jobs.metadata

    @property
    def jobs(self) -> Table:
        return self._table("jobs")

    @property
    def keys(self) -> Table:
        return self._table("keys")

    @property
    def controls(self) -> Table:
        return self._table("controls")

    @property
    def limits(self) -> Table:
        return self._table("limits")

    @property
    def schedules(self) -> Table:
        return self._table("schedules")

    @property
    def groups(self) -> Table:
        return self._table("groups")

    @property
    def ticks(self) -> Table:
        return self._table("ticks")

    @property
    def measures(self) -> Table:
        return self._table("measures")

    @property
    def alerts(self) -> Table:
        return self._table("alerts")

    @property
    def tokens(self) -> Table:
        return self._table("tokens")

    @property
    def audit(self) -> Table:
        return self._table("audit")

    def _table(self, name: str) -> Table:
        with self._lock:  # in one MetaData nothing can be described twice
            if self._described is None:
                metadata = self._into if self._into is not None else MetaData()
                self._described = _describe(metadata, self.prefix, self.schema, self._dialect)
            return self._described[name]


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
    tables = Tables(prefix, schema, metadata, dialect)
    assert tables.metadata is not None  # described at once: a team's own MetaData is to hold them
    return tables


def _describe(
    metadata: MetaData, prefix: str, schema: str | None, dialect: str | None
) -> dict[str, Table]:
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
        Column("lane", ascii_text(230), _lane()),
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
        # What only few jobs say.
        Column("flow", ascii_text(FLOW_CHARS), nullable=False, server_default=""),
        Column("concurrency_key", exact_text(200)),
        Column("dedupe_key", exact_text(200)),
        Column("alias", exact_text(200)),
        Column("group_id", ascii_text(36)),
        Column("parent_id", ascii_text(36)),
        Column("schedule", ascii_text(100)),
        Column("slot", ascii_text(20)),
        Column("chain", long_text()),
        Column("cursor", long_text()),
        Column("continues", Integer, nullable=False, server_default=text("0")),
        Column("version", Integer, nullable=False, server_default=text("1")),
        # When a tick rings the row if it is still pending, and how often ticks have rung it. Used
        # with a queue alone.
        Column("ring_at", Timestamp),
        Column("rings", Integer, nullable=False, server_default=text("0")),
        # The W3C traceparent of its enqueue, where that was traced.
        Column("trace", ascii_text(55)),
        schema=schema,
        **_options(
            dialect,
            **_MYSQL_TABLE,
            # Room on each page for the row's next versions, and eager vacuum: a queue updates its
            # rows more than it reads them.
            postgresql_with={"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.02},
        ),
    )
    _indexes(jobs, prefix, dialect)
    others = {"schema": schema, **_options(dialect, **_MYSQL_TABLE)}
    described = (
        *(_keys, _controls, _limits, _takings, _schedules, _groups),
        *(_ticks, _measures, _alerts, _tokens, _audit),
    )
    return {
        "jobs": jobs,
        **{each.__name__[1:]: each(metadata, prefix, others) for each in described},
    }


_MYSQL_TABLE = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}


def _keys(metadata: MetaData, prefix: str, options: dict[str, Any]) -> Table:
    """Which job holds a name that only one may: dedupe keys, aliases, slots of schedules.

    The primary key is the promise: of two transactions that want a key, one waits for the other.
    ``scope`` is ``alias``, ``dedupe/<kind>`` or ``slot``. When a key is free again is said by
    :func:`jobs.core.keys.holds`; ``check_at`` is when upkeep looks whether it is, and deletes it.
    """
    return Table(
        f"{prefix}keys",
        metadata,
        Column("namespace", ascii_text(100), primary_key=True),
        Column("scope", ascii_text(110), primary_key=True),
        Column("tenant", exact_text(100), primary_key=True),
        Column("name", exact_text(200), primary_key=True),
        Column("job_id", ascii_text(36), nullable=False),
        Column("held_until", Timestamp, nullable=False),
        Column("check_at", Timestamp),
        Index(f"ix_{prefix}keys_check", "namespace", "check_at"),
        **options,
    )


def _controls(metadata: MetaData, prefix: str, options: dict[str, Any]) -> Table:
    """What somebody said of a queue or a kind at run time: paused, and other settings.

    ``subject`` is ``queue/<name>`` or ``kind/<name>``; ``settings`` is a JSON object that stands
    over what the code says.
    """
    return Table(
        f"{prefix}controls",
        metadata,
        Column("namespace", ascii_text(100), primary_key=True),
        Column("subject", ascii_text(110), primary_key=True),
        Column("paused_at", Timestamp),
        Column("paused_by", exact_text(200)),
        Column("paused_because", exact_text(500)),
        Column("settings", long_text()),
        Column("changed_at", Timestamp, nullable=False),
        Column("changed_by", exact_text(200)),
        **options,
    )


def _limits(metadata: MetaData, prefix: str, options: dict[str, Any]) -> Table:
    """A row to lock for everything that has a limit, and the state of its circuit breaker.

    ``name`` is ``queue/<name>``, ``kind/<name>`` or ``key/<kind>/<flow>``.
    """
    return Table(
        f"{prefix}limits",
        metadata,
        Column("namespace", ascii_text(100), primary_key=True),
        Column("name", ascii_text(230), primary_key=True),
        Column("label", exact_text(400)),
        Column("used_at", Timestamp, nullable=False),
        Column("window_at", Timestamp),
        Column("successes", Integer, nullable=False, server_default=text("0")),
        Column("failures", Integer, nullable=False, server_default=text("0")),
        Column("opened_at", Timestamp),
        Column("open_until", Timestamp),
        Index(f"ix_{prefix}limits_used", "namespace", "used_at"),
        **options,
    )


def _takings(metadata: MetaData, prefix: str, options: dict[str, Any]) -> Table:
    """How many jobs a claim took of something with a rate limit, and when."""
    return Table(
        f"{prefix}takings",
        metadata,
        Column("namespace", ascii_text(100), primary_key=True),
        Column("name", ascii_text(230), primary_key=True),
        Column("taken_at", Timestamp, primary_key=True),
        Column("id", ascii_text(36), primary_key=True),
        Column("taken", Integer, nullable=False),
        **options,
    )


def _schedules(metadata: MetaData, prefix: str, options: dict[str, Any]) -> Table:
    """Schedules, declared in code or made at run time; ``next_at`` is the slot to come.

    It is NULL where there is none: for what is over, and for what is switched off.
    """
    return Table(
        f"{prefix}schedules",
        metadata,
        Column("namespace", ascii_text(100), primary_key=True),
        Column("tenant", exact_text(100), primary_key=True),
        Column("name", ascii_text(100), primary_key=True),
        Column("kind", ascii_text(100), nullable=False),
        Column("payload", long_text(), nullable=False),
        Column("options", long_text()),
        Column("rule", exact_text(200), nullable=False),
        Column("timezone", ascii_text(100), nullable=False),
        Column("jitter_seconds", Double, nullable=False, server_default=text("0")),
        Column("missed", ascii_text(20), nullable=False),
        Column("source", ascii_text(10), nullable=False),
        Column("enabled", Boolean, nullable=False),
        Column("next_at", Timestamp),
        Column("last_at", Timestamp),
        Column("last_job_id", ascii_text(36)),
        Column("created_at", Timestamp, nullable=False),
        Column("changed_at", Timestamp, nullable=False),
        Column("changed_by", exact_text(200)),
        Index(f"ix_{prefix}schedules_next", "namespace", "next_at"),
        **options,
    )


def _groups(metadata: MetaData, prefix: str, options: dict[str, Any]) -> Table:
    """Jobs that end together: what to enqueue when the last of them has.

    ``on_success``, ``on_failure`` and ``on_done`` are jobs as JSON; ``sealed`` once no more join.
    """
    return Table(
        f"{prefix}groups",
        metadata,
        Column("id", ascii_text(36), primary_key=True),
        Column("namespace", ascii_text(100), nullable=False),
        Column("tenant", exact_text(100), nullable=False),
        Column("name", exact_text(200)),
        Column("state", ascii_text(12), nullable=False),
        Column("sealed", Boolean, nullable=False),
        Column("on_success", long_text()),
        Column("on_failure", long_text()),
        Column("on_done", long_text()),
        Column("created_at", Timestamp, nullable=False),
        Column("finished_at", Timestamp),
        Column("check_at", Timestamp),
        Index(f"ix_{prefix}groups_check", "namespace", "check_at"),
        **options,
    )


def _ticks(metadata: MetaData, prefix: str, options: dict[str, Any]) -> Table:
    """What each tick did; rows are only added, and the oldest folded into the measures.

    ``measures`` is JSON: what it counted by tenant, queue and kind.
    """
    return Table(
        f"{prefix}ticks",
        metadata,
        Column("id", ascii_text(36), primary_key=True),
        Column("namespace", ascii_text(100), nullable=False),
        Column("ended_at", Timestamp, nullable=False),
        Column("duration_ms", Double, nullable=False),
        Column("woken_by", ascii_text(10), nullable=False),
        Column("runner", ascii_text(60), nullable=False),
        Column("ticks", Integer, nullable=False),
        Column("claim_limit", Integer, nullable=False),
        Column("claimed", Integer, nullable=False),
        Column("processed", Integer, nullable=False),
        Column("succeeded", Integer, nullable=False),
        Column("failed", Integer, nullable=False),
        Column("retried", Integer, nullable=False),
        Column("released", Integer, nullable=False),
        Column("reclaimed", Integer, nullable=False),
        Column("remaining", Integer, nullable=False),
        Column("more", Boolean, nullable=False),
        Column("error", exact_text(500)),
        Column("measures", long_text()),
        Index(f"ix_{prefix}ticks_ended", "namespace", "ended_at"),
        **options,
    )


def _measures(metadata: MetaData, prefix: str, options: dict[str, Any]) -> Table:
    """What folded ticks did in a minute or an hour, or ever (``span_seconds`` 60, 3600 and 0).

    Several rows may stand for one stretch of time: readers add them up.
    """
    return Table(
        f"{prefix}measures",
        metadata,
        Column("id", ascii_text(36), primary_key=True),
        Column("namespace", ascii_text(100), nullable=False),
        Column("span_seconds", Integer, nullable=False),
        Column("starts_at", Timestamp, nullable=False),
        Column("tenant", exact_text(100), nullable=False),
        Column("queue", ascii_text(100), nullable=False),
        Column("kind", ascii_text(100), nullable=False),
        Column("measure", long_text(), nullable=False),
        Index(f"ix_{prefix}measures_span", "namespace", "span_seconds", "starts_at"),
        **options,
    )


def _alerts(metadata: MetaData, prefix: str, options: dict[str, Any]) -> Table:
    """How each rule stands for each subject (a queue, a kind, or the whole: an empty one).

    ``version`` is one more at every write: who writes names the one that was read. The row without
    a name says when the alerts were last looked at, and whether more is to come of that.
    """
    return Table(
        f"{prefix}alerts",
        metadata,
        Column("namespace", ascii_text(100), primary_key=True),
        Column("name", ascii_text(100), primary_key=True),
        Column("subject", ascii_text(100), primary_key=True),
        Column("level", ascii_text(10), nullable=False),
        Column("since", Timestamp, nullable=False),
        Column("value", Double),
        Column("detail", exact_text(300)),
        Column("heading", ascii_text(10), nullable=False),
        Column("streak", Integer, nullable=False),
        Column("changes", Integer, nullable=False),
        Column("acknowledged_by", exact_text(100)),
        Column("acknowledged_at", Timestamp),
        Column("version", Integer, nullable=False),
        Column("checked_at", Timestamp),
        **options,
    )


def _tokens(metadata: MetaData, prefix: str, options: dict[str, Any]) -> Table:
    """Tokens of the management API, by their digests alone.

    ``tenant`` is NULL for one of every tenant; it is not the empty text, which is no tenant's.
    """
    return Table(
        f"{prefix}tokens",
        metadata,
        Column("id", ascii_text(36), primary_key=True),
        Column("namespace", ascii_text(100), nullable=False),
        Column("name", exact_text(200), nullable=False),
        Column("role", ascii_text(20), nullable=False),
        Column("tenant", exact_text(100)),
        Column("digest", ascii_text(64), nullable=False),
        Column("created_at", Timestamp, nullable=False),
        Column("created_by", exact_text(200)),
        Column("expires_at", Timestamp),
        Column("last_used_at", Timestamp),
        Column("revoked_at", Timestamp),
        Column("revoked_by", exact_text(200)),
        Index(f"ix_{prefix}tokens_digest", "namespace", "digest", unique=True),
        **options,
    )


def _audit(metadata: MetaData, prefix: str, options: dict[str, Any]) -> Table:
    """What people changed, one row for each act; rows are added and outlived, never changed."""
    return Table(
        f"{prefix}audit",
        metadata,
        Column("id", ascii_text(36), primary_key=True),
        Column("namespace", ascii_text(100), nullable=False),
        Column("changed_at", Timestamp, nullable=False),
        Column("changed_by", exact_text(200), nullable=False),
        Column("action", ascii_text(100), nullable=False),
        Column("subject", exact_text(500), nullable=False),
        Column("tenant", exact_text(100)),
        Column("concerned", Integer, nullable=False),
        Column("reason", exact_text(500)),
        Index(f"ix_{prefix}audit_changed", "namespace", "changed_at"),
        Index(f"ix_{prefix}audit_tenant", "namespace", "tenant", "id"),
        **options,
    )


class LaneExpression(ColumnElement[str]):
    """``priority/queue/kind/flow``, in each database's own way to join text."""

    inherit_cache = True


@compiles(LaneExpression)
def _join_by_bars(_element: LaneExpression, _compiler: Any, **_: Any) -> str:
    return "CAST(priority AS TEXT) || '/' || queue || '/' || kind || '/' || flow"


@compiles(LaneExpression, "mysql", "mariadb")
def _join_by_concat(_element: LaneExpression, _compiler: Any, **_: Any) -> str:
    return "CONCAT(priority, '/', queue, '/', kind, '/', flow)"


def _lane() -> Computed:
    return Computed(LaneExpression(), persisted=True)


# In these words in the queries too: SQLite takes a partial index for nothing less.
ENDED = "state <> 'pending' AND state <> 'processing'"


def _indexes(jobs: Table, prefix: str, dialect: str | None) -> None:
    """Partial indexes where there are any; MySQL has none and leads with the state instead."""
    c = jobs.c
    for name, columns, condition in (
        ("pending", (c.lane, c.run_at, c.id), "state = 'pending'"),
        ("held", (c.lease_until,), "state = 'processing'"),
        ("unrung", (c.ring_at,), "ring_at IS NOT NULL AND state = 'pending'"),
        ("waiting", (c.id,), "state = 'pending'"),
    ):
        partial = text(condition)
        if dialect is None or dialect in _PARTIAL:
            Index(
                f"ix_{prefix}jobs_{name}",
                c.namespace,
                *columns,
                **_options(dialect, postgresql_where=partial, sqlite_where=partial),
            ).ddl_if(callable_=_has_partial_indexes)
        # There the index by state has what waits in the order of ids.
        if (dialect is None or dialect not in _PARTIAL) and name != "waiting":
            Index(f"ix_{prefix}jobs_{name}_by_state", c.namespace, c.state, *columns).ddl_if(
                callable_=_lacks_partial_indexes
            )
    few: tuple[tuple[str, tuple[Column[Any], ...], str], ...] = (
        # For people who look for jobs: what leads, then the state, then the order of the list. A
        # row that waits or runs is not in them, so that only its end has to write there.
        ("by_state", (c.state, c.id), ENDED),
        ("by_kind", (c.kind, c.state, c.id), ENDED),
        ("by_queue", (c.queue, c.state, c.id), ENDED),
        ("kept", (c.keep_until,), "keep_until IS NOT NULL"),
        ("finished", (c.kind, c.state, c.finished_at), "finished_at IS NOT NULL"),
        ("group", (c.group_id, c.state), "group_id IS NOT NULL"),
        ("by_tenant", (c.tenant, c.state, c.id), "tenant <> ''"),
    )
    for name, of_few, condition in few:
        partial = text(condition)
        Index(
            f"ix_{prefix}jobs_{name}",
            c.namespace,
            *of_few,
            **_options(dialect, postgresql_where=partial, sqlite_where=partial),
        )


def _options(dialect: str | None, **options: Any) -> dict[str, Any]:
    """The options of ``dialect`` alone, if it is named: SQLAlchemy imports a whole dialect to look
    at one option, which a cold start would pay for."""
    if dialect is None:
        return options
    family = "mysql" if dialect == "mariadb" else dialect
    return {name: value for name, value in options.items() if name.startswith(f"{family}_")}


_PARTIAL = ("postgresql", "sqlite")


def _has_partial_indexes(*_: Any, dialect: Dialect, **__: Any) -> bool:
    return dialect.name in _PARTIAL


def _lacks_partial_indexes(*_: Any, dialect: Dialect, **__: Any) -> bool:
    return dialect.name not in _PARTIAL
