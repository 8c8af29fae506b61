"""How many statements a tick makes: the same for ten and for a thousand quick jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from jobs import Tickwork
from jobs.stores.sql import enqueueing
from tests.support.clocks import StoppedClock
from tests.support.databases import Database


@contextmanager
def counted(tickwork: Tickwork) -> Iterator[list[str]]:
    """Fills the list with what is said to the database, BEGIN and COMMIT not counted."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(statement)

    event.listen(tickwork.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(tickwork.engine, "before_cursor_execute", note)


def statements(tickwork: Tickwork, jobs: int) -> int:
    """Statements of one tick over that many due jobs."""
    tickwork.enqueue_many([("noop", {"n": 1})] * jobs)
    with counted(tickwork) as seen:
        assert tickwork.tick(limit=max(jobs, 1)).succeeded == jobs
    return len(seen)


def test_a_bulk_is_one_statement_for_each_chunk(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COPY on PostgreSQL, past SQLAlchemy's cursor; elsewhere the driver's own executemany."""
    monkeypatch.setattr(enqueueing, "BULK_CHUNK_ROWS", 100)
    copied: list[str] = []
    copy = psycopg.Cursor.copy

    def noted(cursor: Any, statement: Any, *args: Any, **options: Any) -> Any:
        copied.append(str(statement))
        return copy(cursor, statement, *args, **options)

    monkeypatch.setattr(psycopg.Cursor, "copy", noted)
    with closing(Tickwork(database.url)) as tickwork:
        tickwork.create_schema()
        with counted(tickwork) as seen:
            assert len(tickwork.enqueue_many(("noop", {"n": n}) for n in range(250))) == 250
        inserts = [statement for statement in seen if statement.startswith("INSERT")]
        written = copied if database.name == "postgresql" else inserts
        assert len(written) == 3
        assert len(inserts) == (0 if database.name == "postgresql" else 3)
        assert len(tickwork.list(limit=1000)) == 250


def test_a_cancel_is_one_statement(database: Database) -> None:
    tickwork = Tickwork(database.url)
    tickwork.create_schema()
    job = tickwork.enqueue("noop")
    with counted(tickwork) as seen:
        assert tickwork.cancel(job.id).status == "cancelled"
    # MySQL cannot answer with what it wrote, so it is asked.
    assert len(seen) == (2 if database.name == "mysql" else 1)
    tickwork.close()


def test_a_tick_makes_few_statements_however_many_jobs(database: Database) -> None:
    tickwork = Tickwork(database.url)
    tickwork.create_schema()
    tickwork.register_handler("noop", lambda payload: None)

    assert statements(tickwork, 0) <= 3
    ten, thousand = statements(tickwork, 10), statements(tickwork, 1000)
    # One flush more or less may fall into a slow tick.
    # MySQL locks, takes and reads in statements of their own.
    assert ten <= (9 if database.name == "mysql" else 8)
    assert thousand <= ten + 2
    tickwork.close()


def test_an_idle_tick_makes_three_though_jobs_wait_for_later(database: Database) -> None:
    """The probe, a claim that finds nothing, and a look at when there will be something."""
    with closing(Tickwork(database.url)) as tickwork:
        tickwork.create_schema()
        tickwork.register_handler("noop", lambda payload: None)
        tickwork.enqueue_many([("noop", {}, {"delay": 60, "queue": f"q{n}"}) for n in range(20)])
        tickwork.tick()
        with counted(tickwork) as seen:
            assert tickwork.tick(look_ahead=True).next_due_at is not None
        assert len(seen) <= 3
        tickwork.enqueue_many([("noop", {}, {"queue": f"q{n % 2}"}) for n in range(10)])
        with counted(tickwork) as seen:
            assert tickwork.tick(look_ahead=True).succeeded == 10
        # MySQL locks, takes and reads in statements of their own.
        assert len(seen) <= (10 if database.name == "mysql" else 8)


def test_a_claim_uses_its_index_among_history(postgresql_database: Database) -> None:
    """EXPLAIN of the claim's ranges: by the index of pending rows, whatever else is there."""
    tickwork = Tickwork(postgresql_database.url)
    tickwork.create_schema()
    tickwork.register_handler("noop", lambda payload: None)
    tickwork.enqueue_many([("noop", {})] * 3000)
    while tickwork.tick(limit=1000).processed:
        pass
    tickwork.enqueue_many([("noop", {})] * 50)
    store: Any = tickwork.store
    with tickwork.engine.connect() as connection:
        connection.exec_driver_sql(f"ANALYZE {store.statements.jobs}")
        plan = (
            connection.exec_driver_sql(
                "EXPLAIN "
                + store.statements.due_in("'3/default/noop/'", "10").replace(":namespace", "''")
            )
            .scalars()
            .all()
        )
    tickwork.close()

    assert any("ix_tickwork_jobs_pending" in line for line in plan), plan
    assert not any("Seq Scan" in line for line in plan), plan


def test_a_claim_by_ids_is_led_by_them(postgresql_database: Database) -> None:
    """Also where statistics, taken when nothing waited, call the index of waiting rows empty."""
    tickwork = Tickwork(postgresql_database.url)
    tickwork.create_schema()
    tickwork.register_handler("noop", lambda payload: None)
    tickwork.enqueue_many([("noop", {})] * 3000)
    while tickwork.tick(limit=1000).processed:
        pass
    store: Any = tickwork.store
    with tickwork.engine.connect() as connection:
        connection.exec_driver_sql(f"ANALYZE {store.statements.jobs}")
        connection.commit()
    ids = tickwork.enqueue_many([("noop", {})] * 3000)[:10]
    plans = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "FOR UPDATE" in statement:
            cursor.execute(f"EXPLAIN {statement}", parameters)
            plans.append([line for (line,) in cursor.fetchall()])

    event.listen(tickwork.engine, "before_cursor_execute", explain)
    claimed = store.claim(10, kinds={"noop"}, lease_seconds=60, ids=ids)
    tickwork.close()

    assert len(claimed) == 10
    (plan,) = plans
    assert sum("tickwork_jobs_pkey" in line for line in plan) == 2, plan  # found, then updated
    assert not any("Seq Scan on" in line or "_pending" in line for line in plan), plan


def test_a_group_costs_a_tick_few_statements_however_many_jobs(database: Database) -> None:
    # Statements grow with time, and here only those that grow with jobs are looked for.
    tickwork = Tickwork(database.url, clock=StoppedClock())
    tickwork.create_schema()
    tickwork.register_handler("noop", lambda payload: None)
    tickwork.group([("noop", {})] * 500, on_done="other")
    with counted(tickwork) as seen:
        assert tickwork.tick(limit=499).succeeded == 499
    assert len(seen) <= 20
    with counted(tickwork) as seen:
        assert tickwork.tick(limit=10).succeeded == 1
    assert len(seen) <= 15
    assert len(tickwork.list(kind="other")) == 1
    tickwork.close()
