"""Threads that were given up on are counted while several ticks give up on more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from jobs import Tickwork
from jobs.runtime.base import MOST_ABANDONED


def test_counting_them_does_not_disturb_those_who_add() -> None:
    with closing(Tickwork()) as tickwork:
        runtime = tickwork._runtime
        stop, go_on = threading.Event(), threading.Event()
        alive = [threading.Thread(target=go_on.wait, args=(20,)) for _ in range(60)]
        for thread in alive:
            thread.start()

        def give_up_and_come_back() -> None:
            while not stop.is_set():
                for thread in alive[30:]:
                    runtime.abandoned.add(thread)
                for thread in alive[30:]:
                    runtime.abandoned.discard(thread)

        runtime.abandoned.update(alive[:30])
        other = threading.Thread(target=give_up_and_come_back)
        other.start()
        try:
            until = time.monotonic() + 0.3
            while time.monotonic() < until:
                assert 30 <= runtime.still_abandoned() <= 60
        finally:
            stop.set()
            other.join(20)
            go_on.set()

        for thread in alive:
            thread.join(20)
        assert runtime.still_abandoned() == 0


@pytest.fixture
def hanging() -> Iterator[tuple[Tickwork, threading.Event]]:
    """A system with a hundred jobs that hang until they are let go, each given 50 ms."""
    go_on = threading.Event()
    with closing(Tickwork(concurrency=5)) as tickwork:

        @tickwork.handler("hang", timeout=0.05, max_attempts=1)
        def hang() -> None:
            go_on.wait(30)

        tickwork.enqueue_many([("hang", {})] * 100)
        yield tickwork, go_on
        go_on.set()
        for thread in list(tickwork._runtime.abandoned):
            thread.join(20)


def test_ticks_start_no_more_where_too_many_hang(
    hanging: tuple[Tickwork, threading.Event], caplog: pytest.LogCaptureFixture
) -> None:
    tickwork, go_on = hanging
    results = [tickwork.tick(limit=20) for _ in range(6)]

    # Those that ran beside the last one are given up on as well.
    assert MOST_ABANDONED <= tickwork._runtime.still_abandoned() < MOST_ABANDONED + 5
    assert results[-1].processed == 0
    assert results[-1].remaining == 100 - sum(result.processed for result in results)
    assert "this process starts no more jobs" in caplog.text
    untouched = tickwork.list(state="pending", limit=100)
    assert len(untouched) == results[-1].remaining
    assert {job.attempts for job in untouched} == {0}
    go_on.set()
    for thread in list(tickwork._runtime.abandoned):
        thread.join(20)
    assert tickwork.tick(limit=20).succeeded == 20


def test_a_worker_ends_where_too_many_hang(
    hanging: tuple[Tickwork, threading.Event],
) -> None:
    tickwork, _ = hanging
    worker = tickwork.worker()
    worker.start()

    assert worker.wait(30)
    assert worker.is_clogged
    assert MOST_ABANDONED <= tickwork._runtime.still_abandoned() < MOST_ABANDONED + 5
    assert {job.attempts for job in tickwork.list(state="pending", limit=100)} == {0}
