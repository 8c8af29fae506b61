"""Enqueue from async code, in an AsyncSession's or AsyncConnection's transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from jobs import CapabilityError, PayloadError, Tickwork
from jobs.core.clock import ManualClock
from tests.support.databases import Database

ASYNC_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
}
Work = Callable[[Any], Awaitable[None]]


@pytest.fixture(params=ASYNC_DRIVERS)
def async_database(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(f"{request.param}_database")
    return database


@pytest.fixture(params=["manual", "own"])
def tickwork(request: pytest.FixtureRequest, async_database: Database) -> Iterator[Tickwork]:
    clock = ManualClock() if request.param == "manual" else None
    tickwork = Tickwork(async_database.url, clock=clock)
    tickwork.create_schema()
    tickwork.register_handler("alpha", lambda payload: payload["n"])
    yield tickwork
    tickwork.close()


@pytest.fixture(params=["AsyncSession", "AsyncConnection"])
def run_in_session(
    request: pytest.FixtureRequest, async_database: Database
) -> Callable[[Work], None]:
    url = make_url(async_database.url).set(drivername=ASYNC_DRIVERS[async_database.name])

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        engine = create_async_engine(url)
        try:
            if request.param == "AsyncSession":
                async with AsyncSession(engine) as session:
                    yield session
            else:
                async with engine.connect() as connection:
                    yield connection
        finally:
            await engine.dispose()

    def run(work: Work) -> None:
        async def all_of_it() -> None:
            async with opened() as session:
                await work(session)

        asyncio.run(all_of_it())

    return run


def test_committed_together(tickwork: Tickwork, run_in_session: Callable[[Work], None]) -> None:
    made = []

    async def work(session: Any) -> None:
        made.append(await tickwork.aenqueue("alpha", {"n": 1}, session=session, tenant="😀"))
        later = tickwork.aenqueue("alpha", {"n": 2}, session=session, delay=3600, expires_in=9000)
        made.append(await later)
        assert len(made[0].id) == 36
        await session.commit()

    run_in_session(work)
    found = tickwork.get(made[0].id)
    assert found is not None
    assert (found.payload, found.tenant) == ({"n": 1}, "😀")
    assert tickwork.tick().jobs == (made[0].id,)
    waiting = tickwork.get(made[1].id)
    assert waiting is not None
    assert (waiting.run_at - waiting.created_at).total_seconds() == pytest.approx(3600, abs=0.01)
    assert waiting.expires_at is not None


def test_rolled_back_together(tickwork: Tickwork, run_in_session: Callable[[Work], None]) -> None:
    async def work(session: Any) -> None:
        job = await tickwork.aenqueue("alpha", {"n": 1}, session=session)
        await session.rollback()
        with pytest.raises(PayloadError):
            await tickwork.aenqueue("alpha", {"n": {1}}, session=session)
        with pytest.raises(CapabilityError, match="aenqueue"):
            tickwork.enqueue("alpha", {"n": 1}, session=session)
        assert tickwork.try_enqueue("alpha", {"n": 1}, session=session) is None
        assert tickwork.get(job.id) is None

    run_in_session(work)
    assert tickwork.list() == []


def test_without_a_session(tickwork: Tickwork) -> None:
    job = asyncio.run(tickwork.aenqueue("alpha", {"n": 3}))
    assert tickwork.tick().jobs == (job.id,)
    with pytest.raises(CapabilityError, match="AsyncSession"):
        asyncio.run(tickwork.aenqueue("alpha", {"n": 3}, session=object()))


def test_unique_jobs(tickwork: Tickwork, run_in_session: Callable[[Work], None]) -> None:
    """Keys, an alias and a replaced payload, by the caller's own async driver."""

    async def work(session: Any) -> None:
        there = await tickwork.aenqueue("alpha", {"n": 1}, dedupe_key="k")
        found = await tickwork.aenqueue(
            "alpha", {"n": 2}, dedupe_key="k", replace=True, session=session
        )
        assert (found.id, found.existing, found.payload) == (there.id, True, {"n": 2})
        first = await tickwork.aenqueue(
            "alpha", {"n": 3}, dedupe_key="d", debounce=30, job_id="a", session=session
        )
        again = await tickwork.aenqueue(
            "alpha", {"n": 4}, dedupe_key="d", debounce=30, session=session
        )
        assert (again.id, again.existing, again.payload) == (first.id, True, {"n": 4})
        await session.commit()

    async def take_over(session: Any) -> None:
        assert not (await tickwork.aenqueue("alpha", dedupe_key="k", session=session)).existing
        await session.commit()

    run_in_session(work)
    assert [job.payload["n"] for job in tickwork.list()] == [4, 2]
    tickwork.cancel(tickwork.list()[1].id)
    run_in_session(take_over)
    named = tickwork.get("a")
    assert named is not None
    assert named.payload == {"n": 4}
