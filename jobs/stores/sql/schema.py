"""Making, upgrading and checking the tables."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event, exc, text
from sqlalchemy import inspect as inspect_database
from sqlalchemy.schema import CreateIndex, CreateTable

from jobs.core.errors import ConfigurationError, SchemaError, StoreUnavailable
from jobs.stores.sql.engine import READ_ONLY
from jobs.stores.sql.tables import HEAD_REVISION, Tables

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_WAIT_SECONDS = 60
# Where every DDL statement commits by itself.
NOT_IN_TRANSACTIONS = ("mysql", "mariadb")


def create(engine: Engine, tables: Tables) -> None:
    """Make the missing tables and note the revision, so that later upgrades know where they are.

    Raises :class:`SchemaError` for older tables, which are to be upgraded.
    """
    with _alone(engine, tables) as connection:
        name = _qualified(tables)
        # As Alembic makes it; first, for one that is empty tells of a creation that broke off.
        connection.execute(
            text(
                f"CREATE TABLE IF NOT EXISTS {name} (version_num VARCHAR(32) NOT NULL, "
                f"CONSTRAINT {tables.version_table}_pkc PRIMARY KEY (version_num))"
            )
        )
        noted = connection.execute(text(f"SELECT version_num FROM {name}")).scalar()
        tables.metadata.create_all(connection)
        if missing := _missing(connection, tables):
            raise SchemaError(missing)
        if noted is not None and noted < HEAD_REVISION:
            raise SchemaError(
                f"the tables are at revision {noted}, older than this code ({HEAD_REVISION}): "
                "run `tickwork db upgrade`"
            )
        if noted is None:
            if connection.dialect.name in NOT_IN_TRANSACTIONS:
                _complete_indexes(connection, tables)
            connection.execute(
                text(f"INSERT INTO {name} (version_num) VALUES (:head)"), {"head": HEAD_REVISION}
            )


def _complete_indexes(connection: Connection, tables: Tables) -> None:
    """Make those of tables that were there: a creation that broke off may have left them out."""
    for table in tables.metadata.sorted_tables:
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            index.create(connection, checkfirst=True)


def upgrade(engine: Engine, tables: Tables, revision: str = "head") -> str | None:
    """Run the packaged migrations up to ``revision``; returns the revision found before.

    Safe to call from several processes at once: the others wait and find nothing left to do. One
    that was killed on MySQL, where no transaction takes its steps back, is gone on with.
    Raises :class:`SchemaError` for tables that these migrations cannot have made.
    """
    try:
        from alembic import command
        from alembic.config import Config
        from alembic.script.revision import ResolutionError
        from alembic.util import CommandError
    except ModuleNotFoundError:
        raise ConfigurationError(
            "migrations need alembic: pip install 'tickwork[migrations]'"
        ) from None
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with _alone(engine, tables) as connection:
        found = _noted_revision(connection, tables)
        _refuse_foreign_tables(connection, tables, found)
        config.attributes.update(connection=connection, tables=tables)
        try:
            with _going_on(connection, tables):
                command.upgrade(config, revision)
        except CommandError as error:
            if not isinstance(error.__cause__, ResolutionError):
                raise
            raise SchemaError(
                f"the tables are at revision {found}, which this code does not know (it knows up "
                f"to {HEAD_REVISION}): a newer Tickwork upgraded them; install that one"
            ) from error
    return found


def noted_revision(engine: Engine, tables: Tables) -> str | None:
    """The revision the tables were brought to, or ``None`` if nothing is noted."""
    with engine.connect().execution_options(**READ_ONLY) as connection:
        return _noted_revision(connection, tables)


def _noted_revision(connection: Connection, tables: Tables) -> str | None:
    if not inspect_database(connection).has_table(tables.version_table, schema=tables.schema):
        return None
    noted: str | None = connection.execute(
        text(f"SELECT version_num FROM {_qualified(tables)}")
    ).scalar()
    return noted


def _refuse_foreign_tables(connection: Connection, tables: Tables, found: str | None) -> None:
    name, inspector = tables.jobs.name, inspect_database(connection)
    if found is not None or not inspector.has_table(name, schema=tables.schema):
        return
    if connection.dialect.name in NOT_IN_TRANSACTIONS and inspector.has_table(
        tables.version_table, schema=tables.schema
    ):
        return  # ours: it broke off before it could note anything
    raise SchemaError(
        f"table {name!r} is there, but {tables.version_table!r} notes no revision: it was made "
        "by other migrations; upgrade it with those"
    )


@contextlib.contextmanager
def _going_on(connection: Connection, tables: Tables) -> Iterator[None]:
    """On MySQL, leave out the steps that an upgrade which was killed has done already.

    Each CREATE and ADD commits by itself there, and a revision is noted after its last one. Any
    other step of a migration must bear being done twice.
    """
    if connection.dialect.name not in NOT_IN_TRANSACTIONS:
        yield
        return
    from alembic.ddl.base import AddColumn

    nothing = text("DO 0")

    def leave_out(_: Connection, step: Any, parameters: Any, values: Any, __: Any) -> Any:
        inspector = inspect_database(connection)
        done = False
        if isinstance(step, CreateTable):
            done = inspector.has_table(step.element.name, schema=step.element.schema)
        elif isinstance(step, CreateIndex):
            table = step.element.table
            assert table is not None
            there = inspector.get_indexes(table.name, schema=table.schema)
            done = step.element.name in {index["name"] for index in there}
        elif isinstance(step, AddColumn):
            columns = inspector.get_columns(str(step.table_name), schema=step.schema)
            done = step.column.name in {column["name"] for column in columns}
        return nothing if done else step, parameters, values

    event.listen(connection, "before_execute", leave_out, retval=True)
    try:
        yield
    finally:
        event.remove(connection, "before_execute", leave_out)


@contextlib.contextmanager
def _alone(engine: Engine, tables: Tables) -> Iterator[Connection]:
    """A transaction that no other create or upgrade of the same tables runs beside.

    PostgreSQL's lock ends with the transaction, so it holds behind a transaction pooler. On MySQL
    every DDL statement commits, so its lock belongs to the connection. SQLite has one writer.
    """
    lock = zlib.crc32(f"tickwork schema {_qualified(tables)}".encode())
    with engine.connect() as connection:
        match connection.dialect.name:
            case "postgresql":
                with connection.begin():
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
                    yield connection
            case name if name in NOT_IN_TRANSACTIONS:
                with _mysql_lock(connection, f"tickwork {lock}"), connection.begin():
                    yield connection
            case _:
                with connection.begin():
                    yield connection


@contextlib.contextmanager
def _mysql_lock(connection: Connection, name: str) -> Iterator[None]:
    # Such names are the whole server's: the database's own is put in front.
    named = {"name": name, "wait": LOCK_WAIT_SECONDS}
    full_name = "CONCAT(MD5(DATABASE()), ' ', :name)"
    taken = connection.execute(text(f"SELECT GET_LOCK({full_name}, :wait)"), named).scalar()
    connection.commit()
    if not taken:
        raise StoreUnavailable(
            f"another upgrade of the tables has run for over {LOCK_WAIT_SECONDS} s; try again"
        )
    try:
        yield
    finally:
        connection.execute(text(f"SELECT RELEASE_LOCK({full_name})"), named)
        connection.commit()


def check(engine: Engine, tables: Tables) -> None:
    """Compare what is there with what this code needs.

    By the columns and not by a version number, so that a team may bring the tables with its own
    migrations. Raises :class:`SchemaError` naming what is missing and the mend.
    """
    # Without asking for SQLite's only writer: the caller's transaction may hold it.
    with engine.connect().execution_options(**READ_ONLY) as connection:
        missing = _missing(connection, tables)
    if missing:
        raise SchemaError(missing)


def _missing(connection: Connection, tables: Tables) -> str | None:
    inspector = inspect_database(connection)
    mend = "run `tickwork db upgrade` (or tickwork.create_schema() in development)"
    # The jobs first: where they are missing, that says it all.
    for table in sorted(tables.metadata.sorted_tables, key=lambda table: table is not tables.jobs):
        if not inspector.has_table(table.name, schema=table.schema):
            return f"the database has no table {table.name!r}: {mend}"
        there = {column["name"] for column in inspector.get_columns(table.name, table.schema)}
        absent = sorted({column.name for column in table.columns} - there)
        if absent:
            listed = ", ".join(absent)
            return f"table {table.name!r} is older than this code: it lacks {listed}; {mend}"
    return None


def looks_missing(error: exc.DBAPIError) -> bool:
    """Whether a driver error speaks of a missing table or column."""
    original = error.orig
    if getattr(original, "sqlstate", None) in ("42P01", "42703", "3F000"):
        return True
    arguments = getattr(original, "args", ())
    if arguments and arguments[0] in (1146, 1054):
        return True
    said = str(original)
    return any(
        phrase in said for phrase in ("no such table", "no such column", "has no column named")
    )


def _qualified(tables: Tables) -> str:
    name = tables.version_table
    return f"{tables.schema}.{name}" if tables.schema else name
