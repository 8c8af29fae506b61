"""A job enqueued in the caller's transaction is told of once that has committed, and never before.

Told are the doorbell, whichever it is, and the listeners of ``enqueued``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from jobs import JobContext, PayloadError, State, Tickwork
from jobs.core.doorbell import Ring
from jobs.core.events import JobEvent
from jobs.stores.sql.engine import make_engine
from tests.support.databases import Database
from tests.support.scenarios import wait_for

ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


class Bell:
    """A doorbell that looks, at each ring, whether the rows can be seen by everybody."""

    def __init__(self) -> None:
        self.rings: list[list[str]] = []
        self.delays: list[float] = []
        self.seen: list[bool] = []
        self.threads: set[int] = set()
        self.system: Tickwork | None = None

    def ring(self, rings: Sequence[Ring]) -> None:
        assert self.system is not None
        self.rings.append([ring.job_id for ring in rings])
        self.delays += [ring.delay_seconds for ring in rings]
        self.seen += [self.system.get(ring.job_id) is not None for ring in rings]
        self.threads.add(threading.get_ident())


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def tickwork(database: Database, bell: Bell, heard: list[str]) -> Iterator[Tickwork]:
    tickwork = Tickwork(database.url, doorbell=bell)
    tickwork.create_schema()
    tickwork.register_handler("alpha", lambda payload: None)

    def note(event: JobEvent) -> None:
        heard.append(event.job_id)

    tickwork.on("enqueued", note)
    bell.system = tickwork
    yield tickwork
    tickwork.close()


def rung(bell: Bell) -> list[list[str]]:
    """What was rung for, each ring once its rows were there for all to see."""
    assert all(bell.seen)
    return bell.rings


# -- whoever began the transaction --------------------------------------------------------------


@pytest.fixture(params=["Session", "scoped_session", "Connection", "Session on a Connection"])
def session(request: pytest.FixtureRequest, tickwork: Tickwork) -> Iterator[Any]:
    match request.param:
        case "Session":
            with Session(tickwork.engine) as session:
                yield session
        case "scoped_session":
            scoped = scoped_session(sessionmaker(tickwork.engine))
            yield scoped
            scoped.remove()
        case "Connection":
            with tickwork.engine.connect() as connection:
                yield connection
        case _:
            with tickwork.engine.connect() as connection, Session(connection) as session:
                yield session


def test_all_of_a_transaction_is_rung_for_once(
    tickwork: Tickwork, session: Any, bell: Bell, heard: list[str]
) -> None:
    one = tickwork.enqueue("alpha", session=session)
    many = tickwork.enqueue_many([("alpha", {})] * 3, session=session)
    other = tickwork.try_enqueue("alpha", session=session)
    assert other is not None
    assert (bell.rings, heard) == ([], [])

    session.commit()

    assert rung(bell) == [[one.id, *many, other.id]]
    assert heard == [one.id, *many, other.id]
    session.commit()
    later = tickwork.enqueue("alpha", session=session)
    session.commit()
    assert rung(bell)[1:] == [[later.id]]


def test_nothing_is_rung_for_after_a_rollback(
    tickwork: Tickwork, session: Any, bell: Bell, heard: list[str]
) -> None:
    tickwork.enqueue("alpha", session=session)
    tickwork.enqueue_many([("alpha", {})] * 3, session=session)
    session.rollback()
    assert (bell.rings, heard) == ([], [])
    kept = tickwork.enqueue("alpha", session=session)
    session.commit()
    assert rung(bell) == [[kept.id]]
    assert heard == [kept.id]


def test_a_savepoint_rolled_back_takes_its_rings_with_it(
    tickwork: Tickwork, session: Any, bell: Bell, heard: list[str]
) -> None:
    first = tickwork.enqueue("alpha", session=session)
    with session.begin_nested():
        second = tickwork.enqueue("alpha", session=session)
    outer = session.begin_nested()
    tickwork.enqueue("alpha", session=session)
    with session.begin_nested():
        tickwork.enqueue("alpha", session=session)
    outer.rollback()
    with pytest.raises(PayloadError):
        tickwork.enqueue("alpha", {"n": {1}}, session=session)
    third = tickwork.enqueue("alpha", session=session)
    assert bell.rings == []

    session.commit()

    assert rung(bell) == [[first.id, second.id, third.id]]
    assert heard == [first.id, second.id, third.id]


def test_a_transaction_never_committed_tells_nothing(
    tickwork: Tickwork, bell: Bell, heard: list[str]
) -> None:
    with tickwork.engine.connect() as connection:
        tickwork.enqueue("alpha", session=connection)
    with Session(tickwork.engine) as session:
        tickwork.enqueue("alpha", session=session)
    # The same connections of the pool, with other work.
    for _ in range(3):
        with tickwork.engine.begin() as connection:
            connection.execute(text("SELECT 1"))
    assert (bell.rings, heard) == ([], [])
    assert tickwork.list() == []


def test_a_block_that_commits_by_itself(tickwork: Tickwork, bell: Bell) -> None:
    with tickwork.engine.begin() as connection:
        one = tickwork.enqueue("alpha", session=connection)
        assert bell.rings == []
    with Session(tickwork.engine) as session, session.begin():
        two = tickwork.enqueue("alpha", session=session)
    with contextlib.suppress(LookupError), tickwork.engine.begin() as connection:
        tickwork.enqueue("alpha", session=connection)
        raise LookupError
    assert rung(bell) == [[one.id], [two.id]]


def test_a_session_that_joined_does_not_commit_for_the_connection(
    tickwork: Tickwork, bell: Bell
) -> None:
    """As test suites do it, to roll everything back in the end."""
    with tickwork.engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            job = tickwork.enqueue("alpha", session=session)
            session.commit()
        assert bell.rings == []
        outer.rollback()
        assert bell.rings == []
        with connection.begin(), Session(connection) as session:
            job = tickwork.enqueue("alpha", session=session)
            session.commit()
    assert rung(bell) == [[job.id]]


def test_a_connection_that_commits_each_statement(tickwork: Tickwork, bell: Bell) -> None:
    with tickwork.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        job = tickwork.enqueue("alpha", session=connection)
        if tickwork.engine.dialect.name == "sqlite":  # our engine begins by itself there
            assert bell.rings == []
            connection.commit()
        assert rung(bell) == [[job.id]]


def test_two_phases_tell_nothing_early(postgresql_database: Database, bell: Bell) -> None:
    """Its servers need not allow prepared transactions: what is not prepared commits in one."""
    tickwork = Tickwork(postgresql_database.url, doorbell=bell)
    tickwork.create_schema()
    bell.system = tickwork
    with tickwork.engine.connect() as connection:
        transaction = connection.begin_twophase()
        tickwork.enqueue("alpha", session=connection)
        assert bell.rings == []
        transaction.rollback()
    assert bell.rings == []
    tickwork.close()


def test_two_transactions_at_once_do_not_mix(tickwork: Tickwork, bell: Bell) -> None:
    if tickwork.engine.dialect.name == "sqlite":
        pytest.skip("one writer at a time")
    with tickwork.engine.connect() as first, tickwork.engine.connect() as second:
        one = tickwork.enqueue("alpha", session=first)
        two = tickwork.enqueue("alpha", session=second)
        second.commit()
        assert rung(bell) == [[two.id]]
        first.commit()
        assert rung(bell) == [[two.id], [one.id]]


def test_another_engine_of_the_same_database(
    tickwork: Tickwork, database: Database, bell: Bell
) -> None:
    """The caller's own, with options of its own: hooked once, however often it is used."""
    engine = make_engine(database.url)
    for view in (engine, engine.execution_options(logging_token="view"), engine):
        with view.begin() as connection:
            job = tickwork.enqueue("alpha", session=connection)
        assert rung(bell)[-1] == [job.id]
        with view.connect() as connection:
            tickwork.enqueue("alpha", session=connection)
            connection.rollback()
    assert len(bell.rings) == 3
    engine.dispose()


def test_a_delay_counts_from_the_enqueue(tickwork: Tickwork, bell: Bell) -> None:
    with tickwork.engine.begin() as connection:
        tickwork.enqueue_many([("alpha", {}, {"delay": 0.05})], session=connection)
        job = tickwork.enqueue("alpha", session=connection, delay=0.01)
        # What the doorbell is told counts from a moment after the row was made.
        wait_for(lambda: tickwork.clock.now() > job.run_at + timedelta(seconds=0.5))
    assert bell.delays[1] == 0.0
    assert bell.delays[0] < 0.05


def test_a_commit_stands_whatever_is_told(
    tickwork: Tickwork,
    bell: Bell,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ring(_rings: Sequence[Ring]) -> None:
        raise LookupError("the bell fell down")

    monkeypatch.setattr(bell, "ring", ring)
    with caplog.at_level(logging.ERROR, "tickwork"), tickwork.engine.begin() as connection:
        job = tickwork.enqueue("alpha", session=connection)
    assert tickwork.get(job.id) is not None
    assert "the bell fell down" in caplog.text
    assert tickwork.enqueue("alpha").state is State.PENDING


def test_a_failed_commit_tells_nothing(postgresql_database: Database, bell: Bell) -> None:
    """A constraint that is checked at the commit alone."""
    tickwork = Tickwork(postgresql_database.url, doorbell=bell)
    tickwork.create_schema()
    bell.system = tickwork
    with tickwork.engine.begin() as connection:
        connection.execute(text("CREATE TABLE pairs (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))

    def work(connection: Connection) -> None:
        tickwork.enqueue("alpha", session=connection)
        connection.execute(text("INSERT INTO pairs VALUES (1), (1)"))
        connection.commit()

    with tickwork.engine.connect() as connection:
        with pytest.raises(Exception, match="pairs_n_key"):
            work(connection)
        connection.rollback()
        connection.execute(text("SELECT 1"))
        connection.commit()
    assert bell.rings == []
    tickwork.close()


# -- async ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("way", ["AsyncSession", "AsyncConnection"])
def test_async_sessions(request: pytest.FixtureRequest, kind: str, way: str, bell: Bell) -> None:
    database: Database = request.getfixturevalue(f"{kind}_database")
    tickwork = Tickwork(database.url, doorbell=bell)
    tickwork.create_schema()
    bell.system = tickwork
    url = make_url(database.url).set(drivername=ASYNC_DRIVERS[kind])
    made: list[str] = []

    async def work(session: Any) -> None:
        made.append((await tickwork.aenqueue("alpha", session=session)).id)
        made.append((await tickwork.aenqueue("alpha", session=session)).id)
        assert bell.rings == []
        await session.commit()
        made.append((await tickwork.aenqueue("alpha", session=session)).id)
        await session.rollback()

    async def all_of_it() -> None:
        engine = create_async_engine(url)
        opened: Any = AsyncSession(engine) if way == "AsyncSession" else engine.connect()
        async with opened as session:
            await work(session)
        await engine.dispose()

    asyncio.run(all_of_it())  # ends when its threads have

    assert rung(bell) == [made[:2]]
    assert threading.get_ident() not in bell.threads, "the event loop was held up"
    tickwork.close()


def test_a_sync_session_in_async_code_does_not_hold_up_the_loop(
    tickwork: Tickwork, bell: Bell
) -> None:
    async def work() -> str:
        with tickwork.engine.begin() as connection:
            return tickwork.enqueue("alpha", session=connection).id

    job_id = asyncio.run(work())
    assert rung(bell) == [[job_id]]
    assert threading.get_ident() not in bell.threads


# -- transactional handlers, and the runner of a laptop --------------------------------------------


def test_children_are_rung_for_when_their_parent_has_committed(
    tickwork: Tickwork, bell: Bell
) -> None:
    children: list[str] = []
    early: list[int] = []

    @tickwork.handler("parent", transactional=True)
    def parent(payload: dict[str, Any], ctx: JobContext) -> None:
        children.append(tickwork.enqueue("alpha", session=ctx.session).id)
        if payload.get("commits"):
            ctx.session.commit()
        children.extend(tickwork.enqueue_many([("alpha", {})] * 2, session=ctx.session))
        early.append(len(bell.rings))

    for commits in (False, True):
        children.clear()
        tickwork.enqueue("parent", {"commits": commits})
        bell.rings.clear()
        early.clear()
        assert tickwork.tick(limit=1).succeeded == 1
        assert early == [0]
        assert rung(bell) == [children]
        while tickwork.tick().processed:
            pass


@pytest.mark.parametrize("commits", [False, True])
def test_children_of_a_failed_parent_are_not_rung_for(
    tickwork: Tickwork, bell: Bell, heard: list[str], commits: bool
) -> None:
    @tickwork.handler("parent", transactional=True, max_attempts=1)
    def parent(payload: dict[str, Any], ctx: JobContext) -> None:
        tickwork.enqueue("alpha", session=ctx.session)
        if commits:
            ctx.session.commit()
        raise LookupError

    job = tickwork.enqueue("parent")
    bell.rings.clear()
    assert tickwork.tick().failed == 1
    assert bell.rings == []
    assert heard == [job.id]
    assert [each.id for each in tickwork.list()] == [job.id]


def test_the_local_runner_wakes_after_the_commit(database: Database) -> None:
    tickwork = Tickwork(database.url, poll_interval=3600.0)
    tickwork.create_schema()
    ran = threading.Event()
    tickwork.register_handler("alpha", lambda payload: ran.set())
    tickwork.start()
    try:
        wait_for(lambda: tickwork._local is not None and tickwork._local._busy == 0)
        with tickwork.engine.begin() as connection:
            tickwork.enqueue("alpha", session=connection)
        assert ran.wait(30), "the next poll is an hour away"
    finally:
        tickwork.close()
