"""The shipped behaviour suite over every store of the house."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from jobs.core.clock import Clock
from jobs.stores.memory import MemoryStore
from jobs.stores.sql import SqlStore
from jobs.stores.sql.engine import make_engine
from jobs.testing.conformance import MakeStore, RuntimeConformance, StoreConformance
from tests.support import mariadb, postgresql

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
