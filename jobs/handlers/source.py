"""Opens the database that an export reads, read-only where it can, and streams its rows.

    with open_source("postgresql://...") as source, source.stream(select(orders)) as rows:
        for row in rows:
            ...

Memory does not grow with the result: PostgreSQL reads through a server-side cursor, MySQL and
MariaDB through an unbuffered one, SQLite steps through the statement itself. Nothing can be
written: SQLite is opened with `mode=ro`, PostgreSQL and MySQL in a `READ ONLY` transaction. Nothing
here needs session state, so it works behind a transaction pooler.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from jobs.core.errors import ConfigurationError
from jobs.handlers.errors import SourceError
from jobs.stores.sql.engine import make_engine

log = logging.getLogger("jobs.handlers.source")

_ROWS_PER_FETCH: Final = 1000


class Rows:
    """The rows of one statement: `columns` are the names; iterating gives one sequence a row."""

    def __init__(self, result: sa.CursorResult[Any]) -> None:
        self._result = result
        self.columns: Sequence[str] = tuple(result.keys())

    def __iter__(self) -> Iterator[Sequence[Any]]:
        return iter(self._result)


class Source:
    """A database to read from. Use it as a context manager, or call `close`.

    engine: any SQLAlchemy engine; it is disposed of at the end only with `owned=True`
    """

    def __init__(self, engine: sa.Engine, *, owned: bool = False) -> None:
        self.engine = engine
        self._owned = owned

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, if the engine was opened by `open_source`."""
        if self._owned:
            self.engine.dispose()

    @contextmanager
    def stream(self, statement: sa.Executable) -> Iterator[Rows]:
        """Run a statement and give its rows as they come.

        The connection is held until the block ends. A block that ends early, by an error, does not
        read the rest, which could be a million rows.
        """
        with self._reading() as connection:
            result = connection.execution_options(
                stream_results=True, yield_per=_ROWS_PER_FETCH
            ).execute(statement)
            if not result.returns_rows:
                raise SourceError("the query of an export must return rows: write a SELECT")
            try:
                yield Rows(result)
            except BaseException:
                if _leave_the_rest(result):
                    connection.invalidate()
                raise
            finally:
                result.close()

    def count(self, statement: sa.Executable) -> int | None:
        """Count the rows that a statement would give, or return None where it cannot be counted.

        Some queries cannot stand in a subquery (MySQL wants its column names to be distinct). The
        count only feeds a progress bar, so such a query is exported all the same.
        """
        rows: sa.FromClause
        if isinstance(statement, sa.TextClause):
            rows = statement.columns().subquery("counted")
        elif isinstance(statement, (sa.Select, sa.CompoundSelect)):
            rows = statement.order_by(None).subquery("counted")
        else:
            return None
        try:
            with self._reading() as connection:
                return connection.execute(sa.select(sa.func.count()).select_from(rows)).scalar_one()
        except sa.exc.DBAPIError as error:
            log.info("rows not counted beforehand: %s", type(error.orig).__name__)
            return None

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        dialect = self.engine.dialect.name
        with self.engine.connect() as connection:
            if dialect == "postgresql":
                connection.execution_options(postgresql_readonly=True)
            elif dialect in ("mysql", "mariadb"):
                # Concerns the next transaction only, which the next statement begins.
                connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            yield connection


def _leave_the_rest(result: sa.CursorResult[Any]) -> bool:
    """Keep PyMySQL from reading a result to its end, which it does whenever one is closed.

    Returns whether there is a rest. The connection is then of no use any more.
    """
    unread: Any = getattr(result.cursor, "_result", None)
    if not getattr(unread, "unbuffered_active", False):
        return False
    unread.unbuffered_active = False
    return True


def open_source(url: str | sa.Engine) -> Source:
    """Open the source of an export.

    url: a database URL in SQLAlchemy's or a platform's spelling, or an engine (which stays open)
    Returns a Source; no connection is made yet.
    Raises SourceError when the URL cannot be read, its driver is missing, or the SQLite file is.
    """
    if isinstance(url, sa.Engine):
        return Source(url)
    if url.startswith("sqlite"):
        return Source(_sqlite_engine(sa.make_url(url)), owned=True)
    return Source(_server_engine(url), owned=True)


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    path = url.database or ""
    if path in ("", ":memory:") or path.startswith("file:"):
        raise SourceError(
            f"an export reads an SQLite file, not {path or ':memory:'!r}; "
            "write sqlite:///path/to/file.db, or pass an engine"
        )
    if not Path(path).is_file():
        raise SourceError(f"there is no SQLite file {path!r}; check EXPORT_SOURCE_URL")
    address = f"file:{quote(str(Path(path).absolute()))}?mode=ro"
    # A thread may take over a connection that another one opened; only one uses it at a time.
    return sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, check_same_thread=False),
        poolclass=NullPool,
        hide_parameters=True,
    )


def _server_engine(url: str) -> sa.Engine:
    try:
        engine = make_engine(url, pool_size=1)
    except ConfigurationError as error:
        raise SourceError(f"the source of exports (EXPORT_SOURCE_URL): {error}") from error
    # The values of filters have no business in the error of a job.
    engine.hide_parameters = True
    return engine
