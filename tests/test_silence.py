"""A database that keeps its connections and answers nothing: no operation waits for it for ever."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, event, make_url, text

from jobs import State, StoreUnavailable, Tickwork
from jobs.stores.sql import SqlStore, lines
from jobs.stores.sql.engine import make_engine, normalize_url
from tests.support.databases import Database
from tests.support.proxy import Proxy, proxied
from tests.support.scenarios import wait_for

ANSWER_SECONDS = 0.5


@pytest.fixture(params=["postgresql", "mysql"])
def server_database(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(f"{request.param}_database")
    return database


@pytest.fixture
def proxy_and_url(server_database: Database) -> Iterator[tuple[Proxy, str]]:
    with proxied(server_database.url) as (proxy, url):
        # The least that libpq knows.
        impatient = make_url(url).update_query_dict({"connect_timeout": "2"})
        yield proxy, impatient.render_as_string(hide_password=False)


@pytest.fixture
def proxy(proxy_and_url: tuple[Proxy, str]) -> Proxy:
    return proxy_and_url[0]


@pytest.fixture
def runs() -> Counter[str]:
    return Counter()


def build(database: Any, runs: Counter[str]) -> Tickwork:
    tickwork = Tickwork(store=SqlStore(database, answer_seconds=ANSWER_SECONDS), retry_delay=0.0)
    tickwork.create_schema()
    tickwork.register_handler("alpha", lambda payload, ctx: runs.update([ctx.job_id]))
    return tickwork


@pytest.fixture
def tickwork(proxy_and_url: tuple[Proxy, str], runs: Counter[str]) -> Iterator[Tickwork]:
    tickwork = build(proxy_and_url[1], runs)
    yield tickwork
    tickwork.close()


OPERATIONS: dict[str, Callable[[Tickwork], object]] = {
    "enqueue": lambda tickwork: tickwork.enqueue("alpha"),
    "get": lambda tickwork: tickwork.get("018f0000-0000-7000-8000-000000000000"),
    "list": lambda tickwork: tickwork.list(),
    "counts": lambda tickwork: tickwork.counts(),
    "tick": lambda tickwork: tickwork.tick(),
    "reclaim": lambda tickwork: tickwork.reclaim(),
    "now": lambda tickwork: tickwork.store.now(),
    "claim": lambda tickwork: tickwork.store.claim(1, kinds={"alpha"}, lease_seconds=60),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_line_that_fell_silent_is_replaced(
    tickwork: Tickwork, proxy: Proxy, operation: Callable[[Tickwork], object]
) -> None:
    """A NAT that forgot a line, a pooler that was moved: the next line is as good as new."""
    tickwork.enqueue("alpha")
    proxy.strand()
    operation(tickwork)


@pytest.mark.parametrize("name", ["enqueue", "tick"])  # each waits for a new line as well
def test_a_silent_database_is_told_as_one(tickwork: Tickwork, proxy: Proxy, name: str) -> None:
    operation = OPERATIONS[name]
    tickwork.enqueue("alpha")
    proxy.freeze()
    with pytest.raises(StoreUnavailable):
        operation(tickwork)
    proxy.thaw()
    operation(tickwork)


def test_a_tick_whose_lines_fall_silent_writes_its_results(
    tickwork: Tickwork, proxy: Proxy, runs: Counter[str]
) -> None:
    tickwork.register_handler("strand", lambda payload: proxy.strand())
    tickwork.enqueue("strand", priority=1)
    ids = tickwork.enqueue_many([("alpha", {})] * 9)
    result = tickwork.tick()
    assert (result.succeeded, result.late) == (10, 0)
    assert runs == dict.fromkeys(ids, 1)


def test_a_tick_in_a_silent_database_ends_inside_its_limit(
    tickwork: Tickwork, proxy: Proxy, runs: Counter[str]
) -> None:
    """It would hang until the platform ends the process, which tells nobody anything."""
    tickwork.register_handler("freeze", lambda _, ctx: ctx.attempt > 1 or proxy.freeze())
    tickwork.enqueue("freeze", priority=1)
    ids = tickwork.enqueue_many([("alpha", {})] * 9)
    with pytest.raises(StoreUnavailable):
        tickwork.tick(time_budget=1, tick_limit=3)
    proxy.thaw()
    jobs = tickwork.store.tables.jobs  # type: ignore[attr-defined]
    now = tickwork.store.now()
    with tickwork.engine.begin() as connection:
        connection.execute(
            jobs.update().where(jobs.c.state == "processing").values(lease_until=now)
        )
    while tickwork.tick().remaining:
        pass
    assert {job.status for job in tickwork.list() if job.kind == "alpha"} == {State.COMPLETED}
    assert set(runs) == set(ids)


@pytest.mark.parametrize("where", ["the rows", "the commit"])
def test_many_jobs_into_silence(
    tickwork: Tickwork, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A generator runs only once, so nothing is tried again: the caller is told."""
    monkeypatch.setattr("jobs.stores.sql.attempts.LONG_ANSWER_SECONDS", ANSWER_SECONDS)

    def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
        yield from [("alpha", {})] * 3
        if where == "the rows":
            proxy.strand()

    if where == "the commit":
        event.listen(tickwork.engine, "commit", lambda _: proxy.strand(), once=True)
    with pytest.raises(StoreUnavailable, match="nothing was enqueued"):
        tickwork.enqueue_many(jobs())
    assert tickwork.list() == []


def test_connections_that_fell_silent_while_they_rested(
    tickwork: Tickwork, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are tried before use, and the trial does not wait for ever either."""
    monkeypatch.setattr("jobs.stores.sql.engine.RESTED_SECONDS", 0.0)
    monkeypatch.setattr("jobs.stores.sql.engine.PING_SECONDS", ANSWER_SECONDS)
    tickwork.enqueue("alpha")
    proxy.strand()
    tickwork.store.attempts.answer_seconds = 60.0  # type: ignore[attr-defined]
    assert tickwork.tick().succeeded == 1


def test_an_engine_of_the_callers_own_is_watched_too(
    proxy_and_url: tuple[Proxy, str], runs: Counter[str]
) -> None:
    proxy, url = proxy_and_url
    engine = create_engine(normalize_url(url), pool_size=1)
    tickwork = build(engine, runs)
    job = tickwork.enqueue("alpha")
    proxy.strand()
    assert tickwork.tick().jobs == (job.id,)
    tickwork.close()
    engine.dispose()


def test_a_backend_that_is_stopped(postgresql_database: Database, runs: Counter[str]) -> None:
    """The kernel goes on acknowledging what it is sent, so no limit of TCP's would notice."""
    tickwork = build(postgresql_database.url, runs)
    tickwork.enqueue("alpha")
    with tickwork.engine.connect() as connection:
        backend: int = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    os.kill(backend, signal.SIGSTOP)
    try:
        assert tickwork.tick().succeeded == 1
    finally:
        os.kill(backend, signal.SIGCONT)
    tickwork.close()


def test_nothing_is_cut_that_answers(
    server_database: Database, runs: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Lines that come and go under a watch that looks without pause."""
    tickwork = build(server_database.url, runs)
    tickwork.store.attempts.answer_seconds = 30.0  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        threads = [
            threading.Thread(target=lambda: [tickwork.enqueue("alpha") for _ in range(40)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while tickwork.tick(limit=50).remaining:
            pass
    assert len(runs) == 160
    assert not [record for record in caplog.records if "cutting" in record.getMessage()]
    assert not lines._WATCH._lines
    tickwork.close()


def test_the_watch_sleeps_and_wakes(server_database: Database, runs: Counter[str]) -> None:
    tickwork = build(server_database.url, runs)
    for _ in range(3):
        tickwork.enqueue("alpha")
        wait_for(lambda: lines._WATCH._asleep)
    with proxied(server_database.url) as (proxy, url):
        behind = build(url, runs)
        proxy.strand()
        behind.enqueue("alpha")
        behind.close()
    assert len(tickwork.list()) == 4
    tickwork.close()


def test_a_forked_process_watches_its_own_lines(server_database: Database) -> None:
    """A child has no thread of its parent's, and must not cut the lines that the parent is on."""
    engine = make_engine(server_database.url)
    with engine.connect() as connection:
        line = lines.Watched(connection.connection.driver_connection, 60.0)
        with line:
            child = os.fork()
            if not child:
                code = 1
                with contextlib.suppress(BaseException):
                    line.deadline = time.monotonic()
                    left, right = _socket_pair()
                    with lines.Watched(_Driver(left), 0.05):
                        assert right.recv(1) == b""  # cut
                    assert not line.cut
                    code = 0
                os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not line.cut
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()


class _Driver:
    """Has its socket where PyMySQL has it."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock


def _socket_pair() -> tuple[Any, Any]:
    import socket

    left, right = socket.socketpair()
    right.settimeout(20)
    return left, right


def test_sqlite_is_not_watched(sqlite_database: Database, runs: Counter[str]) -> None:
    tickwork = build(sqlite_database.url, runs)
    store: Any = tickwork.store
    with store.attempts._operating(store.engine, None) as connection:
        assert not lines._WATCH._lines
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    tickwork.close()


# -- limits of the network ------------------------------------------------------------------------


def test_postgresql_lines_have_limits(postgresql_database: Database) -> None:
    engine = make_engine(postgresql_database.url, connect_seconds=4.2)
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        told = driver.info.get_parameters()
    assert (told["connect_timeout"], told["tcp_user_timeout"]) == ("5", "20000")
    assert [told[f"keepalives_{name}"] for name in ("idle", "interval", "count")] == [
        "30",
        "5",
        "3",
    ]
    engine.dispose()


def test_mysql_lines_have_limits(mysql_database: Database) -> None:
    engine = make_engine(mysql_database.url, connect_seconds=4.2)
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        # Connecting was held to the short limit; a handler's own query may take its time.
        assert (driver.connect_timeout, driver._read_timeout) == (5, 900)
        assert driver._write_timeout == 60
        connection.execute(text("SELECT 1"))
        assert driver._sock.gettimeout() == 900
    engine.dispose()


def test_a_server_that_takes_connections_and_says_nothing(
    server_database: Database, runs: Counter[str]
) -> None:
    """What listens is a kernel; the greeting never comes."""
    with proxied(server_database.url) as (proxy, url):
        proxy.freeze()
        engine = make_engine(url, connect_seconds=1.0)
        store = SqlStore(engine)
        with pytest.raises(StoreUnavailable, match="no connection to the database"):
            store.now()
        engine.dispose()


def test_the_urls_own_limits_go_before(
    postgresql_database: Database, mysql_database: Database
) -> None:
    own = {"connect_timeout": "7", "tcp_user_timeout": "3000"}
    url = make_url(postgresql_database.url).update_query_dict(own)
    engine = make_engine(url.render_as_string(hide_password=False))
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        told = driver.info.get_parameters()
    assert (told["connect_timeout"], told["tcp_user_timeout"]) == ("7", "3000")
    engine.dispose()

    own = {"connect_timeout": "7", "read_timeout": "33"}
    url = make_url(mysql_database.url).update_query_dict(own)
    engine = make_engine(url.render_as_string(hide_password=False))
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert (driver.connect_timeout, driver._read_timeout) == (7, 33)
    engine.dispose()


@pytest.mark.parametrize(
    ("tick_limit", "answer_seconds"), [(60.0, 15.0), (900.0, 15.0), (30.0, 7.5), (5.0, 4.0)]
)
def test_the_time_to_answer_comes_from_the_ticks_limit(
    sqlite_database: Database, tick_limit: float, answer_seconds: float
) -> None:
    tickwork = Tickwork(sqlite_database.url, tick_limit=tick_limit, time_budget=1.0)
    assert tickwork.store.attempts.answer_seconds == answer_seconds  # type: ignore[attr-defined]
    tickwork.close()
