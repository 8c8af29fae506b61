"""The settling transaction of a transactional handler."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection

from jobs.core.errors import LeaseLost
from jobs.core.job import NewJob
from jobs.core.store import Settled, Verdict
from jobs.stores.sql import commits
from jobs.stores.sql.lines import hang_up

log = logging.getLogger("tickwork.store")


class HandlerTransaction:
    """Begins on entry, commits on a clean exit, rolls back otherwise.

    The session joins by a savepoint, so that a handler that commits or rolls back its session ends
    the savepoint and not the transaction that its completion belongs to.
    """

    def __init__(
        self,
        connection: Connection,
        settle: Callable[[Verdict], Settled],
        free_writer: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._settle = settle
        self._free_writer = free_writer
        self._session: Any = None
        self._lock = threading.Lock()
        self._hang_up: Callable[[], None] | None = None
        self._aborted = False
        self._waiting: list[commits.Waiting] = []
        self.inserted: tuple[NewJob, ...] = ()

    def __enter__(self) -> Self:
        from sqlalchemy.orm import Session  # late: only transactional handlers need the ORM

        self._transaction = self._connection.begin()
        self._hang_up = hang_up(self._connection)
        self._session = Session(bind=self._connection, join_transaction_mode="create_savepoint")
        return self

    @property
    def session(self) -> Any:
        return self._session

    def settle(self, verdict: Verdict) -> bool:
        self._session.commit()
        settled = self._settle(verdict)
        self.inserted = settled.inserted
        return not settled.late

    def abort(self) -> None:
        with self._lock:
            if self._aborted:
                return
            self._aborted = True
            if self._hang_up is not None:
                try:
                    self._hang_up()
                except Exception:
                    log.warning("an abandoned transaction could not be cut off", exc_info=True)
        # The handler may hang for hours yet; the others need not wait for it.
        self._free_writer()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                if self._aborted:
                    raise LeaseLost("given up before it could commit")
                waiting = commits.take(self._connection)
                self._transaction.commit()
                self._waiting = waiting
        finally:
            with self._lock:
                self._hang_up = None
            if self._transaction.is_active or self._aborted:
                with contextlib.suppress(Exception):
                    self._session.close()
                self._roll_back()

    def tell(self) -> None:
        """Make the calls that waited for the commit; for when the connection is given back."""
        waiting, self._waiting = self._waiting, []
        commits.call(waiting)

    def _roll_back(self) -> None:
        with contextlib.suppress(Exception):
            self._transaction.rollback()
            if not self._aborted:
                return
        # The line is dead, or was cut by abort(); the server has rolled back by itself.
        self._connection.invalidate()
