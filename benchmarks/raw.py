"""The raw limit: a plain driver loop over the same table, in batches of 1000, doing no job's work.

What it leaves out is the point: no handler, no fence compared, no policy, no history. It claims
rows and completes them, each in one statement and one transaction, as fast as the driver allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from jobs import Tickwork
from jobs.core.ids import new_ids
from jobs.stores.sql import SqlStore
from jobs.stores.sql.rows import bulk_rows
from jobs.stores.sql.statements import Statements

BATCH = 1000


def store_of(tickwork: Tickwork) -> SqlStore:
    store = tickwork.store
    assert isinstance(store, SqlStore)
    return store


def driver_of(connection: Connection) -> Any:
    driver = connection.connection.driver_connection
    assert driver is not None
    return driver


def process_per_s(tickwork: Tickwork) -> tuple[int, float]:
    """Claim and complete every pending row; returns how many and how many per second."""
    store = store_of(tickwork)
    steps: dict[str, Callable[[SqlStore], int]] = {
        "postgresql": _postgresql_step,
        "sqlite": _sqlite_step,
        "mysql": _mysql_step,
    }
    step = steps[store.sql.name]
    begun, total = time.perf_counter(), 0
    while done := step(store):
        total += done
    return total, total / (time.perf_counter() - begun)


def _postgresql_step(store: SqlStore) -> int:
    table = store.statements.jobs
    with store.engine.connect() as connection:
        driver = driver_of(connection)
        cursor = driver.cursor()
        rows = cursor.execute(
            f"UPDATE {table} SET state = 'processing', attempts = attempts + 1, "
            "fence = fence + 1, started_at = now(), lease_until = now() + interval '1 minute' "
            f"WHERE id = ANY(ARRAY(SELECT id FROM {table} WHERE namespace = '' "
            "AND state = 'pending' AND lane = '3/default/noop/' AND run_at <= now() "
            "ORDER BY run_at, id LIMIT 1000 FOR UPDATE SKIP LOCKED)) RETURNING id, payload"
        ).fetchall()
        driver.commit()
        if rows:
            cursor.execute(
                f"UPDATE {table} SET state = 'completed', result = 'null', finished_at = now(), "
                "keep_until = now() + interval '1 day', lease_until = NULL WHERE id = ANY(%s)",
                [[row[0] for row in rows]],
            )
            driver.commit()
        return len(rows)


def _sqlite_step(store: SqlStore) -> int:
    table, now = store.statements.jobs, "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
    with store.engine.connect() as connection:
        cursor = driver_of(connection).cursor()
        cursor.execute("BEGIN IMMEDIATE")
        rows = cursor.execute(
            f"UPDATE {table} SET state = 'processing', attempts = attempts + 1, "
            f"fence = fence + 1, started_at = {now}, lease_until = {now} "
            f"WHERE id IN (SELECT id FROM {table} WHERE namespace = '' AND state = 'pending' "
            f"AND lane = '3/default/noop/' AND run_at <= {now} ORDER BY run_at, id LIMIT 1000) "
            "RETURNING id, payload"
        ).fetchall()
        cursor.execute("COMMIT")
        if rows:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.executemany(
                f"UPDATE {table} SET state = 'completed', result = 'null', finished_at = {now}, "
                f"keep_until = {now}, lease_until = NULL WHERE id = ?",
                [(row[0],) for row in rows],
            )
            cursor.execute("COMMIT")
        return len(rows)


def _mysql_step(store: SqlStore) -> int:
    table, now = store.statements.jobs, "UTC_TIMESTAMP(6)"
    with store.engine.connect() as connection:
        cursor = driver_of(connection).cursor()
        cursor.execute(
            f"SELECT id, payload FROM {table} WHERE namespace = '' AND state = 'pending' "
            f"AND lane = '3/default/noop/' AND run_at <= {now} ORDER BY run_at, id LIMIT 1000 "
            "FOR UPDATE SKIP LOCKED"
        )
        ids = [row[0] for row in cursor.fetchall()]
        if ids:
            cursor.execute(
                f"UPDATE {table} SET state = 'processing', attempts = attempts + 1, "
                f"fence = fence + 1, started_at = {now}, lease_until = {now} WHERE id IN %s",
                [ids],
            )
        driver_of(connection).commit()
        if ids:
            cursor.execute(
                f"UPDATE {table} SET state = 'completed', result = 'null', finished_at = {now}, "
                f"keep_until = {now}, lease_until = NULL WHERE id IN %s",
                [ids],
            )
            driver_of(connection).commit()
        return len(ids)


def enqueue_many_per_s(tickwork: Tickwork, count: int) -> float:
    """COPY (PostgreSQL) or executemany of rows that are ready made."""
    store = store_of(tickwork)
    from jobs.core.job import NewJob

    new = [NewJob(job_id, "noop", '{"n":1}') for job_id in new_ids(count)]
    rows = list(bulk_rows(new, "", store.now(), store.sql))
    columns = ", ".join(Statements.BULK_COLUMNS)
    table = store.statements.jobs
    with store.engine.connect() as connection:
        driver = driver_of(connection)
        cursor = driver.cursor()
        begun = time.perf_counter()
        if store.sql.name == "postgresql":
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            driver.commit()
        else:
            sqlite = store.sql.name == "sqlite"
            marks = ", ".join(["?" if sqlite else "%s"] * len(Statements.BULK_COLUMNS))
            if sqlite:
                cursor.execute("BEGIN IMMEDIATE")
            cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
            if sqlite:
                cursor.execute("COMMIT")
            else:
                driver.commit()
        return count / (time.perf_counter() - begun)


def enqueue_one_per_s(tickwork: Tickwork, count: int) -> float:
    """A bare SQLAlchemy insert of one row in a transaction of its own."""
    store = store_of(tickwork)
    jobs = store.tables.jobs
    now = store.now()
    begun = time.perf_counter()
    for job_id in new_ids(count):
        with store.engine.begin() as connection:
            connection.execute(
                jobs.insert(),
                {
                    "id": job_id,
                    "namespace": "",
                    "tenant": "",
                    "queue": "default",
                    "kind": "noop",
                    "priority": 3,
                    "state": "pending",
                    "payload": '{"n":1}',
                    "max_attempts": 3,
                    "run_at": now,
                    "created_at": now,
                },
            )
    return count / (time.perf_counter() - begun)
