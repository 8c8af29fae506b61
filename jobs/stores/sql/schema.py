"""Making, upgrading and checking the tables."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, exc, text
from sqlalchemy import inspect as inspect_database

from jobs.core.errors import ConfigurationError, SchemaError
from jobs.stores.sql.tables import HEAD_REVISION, Tables

MIGRATIONS = Path(__file__).parent / "migrations"


def create(engine: Engine, tables: Tables) -> None:
    """Make the missing tables and note the revision, so that later upgrades know where they are."""
    with engine.begin() as connection:
        tables.metadata.create_all(connection)
        name = _qualified(tables)
        connection.execute(
            text(f"CREATE TABLE IF NOT EXISTS {name} (version_num VARCHAR(32) NOT NULL)")
        )
        if connection.execute(text(f"SELECT version_num FROM {name}")).first() is None:
            connection.execute(
                text(f"INSERT INTO {name} (version_num) VALUES (:head)"), {"head": HEAD_REVISION}
            )


def upgrade(engine: Engine, tables: Tables, revision: str = "head") -> None:
    """Run the packaged migrations up to ``revision``."""
    try:
        from alembic import command
        from alembic.config import Config
    except ModuleNotFoundError:
        raise ConfigurationError(
            "migrations need alembic: pip install 'tickwork[migrations]'"
        ) from None
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes.update(connection=connection, tables=tables)
        command.upgrade(config, revision)


def check(engine: Engine, tables: Tables) -> None:
    """Compare what is there with what this code needs.

    By the columns and not by a version number, so that a team may bring the tables with its own
    migrations. Raises :class:`SchemaError` naming what is missing and the mend.
    """
    with engine.connect() as connection:
        missing = _missing(connection, tables)
    if missing:
        raise SchemaError(missing)


def _missing(connection: Connection, tables: Tables) -> str | None:
    inspector = inspect_database(connection)
    mend = "run `tickwork db upgrade` (or tickwork.create_schema() in development)"
    for table in tables.metadata.sorted_tables:
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
    return "no such table" in str(original) or "no such column" in str(original)


def _qualified(tables: Tables) -> str:
    name = tables.version_table
    return f"{tables.schema}.{name}" if tables.schema else name
