"""The helpers that users get for their own tests."""

from __future__ import annotations

import doctest
from datetime import timedelta

import pytest

import jobs.testing
from jobs import JobContext, Snooze, State, Tickwork
from jobs.testing import ManualClock, NotDrained, drain
from jobs.testing.areas.base import claim


def test_the_example_of_the_docstring() -> None:
    assert doctest.testmod(jobs.testing).attempted > 5
    assert doctest.testmod(jobs.testing).failed == 0


def test_draining_moves_time_to_what_comes_next() -> None:
    clock = ManualClock()
    tickwork = Tickwork(clock=clock, retry_delay=100.0)
    began, seen = clock.now(), []

    @tickwork.handler("alpha", max_attempts=2)
    def alpha(ctx: JobContext) -> None:
        seen.append(clock.now() - began)
        if ctx.attempt == 1:
            raise ValueError

    alpha.enqueue(delay=3600, backoff={"type": "fixed", "delay": 60_000})
    tickwork.enqueue("unknown")
    results = drain(tickwork)
    assert seen == [timedelta(hours=1), timedelta(hours=1, minutes=1)]
    assert [result.processed for result in results if result.processed] == [1, 1]
    assert [job.kind for job in tickwork.get_pending_jobs()] == ["unknown"]


def test_draining_waits_for_leases() -> None:
    clock = ManualClock()
    tickwork = Tickwork(clock=clock)
    tickwork.register_handler("alpha", lambda payload: None)
    job = tickwork.enqueue("alpha")
    assert claim(tickwork.store)
    drain(tickwork)
    found = tickwork.get(job.id)
    assert found is not None
    assert found.state is State.COMPLETED


def test_draining_is_bounded_and_says_what_is_left() -> None:
    tickwork = Tickwork(clock=ManualClock())

    @tickwork.handler("endless")
    def endless() -> None:
        raise Snooze(5)

    job = endless.enqueue()
    with pytest.raises(NotDrained, match=job.id):
        drain(tickwork, max_ticks=7)
    found = tickwork.get(job.id)
    assert found is not None
    assert found.fence == 7


def test_a_real_clock_is_not_moved() -> None:
    tickwork = Tickwork()
    tickwork.register_handler("alpha", lambda payload: None)
    now, later = tickwork.enqueue("alpha"), tickwork.enqueue("alpha", delay=3600)
    assert drain(tickwork)[0].jobs == (now.id,)
    assert [job.id for job in tickwork.get_pending_jobs()] == [later.id]
