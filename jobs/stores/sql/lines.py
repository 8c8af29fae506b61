"""The lines to the database: hung up from another thread, watched, cut if they fall silent."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, exc

from jobs.core.errors import StoreUnavailable

log = logging.getLogger("tickwork.store")
LONG_STATEMENT_SECONDS = 0.25
# How often the watch looks again while there is anything to watch.
LOOK_SECONDS = 1.0
# Of SQLite's own machine: some milliseconds.
INSTRUCTIONS_BETWEEN_LOOKS = 100_000


def hang_up(connection: Connection) -> Callable[[], None]:
    """A function that makes another thread's transaction on ``connection`` roll back, at once.

    The server sees a closed socket and rolls back; the thread that still holds the connection gets
    an error at its next statement.
    """
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        return lambda: _roll_back_sqlite(driver)
    return lambda: _shut_socket(driver)


def _roll_back_sqlite(driver: sqlite3.Connection) -> None:
    """Roll back for another thread, and let it write nothing more.

    Without a transaction each later statement of that thread would commit by itself, so writing is
    switched off before the transaction ends. A statement that takes long is interrupted; not at
    once, since the interrupt would meet these statements too while a cursor is half read.
    """
    impatience = threading.Timer(LONG_STATEMENT_SECONDS, driver.interrupt)
    impatience.daemon = True
    impatience.start()
    try:
        for attempts_left in (4, 3, 2, 1, 0):
            try:
                driver.execute("PRAGMA query_only = ON")
                driver.rollback()
                return
            except sqlite3.OperationalError:
                if not attempts_left:
                    raise
    finally:
        impatience.cancel()


def _shut_socket(driver: Any) -> None:
    number = _descriptor(driver)
    # A duplicate: closing ours must not close the descriptor the driver still believes in.
    with socket.socket(fileno=os.dup(number)) as line:
        # The driver may have closed it meanwhile, and the number be another's.
        if _descriptor(driver) == number:
            line.shutdown(socket.SHUT_RDWR)


def _descriptor(driver: Any) -> int:
    number: int = driver.pgconn.socket if hasattr(driver, "pgconn") else driver._sock.fileno()
    return number


class LineCut(StoreUnavailable):
    """The database fell silent in the middle of an operation, and its line was cut."""


class Watched:
    """A line that is cut if what happens on it takes over ``seconds``.

    A driver cannot be told to give up on a server that keeps its connections and answers nothing.
    The thread that waits gets a :class:`LineCut` in place of the driver's error.
    """

    __slots__ = ("cut", "deadline", "driver", "seconds")

    def __init__(self, driver: Any, seconds: float) -> None:
        self.driver = driver
        self.seconds = seconds
        self.cut = False

    def __enter__(self) -> Self:
        self.deadline = time.monotonic() + self.seconds
        _WATCH.begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _WATCH.end(self)
        if self.cut and isinstance(error, exc.DBAPIError):
            raise LineCut(
                f"the database did not answer within {self.seconds:g} s; its line was cut"
            ) from error


class WatchedConnection:
    """A pooled connection for one operation, watched until it is back in the pool."""

    __slots__ = ("_connection", "_line")

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._line = Watched(connection.connection.driver_connection, seconds)

    def __enter__(self) -> Connection:
        self._line.__enter__()
        return self._connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._line.cut and not self._connection.invalidated:
                # The answer came at the last moment.
                self._connection.invalidate()
            self._connection.close()
        finally:
            self._line.__exit__(kind, error, trace)


class _Watch:
    """Who is on the line, and the thread that cuts: one for the whole process, begun when needed.

    A dictionary's own operations are atomic, so no line takes a lock unless it is being cut.
    """

    def __init__(self) -> None:
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._lines: dict[int, Watched] = {}
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._asleep = False
        self._thread: threading.Thread | None = None

    def begin(self, line: Watched) -> None:
        if self._pid != os.getpid():
            # After a fork: the lines are the parent's, and the thread stayed with it.
            self._begin_anew()
        self._lines[id(line)] = line
        if self._thread is None:
            self._start()
        elif self._asleep:
            self._wanted.set()

    def end(self, line: Watched) -> None:
        if self._lines.pop(id(line), None) is None:
            # It is being cut. Wait: its descriptor must not be closed and used anew meanwhile.
            with self._lock:
                pass

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._look, name="tickwork-lines", daemon=True)
                # A process that is ending may start none, and goes on without.
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    def _look(self) -> None:
        while True:
            lines = list(self._lines.values())
            if not lines:
                self._asleep = True
                if not self._lines:  # who begins from here on calls
                    self._wanted.wait()
                self._asleep = False
                self._wanted.clear()
                continue
            now = time.monotonic()
            for line in lines:
                if line.deadline <= now:
                    self._cut(line)
            soonest = min(line.deadline for line in lines) - now
            self._wanted.wait(min(max(soonest, 0.0), LOOK_SECONDS))

    def _cut(self, line: Watched) -> None:
        with self._lock:
            if self._lines.pop(id(line), None) is None:
                return
            line.cut = True
            log.warning("no answer from the database within %g s: cutting the line", line.seconds)
            with contextlib.suppress(Exception):  # it is gone already
                _shut_socket(line.driver)


_WATCH = _Watch()


@contextlib.contextmanager
def interrupted_after(connection: Connection, seconds: float | None) -> Iterator[None]:
    """Stop SQLite's statements once so long has gone by; ``None`` leaves them alone.

    Raises :class:`~jobs.core.errors.StoreUnavailable` then. Other databases have their lines cut.
    """
    if seconds is None:
        yield
        return
    driver: Any = connection.connection.driver_connection
    deadline = time.monotonic() + seconds
    driver.set_progress_handler(lambda: time.monotonic() > deadline, INSTRUCTIONS_BETWEEN_LOOKS)
    try:
        yield
    except exc.OperationalError as error:
        if "interrupted" not in str(error.orig):
            raise
        raise StoreUnavailable(f"the database took longer than {seconds:g} s to answer") from error
    finally:
        driver.set_progress_handler(None, 0)
