"""Operations on the database: a transaction each, watched, and tried again where that may help."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

from sqlalchemy import Connection, Engine, exc

from jobs.core.errors import SchemaError, StoreUnavailable
from jobs.stores.sql import schema
from jobs.stores.sql.dialects import DialectSql
from jobs.stores.sql.engine import READ_ONLY
from jobs.stores.sql.lines import LineCut, Watched, WatchedConnection, interrupted_after
from jobs.stores.sql.tables import Tables
from jobs.stores.sql.writer import OnlyWriter

log = logging.getLogger("tickwork.store")
Result = TypeVar("Result")
TRIES = 6
# One try may wait long by itself, for a lock or a connection; it is not repeated six times then.
PATIENCE_SECONDS = 5.0
# How long the database may be silent in an operation before its line is cut; PostgreSQL and MySQL.
ANSWER_SECONDS = 15.0
# The same for a statement that may really be long: a chunk of a bulk, the deletion of everything.
LONG_ANSWER_SECONDS = 300.0


class Attempts:
    """How the operations of one store reach its database.

    ``answer_seconds`` is how long the database may be silent in one of them.
    """

    def __init__(
        self, engine: Engine, tables: Tables, sql: DialectSql, answer_seconds: float
    ) -> None:
        self.engine = engine
        self.tables = tables
        self.sql = sql
        self.answer_seconds = answer_seconds
        # SQLite has one writer; a transactional handler holds it for as long as it runs.
        self.only_writer = None if sql.concurrent_writers else OnlyWriter()
        self._autocommitting = engine.execution_options(isolation_level="AUTOCOMMIT")

    def read(
        self, run: Callable[[Connection], Result], *, answer_seconds: float | None = None
    ) -> Result:
        """Run what only reads; ``answer_seconds`` also stops a long statement on SQLite."""
        return self._with_tries(
            lambda: self._once(run, read_only=True, answer_seconds=answer_seconds)
        )

    def write(
        self,
        run: Callable[[Connection], Result],
        *,
        alone: bool = False,
        answer_seconds: float | None = None,
    ) -> Result:
        """Run in a transaction; ``alone`` says that each statement may well commit by itself."""
        return self._with_tries(lambda: self._once(run, alone=alone, answer_seconds=answer_seconds))

    def _once(
        self,
        run: Callable[[Connection], Result],
        *,
        read_only: bool = False,
        alone: bool = False,
        answer_seconds: float | None = None,
    ) -> Result:
        if self.sql.autocommits and (read_only or alone):
            with self._operating(self._autocommitting, answer_seconds) as connection:
                return run(connection)
        if read_only:
            with (
                self._operating(self.engine, answer_seconds) as connection,
                connection.execution_options(**READ_ONLY).begin(),
                interrupted_after(connection, None if self.sql.over_network else answer_seconds),
            ):
                return run(connection)
        with (
            self.only_writer or contextlib.nullcontext(),
            self._operating(self.engine, answer_seconds) as connection,
            connection.begin(),
        ):
            return run(connection)

    def _operating(
        self, engine: Engine, answer_seconds: float | None
    ) -> AbstractContextManager[Connection]:
        """A connection for one operation, its line cut when the database falls silent."""
        connection = self.connect(engine)
        if not self.sql.over_network:
            return connection
        return WatchedConnection(connection, answer_seconds or self.answer_seconds)

    def watched(self, connection: Connection) -> AbstractContextManager[object]:
        """A watch over one long statement."""
        if not self.sql.over_network:
            return contextlib.nullcontext()
        return Watched(connection.connection.driver_connection, LONG_ANSWER_SECONDS)

    def connect(self, engine: Engine | None = None) -> Connection:
        """A connection of the pool; a :class:`StoreUnavailable` if there is none to be had."""
        try:
            return (engine or self.engine).connect()
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            # Refused, not found, or no connection of the pool became free. The last of these has no
            # driver error inside.
            reason = getattr(error, "orig", None) or error
            raise StoreUnavailable(f"no connection to the database: {reason}") from error

    def _with_tries(self, once: Callable[[], Result]) -> Result:
        """Run a transaction, again if it lost a lock race or its connection, a few times.

        Every operation here may be repeated: writes are fenced, and a claim that committed though
        its answer was lost only leaves leases to run out. A line that was cut for its silence may
        have been the only one, so that is tried again as well, once, whatever time it took.
        """
        begun = time.monotonic()
        cut = False
        for attempt in range(1, TRIES + 1):
            try:
                with self.explained():
                    return once()
            except LineCut:
                if cut or attempt == TRIES:
                    raise
                cut = True
            except exc.DBAPIError as error:
                if not self.is_passing(error):
                    raise
                if attempt == TRIES or time.monotonic() - begun > PATIENCE_SECONDS:
                    raise StoreUnavailable(
                        f"the database kept refusing, tried {attempt} times: {error.orig}"
                    ) from error
                log.info("trying the transaction again after %s", type(error.orig).__name__)
                time.sleep(random.uniform(0.5, 1.0) * 0.02 * 2**attempt)
        raise AssertionError("unreachable")

    def is_passing(self, error: exc.DBAPIError) -> bool:
        """Whether it may go better another time: a lost lock race, a lost connection."""
        if error.connection_invalidated:
            return True
        return error.orig is not None and self.sql.is_passing(error.orig)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """A missing table or column is told as what it is: a schema to upgrade."""
        try:
            yield
        except (exc.ProgrammingError, exc.OperationalError) as error:
            if not error.connection_invalidated and schema.looks_missing(error):
                try:
                    schema.check(self.engine, self.tables)
                except SchemaError as explained:
                    raise explained from error
            raise
