"""What a claim with limits reads is led by indexes, whatever history and backlog there is."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event

from jobs import Tickwork
from tests.support.databases import Database


def test_what_runs_and_what_was_taken_is_read_by_indexes(postgresql_database: Database) -> None:
    tickwork = Tickwork(postgresql_database.url)
    tickwork.create_schema()
    tickwork.register_handler("noop", lambda payload: None, rate_limit="100000/h")
    tickwork.enqueue_many([("noop", {})] * 3000)
    while tickwork.tick(limit=1000).processed:
        pass
    tickwork.enqueue_many([("noop", {})] * 3000)
    store: Any = tickwork.store
    plans = {}
    with tickwork.engine.connect() as connection:
        for table in (store.statements.jobs, store.statements.takings):
            connection.exec_driver_sql(f"ANALYZE {table}")
        for what, statement in {
            "running": f"SELECT queue, kind, flow, count(*) FROM {store.statements.jobs} "
            "WHERE namespace = '' AND state = 'processing' GROUP BY queue, kind, flow",
            "lanes": store.statements.live("said", flows=False).text.replace(":namespace", "''"),
            "flows": store.statements.live("said", flows=True)
            .text.replace(":namespace", "''")
            .replace(":spread_tenant", "'00'")
            .replace(":spread_key", "'00'"),
        }.items():
            rows = connection.exec_driver_sql(f"EXPLAIN {statement}").scalars().all()
            plans[what] = "\n".join(rows)
    tickwork.close()

    assert "ix_tickwork_jobs_held" in plans["running"]
    for what in ("lanes", "flows"):
        assert "ix_tickwork_jobs_pending" in plans[what]
    for plan in plans.values():
        assert "Seq Scan on tickwork_jobs" not in plan, plan


def test_sqlite_counts_what_runs_without_walking_the_history(sqlite_database: Database) -> None:
    tickwork = Tickwork(sqlite_database.url)
    tickwork.create_schema()
    tickwork.register_handler("noop", lambda payload: None, max_concurrency=5)
    tickwork.enqueue_many([("noop", {})] * 2000)
    while tickwork.tick(limit=1000).processed:
        pass
    plans = []

    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "GROUP BY" in statement:
            rows = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[-1] for row in rows)

    with tickwork.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    event.listen(tickwork.engine, "before_cursor_execute", explain)
    assert tickwork.limits()
    tickwork.close()
    assert any("state=?" in plan or "_held" in plan for plan in plans), plans
