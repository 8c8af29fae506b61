"""The tables and their indexes, and whether the claim goes by its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, inspect, text

from jobs.core.errors import SchemaError
from jobs.ops.doctor.base import Family, Finding, Surroundings, error, warning
from jobs.stores.sql.engine import READ_ONLY
from jobs.stores.sql.schema import noted_revision
from jobs.stores.sql.store import SqlStore
from jobs.stores.sql.tables import HEAD_REVISION

_UPGRADE = "run `tickwork db upgrade`"


def columns(around: Surroundings) -> Iterator[Finding]:
    """What this code needs against what is there."""
    store = around.sql
    if store is None:
        return
    try:
        store.check_schema()
    except SchemaError as failure:
        sentence, found, mend = str(failure).partition("run `")
        yield error("schema", sentence.rstrip(" :;"), found + mend or _UPGRADE)


def revision(around: Surroundings) -> Iterator[Finding]:
    """The revision that the migrations noted."""
    store = around.sql
    if store is None:
        return
    noted = noted_revision(store.engine, store.tables)
    if noted is None or noted == HEAD_REVISION:
        return  # a team's own migrations note nothing here
    if noted < HEAD_REVISION:
        yield warning(
            "migrations-behind",
            f"the tables are at revision {noted}, and this code brings {HEAD_REVISION}",
            _UPGRADE,
        )
    else:
        yield warning(
            "migrations-ahead",
            f"the tables are at revision {noted}, newer than this code ({HEAD_REVISION})",
            "deploy the Tickwork that upgraded them everywhere",
        )


def indexes(around: Surroundings) -> Iterator[Finding]:
    """Indexes that were dropped, or that a broken build left invalid."""
    store = around.sql
    if store is None:
        return
    with store.engine.connect().execution_options(**READ_ONLY) as connection:
        missing = list(_missing_indexes(connection, store))
        invalid = list(_invalid_indexes(connection, store))
    if missing:
        yield warning(
            "index-missing",
            f"the database lacks the index {', '.join(missing)}: what uses it reads whole tables",
            "make it again: `tickwork.create_schema()` shows how, `docs/decisions/0001-lanes.md` "
            "says what it is for",
        )
    if invalid:
        yield warning(
            "index-invalid",
            f"the index {', '.join(invalid)} is invalid: it costs every write and serves no read",
            f"REINDEX INDEX CONCURRENTLY {invalid[0]}",
        )


def _missing_indexes(connection: Connection, store: SqlStore) -> Iterator[str]:
    inspector = inspect(connection)
    for table in store.tables.metadata.sorted_tables:
        there = {each["name"] for each in inspector.get_indexes(table.name, table.schema)}
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if index.name not in there and _belongs(index, connection):
                yield str(index.name)


def _belongs(index: Any, connection: Connection) -> bool:
    condition = index._ddl_if  # there is no public way to ask
    if condition is None:
        return True
    return bool(condition.callable_(None, index, connection, dialect=connection.dialect))


def _invalid_indexes(connection: Connection, store: SqlStore) -> list[str]:
    if store.sql.name != "postgresql":
        return []
    names = [table.name for table in store.tables.metadata.sorted_tables]
    found = connection.execute(
        text(
            "SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid "
            "JOIN pg_class t ON t.oid = x.indrelid WHERE NOT x.indisvalid "
            "AND t.relname = ANY(:names) ORDER BY 1"
        ),
        {"names": names},
    )
    return list(found.scalars())


def claim_plan(around: Surroundings) -> Iterator[Finding]:
    """Whether the claim finds its rows by the index that was made for it."""
    store = around.sql
    if store is None:
        return
    wanted = _claim_index(store)
    with store.engine.connect().execution_options(**READ_ONLY) as connection:
        plan = _plan(connection, store)
    if wanted not in plan:
        yield error(
            "claim-plan",
            f"a claim does not go by {wanted}: it reads the table, history and all, at every tick",
            f"make the index again and, on PostgreSQL, run ANALYZE {store.tables.jobs.name}",
        )


def _claim_index(store: SqlStore) -> str:
    name = f"ix_{store.tables.prefix}jobs_pending"
    return f"{name}_by_state" if store.sql.name == "mysql" else name


def _plan(connection: Connection, store: SqlStore) -> str:
    """The plan of the first due rows of a lane, as text."""
    statement = store.statements.due_in(":lane", "10")
    values: dict[str, Any] = {"namespace": store.namespace, "lane": "3/default/doctor/"}
    if ":now" in statement:
        values["now"] = store.sql.bind_instant(store.now())
    if ":overdue_seconds" in statement:
        values["overdue_seconds"] = 0.0
    match store.sql.name:
        case "postgresql":
            # Of an almost empty table PostgreSQL rightly reads the only page there is; what counts
            # is whether it could go by the index.
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            explain = "EXPLAIN"
        case "sqlite":
            explain = "EXPLAIN QUERY PLAN"
        case _:
            explain = "EXPLAIN FORMAT=JSON"
    rows = connection.execute(text(f"{explain} {statement}"), values).all()
    return "\n".join(" ".join(map(str, row)) for row in rows)


TABLES = Family("schema", (columns,), bars=True)
INDEXES = Family("indexes", (revision, indexes, claim_plan))
