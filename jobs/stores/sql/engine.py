"""From a platform's DATABASE_URL to an engine that suits short-lived runners."""

from __future__ import annotations

import math
import os
import random
import sqlite3
import ssl
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import URL, make_url

from jobs.core.errors import ConfigurationError
from jobs.stores.sql.lines import Watched

BUSY_TIMEOUT_SECONDS = 30
CONNECT_TIMEOUT_SECONDS = 10
RESTED_SECONDS = 5.0
PING_SECONDS = 5.0
# For the kernel: when a line on which nothing comes back is dead. A frozen function, a pooler that
# was moved and a NAT that forgot would else be noticed after two hours.
KEEPALIVE_IDLE_SECONDS = 30
KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVE_COUNT = 3
UNACKNOWLEDGED_SECONDS = 20
TCP_USER_TIMEOUT_SINCE_LIBPQ = 120_000
# For PyMySQL, which knows only of a limit on each read: no handler's own query takes longer.
LONGEST_READ_SECONDS = 900
LONGEST_WRITE_SECONDS = 60
OLDEST_SQLITE = (3, 35, 0)
# Prisma and pooler dashboards add these to connection strings; libpq refuses what it does not know.
_FOREIGN_QUERY_KEYS = (
    "pgbouncer",
    "connection_limit",
    "pool_timeout",
    "supa",
    "schema",
    "workaround",
)
_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
READ_ONLY = {"tickwork_read_only": True}


def normalize_url(raw: str) -> URL:
    """The URL with its driver named, in any of the platforms' spellings.

    Raises :class:`ConfigurationError` without repeating the URL, which may hold a password.
    """
    try:
        url = make_url(raw)
    except exc.ArgumentError:
        raise ConfigurationError("DATABASE_URL cannot be read as a database URL") from None
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    if url.get_backend_name() == "postgresql":
        url = url.difference_update_query(_FOREIGN_QUERY_KEYS)
    return url


def make_engine(
    raw_url: str, *, pool_size: int = 5, connect_seconds: float = CONNECT_TIMEOUT_SECONDS
) -> Engine:
    """An engine with a small pool, holding no session state a transaction pooler would lose.

    ``connect_seconds`` is how long a new connection may take; what the URL says goes before.
    """
    url = normalize_url(raw_url)
    match url.get_backend_name():
        case "sqlite":
            return _sqlite_engine(url, pool_size)
        case "postgresql":
            return _pooled(url, pool_size, _postgresql_arguments(url, connect_seconds))
        case "mysql":
            url, arguments = _mysql_arguments(url, connect_seconds)
            engine = _pooled(url, pool_size, arguments, isolation_level="READ COMMITTED")
            if url.get_driver_name() == "pymysql" and "read_timeout" not in url.query:
                _allow_long_reads(engine)
            return engine
        case other:
            raise ConfigurationError(
                f"DATABASE_URL names {other!r}; use SQLite, PostgreSQL, MySQL or MariaDB"
            )


def _postgresql_arguments(url: URL, connect_seconds: float) -> dict[str, Any]:
    if url.get_driver_name() != "psycopg":
        return {}
    # Prepared statements are session state: behind a transaction pooler the next statement may
    # reach another session. Ours are few and batched, so planning them anew costs little.
    arguments: dict[str, Any] = {"prepare_threshold": None}
    limits = {
        "connect_timeout": math.ceil(connect_seconds),
        "keepalives_idle": KEEPALIVE_IDLE_SECONDS,
        "keepalives_interval": KEEPALIVE_INTERVAL_SECONDS,
        "keepalives_count": KEEPALIVE_COUNT,
    }
    if _libpq_version() >= TCP_USER_TIMEOUT_SINCE_LIBPQ:
        limits["tcp_user_timeout"] = UNACKNOWLEDGED_SECONDS * 1000  # in milliseconds
    return arguments | {name: limit for name, limit in limits.items() if name not in url.query}


def _libpq_version() -> int:
    try:
        from psycopg import pq
    except ImportError:  # told by create_engine, in words
        return 0
    return pq.version()


def _mysql_arguments(url: URL, connect_seconds: float) -> tuple[URL, dict[str, Any]]:
    limits: dict[str, Any] = {"connect_timeout": math.ceil(connect_seconds)}
    if url.get_driver_name() == "pymysql":
        # Its limit on connecting ends before the server's greeting; that is a read.
        limits |= {
            "read_timeout": math.ceil(connect_seconds),
            "write_timeout": LONGEST_WRITE_SECONDS,
        }
    arguments = {name: limit for name, limit in limits.items() if name not in url.query}
    asked = {key: url.query.get(key) for key in ("ssl-mode", "sslmode", "sslaccept", "ssl")}
    url = url.difference_update_query(list(asked))
    if any(value and str(value).lower() not in {"disabled", "false"} for value in asked.values()):
        arguments["ssl"] = ssl.create_default_context()
    if "charset" not in url.query:
        arguments["charset"] = "utf8mb4"
    return url, arguments


def _allow_long_reads(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def allow(connection: Any, _record: Any) -> None:
        connection._read_timeout = LONGEST_READ_SECONDS


def _pooled(url: URL, pool_size: int, arguments: dict[str, Any], **options: Any) -> Engine:
    try:
        engine = create_engine(
            url,
            connect_args=arguments,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_recycle=1800,
            hide_parameters=True,  # payloads and results do not belong into tracebacks
            **options,
        )
    except ModuleNotFoundError as error:
        extra = " (pip install 'tickwork[mysql]')" if error.name == "pymysql" else ""
        raise ConfigurationError(
            f"the database driver {error.name!r} is not installed{extra}"
        ) from error
    _ping_rested_connections(engine)
    return engine


def _ping_rested_connections(engine: Engine) -> None:
    """Test a pooled connection only after it rested: a frozen function wakes with dead sockets.

    ``pool_pre_ping`` would do it at every checkout, a round trip each.
    """

    @event.listens_for(engine, "checkin")
    def note(_connection: Any, record: Any) -> None:
        record.info["rested_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ping(connection: Any, record: Any, _proxy: Any) -> None:
        rested_since = record.info.get("rested_since")
        if rested_since is None or time.monotonic() - rested_since < RESTED_SECONDS:
            return
        try:
            with Watched(connection, PING_SECONDS):
                alive = engine.dialect.do_ping(connection)
        except Exception as error:
            raise exc.DisconnectionError("the connection died while it rested") from error
        if not alive:
            raise exc.DisconnectionError("the connection died while it rested")


def _sqlite_engine(url: URL, pool_size: int) -> Engine:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise ConfigurationError(
            f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed "
            "(UPDATE ... RETURNING); use a newer Python build"
        )
    path = url.database
    if not path or path == ":memory:":
        raise ConfigurationError(
            "DATABASE_URL names an in-memory SQLite database, which each connection would have to "
            "itself: name a file, or use JOBS_BACKEND=memory"
        )
    _make_private(Path(path.removeprefix("file:").split("?")[0]))
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
        pool_size=pool_size,
        max_overflow=pool_size,
        hide_parameters=True,
    )
    own_sqlite_transactions(engine)
    return engine


def _make_private(path: Path) -> None:
    """A new database file is readable by its owner alone: payloads may be private."""
    if path.exists():
        return
    if not path.parent.is_dir():
        raise ConfigurationError(f"DATABASE_URL: the folder {path.parent} does not exist; make it")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ConfigurationError(
            f"DATABASE_URL: {path} cannot be written ({error.strerror}). A serverless platform's "
            "disk is read-only or lost at will: use PostgreSQL or MySQL there"
        ) from error


def own_sqlite_transactions(engine: Engine) -> None:
    """Writers begin with BEGIN IMMEDIATE, in WAL mode.

    A deferred transaction that reads and then writes fails at once with "database is locked",
    whatever the busy timeout, when another writer came between. Python's sqlite3 begins deferred by
    itself, so its own transaction handling is switched off.
    """

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
        _use_wal(cursor)
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("tickwork_read_only")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _use_wal(cursor: Any) -> None:
    """Switch the file to WAL, which it then stays in.

    The busy timeout does not hold for the switch: while another process writes to a file that is
    not in WAL yet (two that start on a new one), it fails at once.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.005, 0.025))
        else:
            return
