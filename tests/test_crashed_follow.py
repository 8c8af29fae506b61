"""Runners that die while a chain goes on or a group ends: what follows comes once, and comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from jobs import State, Tickwork
from tests.support.crashing import Crasher
from tests.support.databases import Database
from tests.support.scenarios import EFFECTS, EXIT_CODE, build, wait_for
from tests.test_crashes import expire_leases, starts, tick_to_the_end


@pytest.fixture
def tickwork(database: Database, log: Path) -> Iterator[Tickwork]:
    tickwork = build(database.url, str(log))
    tickwork.create_schema()
    EFFECTS.create(tickwork.engine)
    yield tickwork
    tickwork.close()


def enqueue_all(tickwork: Tickwork) -> dict[str, str]:
    """A chain, one that begins with a transactional step, and a group; by the first's ids."""
    plain = tickwork.chain([("note", {"of": "plain"}), ("note", {"of": "plain"})])
    effect = tickwork.chain([("effect", {"of": "effect"}), ("note", {"of": "effect"})])
    with tickwork.group(on_success=("note", {"of": "done"})) as group:
        group.enqueue_many([("note", {"of": "group"})] * 2)
    return {"plain": plain.id, "effect": effect.id, "group": group.id}


@pytest.mark.parametrize(
    "database",
    ["sqlite", *(pytest.param(n, marks=pytest.mark.slow) for n in ("postgresql", "mysql"))],
    indirect=True,
)
def test_a_crash_at_every_statement(
    tickwork: Tickwork, crasher: Crasher, database: Database, log: Path
) -> None:
    for crash_at in range(1, 300):
        tickwork.clear(force=True)
        log.unlink(missing_ok=True)
        ids = enqueue_all(tickwork)
        code = crasher.run(
            "tick",
            url=database.url,
            log=str(log),
            crash_at=crash_at,
            settings={"concurrency": 1},
        )
        tick_to_the_end(tickwork)
        jobs = tickwork.list(limit=100)
        assert {job.state for job in jobs} == {State.COMPLETED}, crash_at
        came = Counter(job.payload.get("of", "child") for job in jobs)
        expected = {"plain": 2, "effect": 2, "child": 1, "group": 2, "done": 1}
        assert came == expected, crash_at
        assert tickwork.groups.get(ids["group"]).counts == {"completed": 2}, crash_at
        with tickwork.engine.connect() as connection:
            chosen = select(EFFECTS).where(EFFECTS.c.job_id == ids["effect"])
            assert len(connection.execute(chosen).all()) == 1, crash_at
        if code == 0:
            assert crash_at > 30
            return
        assert code == EXIT_CODE
    raise AssertionError("the tick never came to its end")


def test_the_last_jobs_of_a_group_end_in_many_processes_at_once(
    tickwork: Tickwork, crasher: Crasher, database: Database, log: Path
) -> None:
    for count in (2, 5, 8):
        tickwork.clear(force=True)
        log.unlink(missing_ok=True)
        release = log.with_name("log.release")
        release.unlink(missing_ok=True)
        group = tickwork.group([("hang", {})] * count, on_success="note", on_done="note")
        pids = [
            crasher.start("tick", url=database.url, log=str(log), limit=1) for _ in range(count)
        ]
        wait_for(lambda count=count: len(starts(log)) == count)  # type: ignore[misc]
        release.touch()
        assert [crasher.wait(pid) for pid in pids] == [0] * count
        assert tickwork.groups.get(group.id).counts == {"completed": count}
        assert len(tickwork.list(kind="note")) == 2
        expire_leases(tickwork)
        tickwork.tick()
        assert len(tickwork.list(kind="note")) == 2
