"""After the commit: calls that wait for a caller's transaction, whoever began it and how.

SQLAlchemy tells a Session's commit but not that of a Connection (its ``commit`` event comes before
the commit), and a Session that joined a Connection's transaction tells a commit that is none. The
one place that all of them pass is the dialect of the engine, ``do_commit`` and its neighbours, so
that is where such a transaction is listened at. What waits hangs at the pooled connection, and dies
with it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import WeakSet

from sqlalchemy import Connection

log = logging.getLogger("tickwork.store")
Tell = Callable[[list[Any]], None]
_WAITING = "tickwork_after_commit"
_SAVEPOINTS = "tickwork_savepoints"
_lock = threading.Lock()
_heard: WeakSet[Any] = WeakSet()


class Waiting(NamedTuple):
    """What to tell, and whom, once it is committed."""

    tell: Tell
    items: Sequence[Any]


def after_commit(connection: Connection, tell: Tell, items: Sequence[Any]) -> None:
    """Have ``tell`` called once the connection's transaction has committed."""
    if _has_committed(connection):
        call([Waiting(tell, items)])
        return
    _listen(connection.dialect)
    connection.info.setdefault(_WAITING, []).append(Waiting(tell, items))


def _has_committed(connection: Connection) -> bool:
    """Whether each statement commits by itself here, so that no commit will come."""
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        return False
    # Our own engine begins by itself on SQLite, whatever the driver was told.
    return not getattr(connection.connection.driver_connection, "in_transaction", False)


def take(connection: Connection) -> list[Waiting]:
    """What waits for the connection's commit, which is then left to the caller to :func:`call`."""
    waiting: list[Waiting] = connection.info.pop(_WAITING, [])
    return waiting


def call(waiting: Sequence[Waiting]) -> None:
    """Tell all of it, in one call each; an error is logged, since the commit stands.

    Out of an event loop's thread, which a slow listener or a slow network must not hold up.
    """
    merged: list[tuple[Tell, list[Any]]] = []
    for tell, items in waiting:
        for known, gathered in merged:
            if known == tell:
                gathered.extend(items)
                break
        else:
            merged.append((tell, list(items)))
    loop = _running_loop()
    for tell, gathered in merged:
        if loop is None:
            _call(tell, gathered)
        else:
            loop.run_in_executor(None, _call, tell, gathered)


def _call(tell: Tell, items: list[Any]) -> None:
    try:
        tell(items)
    except Exception:
        log.exception("a call after a commit failed")


def _running_loop() -> Any:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _listen(dialect: Any) -> None:
    with _lock:
        if dialect in _heard:
            return
        _heard.add(dialect)
        commit, rollback = dialect.do_commit, dialect.do_rollback
        savepoint, undo = dialect.do_savepoint, dialect.do_rollback_to_savepoint

        def do_commit(pooled: Any) -> None:
            waiting = _info(pooled).pop(_WAITING, [])
            _info(pooled).pop(_SAVEPOINTS, None)
            commit(pooled)
            if waiting:
                call(waiting)

        def do_rollback(pooled: Any) -> None:
            _info(pooled).pop(_WAITING, None)
            _info(pooled).pop(_SAVEPOINTS, None)
            rollback(pooled)

        def do_savepoint(connection: Connection, name: str) -> None:
            savepoint(connection, name)
            told = len(connection.info.get(_WAITING, ()))
            connection.info.setdefault(_SAVEPOINTS, {})[name] = told

        def do_rollback_to_savepoint(connection: Connection, name: str) -> None:
            undo(connection, name)
            place = connection.info.get(_SAVEPOINTS, {}).get(name)
            if place is not None:
                del connection.info.get(_WAITING, [])[place:]

        dialect.do_commit, dialect.do_rollback = do_commit, do_rollback
        dialect.do_savepoint = do_savepoint
        dialect.do_rollback_to_savepoint = do_rollback_to_savepoint


def _info(pooled: Any) -> dict[Any, Any]:
    # A dialect that looks round a new database hands over the driver's own connection.
    return getattr(pooled, "info", None) or {}
