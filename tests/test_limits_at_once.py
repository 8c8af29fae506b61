"""Limits over several processes, some of which are killed: at no instant are there more."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import func, select

from jobs import State, Tickwork
from tests.support import limited
from tests.support.crashing import Crasher
from tests.support.databases import Database
from tests.support.limited import RUNNING, SEEN
from tests.support.scenarios import wait_for

PROCESSES, RUNNERS, JOBS = 4, 5, 60


@pytest.fixture(params=["postgresql", "mysql", pytest.param("sqlite", marks=pytest.mark.slow)])
def shared(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(f"{request.param}_database")
    return database


@pytest.fixture
def tickwork(shared: Database) -> Iterator[Tickwork]:
    tickwork = limited.build(shared.url)
    tickwork.create_schema()
    limited.METADATA.create_all(tickwork.engine)
    yield tickwork
    tickwork.close()


def seen(tickwork: Tickwork) -> int:
    with tickwork.engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(SEEN)).scalar_one())


def bury(tickwork: Tickwork, pid: int) -> None:
    """Take back what a dead process noted, so that its jobs, which ran no more, count no more."""
    with tickwork.engine.begin() as connection:
        connection.execute(RUNNING.delete().where(RUNNING.c.pid == pid))


def test_never_more_than_the_limits_though_processes_die(
    tickwork: Tickwork, shared: Database
) -> None:
    tickwork.enqueue_many([("narrow", {})] * JOBS)
    tickwork.enqueue_many([("keyed", {"key": f"k{n % 4}"}) for n in range(JOBS)])
    with Crasher() as crasher:
        pids = [
            crasher.start("limited_ticks", url=shared.url, runners=RUNNERS)
            for _ in range(PROCESSES)
        ]
        for number, pid in enumerate(pids[:2]):
            wait_for(lambda enough=15 * (number + 1): seen(tickwork) >= enough, 60)  # type: ignore[misc]
            os.kill(pid, signal.SIGKILL)
            assert crasher.wait(pid) == -signal.SIGKILL
            bury(tickwork, pid)
        for pid in pids[2:]:
            assert crasher.wait(pid) == 0

    assert set(tickwork.counts()) == {
        ("default", "narrow", "completed"),
        ("default", "keyed", "completed"),
    }
    assert sum(tickwork.counts().values()) == 2 * JOBS
    with tickwork.engine.connect() as connection:
        found = select(SEEN.c.name, func.max(SEEN.c.at_once)).group_by(SEEN.c.name)
        most = {row[0]: row[1] for row in connection.execute(found)}
    assert most.pop("narrow") <= 3
    assert set(most.values()) == {1}
    assert len(most) == 4
    assert not tickwork.list(state=State.FAILED)


@pytest.mark.slow
def test_a_tenant_with_100_000_jobs_delays_another_by_one_tick_at_most(database: Database) -> None:
    with closing(Tickwork(database.url)) as tickwork:
        tickwork.create_schema()
        tickwork.register_handler("note", lambda payload: None)
        for _ in range(20):
            tickwork.enqueue_many([("note", {})] * 5_000, tenant="big")
        assert tickwork.tick(limit=10).succeeded == 10
        single = tickwork.enqueue("note", tenant="small")
        result = tickwork.tick(limit=10)
        assert single.id in result.jobs
        assert result.succeeded == 10
