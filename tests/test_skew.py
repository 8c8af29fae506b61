"""Hosts whose clocks are wrong by a minute and a half: only the database's clock counts.

Time is moved in the rows, to the database's *now*; a host that went by its own clock would then be
a minute and a half too early, or too late.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import Job, State
from jobs.core.deadline import LEASE_MARGIN_SECONDS
from tests.support.crashing import Crasher
from tests.support.databases import Database
from tests.support.requirements import missing
from tests.support.scenarios import build, wait_for
from tests.support.skew import FaketimeMissingError, skewed

SKEW_SECONDS = 90.0
TICK_LIMIT_SECONDS = 50.0
LEASE_SECONDS = TICK_LIMIT_SECONDS + LEASE_MARGIN_SECONDS
# Shorter than the skew, so that a clock ahead would be past them, and longer than any slow machine
# takes for a few ticks.
DELAY_SECONDS = 60.0
SETTINGS = {"tick_limit": TICK_LIMIT_SECONDS, "retry_delay": DELAY_SECONDS}


@pytest.fixture(params=["postgresql", "mysql"])
def server_database(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(f"{request.param}_database")
    return database


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Crasher]]:
    """A host whose clock is ahead and one whose clock is behind."""
    with ExitStack() as stack:
        try:
            clocks = {"ahead": skewed(SKEW_SECONDS), "behind": skewed(-SKEW_SECONDS)}
        except FaketimeMissingError as error:
            missing("faketime", str(error))
        yield {name: stack.enter_context(Crasher(clock)) for name, clock in clocks.items()}


class Fleet:
    """Runners that tick without pause on skewed hosts, on one database that knows the time."""

    def __init__(self, url: str, log: Path, hosts: dict[str, Crasher]) -> None:
        self.url = url
        self.log = log
        self.hosts = hosts
        self.tickwork = build(url, str(log), **SETTINGS)
        self.tickwork.create_schema()
        self._running: list[tuple[str, int]] = []

    def now(self) -> datetime:
        return self.tickwork.store.now()

    def produce(self, host: str, *jobs: tuple[str, dict[str, Any]]) -> list[Job]:
        """Enqueue each of these from that host, once alone and once in a bulk."""
        assert self.hosts[host].run("produce", url=self.url, log=str(self.log), jobs=jobs) == 0
        produced = json.loads(Path(f"{self.log}.produced").read_text())
        assert_skewed(host, produced["clock"])
        return [self.get(job_id) for job_id in produced["ids"]]

    def start(self, host: str) -> int:
        """Let a runner tick on that host; its process id."""
        pid = self.hosts[host].start(
            "tick_on", url=self.url, log=str(self.log), name=host, settings=SETTINGS
        )
        self._running.append((host, pid))
        return pid

    def ticks(self, host: str) -> list[list[float]]:
        """What the runner noted of its ticks: its clock; processed, late, reclaimed."""
        lines = Path(f"{self.log}.{host}")
        if not lines.exists():
            return []
        text = lines.read_text()
        return [[float(word) for word in line.split()] for line in text.splitlines(keepends=False)]

    def await_ticks(self, *hosts: str, more: int = 3) -> None:
        """Wait until each runner has begun and ended a few more ticks."""
        for host in hosts:
            wanted = len(self.ticks(host)) + more
            wait_for(lambda host=host, wanted=wanted: len(self.ticks(host)) >= wanted)
            assert_skewed(host, self.ticks(host)[-1][0])

    def starts(self) -> Counter[str]:
        """How often each job was started, by id."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return Counter(line.split()[1] for line in lines)

    def get(self, job_id: str) -> Job:
        job = self.tickwork.get(job_id)
        assert job is not None
        return job

    def move_to_now(self, jobs: list[Job], column: str) -> None:
        """Move time: what was to come for these jobs comes now, by the database's clock."""
        table = self.tickwork.store.tables.jobs  # type: ignore[attr-defined]
        now = self.now()
        with self.tickwork.engine.begin() as connection:
            for job in jobs:
                connection.execute(table.update().where(table.c.id == job.id).values({column: now}))

    def await_states(self, jobs: list[Job], state: State) -> list[Job]:
        """Wait until all of these are in that state; the jobs as they are then."""
        wait_for(lambda: all(self.get(job.id).state is state for job in jobs))
        return [self.get(job.id) for job in jobs]

    def stop(self) -> None:
        """Let the runners end their ticks; all must have gone well."""
        Path(f"{self.log}.stop").touch()
        for host, pid in self._running:
            assert self.hosts[host].wait(pid) == 0
        self._running.clear()

    def close(self) -> None:
        for host, pid in self._running:
            os.kill(pid, signal.SIGKILL)
            self.hosts[host].wait(pid)
        self.tickwork.close()


def assert_skewed(host: str, clock: float) -> None:
    """The host's clock really was wrong: without that the whole test would say nothing."""
    ahead = clock - time.time()
    assert abs(ahead - (SKEW_SECONDS if host == "ahead" else -SKEW_SECONDS)) < SKEW_SECONDS / 2


@pytest.fixture
def fleet(server_database: Database, hosts: dict[str, Crasher], tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(server_database.url, tmp_path / "log", hosts)
    yield fleet
    fleet.close()


def other(host: str) -> str:
    return "behind" if host == "ahead" else "ahead"


@pytest.mark.parametrize("host", ["ahead", "behind"])
def test_the_producers_clock_is_not_asked(fleet: Fleet, host: str) -> None:
    before = fleet.now()
    jobs = fleet.produce(
        host, ("note", {"delay": DELAY_SECONDS, "expires_in": 2 * DELAY_SECONDS}), ("note", {})
    )
    after = fleet.now()
    assert len(jobs) == 4
    for job in jobs:
        assert before <= job.created_at <= after
    delay = timedelta(seconds=DELAY_SECONDS)
    for job in jobs[::2]:
        assert job.run_at == job.created_at + delay
        assert job.expires_at == job.created_at + 2 * delay
    for job in jobs[1::2]:
        assert job.run_at == job.created_at


@pytest.mark.parametrize("producer", ["ahead", "behind"])
def test_nothing_runs_early_or_late_or_twice(fleet: Fleet, producer: str) -> None:
    """Two runners, one ahead and one behind, tick at once."""
    delayed = fleet.produce(producer, ("note", {"delay": DELAY_SECONDS}))
    expiring = fleet.produce(producer, ("note", {"expires_in": DELAY_SECONDS}))
    due = fleet.produce(producer, *[("note", {})] * 20)
    fleet.start("ahead")
    fleet.start("behind")

    # What is due runs, and has not expired; what is delayed waits.
    ended = fleet.await_states([*expiring, *due], State.COMPLETED)
    fleet.await_ticks("ahead", "behind")
    assert all(fleet.get(job.id).state is State.PENDING for job in delayed)
    for job in ended:
        assert job.finished_at is not None
        assert job.keep_until is None or job.keep_until > fleet.now()
        assert job.created_at <= job.finished_at <= fleet.now()

    fleet.move_to_now(delayed, "run_at")
    fleet.await_states(delayed, State.COMPLETED)
    fleet.stop()
    everything = [*delayed, *expiring, *due]
    assert fleet.starts() == {job.id: 1 for job in everything}
    assert sum(tick[1] for host in fleet.hosts for tick in fleet.ticks(host)) == len(everything)


@pytest.mark.parametrize("host", ["ahead", "behind"])
def test_a_retry_waits_by_the_databases_clock(fleet: Fleet, host: str) -> None:
    jobs = fleet.produce(host, ("flaky", {"backoff": DELAY_SECONDS}))
    before = fleet.now()
    fleet.start(host)
    fleet.start(other(host))
    wait_for(lambda: all(fleet.get(job.id).errors for job in jobs))
    after = fleet.now()
    jobs = [fleet.get(job.id) for job in jobs]
    for job in jobs:
        # Ten per cent of jitter, and a little for the way to the database.
        assert timedelta(seconds=0.85 * DELAY_SECONDS) < job.run_at - before
        assert job.run_at - after < timedelta(seconds=1.15 * DELAY_SECONDS)
    fleet.await_ticks("ahead", "behind")
    assert set(fleet.starts().values()) == {1}
    fleet.move_to_now(jobs, "run_at")
    jobs = fleet.await_states(jobs, State.COMPLETED)
    fleet.stop()
    assert [job.attempts for job in jobs] == [2, 2]


@pytest.mark.parametrize("host", ["ahead", "behind"])
def test_an_expiry_comes_by_the_databases_clock(fleet: Fleet, host: str) -> None:
    jobs = fleet.produce(host, ("note", {"delay": DELAY_SECONDS, "expires_in": DELAY_SECONDS}))
    fleet.move_to_now(jobs, "run_at")
    fleet.move_to_now(jobs, "expires_at")
    fleet.start(host)
    fleet.await_states(jobs, State.CANCELLED)
    fleet.stop()
    assert not fleet.starts()


@pytest.mark.parametrize("holder", ["ahead", "behind"])
def test_a_lease_is_held_until_the_databases_clock_says_otherwise(
    fleet: Fleet, holder: str
) -> None:
    """Its holder freezes in mid-job; a runner of the other clock waits, takes over, and wins."""
    job, twin = fleet.produce(holder, ("freeze", {}))
    fleet.tickwork.cancel(twin.id)
    before = fleet.now()
    frozen = fleet.start(holder)
    wait_for(lambda: fleet.starts()[job.id] == 1)
    held = fleet.get(job.id)
    assert held.lease_until is not None
    lease = timedelta(seconds=LEASE_SECONDS)
    assert held.lease_until - fleet.now() <= lease
    # A tick counts from its own begin, a little before the claim.
    assert held.lease_until - before >= lease - timedelta(seconds=LEASE_MARGIN_SECONDS)

    taker = other(holder)
    fleet.start(taker)
    fleet.await_ticks(taker, more=5)
    assert not any(tick[3] for tick in fleet.ticks(taker))
    assert fleet.get(job.id).fence == held.fence

    fleet.move_to_now([job], "lease_until")
    wait_for(lambda: fleet.get(job.id).state is State.PENDING)
    fleet.move_to_now([job], "run_at")
    done = fleet.await_states([job], State.COMPLETED)
    assert (done[0].attempts, done[0].result) == (2, "attempt 2")
    os.kill(frozen, signal.SIGCONT)
    fleet.await_ticks(holder, more=1)
    fleet.stop()
    assert [fleet.get(job.id)] == done
    assert sum(tick[2] for tick in fleet.ticks(holder)) == 1
