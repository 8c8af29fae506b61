"""However many tick at once, the alerts are looked at once, and each change is delivered once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from jobs import Tickwork
from jobs.core.clock import ManualClock
from jobs.core.deadline import invocation_budget
from jobs.core.look import ALERT_KIND, EVERY_SECONDS
from jobs.core.store import JobFilter
from jobs.runtime.deliver import Delivery
from jobs.runtime.watch import look_at_alerts
from jobs.stores.sql import SqlStore
from tests.support.databases import Database
from tests.support.web import eventually
from tests.test_statements import counted

TOO_MANY = {"warning": None, "alert": 2}


@contextmanager
def opened(database: Database, clock: ManualClock) -> Iterator[Tickwork]:
    """One process's system; alerts go where nobody listens."""
    store = SqlStore(database.url, clock=clock)
    with closing(Tickwork(store=store, clock=clock, alert_slack_url="http://127.0.0.1:9/")) as made:
        made.alert("depth", **TOO_MANY)
        yield made


def test_ticks_of_several_processes_at_once(database: Database) -> None:
    clock = ManualClock()
    with opened(database, clock) as first, opened(database, clock) as second:
        first.create_schema()
        systems = [first, second] * 3
        for system in (first, second):
            system.register_handler("work", lambda: None)
        for queue in ("a", "b"):
            first.enqueue_many([("unhandled", {})] * 4, queue=queue)
        first.tick()
        clock.advance(EVERY_SECONDS)
        first.enqueue_many([("work", {}, {"queue": f"w{n}"}) for n in range(12)])
        start = threading.Barrier(len(systems))
        errors: list[BaseException] = []

        def tick(system: Tickwork) -> None:
            start.wait()
            try:
                system.tick(limit=2)
            except BaseException as error:
                errors.append(error)
                raise

        threads = [threading.Thread(target=tick, args=(system,)) for system in systems]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        told = first.store.list(JobFilter(kind=ALERT_KIND), 100)

        assert errors == []
        assert sorted(job.payload["alert"]["subject"] for job in told) == ["a", "b"]
        assert sorted(alert.subject for alert in first.alerts()) == ["a", "b"]


def test_what_ticks_with_nothing_to_do_cost(database: Database) -> None:
    """A cron that comes every minute, over two hours: the looks at the alerts are in it."""
    clock = ManualClock()
    with opened(database, clock) as tickwork:
        tickwork.create_schema()
        tickwork.register_handler("work", lambda: None)
        tickwork.enqueue("work")
        for _ in range(3):
            tickwork.tick()
            clock.advance(EVERY_SECONDS)
        with counted(tickwork) as seen:
            for _ in range(120):
                tickwork.tick()
                clock.advance(EVERY_SECONDS)

        assert len(seen) <= 3 * 120
        with counted(tickwork) as seen:
            tickwork.store.claim_alerts(0)
            clock.advance(EVERY_SECONDS)
            look_at_alerts(tickwork._runtime)
        assert len(seen) <= (16 if database.name == "mysql" else 14)


def test_a_consumer_of_messages_looks_as_well(sqlite_database: Database) -> None:
    clock = ManualClock()
    with opened(sqlite_database, clock) as tickwork:
        tickwork.create_schema()
        tickwork.register_handler("work", lambda: None)
        tickwork.enqueue_many([("unhandled", {})] * 4)
        job = tickwork.enqueue("work")
        budget = invocation_budget(clock.monotonic(), 30.0, 5.0)
        with counted(tickwork) as seen:
            tickwork.deliver([Delivery(0, job.id)], budget)
        first = len(seen)
        with counted(tickwork) as seen:
            tickwork.deliver([Delivery(0, tickwork.enqueue("work").id)], budget)

        assert [alert.name for alert in tickwork.alerts()] == ["depth"]
        assert len(seen) < first  # once a minute by each process


def test_a_worker_looks_as_well(sqlite_database: Database) -> None:
    clock = ManualClock()
    store = SqlStore(sqlite_database.url, clock=clock)
    with closing(Tickwork(store=store, clock=clock, poll_interval=0.05)) as tickwork:
        tickwork.create_schema()
        tickwork.alert("depth", **TOO_MANY)
        tickwork.register_handler("work", lambda: None)
        tickwork.enqueue_many([("unhandled", {})] * 4)
        tickwork.tick()
        clock.advance(EVERY_SECONDS)
        tickwork.enqueue("work")
        worker = tickwork.worker()
        worker.start()
        try:
            assert eventually(lambda: [alert.name for alert in tickwork.alerts()] == ["depth"])
        finally:
            worker.stop(10)
            assert worker.wait(20)
        assert worker.error is None


@pytest.mark.parametrize("off", ["rule", "all"])
def test_switched_off(off: str, sqlite_database: Database) -> None:
    clock = ManualClock()
    store = SqlStore(sqlite_database.url, clock=clock)
    with closing(Tickwork(store=store, clock=clock, alerts=off != "all")) as tickwork:
        tickwork.create_schema()
        tickwork.alert("depth", **TOO_MANY, enabled=off != "rule")
        tickwork.register_handler("work", lambda: None)
        tickwork.enqueue_many([("unhandled", {})] * 4)
        for _ in range(3):
            tickwork.enqueue("work")
            tickwork.tick()
            clock.advance(EVERY_SECONDS)

        assert tickwork.alerts() == []
