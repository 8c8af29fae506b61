"""The database: whether it answers, and whether it is set up for a queue."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import Connection, text

from jobs.ops.doctor.base import Family, Finding, Surroundings, error, first_line, warning
from jobs.ops.words import age, many
from jobs.stores.sql.engine import READ_ONLY
from jobs.stores.sql.store import SqlStore

# The first that have SKIP LOCKED, generated columns and, on MySQL, JSON_TABLE.
_OLDEST = {"postgresql": (12,), "mysql": (8, 0, 4), "mariadb": (10, 6)}
_POOLER = re.compile(r"-pooler\.|pooler\.supabase\.|pgbouncer", re.IGNORECASE)
_POOLER_PORT = 6543
_LEAST_ISOLATED = "READ-COMMITTED"
_SKEW_SECONDS = 5.0


def reachable(around: Surroundings) -> Iterator[Finding]:
    """One statement, and its answer."""
    store = around.sql
    if store is None:
        return
    try:
        with store.engine.connect().execution_options(**READ_ONLY) as connection:
            connection.execute(text("SELECT 1")).scalar()
    except Exception as failure:  # noqa: BLE001 - drivers raise what they like
        url = store.engine.url
        yield error(
            "database-unreachable",
            f"the database does not answer: {first_line(failure)}",
            f"is DATABASE_URL right ({url.get_backend_name()}, host {url.host or 'none'}, database "
            f"{url.database or 'none'}), and is that server up and open to this place?",
        )


def old_server(around: Surroundings) -> Iterator[Finding]:
    """A server without what the claim needs."""
    store = around.sql
    if store is None:
        return
    with store.engine.connect().execution_options(**READ_ONLY) as connection:
        found = connection.dialect.server_version_info or ()
        is_mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
    yield from too_old(
        "mariadb" if is_mariadb else store.sql.name,
        tuple(part for part in found if isinstance(part, int)),
    )


def too_old(name: str, version: tuple[int, ...]) -> Iterator[Finding]:
    """The finding about a server of this version, if it is too old."""
    oldest = _OLDEST.get(name)
    if oldest is not None and version[: len(oldest)] < oldest:
        yield error(
            "database-old",
            f"the server is {name} {'.'.join(map(str, version))}; "
            f"{'.'.join(map(str, oldest))} or newer is needed",
            "upgrade the server",
        )


def prepared_statements(around: Surroundings) -> Iterator[Finding]:
    """A driver that prepares statements, behind a pooler that forgets them."""
    store = around.sql
    if store is None or store.sql.name != "postgresql":
        return
    url = store.engine.url
    raw = around.settings.database_url if around.settings is not None else None
    if not (_POOLER.search(f"{url.host} {raw or ''}") or url.port == _POOLER_PORT):
        return
    with store.engine.connect().execution_options(**READ_ONLY) as connection:
        driver = connection.connection.driver_connection
        prepares = getattr(driver, "prepare_threshold", "?") not in (None, "?")
    if prepares:
        yield error(
            "prepared-statements",
            "the database is reached through a transaction pooler, but the driver prepares "
            "statements: the next transaction may meet a session that does not know them",
            'make the engine with connect_args={"prepare_threshold": None}, or give Tickwork the '
            "URL and let it make the engine",
        )


def isolation(around: Surroundings) -> Iterator[Finding]:
    """MySQL's own isolation level locks gaps: a second claim then gets nothing."""
    store = around.sql
    if store is None or store.sql.name != "mysql":
        return
    with store.engine.connect().execution_options(**READ_ONLY) as connection:
        level = _mysql_isolation(connection)
    if level != _LEAST_ISOLATED:
        yield warning(
            "isolation-level",
            f"transactions run at {level}: claims lock the gaps between rows, and wait for each "
            "other",
            'make the engine with isolation_level="READ COMMITTED", or give Tickwork the URL and '
            "let it make the engine",
        )


def _mysql_isolation(connection: Connection) -> str:
    # MariaDB learnt the newer name late, MySQL 8 has forgotten the older one.
    rows = connection.execute(
        text("SHOW VARIABLES WHERE Variable_name IN ('transaction_isolation', 'tx_isolation')")
    ).all()
    return str(rows[0][1]).upper().replace(" ", "-") if rows else ""


def sqlite_file(around: Surroundings) -> Iterator[Finding]:
    """Whether the file can be written, and readers and a writer do not wait for each other."""
    store = around.sql
    if store is None or store.sql.name != "sqlite":
        return
    with store.engine.connect().execution_options(**READ_ONLY) as connection:
        mode = str(connection.execute(text("PRAGMA journal_mode")).scalar())
    if mode.lower() != "wal":
        yield warning(
            "sqlite-wal-off",
            f"the SQLite file is in journal mode {mode!r}: every reader waits for the writer, and "
            "the writer for them",
            "give Tickwork the URL and let it make the engine, or run PRAGMA journal_mode = WAL; "
            "a network disk cannot do WAL and should hold no SQLite file",
        )
    failure = _write_failure(store)
    if failure:
        yield error(
            "sqlite-read-only",
            f"the SQLite file cannot be written: {failure}",
            "give this user the right to write the file and its folder, or use a file elsewhere",
        )


def _write_failure(store: SqlStore) -> str:
    try:
        with store.engine.connect() as connection, connection.begin() as transaction:
            # Writes a page header, and takes it back.
            version = connection.exec_driver_sql("PRAGMA user_version").scalar()
            connection.exec_driver_sql(f"PRAGMA user_version = {int(version or 0) + 1}")
            transaction.rollback()
    except Exception as failure:  # noqa: BLE001 - what it says is the finding
        return first_line(failure)
    return ""


def vacuum(around: Surroundings) -> Iterator[Finding]:
    """PostgreSQL without autovacuum: a queue's dead rows pile up in the index of pending ones."""
    store = around.sql
    if store is None or store.sql.name != "postgresql":
        return
    with store.engine.connect().execution_options(**READ_ONLY) as connection:
        running = connection.execute(text("SELECT current_setting('autovacuum')")).scalar()
        named = {"name": store.tables.jobs.name, "schema": store.tables.schema}
        options = connection.execute(
            text(
                "SELECT c.reloptions FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.relname = :name AND c.relkind = 'r' "
                "AND n.nspname = coalesce(CAST(:schema AS text), current_schema())"
            ),
            named,
        ).scalar()
    off = any(
        option.partition("=")[0] == "autovacuum_enabled"
        and option.partition("=")[2] in ("false", "off", "0", "no")
        for option in options or ()
    )
    slower = "every claim leaves dead rows behind, and claims get slower and slower"
    if running != "on":
        yield warning(
            "autovacuum-off",
            f"autovacuum is off on the server: {slower}",
            "switch it on: ALTER SYSTEM SET autovacuum = on, then SELECT pg_reload_conf()",
        )
    if off:
        name = store.tables.jobs.name
        yield warning(
            "autovacuum-off-table",
            f"autovacuum is off for {name}: {slower}",
            f"ALTER TABLE {name} RESET (autovacuum_enabled)",
        )


def idle_transactions(around: Surroundings) -> Iterator[Finding]:
    """Sessions that hold a transaction open and do nothing: no dead row older can be cleaned up."""
    store = around.sql
    if store is None or store.sql.name != "postgresql":
        return
    with store.engine.connect().execution_options(**READ_ONLY) as connection:
        found = connection.execute(
            text(
                "SELECT count(*), max(extract(epoch FROM clock_timestamp() - state_change)) "
                "FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' "
                "AND datname = current_database() AND pid <> pg_backend_pid() "
                "AND state_change <= clock_timestamp() - :seconds * interval '1 second'"
            ),
            {"seconds": around.idle_seconds},
        ).one()
    if found[0]:
        yield warning(
            "idle-in-transaction",
            f"{many(found[0], 'session')} of this database "
            f"{'sits' if found[0] == 1 else 'sit'} idle in a transaction, for up to "
            f"{age(float(found[1]))}: they hold locks and keep dead rows alive",
            "commit or roll back before slow work outside the database; set "
            "idle_in_transaction_session_timeout",
        )


def skew(around: Surroundings) -> Iterator[Finding]:
    """The host's clock against the database's."""
    store = around.sql
    if store is None:
        return
    store.now()  # so that making a connection is not measured
    before = around.clock.now()
    theirs = store.now()
    after = around.clock.now()
    ahead = (before + (after - before) / 2 - theirs).total_seconds()
    if abs(ahead) - (after - before).total_seconds() > _SKEW_SECONDS:
        yield warning(
            "clock-skew",
            f"this host's clock is {age(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the "
            "database's. Claims and leases go by the database's; a run_at that this host computes "
            "comes so much too early or too late",
            "let the host keep its time by NTP; use delay= in place of a computed run_at",
        )


ANSWER = Family("database", (reachable,), bars=True)
SETUP = Family(
    "server",
    (
        *(old_server, prepared_statements, isolation, sqlite_file),
        *(vacuum, idle_transactions, skew),
    ),
)
