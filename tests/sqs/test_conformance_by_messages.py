"""The behaviour suite once more: every job runs because a message of a real queue named it.

Rows are enqueued, rung for by the doorbell, received over HTTP and claimed by their ids. What waits
(delays, retries, reclaimed jobs) is rung for by the tick. The queue is a FIFO one: it holds nothing
back by itself, so that all of time is the clock's. The default run takes the areas about a job's
life and a runner's death, the slow one all.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from moto.sqs.models import Queue as MotoQueue
from sqlalchemy import Engine

from jobs.core.clock import Clock
from jobs.core.store import Store
from jobs.doorbells import sqs
from jobs.doorbells.sqs import make_client
from jobs.runtime.ring import ring_due
from jobs.runtime.tick import TickResult
from jobs.stores.sql import SqlStore
from jobs.stores.sql.engine import make_engine
from jobs.system import Tickwork
from jobs.testing.areas.base import Conformance
from jobs.testing.areas.runtime_faults import FaultConformance
from jobs.testing.areas.runtime_life import LifeConformance
from jobs.testing.areas.runtime_lost import LostRunnerConformance
from jobs.testing.conformance import MakeStore, MakeTickwork, RuntimeConformance
from tests.sqs.conftest import MakeQueue
from tests.support import mariadb, postgresql
from tests.support.deliveries import DeliveredStore, Hints, NotedBell
from tests.support.queues import Queue


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


@cache
def doorbell_client(endpoint: str) -> Any:
    """The doorbell's own client, made once: making one takes longer than most of these tests."""
    return make_client(endpoint)


class Delivered(Tickwork):
    """Receives before its time begins to count, as an event source does."""

    hints: Hints

    def tick(self, *args: Any, **options: Any) -> TickResult:
        self.hints.look()
        return super().tick(*args, **options)


class ByMessages(Conformance):
    """A queue of its own for each test, as for its namespace."""

    # Of the records of ticks: here a batch is what runs and is recorded (tests/test_ticks.py).
    test_a_record_that_cannot_be_written_fails_no_tick = None
    test_a_tick_that_raises_is_recorded_with_its_error = None
    test_a_lost_runner_is_counted = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "clock" in metafunc.fixturenames:
            metafunc.parametrize("clock", ["manual"], indirect=True)

    @pytest.fixture
    def fifo(self, make_queue: MakeQueue) -> Queue:
        return make_queue(fifo=True)

    @pytest.fixture
    def engine(self) -> Engine:
        raise NotImplementedError

    @pytest.fixture
    def hints(self, fifo: Queue, sqs_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Hints:
        # moto counts all its messages, six times, for each that is sent or received; nobody asks.
        for each in ("", "_delayed", "_not_visible"):
            monkeypatch.setattr(MotoQueue, f"approximate_number_of_messages{each}", 0)
        monkeypatch.setattr(sqs, "make_client", lambda _url: doorbell_client(sqs_endpoint))
        return Hints(fifo.messages)

    @pytest.fixture
    def make_store(self, engine: Engine, fifo: Queue, hints: Hints) -> MakeStore:
        number = fifo.url.rpartition("/")[2].removesuffix(".fifo")

        def make(clock: Clock, namespace: str = "") -> SqlStore:
            store = DeliveredStore(engine, namespace=f"{number}{namespace}", clock=clock)
            store.hints = hints
            return store

        return make

    @pytest.fixture
    def make_tickwork(
        self, store: Store, clock: Clock, fifo: Queue, hints: Hints
    ) -> Iterator[MakeTickwork]:
        made: list[Delivered] = []

        def make(**settings: Any) -> Tickwork:
            if "doorbell" in settings:
                pytest.skip("brings a doorbell of its own, and so no messages")
            over = settings.pop("store", store)
            bell = NotedBell(fifo.url, namespace=over.namespace)
            bell.hints = hints
            settings = {"sqs_overdue": 0.0, **settings}
            tickwork = Delivered(store=over, clock=clock, doorbell=bell, **settings)
            tickwork.hints = hints
            hints.ring.append(lambda: ring_due(tickwork._runtime))
            made.append(tickwork)
            return tickwork

        yield make
        for tickwork in made:
            tickwork.close()


class TestLifeByMessages(ByMessages, LifeConformance, LostRunnerConformance, FaultConformance):
    @pytest.fixture
    def engine(self, sqlite_engine: Engine) -> Engine:
        return sqlite_engine


@pytest.mark.slow
class TestSqliteByMessages(ByMessages, RuntimeConformance):
    @pytest.fixture
    def engine(self, sqlite_engine: Engine) -> Engine:
        return sqlite_engine


@pytest.mark.slow
class TestPostgresqlByMessages(ByMessages, RuntimeConformance):
    @pytest.fixture
    def engine(self, postgresql_engine: Engine) -> Engine:
        return postgresql_engine


@pytest.mark.slow
class TestMysqlByMessages(ByMessages, RuntimeConformance):
    @pytest.fixture
    def engine(self, mysql_engine: Engine) -> Engine:
        return mysql_engine
