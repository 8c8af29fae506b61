"""The shipped behaviour suite over every store of the house."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from jobs.core.clock import Clock, ManualClock
from jobs.core.ids import new_ids
from jobs.core.job import NewJob
from jobs.stores.memory import MemoryStore
from jobs.stores.sql import SqlStore
from jobs.stores.sql.engine import make_engine
from jobs.testing.areas.base import Conformance
from jobs.testing.conformance import MakeStore, RuntimeConformance, StoreConformance
from tests.support import mariadb, pgbouncer, postgresql
from tests.support.databases import Database

_numbers = itertools.count(1)


def stores_over(engine: Engine) -> MakeStore:
    """Stores in a namespace of their own: one database serves all the tests of a module."""
    number = next(_numbers)

    def make(clock: Clock, namespace: str = "") -> SqlStore:
        return SqlStore(engine, namespace=f"t{number}{namespace}", clock=clock)

    return make


def engine_of(url: str) -> Iterator[Engine]:
    engine = make_engine(url)
    SqlStore(engine).create_schema()
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def sqlite_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    yield from engine_of(f"sqlite:///{tmp_path_factory.mktemp('conformance') / 'jobs.db'}")


@pytest.fixture(scope="module")
def postgresql_engine(postgresql_databases: postgresql.Databases) -> Iterator[Engine]:
    with postgresql_databases.fresh() as url:
        yield from engine_of(url)


@pytest.fixture(scope="module")
def mysql_engine(mysql_databases: mariadb.Databases) -> Iterator[Engine]:
    with mysql_databases.fresh() as url:
        yield from engine_of(url)


@pytest.fixture(scope="module")
def pgbouncer_engine(
    postgresql_databases: postgresql.Databases, pgbouncer_url: str
) -> Iterator[Engine]:
    with postgresql_databases.fresh() as url:
        yield from engine_of(pgbouncer.pooled(url, pgbouncer_url))


def test_no_test_of_the_suite_hides_another() -> None:
    """Of two areas with a test of one name only the first one's would run."""
    names = Counter(
        name
        for area in (*StoreConformance.__mro__, *RuntimeConformance.__mro__)
        if area is not Conformance  # stands in both
        for name in vars(area)
        if name.startswith("test_")
    )
    assert [name for name, count in names.items() if count > 1] == []


class TestMemory(StoreConformance, RuntimeConformance):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        return lambda clock, namespace="": MemoryStore(namespace=namespace, clock=clock)


class TestSqlite(StoreConformance, RuntimeConformance):
    @pytest.fixture
    def make_store(self, sqlite_engine: Engine) -> MakeStore:
        return stores_over(sqlite_engine)


class TestPostgresql(StoreConformance, RuntimeConformance):
    @pytest.fixture
    def make_store(self, postgresql_engine: Engine) -> MakeStore:
        return stores_over(postgresql_engine)


class TestMysql(StoreConformance, RuntimeConformance):
    @pytest.fixture
    def make_store(self, mysql_engine: Engine) -> MakeStore:
        return stores_over(mysql_engine)


@pytest.mark.slow
class TestBehindATransactionPooler(StoreConformance, RuntimeConformance):
    @pytest.fixture
    def make_store(self, pgbouncer_engine: Engine) -> MakeStore:
        return stores_over(pgbouncer_engine)


@pytest.mark.slow
def test_one_lost_among_ten_thousand_that_run(database: Database) -> None:
    """As the suite has it among a thousand: a reclaim does not starve behind what is held."""
    clock = ManualClock()
    engine = make_engine(database.url)
    store = SqlStore(engine, clock=clock)
    store.create_schema()
    (lost, *held) = new_ids(10_001)
    store.insert([NewJob(lost, "alpha", "{}")])
    (claimed,) = store.claim(1, kinds={"alpha"}, lease_seconds=5, mark=1)
    store.insert_many(NewJob(each, "alpha", "{}") for each in held)
    assert len(store.claim(10_000, kinds={"alpha"}, lease_seconds=500)) == 10_000
    clock.advance(10)

    assert [job.id for job in store.stalled(5)] == [claimed.id]
    engine.dispose()
