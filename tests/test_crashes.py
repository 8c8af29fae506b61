"""Runners that really die: nothing is lost, and only the job that killed its runner pays."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs import Job, State, Tickwork
from tests.support.crashing import Crasher
from tests.support.databases import Database
from tests.support.scenarios import EFFECTS, EXIT_CODE, build, wait_for

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def tickwork(database: Database, log: Path) -> Iterator[Tickwork]:
    """The other process: this one."""
    tickwork = build(database.url, str(log))
    tickwork.create_schema()
    EFFECTS.create(tickwork.engine)
    yield tickwork
    tickwork.close()


def starts(log: Path) -> Counter[str]:
    """How often each job was started, by id."""
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(line.split()[1] for line in lines)


def expire_leases(tickwork: Tickwork) -> None:
    """Move time: every lease ran out long ago, and every retry is due.

    By the ids that can be seen: a wider update would wait for rows of transactions still open.
    """
    jobs = tickwork.store.tables.jobs  # type: ignore[attr-defined]
    for state, column in ((State.PROCESSING, jobs.c.lease_until), (State.PENDING, jobs.c.run_at)):
        for job in tickwork.list(state=state, limit=1000):
            with tickwork.engine.begin() as connection:
                row = jobs.update().where(jobs.c.id == job.id, jobs.c.state == state)
                connection.execute(row.values({column: LONG_AGO}))


def tick_to_the_end(tickwork: Tickwork) -> None:
    for _ in range(20):
        expire_leases(tickwork)
        tickwork.tick()
        if not any(tickwork.list(state=state) for state in (State.PENDING, State.PROCESSING)):
            return
    raise AssertionError(f"unfinished: {tickwork.list(state='pending')}")


def get(tickwork: Tickwork, job_id: str) -> Job:
    job = tickwork.get(job_id)
    assert job is not None
    return job


def test_a_handler_that_ends_its_process_costs_the_others_nothing(
    tickwork: Tickwork, crasher: Crasher, database: Database, log: Path
) -> None:
    poison = tickwork.enqueue("poison", priority=1)
    notes = [tickwork.enqueue("note").id for _ in range(4)]
    code = crasher.run("tick", url=database.url, log=str(log), settings={"concurrency": 1})
    assert code == EXIT_CODE
    assert starts(log) == {poison.id: 1}
    assert tickwork.tick().processed == 0
    assert {job.state for job in tickwork.list()} == {State.PROCESSING}

    tickwork.registry._handlers.pop("poison")
    expire_leases(tickwork)
    result = tickwork.tick()
    assert (result.reclaimed, result.succeeded) == (5, 4)
    for job_id in notes:
        job = get(tickwork, job_id)
        assert (job.state, job.attempts, job.fence, job.errors) == (State.COMPLETED, 1, 2, [])
    lost = get(tickwork, poison.id)
    assert (lost.state, lost.attempts) == (State.PENDING, 1)
    assert "runner lost" in str(lost.error)


def test_jobs_that_waited_for_a_slot_are_not_blamed(
    tickwork: Tickwork, crasher: Crasher, database: Database, log: Path
) -> None:
    """Five slots: five jobs were running or about to, five were not."""
    poison = tickwork.enqueue("poison", priority=1)
    ids = [poison.id, *(tickwork.enqueue("hang").id for _ in range(9))]
    code = crasher.run("tick", url=database.url, log=str(log), settings={"concurrency": 5})
    assert code == EXIT_CODE
    assert set(starts(log)) <= set(ids[:5])
    expire_leases(tickwork)
    assert tickwork.reclaim() == 10
    assert [get(tickwork, job_id).attempts for job_id in ids] == [1] * 5 + [0] * 5


def test_poison_is_a_dead_letter_after_so_many_starts(
    tickwork: Tickwork, crasher: Crasher, database: Database, log: Path
) -> None:
    poison = tickwork.enqueue("poison")
    note = tickwork.enqueue("note", priority=5)
    codes = []
    for _ in range(8):
        codes.append(
            crasher.run("tick", url=database.url, log=str(log), settings={"concurrency": 1})
        )
        expire_leases(tickwork)
        tickwork.reclaim()
        expire_leases(tickwork)
    assert codes == [EXIT_CODE] * 3 + [0] * 5
    ended = get(tickwork, poison.id)
    assert (ended.state, ended.attempts, starts(log)[poison.id]) == (State.FAILED, 3, 3)
    assert "runner lost" in str(ended.error)
    assert [entry["type"] for entry in ended.errors] == ["RunnerLost"] * 3
    assert ended.finished_at is not None
    done = get(tickwork, note.id)
    assert (done.state, done.attempts, starts(log)[note.id]) == (State.COMPLETED, 1, 1)


def test_a_killed_runner_loses_nothing(
    tickwork: Tickwork, crasher: Crasher, database: Database, log: Path
) -> None:
    hung = tickwork.enqueue("hang", priority=1)
    notes = [tickwork.enqueue("note").id for _ in range(5)]
    pid = crasher.start("tick", url=database.url, log=str(log), settings={"concurrency": 1})
    wait_for(lambda: bool(starts(log)))
    os.kill(pid, signal.SIGKILL)
    assert crasher.wait(pid) == -signal.SIGKILL
    log.with_name("log.release").touch()
    tick_to_the_end(tickwork)
    assert starts(log) == {hung.id: 2, **dict.fromkeys(notes, 1)}
    done = get(tickwork, hung.id)
    assert (done.state, done.result, done.attempts) == (State.COMPLETED, "attempt 2", 2)
    assert [entry["type"] for entry in done.errors] == ["RunnerLost"]
    for job_id in notes:
        job = get(tickwork, job_id)
        assert (job.state, job.attempts) == (State.COMPLETED, 1)


def test_a_zombie_changes_nothing(
    tickwork: Tickwork, crasher: Crasher, database: Database, log: Path
) -> None:
    """Frozen past its lease; another finishes its job; it wakes up with a result of its own."""
    job = tickwork.enqueue("hang")
    pid = crasher.start("tick", url=database.url, log=str(log))
    wait_for(lambda: bool(starts(log)))
    crasher.freeze(pid)
    log.with_name("log.release").touch()
    tick_to_the_end(tickwork)
    done = get(tickwork, job.id)
    assert (done.state, done.result, done.attempts, done.fence) == (
        State.COMPLETED,
        "attempt 2",
        2,
        2,
    )
    os.kill(pid, signal.SIGCONT)
    assert crasher.wait(pid) == 0
    result = json.loads(log.with_name("log.result").read_text())
    assert (result["processed"], result["late"]) == (0, 1)
    assert get(tickwork, job.id) == done


def test_a_crash_at_every_statement_of_a_tick(
    tickwork: Tickwork, crasher: Crasher, database: Database, log: Path
) -> None:
    """Whatever the runner was saying to the database when it died, every job is done in the end."""
    for crash_at in range(1, 200):
        tickwork.clear(force=True)
        log.unlink(missing_ok=True)
        ids = [tickwork.enqueue("note").id for _ in range(3)]
        code = crasher.run(
            "tick",
            url=database.url,
            log=str(log),
            crash_at=crash_at,
            settings={"concurrency": 1},
        )
        tick_to_the_end(tickwork)
        for job_id in ids:
            job = get(tickwork, job_id)
            assert job.state is State.COMPLETED, crash_at
            assert 1 <= starts(log)[job_id] <= job.attempts, crash_at
        if code == 0:
            assert crash_at > 10
            assert set(starts(log).values()) == {1}
            return
        assert code == EXIT_CODE
    raise AssertionError("the tick never came to its end")
