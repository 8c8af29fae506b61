"""Start marks: written ahead by the pace, so that statements grow with time and never with jobs.

No handler starts before its mark is committed; whatever is marked and will not start soon loses its
mark, so that a killed runner costs nothing to jobs that were not running or about to.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from jobs import JobContext, StoreUnavailable, Tickwork
from jobs.core.clock import ManualClock
from jobs.core.store import JobFilter
from jobs.runtime.execute import FLUSH_SECONDS
from jobs.stores.memory import MemoryStore
from tests.support.clocks import StoppedClock

PATIENCE_SECONDS = 10


class WatchedStore:
    """A real store; notes every call when it has returned, and may be made to fail before it."""

    def __init__(self, inner: MemoryStore) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self.history: list[tuple[str, str]] = []  # ("marked" | "unmarked" | "started", job id)
        self.before: Callable[[str, tuple[Any, ...]], None] = lambda name, arguments: None

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if not callable(value) or name in ("writer_busy", "get", "list"):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            self.before(name, arguments)
            answer = value(*arguments, **options)
            self.calls.append(name)
            if name == "claim":
                self.history += [("marked", job.id) for job in answer if job.marked]
            elif name == "touch":
                for touch in arguments[0]:
                    if touch.started is not None and touch.id not in answer.lost:
                        self.history.append(("marked" if touch.started else "unmarked", touch.id))
            return answer

        return call

    def marked(self) -> set[str]:
        """The rows in processing whose start mark is committed."""
        rows = self.inner.list(JobFilter(), 10_000)
        return {row.id for row in rows if row.started_at and row.status == "processing"}


class System:
    def __init__(self, clock: ManualClock | None = None, **settings: Any) -> None:
        self.clock = clock or ManualClock()
        self.store = WatchedStore(MemoryStore(clock=self.clock))
        self.tickwork = Tickwork(store=self.store, clock=self.clock, **settings)  # type: ignore[arg-type]

    def enqueue(self, count: int, kind: str = "quick") -> list[str]:
        return self.tickwork.enqueue_many([(kind, {"n": n}) for n in range(count)])

    def tick(self, **options: Any) -> tuple[Any, list[str]]:
        """A tick's result, and the calls it made on the store."""
        self.store.calls.clear()
        result = self.tickwork.tick(limit=2_000, **options)
        return result, list(self.store.calls)


@pytest.fixture
def systems() -> Iterator[Callable[..., System]]:
    made: list[System] = []

    def make(*arguments: Any, **options: Any) -> System:
        made.append(System(*arguments, **options))
        return made[-1]

    yield make
    for system in made:
        with closing(system.tickwork):
            pass


# -- the first marks ---------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3, 5])
def test_the_claim_marks_one_job_per_slot(systems: Callable[..., System], concurrency: int) -> None:
    system = systems(concurrency=concurrency)
    meeting = threading.Barrier(concurrency)
    at_first: list[set[str]] = []

    @system.tickwork.handler("quick")
    def quick(payload: dict[str, int], ctx: JobContext) -> None:
        if payload["n"] < concurrency:
            if meeting.wait(PATIENCE_SECONDS) == 0:
                at_first.append(system.store.marked())
            meeting.wait(PATIENCE_SECONDS)

    ids = system.enqueue(20)
    result, _ = system.tick()

    assert at_first == [set(ids[:concurrency])]
    assert result.succeeded == 20


def test_no_more_is_marked_than_is_claimed(systems: Callable[..., System]) -> None:
    system = systems(concurrency=5)
    seen: list[set[str]] = []
    system.tickwork.register_handler("quick", lambda: seen.append(system.store.marked()))
    ids = system.enqueue(3)
    system.tickwork.tick(limit=1)

    assert seen == [{ids[0]}]
    assert system.store.marked() == set()


# -- statements --------------------------------------------------------------------------------


def calls_of_a_cold_tick(systems: Callable[..., System], count: int) -> list[str]:
    """The first tick of a process, all within one flush: its five slots begin together."""
    system = systems(StoppedClock(), concurrency=5)
    together = threading.Barrier(5)

    @system.tickwork.handler("quick")
    def quick(payload: dict[str, int]) -> None:
        if payload["n"] < 5:
            together.wait(PATIENCE_SECONDS)

    system.enqueue(count)
    result, calls = system.tick()
    assert result.succeeded == count
    return calls


def test_a_cold_tick_makes_the_same_calls_for_10_and_for_1000_jobs(
    systems: Callable[..., System],
) -> None:
    few, many = (calls_of_a_cold_tick(systems, count) for count in (10, 1_000))

    assert few == many == ["probe", "claim", "settle", "touch", "settle", "record_tick"]


def test_a_warm_tick_makes_the_same_calls_for_10_and_for_1000_jobs(
    systems: Callable[..., System],
) -> None:
    """It knows its pace, so the claim marks everything that it will start."""
    system = systems(StoppedClock(), concurrency=5)
    system.tickwork.register_handler("quick", lambda: None)
    system.enqueue(10)
    system.tick()
    counted = {}
    for count in (10, 1_000):
        system.enqueue(count)
        result, counted[count] = system.tick()
        assert result.succeeded == count

    assert counted[10] == counted[1_000] == ["probe", "claim", "settle", "record_tick"]


def test_an_idle_tick_looks_and_is_recorded(systems: Callable[..., System]) -> None:
    system = systems()
    system.tickwork.register_handler("quick", lambda: None)

    assert system.tick()[1] == ["probe", "record_tick"]


def test_calls_grow_with_time_and_not_with_jobs(systems: Callable[..., System]) -> None:
    """On the real clock, where a busy machine may take several flushes."""
    system = systems(concurrency=5)
    system.tickwork.register_handler("quick", lambda: None)
    system.enqueue(1_000)
    before = time.monotonic()
    result, calls = system.tick()
    flushes = (time.monotonic() - before) / FLUSH_SECONDS

    assert result.succeeded == 1_000
    assert len(calls) < 30 + 4 * flushes, Counter(calls)


# -- order -------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_handler_starts_before_its_mark_is_committed(
    systems: Callable[..., System], concurrency: int
) -> None:
    system = systems(concurrency=concurrency)
    unmarked: list[str] = []

    @system.tickwork.handler("quick")
    def quick(payload: dict[str, int], ctx: JobContext) -> None:
        row = system.store.inner.get(ctx.job_id)
        if row is None or row.started_at is None:
            unmarked.append(ctx.job_id)
        system.store.history.append(("started", ctx.job_id))
        if payload["n"] % 50 == 0:  # a slower one now and then upsets the pace
            until = time.monotonic() + 0.01
            while time.monotonic() < until:
                pass

    ids = system.enqueue(400)
    result, _ = system.tick()

    assert result.succeeded == 400
    assert unmarked == []
    marked: set[str] = set()
    for what, job_id in system.store.history:
        if what == "marked":
            marked.add(job_id)
        elif what == "unmarked":
            marked.discard(job_id)
        else:
            assert job_id in marked, "started without a mark"
    starts = Counter(job_id for what, job_id in system.store.history if what == "started")
    assert starts == Counter(ids)


def test_marks_are_taken_back_from_jobs_that_will_not_start_soon(
    systems: Callable[..., System],
) -> None:
    """The pace was fast and turns slow: all are marked at the claim, and only two can run."""
    clock = StoppedClock()
    system = systems(clock, concurrency=2)
    tickwork, store = system.tickwork, system.store
    tickwork.register_handler("quick", lambda: None)
    system.enqueue(50)
    system.tick()  # fifty in no time: a fast pace
    together = threading.Barrier(2)
    marked: dict[str, set[str]] = {}

    def count_unmarked() -> int:
        return sum(what == "unmarked" for what, _ in list(store.history))

    @tickwork.handler("slow")
    def slow(payload: dict[str, int], ctx: JobContext) -> None:
        if payload["n"] < 2:
            if together.wait(PATIENCE_SECONDS) == 0:
                marked["claim"] = store.marked()
                for flush, unmarked in (("first", 6), ("second", 8)):
                    clock.elapsed += FLUSH_SECONDS  # the next is due, and nothing has ended
                    deadline = time.monotonic() + PATIENCE_SECONDS
                    while count_unmarked() < unmarked and time.monotonic() < deadline:
                        time.sleep(0.001)  # hands the interpreter to the thread that flushes
                    marked[flush] = store.marked()
            together.wait(PATIENCE_SECONDS)

    ids = system.enqueue(10, "slow")
    result, _ = system.tick()

    assert marked["claim"] == set(ids)
    # Two run, and two (one for each slot) may start before the next flush, as two did before.
    assert marked["first"] == set(ids[:4])
    # None did: whoever starts next is marked when a slot is free.
    assert marked["second"] == set(ids[:2])
    assert result.succeeded == 10
    assert {row.attempts for row in store.inner.list(JobFilter(kind="slow"), 99)} == {1}


def test_a_runner_that_is_killed_costs_only_marked_jobs(systems: Callable[..., System]) -> None:
    """Seen by a reclaim: jobs without a mark get their attempt back."""
    clock = ManualClock()
    system = systems(clock)
    system.tickwork.register_handler("slow", lambda: "ok")
    ids = system.enqueue(10, "slow")
    system.store.inner.claim(10, kinds={"slow"}, lease_seconds=60, mark=4)  # and is killed
    clock.advance(61)

    assert system.tickwork.reclaim() == 10
    rows = {row.id: row for row in system.store.inner.list(JobFilter(), 99)}
    assert [rows[job_id].attempts for job_id in ids] == [1] * 4 + [0] * 6
    assert [bool(rows[job_id].error) for job_id in ids] == [True] * 4 + [False] * 6


# -- a database that goes away -----------------------------------------------------------------


@pytest.mark.parametrize("failing", ["touch", "settle"])
def test_a_flush_that_fails_loses_no_job(systems: Callable[..., System], failing: str) -> None:
    system = systems(concurrency=2)
    failures = iter(range(3))

    def go_away(name: str, arguments: tuple[Any, ...]) -> None:
        if name == failing and next(failures, None) is not None:
            raise StoreUnavailable("the server is restarting")

    system.store.before = go_away
    starts: list[int] = []
    system.tickwork.register_handler("quick", lambda payload: starts.append(payload["n"]))
    system.enqueue(20)
    done = threading.Event()
    results: list[Any] = []

    def run() -> None:
        results.append(system.tick(time_budget=5, tick_limit=8)[0])
        done.set()

    threading.Thread(target=run, daemon=True).start()

    assert done.wait(PATIENCE_SECONDS), "the tick never ended"
    assert next(failures, None) is None, "it did fail"
    assert results[0].succeeded == 20
    assert sorted(starts) == list(range(20)), "each ran once"
