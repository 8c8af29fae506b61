"""The in-memory stub: a job's whole life by forerunners' own names, without a database."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from freezegun import freeze_time

from jobs import (
    CapabilityError,
    ConfigurationError,
    Discard,
    Job,
    JobContext,
    Retry,
    Snooze,
    State,
    Tickwork,
    exponential,
)
from jobs.core.clock import ManualClock
from jobs.core.ids import new_id
from jobs.core.job import NewJob
from jobs.core.store import Capability, Due, JobFilter, Revival, Touch, Verdict
from jobs.stores.memory import MemoryStore

START = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE_SECONDS = 10  # how long a test waits for another thread before it fails


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def tickwork(clock: ManualClock) -> Iterator[Tickwork]:
    system = Tickwork(clock=clock)
    yield system
    system.close()


def stored(tickwork: Tickwork, job: Job) -> Job:
    found = tickwork.get_job(job.id)
    assert found is not None
    return found


# -- A129, in its own order --------------------------------------------------------------------


def test_enqueue_with_a_unique_id(tickwork: Tickwork) -> None:
    jobs = [tickwork.enqueue("mail", {"n": n}) for n in range(100)]

    assert len({job.id for job in jobs}) == 100
    assert [job.id for job in jobs] == sorted(job.id for job in jobs)
    first = stored(tickwork, jobs[0])
    assert first == jobs[0]
    assert (first.kind, first.queue, first.payload) == ("mail", "default", {"n": 0})
    assert (first.status, first.state) == ("pending", State.PENDING)
    assert (first.attempts, first.max_attempts, first.priority) == (0, 3, 3)
    assert (first.created_at, first.run_at) == (START, START)
    assert first.started_at is first.finished_at is first.result is first.error is None


def test_multiple_enqueued(tickwork: Tickwork) -> None:
    seen: list[int] = []
    tickwork.register_handler("mail", lambda payload: seen.append(payload["n"]))
    ids = tickwork.enqueue_many([("mail", {"n": n}) for n in range(25)])

    assert [job.id for job in reversed(tickwork.get_pending_jobs())] == ids
    assert tickwork.tick(limit=100).succeeded == 25
    assert sorted(seen) == list(range(25))
    assert tickwork.get_pending_jobs() == []


def test_scheduled(tickwork: Tickwork, clock: ManualClock) -> None:
    tickwork.register_handler("mail", lambda payload: payload["n"])
    delayed = tickwork.enqueue("mail", {"n": 1}, delay=60)
    dated = tickwork.enqueue("mail", {"n": 2}, run_at=START + timedelta(seconds=90))

    assert delayed.run_at == START + timedelta(seconds=60)
    assert tickwork.tick().processed == 0
    clock.advance(59.999)
    assert tickwork.tick().processed == 0
    clock.advance(0.001)
    assert tickwork.tick().jobs == (delayed.id,)
    clock.advance(30)
    assert tickwork.tick().jobs == (dated.id,)


def test_scheduled_on_the_hosts_clock() -> None:
    """The stub of a laptop, with the clock that it has there."""
    with freeze_time("2026-03-01 12:00:00") as frozen:
        tickwork = Tickwork()
        tickwork.register_handler("mail", lambda payload: "sent")
        job = tickwork.enqueue("mail", {}, delay=timedelta(minutes=5))

        assert job.run_at == datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
        assert tickwork.tick().processed == 0
        frozen.tick(timedelta(minutes=5))
        assert tickwork.tick().succeeded == 1
        done = stored(tickwork, job)
        assert done.created_at == datetime(2026, 3, 1, 12, tzinfo=UTC)
        assert done.started_at == done.finished_at == datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
        tickwork.close()


def test_handler_registration(tickwork: Tickwork) -> None:
    def send(payload: dict[str, Any]) -> str:
        return f"to {payload['to']}"

    declared = tickwork.register_handler("mail", send, queue="mails", priority=1)
    unknown = tickwork.enqueue("export", {})
    job = declared.enqueue({"to": "ada"})

    assert tickwork.registry.kinds == {"mail"}
    assert (job.queue, job.priority) == ("mails", 1)
    assert tickwork.tick().jobs == (job.id,)
    assert stored(tickwork, job).result == "to ada"
    assert stored(tickwork, unknown).status == "pending", "a kind without a handler waits"
    assert stored(tickwork, unknown).attempts == 0
    tickwork.register_handler("export", lambda: "done")
    assert tickwork.tick().jobs == (unknown.id,)


def test_success(tickwork: Tickwork, clock: ManualClock) -> None:
    @tickwork.handler("mail")
    def send(payload: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
        assert stored(tickwork, job).status == "processing"
        ctx.progress(50, "half")
        clock.advance(2)
        return {"sent": True, "messageId": "m-1"}

    job = send.enqueue({})
    result = tickwork.tick()

    done = stored(tickwork, job)
    assert (result.processed, result.succeeded, result.failed, result.retried) == (1, 1, 0, 0)
    assert (done.status, done.attempts, done.error) == ("completed", 1, None)
    assert done.result == {"sent": True, "messageId": "m-1"}
    assert (done.progress, done.progress_note) == (100.0, "half")
    assert done.started_at == START
    assert done.finished_at == START + timedelta(seconds=2)
    assert done.lease_until is None
    assert done.duration_ms is not None
    assert done.keep_until == done.finished_at + timedelta(days=1), "A55"


def test_failure_with_retry(tickwork: Tickwork, clock: ManualClock) -> None:
    @tickwork.handler("mail")
    def send(payload: dict[str, Any], ctx: JobContext) -> str:
        if ctx.attempt == 1:
            raise ConnectionError("mail server away")
        return "sent"

    job = send.enqueue({})
    assert tickwork.tick().retried == 1
    waiting = stored(tickwork, job)
    assert (waiting.status, waiting.attempts) == ("pending", 1)
    assert waiting.error == "ConnectionError: mail server away"
    assert waiting.errors[0]["attempt"] == 1
    assert "mail server away" in waiting.errors[0]["traceback"]
    assert tickwork.counts() == {("default", "mail", "retrying"): 1}

    clock.advance(11)  # 10 s and the jitter
    assert tickwork.tick().succeeded == 1
    done = stored(tickwork, job)
    assert (done.status, done.attempts, done.result, done.error) == ("completed", 2, "sent", None)
    assert len(done.errors) == 1, "the history stays"


def test_max_retries(tickwork: Tickwork, clock: ManualClock) -> None:
    runs: list[int] = []

    @tickwork.handler("mail", backoff=[1, 1])
    def send(payload: dict[str, Any], ctx: JobContext) -> None:
        runs.append(ctx.attempt)
        raise ValueError(f"no {ctx.attempt}")

    job = send.enqueue({})
    results = []
    for _ in range(6):
        results.append(tickwork.tick())
        clock.advance(2)

    assert runs == [1, 2, 3]
    assert [(one.retried, one.failed) for one in results] == [(1, 0)] * 2 + [(0, 1)] + [(0, 0)] * 3
    dead = stored(tickwork, job)
    assert (dead.status, dead.attempts, dead.error) == ("failed", 3, "ValueError: no 3")
    assert [entry["message"] for entry in dead.errors] == ["no 1", "no 2", "no 3"]
    assert dead.finished_at == START + timedelta(seconds=4)
    assert dead.keep_until == dead.finished_at + timedelta(days=7), "A55"


def test_max_attempts_of_one_job(tickwork: Tickwork) -> None:
    tickwork.register_handler("mail", lambda payload: 1 / 0)

    assert stored(tickwork, tickwork.enqueue("mail", {}, max_attempts=1)).max_attempts == 1
    assert tickwork.tick().failed == 1


@pytest.mark.parametrize(
    ("backoff", "attempts", "waits"),
    [
        (None, 3, [10, 10]),  # A44
        ({"type": "exponential", "delay": 2000}, 4, [2, 4, 8]),  # A45
        ({"type": "fixed", "delay": 5000}, 3, [5, 5]),  # A46
        (lambda job: job.attempt * 60, 4, [60, 120, 180]),  # A47
        (3600, 3, [3600, 3600]),  # A48
        (exponential(5, factor=5, jitter=0), 5, [5, 25, 125, 625]),  # A49
        (exponential(2, jitter=0), 3, [2, 4]),  # A50
    ],
    ids=["A44", "A45", "A46", "A47", "A48", "A49", "A50"],
)
def test_retry_delay(
    tickwork: Tickwork, clock: ManualClock, backoff: Any, attempts: int, waits: list[float]
) -> None:
    """Not a moment too early, and at the moment it is due (within the jitter, where there is)."""
    started: list[datetime] = []

    @tickwork.handler("mail", backoff=backoff, max_attempts=attempts)
    def send(payload: dict[str, Any]) -> None:
        started.append(clock.now())
        raise ValueError("no")

    job = send.enqueue({})
    tickwork.tick()
    for wait in waits:
        clock.advance(wait * 0.9 - 0.001)
        assert tickwork.tick().processed == 0
        due = stored(tickwork, job).run_at
        clock.advance((due - clock.now()).total_seconds())
        assert tickwork.tick().processed == 1

    seen = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(started)]
    jitter = 0.1 if backoff is None or backoff == 3600 else 1e-6
    assert seen == pytest.approx(waits, rel=jitter)
    assert stored(tickwork, job).status == "failed"


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_concurrency_limit(concurrency: int) -> None:
    """Exactly as many at once as allowed: that many meet, and never one more."""
    tickwork = Tickwork(concurrency=concurrency, batch_size=24)
    meeting = threading.Barrier(concurrency)
    lock = threading.Lock()
    inside, most = 0, 0

    @tickwork.handler("mail")
    def send(payload: dict[str, Any]) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        meeting.wait(PATIENCE_SECONDS)  # breaks, and fails the job, if fewer run at once
        with lock:
            inside -= 1

    tickwork.enqueue_many([("mail", {})] * 24)
    result = tickwork.tick()
    tickwork.close()

    assert result.succeeded == 24
    assert most == concurrency


def test_the_settings_default_is_five_at_once() -> None:
    tickwork = Tickwork()
    meeting = threading.Barrier(5)
    tickwork.register_handler("mail", lambda: meeting.wait(PATIENCE_SECONDS) is not None)
    tickwork.enqueue_many([("mail", {})] * 10)

    assert tickwork.tick().succeeded == 10
    tickwork.close()


def test_pending_filter(tickwork: Tickwork, clock: ManualClock) -> None:
    tickwork.register_handler("good", lambda payload: "ok")
    tickwork.register_handler("bad", lambda payload: 1 / 0, max_attempts=1)
    good, bad = tickwork.enqueue("good", {}), tickwork.enqueue("bad", {})
    tickwork.tick()
    later = tickwork.enqueue("good", {}, delay=60, queue="slow")
    other = tickwork.enqueue("unknown", {}, tenant="org1")

    assert [job.id for job in tickwork.get_pending_jobs()] == [other.id, later.id]
    assert [job.id for job in tickwork.get_pending_jobs(limit=1)] == [other.id]
    assert [job.id for job in tickwork.list(state="completed")] == [good.id]
    assert [job.id for job in tickwork.list(state=State.FAILED)] == [bad.id]
    assert [job.id for job in tickwork.list(kind="good")] == [later.id, good.id]
    assert [job.id for job in tickwork.list(queue="slow")] == [later.id]
    assert [job.id for job in tickwork.list(tenant="org1")] == [other.id]
    assert [job.id for job in tickwork.list(before_id=later.id)] == [bad.id, good.id]
    assert tickwork.counts() == {
        ("default", "good", "completed"): 1,
        ("default", "bad", "failed"): 1,
        ("slow", "good", "delayed"): 1,
        ("default", "unknown", "pending"): 1,
    }


def test_clear_all(tickwork: Tickwork) -> None:
    tickwork.register_handler("mail", lambda payload: "ok")
    jobs = [tickwork.enqueue("mail", {}) for _ in range(5)]
    tickwork.tick(limit=2)

    assert tickwork.clear() == 5
    assert tickwork.clear() == 0
    assert tickwork.get_job(jobs[0].id) is None
    assert tickwork.list() == []
    assert tickwork.tick().processed == 0


def test_process_next_job(tickwork: Tickwork) -> None:
    tickwork.register_handler("mail", lambda payload: payload["n"])
    tickwork.register_handler("export", lambda payload: payload["n"])
    assert tickwork.process_next_job() is None
    last = tickwork.enqueue("mail", {"n": 1}, priority=5)
    first = tickwork.enqueue("mail", {"n": 2}, priority=1)
    export = tickwork.enqueue("export", {"n": 3}, priority=3)

    by_kind = tickwork.process_next_job("export")
    assert by_kind is not None
    assert (by_kind.id, by_kind.status, by_kind.result) == (export.id, "completed", 3)
    assert tickwork.process_next_job("export") is None
    assert tickwork.process_next_job("unheard-of") is None
    assert [job and job.id for job in (tickwork.process_next_job() for _ in range(3))] == [
        first.id,
        last.id,
        None,
    ]


def test_process_batch(tickwork: Tickwork) -> None:
    tickwork.register_handler("good", lambda payload: "ok")
    tickwork.register_handler("bad", lambda payload: 1 / 0, max_attempts=1)
    tickwork.register_handler("other", lambda payload: "ok")
    for kind in ("other", "good", "bad"):
        tickwork.enqueue_many([(kind, {})] * 8)

    batch = tickwork.process_batch(["good", "bad"])
    assert len(batch) == 10
    assert {job.kind for job in batch} == {"good", "bad"}
    assert {(job.kind, job.status) for job in batch} == {("good", "completed"), ("bad", "failed")}
    assert len(tickwork.process_batch(["good", "bad"], limit=4)) == 4
    assert len(tickwork.process_batch(limit=100)) == 2 + 8
    assert tickwork.process_batch() == []


def test_a_tick_takes_ten_and_says_what_is_left(tickwork: Tickwork) -> None:
    tickwork.register_handler("mail", lambda payload: "ok")
    tickwork.enqueue_many([("mail", {})] * 25)
    tickwork.enqueue("mail", {}, delay=60)

    results = [tickwork.tick() for _ in range(3)]
    assert [(one.processed, one.remaining) for one in results] == [(10, 15), (10, 5), (5, 0)]
    assert tickwork.tick(limit=20).processed == 0


# -- order -------------------------------------------------------------------------------------


def test_order_is_priority_then_time_then_id(tickwork: Tickwork, clock: ManualClock) -> None:
    """Also for a hundred jobs of one instant, with one worker: first in, first out."""
    seen: list[str] = []
    tickwork.register_handler("mail", lambda payload: seen.append(payload["n"]))
    for n in range(100):
        tickwork.enqueue("mail", {"n": f"p3-{n:03}"})
    tickwork.enqueue("mail", {"n": "p5"}, priority=5)
    tickwork.enqueue("mail", {"n": "p1-late"}, priority=1, delay=2)
    tickwork.enqueue("mail", {"n": "p1-early"}, priority=1, delay=1)
    clock.advance(2)
    tickwork.tick(limit=200, concurrency=1)

    assert seen == ["p1-early", "p1-late", *(f"p3-{n:03}" for n in range(100)), "p5"]


# -- steering ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "attempts", "waits"),
    [
        (Retry("busy", after=60), "pending", 1, 60),
        (Snooze(30), "pending", 0, 30),
        (Discard("no such order"), "failed", 1, None),
        (SystemExit(1), "pending", 1, 10),
    ],
    ids=["retry", "snooze", "discard", "exit"],
)
def test_steering(
    tickwork: Tickwork, error: BaseException, status: str, attempts: int, waits: float | None
) -> None:
    @tickwork.handler("mail")
    def send(payload: dict[str, Any]) -> None:
        raise error

    job = send.enqueue({})
    tickwork.tick()

    ended = stored(tickwork, job)
    assert (ended.status, ended.attempts) == (status, attempts)
    if waits is not None:
        assert (ended.run_at - START).total_seconds() == pytest.approx(waits, rel=0.1)


@pytest.mark.parametrize("after", [float("inf"), float("nan"), 1e300, "soon"], ids=str)
@pytest.mark.parametrize("steer", [Snooze, lambda after: Retry(after=after)])
def test_a_job_cannot_steer_itself_out_of_the_calendar(
    tickwork: Tickwork, steer: Any, after: Any
) -> None:
    @tickwork.handler("mail")
    def send(payload: dict[str, Any]) -> None:
        raise steer(after)

    job = send.enqueue({})

    assert tickwork.tick().retried == 1
    assert (stored(tickwork, job).error or "").startswith("ValueError: ")


def test_async_handlers_of_every_sort(tickwork: Tickwork) -> None:
    async def plain(payload: dict[str, Any]) -> str:
        await asyncio.sleep(0)
        return "plain"

    class Stateful:
        async def __call__(self, payload: dict[str, Any]) -> str:
            return await plain(payload) and "object"

    def around(payload: dict[str, Any]) -> Any:
        return plain(payload)

    for kind, function in {"plain": plain, "object": Stateful(), "around": around}.items():
        tickwork.register_handler(kind, function)
        tickwork.enqueue(kind, {})

    assert tickwork.tick().succeeded == 3
    assert {job.kind: job.result for job in tickwork.list()} == {
        "plain": "plain",
        "object": "object",
        "around": "plain",
    }


@pytest.mark.parametrize(
    ("percent", "note", "kept"),
    [
        (40, "half", (40.0, "half")),
        (-5, None, (0.0, None)),
        (500, None, (100.0, None)),
        (float("nan"), None, (0.0, None)),
        (float("inf"), None, (100.0, None)),
        (7, "a\x00b\ud800", (7.0, "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}")),
        (7, "🚀" * 600, (7.0, "🚀" * 500)),
        (7, 42, (7.0, "42")),
    ],
    ids=ascii,
)
def test_progress_is_always_storable(
    tickwork: Tickwork, percent: float, note: Any, kept: tuple[float, str | None]
) -> None:
    @tickwork.handler("mail", max_attempts=1)
    def send(payload: dict[str, Any], ctx: JobContext) -> None:
        ctx.progress(percent, note)
        raise ValueError("so that progress stays what it was")

    job = send.enqueue({})
    tickwork.tick()

    assert (stored(tickwork, job).progress, stored(tickwork, job).progress_note) == kept


def test_progress_can_be_read_while_it_runs(tickwork: Tickwork) -> None:
    @tickwork.handler("mail")
    def send(payload: dict[str, Any], ctx: JobContext) -> tuple[float, str | None]:
        ctx.progress(30, "a third")
        ctx.progress(40)
        ctx.checkpoint()
        seen = stored(tickwork, job)
        return seen.progress, seen.progress_note

    job = send.enqueue({})
    tickwork.tick()

    assert stored(tickwork, job).result == [40.0, "a third"]


def test_what_a_handler_is_told(tickwork: Tickwork) -> None:
    told: list[Any] = []

    @tickwork.handler("mail", queue="mails", timeout=20, max_attempts=4, backoff=0)
    def send(payload: dict[str, Any], ctx: JobContext) -> None:
        told.append((ctx.job_id, ctx.idempotency_key, ctx.kind, ctx.queue, ctx.tenant))
        told.append((ctx.attempt, ctx.max_attempts, ctx.fence))
        assert 15 < ctx.time_left() <= 20
        assert ctx.settings is tickwork.settings
        with pytest.raises(ConfigurationError, match="transactional=True"):
            assert ctx.session
        if ctx.fence == 1:
            raise Snooze(0)
        if ctx.fence == 2:
            raise ValueError("once more")

    job = send.enqueue({}, tenant="org1")
    for _ in range(3):
        tickwork.tick()

    assert told[0::2] == [(job.id, job.id, "mail", "mails", "org1")] * 3
    # The first was given back; the fence counts it all the same.
    assert told[1::2] == [(1, 4, 1), (1, 4, 2), (2, 4, 3)]


# -- cancel, expiry, retention -----------------------------------------------------------------


def test_cancel_before_it_starts(tickwork: Tickwork, clock: ManualClock) -> None:
    tickwork.register_handler("mail", lambda payload: "ok")
    job = tickwork.enqueue("mail", {})

    cancelled = tickwork.cancel(job.id)
    assert (cancelled.status, cancelled.error, cancelled.finished_at) == (
        "cancelled",
        "cancelled",
        START,
    )
    assert tickwork.tick().processed == 0
    clock.advance(7 * 86_400)
    tickwork.tick()
    assert tickwork.get(job.id) is None


def test_cancel_while_it_runs(tickwork: Tickwork) -> None:
    @tickwork.handler("mail")
    def send(payload: dict[str, Any], ctx: JobContext) -> str:
        assert tickwork.cancel(ctx.job_id).cancel_requested
        if payload["looks"]:
            ctx.checkpoint()
        return "finished"

    looks, does_not = send.enqueue({"looks": True}), send.enqueue({"looks": False})
    result = tickwork.tick()

    assert (result.cancelled, result.succeeded) == (1, 1)
    assert stored(tickwork, looks).status == "cancelled"
    assert stored(tickwork, looks).error == "cancelled while running"
    assert stored(tickwork, does_not).result == "finished"


def test_a_failure_after_a_cancel_is_not_tried_again(tickwork: Tickwork) -> None:
    @tickwork.handler("mail")
    def send(payload: dict[str, Any], ctx: JobContext) -> None:
        tickwork.cancel(ctx.job_id)
        raise ValueError("no")

    job = send.enqueue({})
    tickwork.tick()

    assert stored(tickwork, job).status == "cancelled"


def test_a_job_cancelled_between_claim_and_start_does_not_start(tickwork: Tickwork) -> None:
    """One slot: while the first runs, the second is claimed and has no start mark yet."""
    ran: list[str] = []

    @tickwork.handler("mail")
    def send(payload: dict[str, Any], ctx: JobContext) -> None:
        ran.append(ctx.job_id)
        if len(ran) == 1:
            assert tickwork.cancel(second.id).status == "cancelled"

    first, second = send.enqueue({}), send.enqueue({})
    result = tickwork.tick(concurrency=1)

    assert ran == [first.id]
    assert result.succeeded == 1
    assert stored(tickwork, second).status == "cancelled"


def test_expiry(tickwork: Tickwork, clock: ManualClock) -> None:
    ran: list[int] = []
    tickwork.register_handler("mail", lambda payload: ran.append(payload["n"]))
    in_time = tickwork.enqueue("mail", {"n": 1}, expires_in=30)
    tickwork.tick()
    too_late = tickwork.enqueue("mail", {"n": 2}, expires_in=30)
    clock.advance(30)
    result = tickwork.tick()

    assert ran == [1]
    assert (result.processed, result.cancelled) == (0, 1)
    assert stored(tickwork, in_time).status == "completed"
    dead = stored(tickwork, too_late)
    assert (dead.status, dead.attempts) == ("cancelled", 0)
    assert "expires_in" in (dead.error or "")


def test_expiry_does_not_stop_a_retry(tickwork: Tickwork, clock: ManualClock) -> None:
    @tickwork.handler("mail", backoff=[60])
    def send(payload: dict[str, Any], ctx: JobContext) -> str:
        if ctx.attempt == 1:
            raise ValueError("no")
        return "yes"

    job = send.enqueue({}, expires_in=30)
    tickwork.tick()
    clock.advance(70)
    tickwork.tick()

    assert stored(tickwork, job).result == "yes"


def test_retention_by_age_and_state(tickwork: Tickwork, clock: ManualClock) -> None:
    tickwork.register_handler("good", lambda payload: "ok")
    tickwork.register_handler("bad", lambda payload: 1 / 0, max_attempts=1)
    good, bad = tickwork.enqueue("good", {}), tickwork.enqueue("bad", {})
    waiting = tickwork.enqueue("good", {}, delay=30 * 86_400)
    tickwork.tick()

    clock.advance(86_399)
    tickwork.tick()
    assert tickwork.get(good.id) is not None
    clock.advance(1)
    tickwork.tick()
    assert tickwork.get(good.id) is None
    assert tickwork.get(bad.id) is not None
    clock.advance(6 * 86_400)
    tickwork.tick()
    assert tickwork.get(bad.id) is None
    assert tickwork.get(waiting.id) is not None, "only finished jobs go"


@pytest.mark.parametrize(
    ("option", "left_at_once", "left_after_a_year"),
    [(None, 5, 0), (True, 5, 0), (False, 5, 5), ({"count": 2}, 2, 2), ({"age": 10}, 5, 0)],
    ids=str,
)
def test_remove_on_complete(
    tickwork: Tickwork, clock: ManualClock, option: Any, left_at_once: int, left_after_a_year: int
) -> None:
    tickwork.register_handler("mail", lambda payload: "ok", remove_on_complete=option)
    ids = tickwork.enqueue_many([("mail", {})] * 5)
    tickwork.tick(concurrency=1)

    assert [job.id for job in tickwork.list()] == ids[::-1][:left_at_once]
    clock.advance(365 * 86_400)
    tickwork.tick()
    assert len(tickwork.list()) == left_after_a_year


# -- a runner that died ------------------------------------------------------------------------


def claim(store: MemoryStore, limit: int = 10, **options: Any) -> Any:
    return store.claim(limit, kinds={"mail"}, lease_seconds=65, **options)


def test_a_dead_runner_costs_only_what_had_started(tickwork: Tickwork, clock: ManualClock) -> None:
    tickwork.register_handler("mail", lambda payload: "ok")
    tickwork.enqueue_many([("mail", {})] * 4)
    dead = claim(tickwork.store, 4, mark=1)  # type: ignore[arg-type]

    assert [job.marked for job in dead] == [True, False, False, False]
    assert [job.attempt for job in dead] == [1, 1, 1, 1]
    assert tickwork.tick().processed == 0
    clock.advance(65.001)
    assert tickwork.counts() == {("default", "mail", "stalled"): 4}
    result = tickwork.tick()

    assert (result.reclaimed, result.succeeded) == (4, 3), "the one that had started backs off"
    paid = stored(tickwork, tickwork.list()[-1])
    assert (paid.status, paid.attempts) == ("pending", 1)
    assert paid.error == "RunnerLost: runner lost: its lease ran out while this job was running"
    assert [tickwork.list()[n].attempts for n in range(3)] == [1, 1, 1]
    clock.advance(11)
    assert tickwork.tick().succeeded == 1
    assert stored(tickwork, paid).attempts == 2


def test_who_kills_its_runner_every_time_is_a_dead_letter(
    tickwork: Tickwork, clock: ManualClock
) -> None:
    tickwork.register_handler("mail", lambda payload: "ok")
    job = tickwork.enqueue("mail", {})
    for _ in range(3):
        assert len(claim(tickwork.store, mark=1)) == 1  # type: ignore[arg-type]
        clock.advance(66)
        assert tickwork.reclaim() == 1
        clock.advance(11)

    dead = stored(tickwork, job)
    assert (dead.status, dead.attempts, dead.fence) == ("failed", 3, 3)
    assert "runner lost" in (dead.error or "")
    assert tickwork.reclaim() == 0


def test_a_superseded_runner_changes_nothing(tickwork: Tickwork, clock: ManualClock) -> None:
    """P5: it wakes after another runner has taken its job, and after it has ended."""
    store: Any = tickwork.store
    tickwork.register_handler("mail", lambda payload: "second")
    job = tickwork.enqueue("mail", {})
    (old,) = claim(store, mark=1)
    clock.advance(66)
    tickwork.reclaim()
    clock.advance(11)
    (new,) = claim(store, mark=1)
    verdict = Verdict(job.id, old.fence, State.COMPLETED, result='"first"')

    assert new.fence == old.fence + 1
    assert store.settle([verdict]) == {job.id}
    report = store.touch([Touch(job.id, old.fence, True, 99.0)], lease_seconds=1000)
    assert report.lost == {job.id}
    held = stored(tickwork, job)
    assert (held.status, held.result, held.progress) == ("processing", None, 0.0)
    assert held.lease_until == clock.now() + timedelta(seconds=65)

    assert store.settle([Verdict(job.id, new.fence, State.COMPLETED, result='"second"')]) == set()
    done = stored(tickwork, job)
    assert store.settle([verdict, verdict._replace(fence=new.fence)]) == {job.id}
    assert stored(tickwork, job) == done


# -- the store itself --------------------------------------------------------------------------


def new_job(**changes: Any) -> NewJob:
    return NewJob(new_id(), "mail", "{}")._replace(**changes)


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock=clock)


def test_what_the_stub_cannot_do_is_said_early(store: MemoryStore, tickwork: Tickwork) -> None:
    assert store.capabilities == {Capability.CONCURRENT_WRITERS}
    assert store.writer_busy() is False
    with pytest.raises(CapabilityError, match="DATABASE_URL"):
        tickwork.enqueue("mail", {}, session=object())
    with pytest.raises(CapabilityError, match="DATABASE_URL"):
        tickwork.enqueue_many([("mail", {})], session=object())
    with pytest.raises(CapabilityError, match="DATABASE_URL"):
        store.transaction()
    with pytest.raises(CapabilityError, match="DATABASE_URL"):
        tickwork.handler("books", transactional=True)(lambda payload: None)
    with pytest.raises(CapabilityError, match="DATABASE_URL"):
        assert tickwork.engine
    assert tickwork.list() == []


def test_what_the_stub_does_not_need_is_harmless(store: MemoryStore) -> None:
    store.create_schema()
    store.check_schema()
    store.close()
    assert store.now() == START
    assert MemoryStore(namespace="preview").namespace == "preview"


def test_insert_many_is_all_or_nothing(store: MemoryStore) -> None:
    def halfway() -> Iterator[NewJob]:
        yield new_job()
        raise ConfigurationError("the second is wrong")

    with pytest.raises(ConfigurationError):
        store.insert_many(halfway())
    assert store.list(JobFilter(), 10) == []
    assert store.insert_many(iter([new_job(), new_job()])) == 2


def test_async_insert(store: MemoryStore) -> None:
    (job,) = asyncio.run(store.ainsert([new_job()], None))

    assert store.get(job.id) == job


def test_claim_by_ids_queues_and_limit(store: MemoryStore) -> None:
    jobs = store.insert([new_job(queue=queue) for queue in ("a", "b", "a", "c")])
    ids = [job.id for job in jobs]

    assert claim(store, 0) == []
    assert claim(store, -1) == []
    assert claim(store, ids=["unheard-of"]) == []
    assert store.claim(10, kinds=set(), lease_seconds=65) == []
    assert [job.id for job in claim(store, queues={"b"})] == [ids[1]]
    assert [job.id for job in claim(store, ids=[ids[2], ids[1], ids[2]])] == [ids[2]]
    assert [job.id for job in claim(store, 1)] == [ids[0]]
    assert [job.id for job in claim(store, lanes=("3/c/mail",))] == [ids[3]]
    assert claim(store) == []


def test_two_claims_at_once_get_disjoint_rows(store: MemoryStore) -> None:
    store.insert_many([new_job() for _ in range(400)])
    taken: list[list[str]] = [[] for _ in range(4)]
    ready = threading.Barrier(len(taken))

    def work(own: list[str]) -> None:
        ready.wait(PATIENCE_SECONDS)
        while batch := claim(store, 7):
            own.extend(job.id for job in batch)

    threads = [threading.Thread(target=work, args=(own,)) for own in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)

    everything = [job_id for own in taken for job_id in own]
    assert len(everything) == len(set(everything)) == 400


def test_the_probe(store: MemoryStore, clock: ManualClock) -> None:
    assert store.probe() == Due(False, False, (), at=store.now())
    store.insert([new_job(), new_job(queue="q", priority=1, delay_seconds=600)])
    lanes = ("1/q/mail/", "3/default/mail/")
    assert store.probe() == Due(False, False, lanes, at=store.now())
    (job,) = claim(store)
    assert store.probe().lanes == ("1/q/mail/",)
    clock.advance(65)
    assert not store.probe().stalled, "a lease holds to its last moment"
    clock.advance(0.001)
    assert store.probe().stalled
    store.settle([Verdict(job.id, job.fence, State.COMPLETED, keep_seconds=10)])
    assert not store.probe().stalled
    assert not store.probe().outstayed
    clock.advance(10)
    assert store.probe().outstayed
    assert store.purge(10) == 1
    assert not store.probe().outstayed


def test_stalled_rows_come_oldest_lease_first_and_bounded(
    store: MemoryStore, clock: ManualClock
) -> None:
    store.insert_many([new_job() for _ in range(3)])
    late = [store.claim(1, kinds={"mail"}, lease_seconds=s)[0].id for s in (30, 10, 20)]
    clock.advance(25)

    assert [job.id for job in store.stalled(10)] == [late[1], late[2]]
    assert [job.id for job in store.stalled(1)] == [late[1]]


def test_purge_and_trim_are_bounded(store: MemoryStore, clock: ManualClock) -> None:
    store.insert_many([new_job() for _ in range(6)])
    done = claim(store)
    for job in done:
        store.settle([Verdict(job.id, job.fence, State.COMPLETED, keep_seconds=10)])
        clock.advance(1)

    assert store.trim("mail", State.COMPLETED, 4, 1) == 1
    assert store.trim("mail", State.COMPLETED, 4, 10) == 1
    assert store.trim("mail", State.FAILED, 0, 10) == 0
    assert store.trim("other", State.COMPLETED, 0, 10) == 0
    left = [job.id for job in done[2:]]
    assert sorted(job.id for job in store.list(JobFilter(), 10)) == left
    clock.advance(100)
    assert store.purge(1) == 1
    assert store.get(left[0]) is None, "the oldest goes first"
    assert store.purge(10) == 3
    assert store.purge(10) == 0


def test_touch_marks_renews_and_tells_of_a_cancel(store: MemoryStore, clock: ManualClock) -> None:
    store.insert([new_job()])
    (job,) = claim(store)

    def touch(started: bool | None = None, **options: Any) -> Any:
        return store.touch([Touch(job.id, job.fence, started)], **options)

    def row() -> Job:
        found = store.get(job.id)
        assert found is not None
        return found

    clock.advance(5)
    assert touch(True) == (frozenset(), frozenset())
    assert row().started_at == START + timedelta(seconds=5)
    assert row().lease_until == START + timedelta(seconds=65)
    touch(None, lease_seconds=100)
    assert row().started_at == START + timedelta(seconds=5)
    assert row().lease_until == START + timedelta(seconds=105)
    store.cancel(job.id)
    assert touch().cancelled == {job.id}
    touch(False)
    assert row().started_at is None


def test_a_pending_verdict_on_a_cancelled_row_ends_it(store: MemoryStore) -> None:
    store.insert([new_job()])
    (job,) = claim(store, mark=1)
    store.cancel(job.id)
    store.settle([Verdict(job.id, job.fence, State.PENDING, attempts_back=1, keep_seconds=60)])

    row = store.get(job.id)
    assert row is not None
    assert (row.status, row.error, row.finished_at) == ("cancelled", "cancelled", START)
    assert row.keep_until == START + timedelta(seconds=60)
    assert claim(store) == []


def test_a_reclaim_settles_stalled_rows_alone(store: MemoryStore, clock: ManualClock) -> None:
    """A lease renewed between the look and the write wins."""
    store.insert([new_job()])
    (job,) = claim(store)
    clock.advance(66)
    (stalled,) = store.stalled(1)
    store.touch([Touch(job.id, job.fence)], lease_seconds=30)
    verdict = Verdict(stalled.id, stalled.fence, State.PENDING, attempts_back=1)

    assert store.settle([verdict], stalled_only=True) == {job.id}
    clock.advance(31)
    assert store.settle([verdict], stalled_only=True) == set()


def test_due_count_is_capped(store: MemoryStore) -> None:
    store.insert_many([new_job() for _ in range(5)])
    store.insert([new_job(delay_seconds=60), new_job(kind="other")])

    assert store.due_count({"mail"}, 100) == 5
    assert store.due_count({"mail"}, 3) == 3
    assert store.due_count({"mail", "other"}, 100) == 6


def test_what_is_not_there(store: MemoryStore) -> None:
    assert store.get("unheard-of") is None
    assert store.cancel("unheard-of") is None
    assert store.clear() == 0


def test_a_key_outlives_its_row_for_its_window(store: MemoryStore, clock: ManualClock) -> None:
    def keyed() -> NewJob:
        return new_job(dedupe_key="k", dedupe_window_seconds=60.0)

    (first,) = store.insert([keyed()])
    (job,) = claim(store)
    store.settle([Verdict(job.id, job.fence, State.COMPLETED, keep_seconds=0.0)])
    clock.advance(1)
    store.purge(10)
    assert store.get(first.id) is None

    (found,) = store.insert([keyed()])

    assert (found.id, found.existing, found.state) == (first.id, True, State.COMPLETED)
    clock.advance(60)
    assert not store.insert([keyed()])[0].existing


def test_a_revived_row_is_rung_for_when_it_is_told_to(
    store: MemoryStore, clock: ManualClock
) -> None:
    (job,) = store.insert([new_job(dedupe_key="k", dedupe_window_seconds=0.0)])
    (taken,) = claim(store)
    store.settle([Verdict(taken.id, taken.fence, State.FAILED)])
    dead = store.get(job.id)
    assert dead is not None

    assert store.revive([Revival(dead, 0.0, ring_after_seconds=5.0)]) == 1
    assert store.take_rings(10) == []
    clock.advance(5)
    assert [row.id for row in store.take_rings(10)] == [job.id]
    (other,) = store.insert([new_job(dedupe_key="k", dedupe_window_seconds=0.0)])
    assert (other.id, other.existing) == (job.id, True), "its key is its own again"


def test_a_revival_is_refused_while_another_has_the_key(store: MemoryStore) -> None:
    (job,) = store.insert([new_job(dedupe_key="k", dedupe_window_seconds=0.0)])
    (taken,) = claim(store)
    store.settle([Verdict(taken.id, taken.fence, State.FAILED)])
    dead = store.get(job.id)
    assert dead is not None
    (holder,) = store.insert([new_job(dedupe_key="k", dedupe_window_seconds=0.0)])
    refused: dict[str, str] = {}

    assert store.revive([Revival(dead, 0.0)], refused=refused) == 0
    assert refused == {job.id: holder.id}


def test_a_keyed_job_that_is_there_already_is_left_as_it_is(store: MemoryStore) -> None:
    """As when an enqueue is tried again whose answer was lost."""
    job = new_job(dedupe_key="k", dedupe_window_seconds=0.0)
    (first,) = store.insert([job])

    (again,) = store.insert([job])

    assert again == first
    assert [each.id for each in store.list(JobFilter(), 10)] == [job.id]


def test_there_is_no_session_to_wait_for(store: MemoryStore) -> None:
    with pytest.raises(CapabilityError):
        store.after_commit(object(), lambda items: None, [])


def test_cancel_leaves_finished_rows_alone(store: MemoryStore) -> None:
    store.insert([new_job()])
    (job,) = claim(store)
    store.settle([Verdict(job.id, job.fence, State.COMPLETED)])
    before = store.get(job.id)

    assert store.cancel(job.id) == (before, False)
    assert before is not None
    assert before.keep_until is None


def test_cancel_of_a_row_claimed_and_not_begun_ends_it(store: MemoryStore) -> None:
    store.insert([new_job()])
    (job,) = claim(store)

    cancelled = store.cancel(job.id)
    assert cancelled is not None
    assert (cancelled.job.status, cancelled.accepted) == ("cancelled", True)
    assert store.settle([Verdict(job.id, job.fence, State.COMPLETED)]) == {job.id}
