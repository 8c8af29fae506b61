"""An async handler that blocks the event loop pays for it alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from jobs import Job, JobContext, State, Tickwork
from jobs.core.clock import ManualClock

PATIENCE_SECONDS = 10  # how long a test waits for another thread before it fails


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What blocking handlers wait for: opened at the end at the latest."""
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture
def tickwork(clock: ManualClock, gate: threading.Event) -> Iterator[Tickwork]:
    system = Tickwork(clock=clock, concurrency=8)
    yield system
    gate.set()
    system.close()
    for thread in list(system._runtime.abandoned):
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive(), "a loop that moves again ends with its thread"


def stored(tickwork: Tickwork, job: Job) -> Job:
    found = tickwork.get_job(job.id)
    assert found is not None
    return found


@pytest.mark.parametrize("where", ["its own coroutine", "a task of its own"])
@pytest.mark.parametrize("innocents_timeout", [0.3, 5.0], ids=["overdue first", "long"])
def test_only_the_culprit_pays(
    tickwork: Tickwork,
    clock: ManualClock,
    gate: threading.Event,
    where: str,
    innocents_timeout: float,
) -> None:
    waiting: list[int] = []
    both_wait = asyncio.Event()
    blocked = threading.Event()
    begun: list[int] = []

    async def block() -> None:
        blocked.set()
        gate.wait(PATIENCE_SECONDS)

    @tickwork.handler("culprit", timeout=0.6)
    async def culprit(ctx: JobContext) -> str:
        if ctx.attempt > 1:
            return "at last"
        await both_wait.wait()
        if where == "its own coroutine":
            await block()
        else:
            await asyncio.gather(block())
        return "too late"

    @tickwork.handler("awaiting", timeout=innocents_timeout)
    async def awaits(ctx: JobContext) -> str:
        waiting.append(ctx.attempt)
        if len(waiting) == 2:
            both_wait.set()
        if len(waiting) <= 2:
            await asyncio.Event().wait()
        return "good"

    @tickwork.handler("behind", timeout=innocents_timeout)
    def behind(ctx: JobContext) -> object:
        assert blocked.wait(PATIENCE_SECONDS)  # handed to the loop when it is blocked already

        async def work() -> str:
            begun.append(ctx.attempt)
            return "good"

        return work()

    guilty = culprit.enqueue()
    innocents = [awaits.enqueue(), awaits.enqueue(), behind.enqueue()]
    result = tickwork.tick()

    assert (result.retried, result.released, result.succeeded) == (1, 3, 0)
    retried = stored(tickwork, guilty)
    assert (retried.state, retried.attempts) == (State.PENDING, 1)
    assert str(retried.error).startswith("TimedOut: gave up after 0.6 s")
    assert begun == []
    for job in innocents:
        released = stored(tickwork, job)
        assert (released.state, released.attempts, released.error) == (State.PENDING, 0, None)
    assert tickwork._runtime.still_abandoned() == 1

    assert tickwork.tick().succeeded == 3, "on a new loop: the old one is still blocked"
    assert not gate.is_set()
    for job in innocents:
        done = stored(tickwork, job)
        assert (done.result, done.attempts) == ("good", 1)
    assert tickwork._runtime.still_abandoned() == 1

    clock.advance(60)
    assert tickwork.tick().succeeded == 1
    assert (stored(tickwork, guilty).result, stored(tickwork, guilty).attempts) == ("at last", 2)


def test_a_released_coroutine_never_begins_later(tickwork: Tickwork, gate: threading.Event) -> None:
    """The old loop moves again: what it had not begun was done elsewhere."""
    blocked = threading.Event()
    begun: list[int] = []

    @tickwork.handler("culprit", timeout=0.2, max_attempts=1)
    async def culprit() -> None:
        blocked.set()
        gate.wait(PATIENCE_SECONDS)

    @tickwork.handler("behind")
    def behind(ctx: JobContext) -> object:
        assert blocked.wait(PATIENCE_SECONDS)

        async def work() -> None:
            begun.append(ctx.attempt)

        return work()

    culprit.enqueue()
    behind.enqueue()
    assert (tickwork.tick().released, begun) == (1, [])
    assert (tickwork.tick().succeeded, begun) == (1, [1])
    [old] = tickwork._runtime.abandoned
    gate.set()
    old.join(PATIENCE_SECONDS)
    assert not old.is_alive()
    assert begun == [1]
    assert tickwork._runtime.still_abandoned() == 0


def test_a_timeout_on_a_loop_that_moves_cancels_only_its_own(tickwork: Tickwork) -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    cancelled = asyncio.Event()

    @tickwork.handler("slow", timeout=0.2)
    async def slow() -> None:
        loops.append(asyncio.get_running_loop())
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    @tickwork.handler("patient", timeout=PATIENCE_SECONDS)
    async def patient() -> str:
        await cancelled.wait()
        loops.append(asyncio.get_running_loop())
        return "good"

    late = slow.enqueue()
    good = patient.enqueue()
    result = tickwork.tick()

    assert (result.retried, result.released, result.succeeded) == (1, 0, 1)
    assert str(stored(tickwork, late).error).startswith("TimedOut: gave up after 0.2 s")
    assert stored(tickwork, good).result == "good"
    patient.enqueue()
    assert tickwork.tick().succeeded == 1
    assert len(set(loops)) == 1, "nobody blocked it: it is kept"
    assert tickwork._runtime.still_abandoned() == 0


def test_importing_jobs_loads_no_asyncio() -> None:
    program = "import sys, jobs; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
