"""Alembic's way in: run by ``jobs.stores.sql.schema.upgrade``, on the connection it brings."""

from __future__ import annotations

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection

from jobs.stores.sql.tables import Tables


def run_migrations(connection: Connection, tables: Tables) -> None:
    """Bring the tables of one prefix and schema to the revision asked for."""
    context.configure(
        connection=connection,
        target_metadata=tables.metadata,
        version_table=tables.version_table,
        version_table_schema=tables.schema,
    )
    with context.begin_transaction():
        context.run_migrations()


attributes = context.config.attributes
if "connection" not in attributes:
    raise CommandError("run these migrations by `tickwork db upgrade`, which knows the database")
run_migrations(attributes["connection"], attributes["tables"])
