"""The caller's transaction: a Session, a scoped_session or a Connection, as one Connection."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine

from jobs.core.errors import CapabilityError


def connection_of(session: Any, engine: Engine) -> Connection:
    """The connection of the caller's running transaction.

    Raises :class:`CapabilityError` for what is no such thing, and for another kind of database.
    """
    if isinstance(session, Connection):
        connection = session
    elif hasattr(session, "run_sync"):
        raise CapabilityError(
            "an async session cannot be used from enqueue(): await aenqueue(..., session=session)"
        )
    elif callable(getattr(session, "connection", None)):
        connection = session.connection()
    else:
        raise CapabilityError(
            f"session= takes a SQLAlchemy Session, scoped_session or Connection, not "
            f"{type(session).__name__}"
        )
    ours, theirs = engine.dialect.name, connection.dialect.name
    if _family(ours) != _family(theirs):
        raise CapabilityError(
            f"the session speaks to {theirs} but the jobs live in {ours}: a job can only be "
            "enqueued in a transaction of its own database"
        )
    return connection


def sync_of(session: Any) -> Any:
    """What an AsyncSession or AsyncConnection stands on; anything else as it is."""
    for name in ("sync_session", "sync_connection"):
        inner = getattr(session, name, None) if hasattr(session, "run_sync") else None
        if inner is not None:
            return inner
    return session


def _family(name: str) -> str:
    return "mysql" if name == "mariadb" else name
