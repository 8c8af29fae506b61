"""Many rows at once: COPY on PostgreSQL with psycopg, the driver's own executemany elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, exc

_PLACEHOLDERS = {"qmark": "?", "format": "%s", "pyformat": "%s"}


def bulk_insert(
    connection: Connection, table: str, columns: Sequence[str], rows: list[tuple[Any, ...]]
) -> None:
    """Insert ``rows`` in the connection's transaction, one statement for all of them."""
    listed = ", ".join(columns)
    if connection.dialect.driver == "psycopg":
        # Past SQLAlchemy's cursor, so it is begun through it first.
        _copy(connection, f"COPY {table} ({listed}) FROM STDIN", rows)
        return
    mark = _PLACEHOLDERS[connection.dialect.paramstyle]
    marks = ", ".join([mark] * len(columns))
    connection.exec_driver_sql(f"INSERT INTO {table} ({listed}) VALUES ({marks})", rows)


def _copy(connection: Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    driver = connection.connection.driver_connection
    assert driver is not None
    refused = connection.dialect.loaded_dbapi.Error
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except refused as error:
        # As SQLAlchemy's own error, like that of every other statement: callers know only those.
        raise exc.DBAPIError.instance(
            statement,
            None,
            error,
            refused,
            connection_invalidated=driver.closed,
            dialect=connection.dialect,
        ) from error
