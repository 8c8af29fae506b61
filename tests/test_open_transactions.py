"""A caller's open transaction that enqueued a job, or holds one row, holds nobody else up.

Web requests stay in their transactions for as long as they like, and a transactional handler for as
long as it runs. Whatever the queue does meanwhile must not touch their rows on its way to its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine, text

from jobs.core.clock import ManualClock
from jobs.core.ids import new_id
from jobs.core.job import State
from jobs.core.store import JobFilter, Touch
from jobs.stores.sql import SqlStore
from jobs.stores.sql.engine import normalize_url
from jobs.testing.areas.base import KINDS, claim, completed, new_job, pending, put
from tests.support.databases import Database

# A statement that waits for a lock fails soon, and in words.
IMPATIENCE = {
    "postgresql": {"options": "-c lock_timeout=700"},
    "mysql": {"init_command": "SET innodb_lock_wait_timeout=1"},
}


@pytest.fixture(params=["postgresql", "mysql"])
def concurrent_database(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(f"{request.param}_database")
    return database


@pytest.fixture
def engine(concurrent_database: Database) -> Iterator[Engine]:
    engine = create_engine(
        normalize_url(concurrent_database.url),
        connect_args=IMPATIENCE[concurrent_database.name],
        isolation_level="READ COMMITTED",
    )
    yield engine
    engine.dispose()


def settle(store: SqlStore) -> None:
    taken = claim(store, 3)
    assert store.settle([completed(job) for job in taken]) == frozenset()


def settle_one(store: SqlStore) -> None:
    assert store.settle([completed(claim(store, 1)[0])]) == frozenset()


def reclaim(store: SqlStore) -> None:
    stalled = store.stalled(100)
    assert stalled
    assert store.settle([pending(job) for job in stalled], stalled_only=True) == frozenset()


def touch(store: SqlStore) -> None:
    touches = [Touch(job.id, job.fence, True, 5.0) for job in claim(store, 3)]
    assert store.touch(touches).lost == frozenset()
    assert store.touch(touches, lease_seconds=5.0).lost == frozenset()


def claim_by_ids(store: SqlStore) -> None:
    ids = [job.id for job in store.list(JobFilter(State.PENDING), 5)]
    assert len(claim(store, 3, ids=ids)) == 3


def cancel(store: SqlStore) -> None:
    report = store.cancel(store.list(JobFilter(State.PENDING), 1)[0].id)
    assert report is not None
    assert (report.job.state, report.accepted) == (State.CANCELLED, True)


def purge(store: SqlStore) -> None:
    assert store.purge(2) == 2
    assert store.purge(1000) > 0


def trim(store: SqlStore) -> None:
    assert store.trim("alpha", State.COMPLETED, 1, 2) == 2
    assert store.trim("alpha", State.COMPLETED, 1, 1000) > 0


def look(store: SqlStore) -> None:
    assert store.probe().lanes
    assert store.counts()
    assert store.due_count(KINDS, 1000) > 0


def enqueue(store: SqlStore) -> None:
    put(store, new_job())
    assert store.insert_many(new_job() for _ in range(50)) == 50


@pytest.mark.parametrize(
    ("rows", "analyzed"),
    # Of many rows the optimizers know better, and read others on their way.
    [
        pytest.param(6, False, id="few"),
        pytest.param(300, True, id="many", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "operation",
    [
        settle,
        settle_one,
        reclaim,
        touch,
        lambda store: len(claim(store, 4)) == 4,
        claim_by_ids,
        cancel,
        purge,
        trim,
        look,
        enqueue,
    ],
    ids=lambda function: function.__name__.strip("<>").replace("lambda", "claim"),
)
def test_nobody_waits(
    engine: Engine, operation: Callable[[SqlStore], object], rows: int, analyzed: bool
) -> None:
    clock = ManualClock()
    store = SqlStore(engine, clock=clock)
    store.create_schema()
    put(store, *[new_job() for _ in range(rows)])
    store.settle([completed(job, keep_seconds=1.0) for job in claim(store, rows)])
    put(store, *[new_job() for _ in range(rows)])
    claim(store, rows, lease_seconds=1.0)
    put(store, *[new_job() for _ in range(rows)])
    clock.advance(2)
    if analyzed:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            table = "TABLE " if engine.dialect.name == "mysql" else ""
            connection.execute(text(f"ANALYZE {table}tickwork_jobs"))
    with engine.connect() as open_one, engine.connect() as open_many:
        store.insert([new_job()], open_one)
        store.insert_many([new_job(id_kind) for id_kind in ("alpha", "beta")], open_many)
        # And a row that somebody is working on: finished, running, waiting.
        for state in (State.COMPLETED, State.PROCESSING, State.PENDING):
            job = store.list(JobFilter(state), 1000)[rows // 2]
            held = text("UPDATE tickwork_jobs SET tenant = 'held' WHERE id = :id")
            if operation not in (purge, trim, reclaim):
                open_one.execute(held, {"id": job.id})
        assert operation(store) is not False
    assert store.get(new_id()) is None
