"""Connections: none held while handlers run, and none trusted to stay."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import create_engine, event, insert, make_url, select, text

from jobs import JobContext, State, StoreUnavailable, Tickwork
from jobs.core.ids import new_id
from jobs.core.job import NewJob
from jobs.core.store import Verdict
from jobs.stores.sql import SqlStore
from jobs.stores.sql.engine import normalize_url
from tests.support.databases import Database
from tests.support.proxy import Cut, Proxy, proxied
from tests.support.scenarios import EFFECTS, wait_for

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SETTLE = b"attempts = j.attempts - "
CLAIM = b"state = 'processing', fence"
POOL_LIMIT = 10  # five, and five more in a rush: `make_engine`


@pytest.fixture(params=["postgresql", "mysql"])
def server_database(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(f"{request.param}_database")
    return database


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def proxy_and_url(server_database: Database) -> Iterator[tuple[Proxy, str]]:
    with proxied(server_database.url) as found:
        yield found


@pytest.fixture
def proxy(proxy_and_url: tuple[Proxy, str]) -> Proxy:
    return proxy_and_url[0]


@pytest.fixture
def runs() -> Counter[str]:
    return Counter()


@pytest.fixture
def tickwork(
    server_database: Database, proxy_and_url: tuple[Proxy, str], runs: Counter[str]
) -> Iterator[Tickwork]:
    """A system behind the proxy."""
    tickwork = Tickwork(proxy_and_url[1], retry_delay=0.0)
    tickwork.create_schema()
    EFFECTS.create(tickwork.engine)

    @tickwork.handler("alpha")
    def alpha(ctx: JobContext) -> str:
        runs[ctx.job_id] += 1
        return "done"

    @tickwork.handler("effect", transactional=True)
    def effect(ctx: JobContext) -> str:
        runs[ctx.job_id] += 1
        ctx.session.execute(insert(EFFECTS).values(job_id=ctx.job_id, fence=ctx.fence))
        return "done"

    yield tickwork
    tickwork.close()


def states(tickwork: Tickwork) -> set[str]:
    return {job.status for job in tickwork.list(limit=1000)}


def commit_of(tickwork: Tickwork, statement: bytes, *, answered: bool) -> Cut:
    """A cut at what makes this statement last: a COMMIT, or itself where it commits by itself."""
    if tickwork.store.sql.autocommits:  # type: ignore[attr-defined]
        return Cut(statement, answered=answered)
    return Cut(b"COMMIT", after=statement, answered=answered)


def expire_leases(tickwork: Tickwork) -> None:
    jobs = tickwork.store.tables.jobs  # type: ignore[attr-defined]
    with tickwork.engine.begin() as connection:
        connection.execute(
            jobs.update().where(jobs.c.state == "processing").values(lease_until=LONG_AGO)
        )


# -- none held ----------------------------------------------------------------------------------


def busy_connections(database: Database) -> tuple[int, int]:
    """Connections of others to this database: all of them, and those in a transaction."""
    queries = {
        "postgresql": "SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in transaction%') "
        "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        "mysql": "SELECT count(*), sum(id IN (SELECT trx_mysql_thread_id FROM "
        "information_schema.innodb_trx)) FROM information_schema.processlist "
        "WHERE db = database() AND id <> connection_id()",
    }
    engine = create_engine(normalize_url(database.url))
    with engine.connect() as connection:
        every, open_ones = connection.execute(text(queries[database.name])).one()
    engine.dispose()
    return int(every), int(open_ones)


def test_slow_handlers_hold_no_connection(server_database: Database, gate: threading.Event) -> None:
    tickwork = Tickwork(server_database.url, concurrency=20)
    tickwork.create_schema()
    started: list[str] = []

    @tickwork.handler("slow")
    def slow(ctx: JobContext) -> None:
        ctx.progress(50)
        started.append(ctx.job_id)
        gate.wait(30)

    tickwork.enqueue_many([("slow", {})] * 20)
    ticking = threading.Thread(target=tickwork.tick, kwargs={"limit": 20})
    ticking.start()
    wait_for(lambda: len(started) == 20)
    time.sleep(0.3)  # past the flush that writes their progress
    for _ in range(5):
        every, open_ones = busy_connections(server_database)
        assert open_ones == 0
        assert 0 < every <= POOL_LIMIT
    gate.set()
    ticking.join(30)
    assert states(tickwork) == {State.COMPLETED}
    assert busy_connections(server_database)[0] <= POOL_LIMIT
    tickwork.close()


def test_slow_handlers_leave_the_only_writer_to_others(
    sqlite_database: Database, gate: threading.Event
) -> None:
    tickwork = Tickwork(sqlite_database.url, concurrency=5)
    tickwork.create_schema()
    started: list[int] = []

    @tickwork.handler("slow")
    def slow() -> None:
        started.append(1)
        gate.wait(30)

    tickwork.enqueue_many([("slow", {})] * 5)
    ticking = threading.Thread(target=tickwork.tick)
    ticking.start()
    wait_for(lambda: len(started) == 5)
    path = make_url(sqlite_database.url).database
    assert path is not None
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    wait_for(lambda: _begins(other))
    gate.set()
    ticking.join(30)
    other.close()
    assert states(tickwork) == {State.COMPLETED}
    tickwork.close()


def _begins(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    connection.execute("ROLLBACK")
    return True


def test_more_transactional_handlers_than_connections(
    server_database: Database, gate: threading.Event
) -> None:
    """They wait for their turn, and so does nobody else for ever."""
    tickwork = Tickwork(server_database.url, concurrency=25)
    tickwork.create_schema()
    tickwork.register_handler("slow", lambda payload: gate.wait(0.2), transactional=True)
    tickwork.register_handler("quick", lambda payload: None)
    tickwork.enqueue_many([("slow", {})] * 25 + [("quick", {})] * 5)
    result = tickwork.tick(limit=30)
    assert (result.succeeded, result.late) == (30, 0)
    assert busy_connections(server_database)[0] <= POOL_LIMIT
    tickwork.close()


def test_a_pool_that_is_used_up_only_delays(server_database: Database) -> None:
    """One connection for everybody; a transactional handler keeps it for a while."""
    engine = create_engine(
        normalize_url(server_database.url), pool_size=1, max_overflow=0, pool_timeout=0.2
    )
    tickwork = Tickwork(engine)
    tickwork.create_schema()
    wait = threading.Event()
    tickwork.register_handler("slow", lambda payload: wait.wait(0.9), transactional=True)
    tickwork.register_handler("quick", lambda payload: None)
    tickwork.enqueue_many([("slow", {}), ("slow", {}), ("quick", {}), ("quick", {})])
    result = tickwork.tick()
    # Who got no connection has not begun: handed back, at no cost.
    assert (result.succeeded, result.released, result.late) == (3, 1, 0)
    (waiting,) = tickwork.list(state="pending")
    assert (waiting.kind, waiting.attempts, waiting.errors) == ("slow", 0, [])
    assert tickwork.tick().succeeded == 1
    tickwork.close()
    engine.dispose()


def test_claims_leave_a_connection_to_results(server_database: Database) -> None:
    """Two connections; every claim keeps the one it has until a result is written."""
    engine = create_engine(
        normalize_url(server_database.url), pool_size=2, max_overflow=0, pool_timeout=20
    )
    store = SqlStore(engine)
    store.create_schema()
    ids = [new_id() for _ in range(8)]
    store.insert([NewJob(id=job_id, kind="alpha", payload="{}") for job_id in ids])
    (taken,) = store.claim(1, kinds={"alpha"}, lease_seconds=60, mark=1)
    claiming, settled = threading.Semaphore(0), threading.Event()
    waited: list[bool] = []

    @event.listens_for(engine, "before_cursor_execute")
    def hold(*_: Any) -> None:
        # At the first statement of each claim: it has its connection then, and no row locked yet.
        if threading.current_thread().name.startswith("claims"):
            claiming.release()
            waited.append(settled.wait(10))

    def claim_one(_number: int) -> list[str]:
        claimed = store.claim(1, kinds={"alpha"}, lease_seconds=60, mark=1)
        return [job.id for job in claimed]

    with ThreadPoolExecutor(6, thread_name_prefix="claims") as threads:
        claims = [threads.submit(claim_one, number) for number in range(6)]
        assert claiming.acquire(timeout=10)
        late = store.settle([Verdict(taken.id, taken.fence, State.COMPLETED)])
        settled.set()
        claimed = [job_id for each in claims for job_id in each.result(timeout=30)]
    assert late == frozenset()
    assert all(waited)
    assert len(set(claimed)) == len(claimed) == 6
    engine.dispose()


def test_a_claim_that_waits_too_long_for_others_says_so(server_database: Database) -> None:
    engine = create_engine(
        normalize_url(server_database.url), pool_size=2, max_overflow=0, pool_timeout=0.1
    )
    store = SqlStore(engine)
    store.create_schema()
    with (
        store._claim_turns.one(),
        pytest.raises(StoreUnavailable, match="other claims of this process"),
    ):
        store.claim(1, kinds={"alpha"}, lease_seconds=60)
    assert store.claim(1, kinds={"alpha"}, lease_seconds=60) == []
    engine.dispose()


# -- none trusted -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cut",
    [
        lambda _: Cut(SETTLE),
        lambda tickwork: commit_of(tickwork, SETTLE, answered=False),
        lambda tickwork: commit_of(tickwork, SETTLE, answered=True),
        lambda _: Cut(SETTLE, answered=True),
        lambda _: Cut(CLAIM),
        lambda _: Cut(b"SELECT 'lane' AS what"),
    ],
    ids=[
        "settle unsent",
        "commit of settle unsent",
        "answer to commit of settle lost",
        "answer to settle lost",
        "claim unsent",
        "probe unsent",
    ],
)
def test_a_line_cut_in_mid_tick(
    tickwork: Tickwork, proxy: Proxy, runs: Counter[str], cut: Any
) -> None:
    """The tick records everything, runs nothing twice, and calls nothing late."""
    ids = tickwork.enqueue_many([("alpha", {})] * 10)
    proxy.cuts.append(cut(tickwork))
    result = tickwork.tick()
    assert proxy.cuts[0].done.is_set()
    assert (result.succeeded, result.late) == (10, 0)
    assert states(tickwork) == {State.COMPLETED}
    assert runs == dict.fromkeys(ids, 1)


def test_a_claim_whose_answer_is_lost(tickwork: Tickwork, proxy: Proxy, runs: Counter[str]) -> None:
    """Its rows are held by nobody who knows; their leases run out, and they run then."""
    ids = tickwork.enqueue_many([("alpha", {})] * 10)
    proxy.cuts.append(commit_of(tickwork, CLAIM, answered=True))
    assert tickwork.tick().processed == 0
    assert not runs
    for _ in range(3):
        expire_leases(tickwork)
        tickwork.tick()
    assert states(tickwork) == {State.COMPLETED}
    assert runs == dict.fromkeys(ids, 1)


def test_every_line_cut_again_and_again(
    tickwork: Tickwork, proxy: Proxy, runs: Counter[str]
) -> None:
    """During load: nothing is lost, and a job runs twice only if its first end was not written."""
    ids = tickwork.enqueue_many([("alpha", {})] * 200)
    over = threading.Event()

    def cutting() -> None:
        # So often at most: on a slow machine no tick would ever get through.
        for _ in range(60):
            if over.wait(0.03):
                return
            proxy.cut()

    thread = threading.Thread(target=cutting)
    thread.start()
    for _ in range(200):
        with contextlib.suppress(StoreUnavailable):
            if not tickwork.tick(limit=20).remaining:
                break
    over.set()
    thread.join()
    for _ in range(5):
        expire_leases(tickwork)
        while tickwork.tick(limit=50).processed:
            pass
    assert states(tickwork) == {State.COMPLETED}
    assert set(runs) == set(ids)


def test_a_database_that_restarts_in_mid_tick(
    tickwork: Tickwork, proxy: Proxy, runs: Counter[str]
) -> None:
    """For half a second nobody listens; the results are kept and written then."""

    @tickwork.handler("restart")
    def restart() -> None:
        proxy.down()
        threading.Timer(0.5, proxy.up).start()

    tickwork.enqueue("restart", priority=1)
    ids = tickwork.enqueue_many([("alpha", {})] * 9)
    result = tickwork.tick()
    assert (result.succeeded, result.late) == (10, 0)
    assert states(tickwork) == {State.COMPLETED}
    assert runs == dict.fromkeys(ids, 1)


def test_a_database_that_stays_away(tickwork: Tickwork, proxy: Proxy, runs: Counter[str]) -> None:
    """The tick ends inside its limit, in words; what it could not write is done again."""

    @tickwork.handler("down")
    def down(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            proxy.down()

    tickwork.enqueue("down", priority=1)
    ids = tickwork.enqueue_many([("alpha", {})] * 9)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        tickwork.tick(time_budget=1, tick_limit=3)
    # Far below what it would try without a limit, and no measure of a busy machine.
    assert time.monotonic() - began < 30
    with pytest.raises(StoreUnavailable):
        tickwork.enqueue("alpha")
    proxy.up()
    for _ in range(3):
        expire_leases(tickwork)
        tickwork.tick()
    assert states(tickwork) == {State.COMPLETED}
    assert set(runs) == set(ids)
    assert max(runs.values()) <= 2


def test_frozen_lines_only_delay(tickwork: Tickwork, proxy: Proxy, runs: Counter[str]) -> None:
    @tickwork.handler("freeze")
    def freeze() -> None:
        proxy.freeze()
        threading.Timer(0.7, proxy.thaw).start()

    tickwork.enqueue("freeze", priority=1)
    ids = tickwork.enqueue_many([("alpha", {})] * 9)
    assert tickwork.tick().succeeded == 10
    assert runs == dict.fromkeys(ids, 1)


@pytest.mark.parametrize("answered", [False, True], ids=["unsent", "answer lost"])
def test_a_line_cut_at_the_commit_of_a_transactional_handler(
    tickwork: Tickwork, proxy: Proxy, runs: Counter[str], *, answered: bool
) -> None:
    job = tickwork.enqueue("effect")
    proxy.cuts.append(Cut(b"COMMIT", after=b"INSERT INTO effects", answered=answered))
    result = tickwork.tick()
    assert proxy.cuts[0].done.is_set()
    # Once the answer is lost only the row can tell; unsent, the attempt failed and is tried again.
    assert (result.succeeded, result.retried, result.late) == ((1, 0, 0) if answered else (0, 1, 0))
    tickwork.tick()
    assert states(tickwork) == {State.COMPLETED}
    with tickwork.engine.connect() as connection:
        assert list(connection.execute(select(EFFECTS.c.job_id)).scalars()) == [job.id]
    assert runs[job.id] == (1 if answered else 2)


@pytest.mark.parametrize("answered", [False, True], ids=["unsent", "answer lost"])
@pytest.mark.parametrize("many", [False, True], ids=["enqueue", "enqueue_many"])
def test_an_enqueue_whose_answer_is_lost_is_one_job(
    tickwork: Tickwork, proxy: Proxy, *, answered: bool, many: bool
) -> None:
    if many:
        proxy.cuts.append(Cut(b"COMMIT", after=b"tickwork_jobs", answered=answered))
    else:
        proxy.cuts.append(commit_of(tickwork, b"INSERT INTO tickwork_jobs", answered=answered))
    if not many:
        ids = [tickwork.enqueue("alpha").id]
    elif answered:
        ids = tickwork.enqueue_many([("alpha", {})] * 5)
    else:
        # A generator runs only once: the caller is told, and nothing is there.
        with pytest.raises(StoreUnavailable):
            tickwork.enqueue_many([("alpha", {})] * 5)
        ids = []
    assert proxy.cuts[0].done.is_set()
    assert sorted(job.id for job in tickwork.list()) == sorted(ids)


@pytest.mark.parametrize("answered", [False, True], ids=["unsent", "answer lost"])
def test_a_cancel_whose_answer_is_lost_is_no_conflict(
    tickwork: Tickwork, proxy: Proxy, *, answered: bool
) -> None:
    job = tickwork.enqueue("alpha")
    proxy.cuts.append(commit_of(tickwork, b"error = CASE WHEN", answered=answered))
    assert tickwork.cancel(job.id).state is State.CANCELLED
    assert proxy.cuts[0].done.is_set()


def test_connections_that_died_while_they_rested(
    tickwork: Tickwork, proxy: Proxy, runs: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen function wakes up with dead sockets in its pool."""
    tickwork.enqueue("alpha")
    assert tickwork.tick().succeeded == 1
    proxy.cut()
    monkeypatch.setattr("jobs.stores.sql.engine.RESTED_SECONDS", 0.0)
    tickwork.enqueue("effect")
    assert tickwork.tick().succeeded == 1
    assert set(runs.values()) == {1}
