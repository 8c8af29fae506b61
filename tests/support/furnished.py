"""Databases with Tickwork's tables and no rows: making the tables takes longer than most tests.

A used one is emptied and lent again if its tables are still as they were made. Where a test made or
changed anything beside rows, it is thrown away.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.pool import NullPool

from jobs.stores.sql import SqlStore
from jobs.stores.sql.engine import make_engine
from jobs.stores.sql.tables import Tables
from tests.support.databases import Lender

_TABLES = Tables()
# Everything that a test may have done to the tables, in one text.
_SHAPES = {
    "postgresql": """
        SELECT concat_ws(' ', 'column', c.relname, a.attnum, a.attname,
                         format_type(a.atttypid, a.atttypmod), a.attnotnull,
                         pg_get_expr(d.adbin, d.adrelid)) AS line
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
          LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
         WHERE c.relkind <> 'i' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        UNION ALL
        SELECT concat_ws(' ', 'table', relname, reloptions, relacl, relpersistence, relrowsecurity)
          FROM pg_class WHERE relkind <> 'i' AND relnamespace = 'public'::regnamespace
        UNION ALL
        SELECT concat_ws(' ', 'index', i.tablename, i.indexdef, x.indisvalid)
          FROM pg_indexes i
          JOIN pg_index x ON x.indexrelid = format('%I.%I', i.schemaname, i.indexname)::regclass
         WHERE i.schemaname !~ '^pg_' AND i.schemaname <> 'information_schema'
        UNION ALL
        SELECT concat_ws(' ', 'constraint', conrelid::regclass, pg_get_constraintdef(oid))
          FROM pg_constraint WHERE conrelid <> 0 AND connamespace = 'public'::regnamespace
        UNION ALL
        SELECT concat_ws(' ', 'trigger', tgrelid::regclass, pg_get_triggerdef(oid))
          FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL
        SELECT concat_ws(' ', 'function', proname) FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace
        UNION ALL
        SELECT concat_ws(' ', 'schema', nspname, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_'
         ORDER BY 1
    """,
    "mysql": """
        SELECT CONCAT_WS(' ', 'table', table_name, engine, table_collation) AS line
          FROM information_schema.tables WHERE table_schema = DATABASE()
        UNION ALL
        SELECT CONCAT_WS(' ', 'column', table_name, ordinal_position, column_name, column_type,
                         is_nullable, column_default, extra)
          FROM information_schema.columns WHERE table_schema = DATABASE()
        UNION ALL
        SELECT CONCAT_WS(' ', 'index', table_name, index_name, seq_in_index, column_name,
                         non_unique)
          FROM information_schema.statistics WHERE table_schema = DATABASE()
        UNION ALL
        SELECT CONCAT_WS(' ', 'trigger', trigger_name, event_object_table)
          FROM information_schema.triggers WHERE trigger_schema = DATABASE()
         ORDER BY 1
    """,
}


class Furnished:
    """Lends databases of one server that have the tables."""

    def __init__(self, lender: Lender) -> None:
        self._lender = lender
        self._spare: list[str] = []
        self._shape: list[str] = []

    @contextmanager
    def lent(self) -> Iterator[str]:
        """A database with the tables and no rows, for the length of the block; yields its URL."""
        name = self._spare.pop() if self._spare else self._furnished()
        try:
            yield self._lender.url_of(name)
        finally:
            # Threads that outlive a test know the old name, and do no harm to the next test.
            name = self._lender.rename(name)
            with _connected(self._lender.url_of(name)) as connection:
                is_as_made = _shape(connection) == self._shape
                if is_as_made:
                    _empty(connection)
            if is_as_made:
                self._spare.append(name)
            else:
                self._lender.give_back(name)

    def _furnished(self) -> str:
        name = self._lender.lend()
        url = self._lender.url_of(name)
        furnish(url)
        if not self._shape:
            with _connected(url) as connection:
                self._shape = _shape(connection)
        return name

    def close(self) -> None:
        """Give back what is kept."""
        with ExitStack() as stack:
            for name in self._spare:
                stack.callback(self._lender.give_back, name)


def furnish(url: str) -> None:
    """Make the tables."""
    engine = make_engine(url)
    try:
        SqlStore(engine).create_schema()
    finally:
        engine.dispose()


def sqlite_file(template: Path, place: Path) -> None:
    """Put a file with the tables there; `template` is made when it is not there yet."""
    if not template.exists():
        furnish(f"sqlite:///{template}")
    shutil.copyfile(template, place)
    place.chmod(0o600)


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection, connection.begin():
        yield connection


def _shape(connection: Connection) -> list[str]:
    shape: Any = connection.execute(text(_SHAPES[connection.dialect.name])).scalars()
    if not inspect(connection).has_table(_TABLES.version_table):
        return []
    noted: Any = connection.execute(text(f"SELECT version_num FROM {_TABLES.version_table}"))
    return [*shape, *noted.scalars()]


def _empty(connection: Connection) -> None:
    names = [table.name for table in _TABLES.metadata.sorted_tables]
    if connection.dialect.name == "mysql":
        looks = (f"SELECT '{each}' FROM dual WHERE EXISTS (SELECT 1 FROM {each})" for each in names)
        for name in connection.execute(text(" UNION ALL ".join(looks))).scalars().all():
            connection.execute(text(f"TRUNCATE TABLE {name}"))
        return
    # Also those with nothing but dead rows, which plans would be made for.
    written = text(
        "SELECT relname FROM pg_class WHERE relname = ANY(:names) AND pg_relation_size(oid) > 0"
    )
    if used := connection.execute(written, {"names": names}).scalars().all():
        connection.execute(text(f"TRUNCATE {', '.join(used)} RESTART IDENTITY"))
    # What ANALYZE found; a new table has none.
    forget = text("DELETE FROM pg_statistic WHERE starelid = ANY(CAST(:names AS regclass[]))")
    connection.execute(forget, {"names": names})
