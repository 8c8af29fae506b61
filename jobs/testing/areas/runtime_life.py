"""A job's whole life, through the tick."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from jobs.core.backoff import exponential, fixed
from jobs.core.clock import Clock, ManualClock
from jobs.core.context import JobContext
from jobs.core.errors import (
    ConfigurationError,
    Discard,
    JobNotFound,
    JobStateConflict,
    Retry,
    Snooze,
)
from jobs.core.events import JobEvent
from jobs.core.job import State
from jobs.core.store import Capability, Store
from jobs.system import Tickwork
from jobs.testing.areas.base import (
    Conformance,
    MakeStore,
    MakeTickwork,
    fetch,
    in_threads,
    requires,
)
from jobs.testing.drain import drain


class LifeConformance(Conformance):
    """Enqueued, run, tried again, ended; and seen all the while."""

    def test_from_enqueue_to_result(self, tickwork: Tickwork, manual_clock: ManualClock) -> None:
        @tickwork.handler("greet")
        def greet(payload: dict[str, Any]) -> dict[str, Any]:
            return {"said": f"hello {payload['name']}"}

        job = greet.enqueue({"name": "Ada 😀"})
        created = manual_clock.now()
        assert fetch(tickwork, job.id).state is State.PENDING
        assert [each.id for each in tickwork.get_pending_jobs()] == [job.id]
        manual_clock.advance(3)
        result = tickwork.tick()
        assert (result.processed, result.succeeded, result.jobs) == (1, 1, (job.id,))
        assert (result.failed, result.retried, result.released, result.remaining) == (0, 0, 0, 0)
        done = fetch(tickwork, job.id)
        assert (done.status, done.result) == ("completed", {"said": "hello Ada 😀"})
        assert (done.created_at, done.started_at) == (created, manual_clock.now())
        assert done.finished_at == manual_clock.now()
        assert (done.error, done.errors, done.attempts) == (None, [], 1)
        assert done.duration_ms is not None
        assert tickwork.tick().processed == 0
        assert fetch(tickwork, job.id) == done

    def test_a_tick_tells_of_what_its_handlers_enqueued(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        """Also where it goes to a queue of its own, in which nothing waited before."""

        @tickwork.handler("mail", queue="mails")
        def mail() -> None:
            return

        @tickwork.handler("order", queue="orders")
        def order(payload: dict[str, Any]) -> None:
            mail.enqueue(delay=payload["delay"])

        order.enqueue({"delay": 0})
        first = tickwork.tick(look_ahead=True)
        assert (first.succeeded, first.remaining, first.next_due_at) == (1, 1, None)
        assert tickwork.tick(look_ahead=True).remaining == 0
        order.enqueue({"delay": 90})
        later = tickwork.tick(look_ahead=True)
        assert (later.succeeded, later.remaining) == (1, 0)
        assert later.next_due_at == manual_clock.now() + timedelta(seconds=90)

    def test_sync_and_async_handlers_with_and_without_arguments(self, tickwork: Tickwork) -> None:
        @tickwork.handler("nothing")
        def nothing() -> str:
            return "nothing"

        @tickwork.handler("payload")
        async def payload_only(payload: dict[str, Any]) -> int:
            return int(payload["n"]) + 1

        @tickwork.handler("context")
        async def context_only(ctx: JobContext) -> str:
            return ctx.kind

        @tickwork.handler("both")
        def both(payload: dict[str, Any], ctx: JobContext) -> list[Any]:
            return [payload["n"], ctx.queue]

        jobs = [nothing.enqueue(), payload_only.enqueue({"n": 1}), context_only.enqueue()]
        jobs.append(both.enqueue({"n": 2}))
        assert tickwork.tick().succeeded == 4
        results = [fetch(tickwork, job.id).result for job in jobs]
        assert results == ["nothing", 2, "context", [2, "default"]]

    def test_a_handler_knows_its_job(self, tickwork: Tickwork) -> None:
        seen: list[Any] = []

        @tickwork.handler("look", queue="mail", max_attempts=4, timeout=30)
        def look(ctx: JobContext) -> None:
            seen.append(
                (ctx.job_id, ctx.idempotency_key, ctx.queue, ctx.tenant, ctx.attempt, ctx.fence)
            )
            assert ctx.max_attempts == 4
            assert 0 < ctx.time_left() <= 30
            if ctx.attempt == 1:
                raise Retry("once more", after=0)

        job = look.enqueue(tenant="acme")
        tickwork.tick()
        tickwork.tick()
        assert seen == [
            (job.id, job.id, "mail", "acme", 1, 1),
            (job.id, job.id, "mail", "acme", 2, 2),
        ]

    def test_a_delayed_job_runs_when_it_is_due(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        by_delay = tickwork.enqueue("alpha", delay=60)
        by_time = tickwork.enqueue("alpha", run_at=manual_clock.now() + timedelta(hours=1))
        assert tickwork.tick().processed == 0
        manual_clock.advance(60)
        assert tickwork.tick().jobs == (by_delay.id,)
        manual_clock.advance(3540)
        assert tickwork.tick().jobs == (by_time.id,)

    def test_a_run_at_in_the_past_is_due(self, tickwork: Tickwork, clock: Clock) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.enqueue("alpha", run_at=clock.now() - timedelta(days=1))
        assert tickwork.tick().succeeded == 1

    def test_failures_are_tried_again_until_attempts_are_used(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        tickwork = make_tickwork(retry_delay=10.0)
        starts = []

        @tickwork.handler("broken", backoff=exponential(5, factor=5, jitter=0))
        def broken(ctx: JobContext) -> None:
            starts.append((ctx.attempt, manual_clock.now()))
            raise ValueError(f"broken {ctx.attempt}")

        began = manual_clock.now()
        job = broken.enqueue()
        results = drain(tickwork)
        ended = fetch(tickwork, job.id)
        assert starts == [
            (1, began),
            (2, began + timedelta(seconds=5)),
            (3, began + timedelta(seconds=30)),
        ]
        assert [result.retried for result in results][:1] == [1]
        assert sum(result.failed for result in results) == 1
        assert (ended.state, ended.attempts) == (State.FAILED, 3)
        assert ended.error == "ValueError: broken 3"
        assert [(e["attempt"], e["type"], e["message"]) for e in ended.errors] == [
            (n, "ValueError", f"broken {n}") for n in (1, 2, 3)
        ]
        assert "raise ValueError" in ended.errors[0]["traceback"]
        assert ended.finished_at == manual_clock.now()

    def test_a_job_may_heal(self, tickwork: Tickwork, manual_clock: ManualClock) -> None:
        @tickwork.handler("flaky", max_attempts=5, backoff=fixed(1, jitter=0))
        def flaky(ctx: JobContext) -> str:
            if ctx.attempt < 3:
                raise OSError("not yet")
            return "healed"

        job = flaky.enqueue()
        tickwork.tick()
        waiting = fetch(tickwork, job.id)
        assert (waiting.state, waiting.error) == (State.PENDING, "OSError: not yet")
        assert waiting.run_at == manual_clock.now() + timedelta(seconds=1)
        drain(tickwork)
        healed = fetch(tickwork, job.id)
        assert (healed.state, healed.result, healed.error) == (State.COMPLETED, "healed", None)
        assert [entry["attempt"] for entry in healed.errors] == [1, 2]

    def test_attempts_and_backoff_of_one_job_win(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        @tickwork.handler("broken", max_attempts=9)
        def broken() -> None:
            raise ValueError

        job = tickwork.enqueue("broken", max_attempts=2, backoff={"type": "fixed", "delay": 2500})
        tickwork.tick()
        assert fetch(tickwork, job.id).run_at == manual_clock.now() + timedelta(seconds=2.5)
        drain(tickwork)
        assert fetch(tickwork, job.id).attempts == 2

    def test_retry_sets_its_own_delay(self, tickwork: Tickwork, manual_clock: ManualClock) -> None:
        @tickwork.handler("later", max_attempts=2)
        def later() -> None:
            raise Retry("the other side asked for it", after=123)

        job = later.enqueue()
        assert tickwork.tick().retried == 1
        waiting = fetch(tickwork, job.id)
        assert waiting.run_at == manual_clock.now() + timedelta(seconds=123)
        assert waiting.error == "Retry: the other side asked for it"
        drain(tickwork)
        assert fetch(tickwork, job.id).state is State.FAILED

    def test_snooze_uses_no_attempt(self, tickwork: Tickwork, manual_clock: ManualClock) -> None:
        attempts = []

        @tickwork.handler("sleepy", max_attempts=1)
        def sleepy(ctx: JobContext) -> str:
            attempts.append((ctx.attempt, ctx.fence))
            if len(attempts) < 4:
                raise Snooze(30)
            return "awake"

        job = sleepy.enqueue()
        assert tickwork.tick().snoozed == 1
        waiting = fetch(tickwork, job.id)
        assert waiting.run_at == manual_clock.now() + timedelta(seconds=30)
        assert (waiting.attempts, waiting.errors) == (0, [])
        drain(tickwork)
        assert attempts == [(1, 1), (1, 2), (1, 3), (1, 4)]
        assert fetch(tickwork, job.id).result == "awake"

    def test_discard_gives_up_at_once(self, tickwork: Tickwork) -> None:
        @tickwork.handler("hopeless", max_attempts=9)
        def hopeless() -> None:
            raise Discard("no such customer")

        job = hopeless.enqueue()
        assert tickwork.tick().failed == 1
        ended = fetch(tickwork, job.id)
        assert (ended.state, ended.error) == (State.FAILED, "Discard: no such customer")

    def test_progress_is_seen_while_it_runs(self, tickwork: Tickwork) -> None:
        seen: list[Any] = []

        @tickwork.handler("steps")
        def steps(ctx: JobContext) -> None:
            ctx.progress(50, "half")
            ctx.checkpoint()
            during = fetch(tickwork, ctx.job_id)
            seen.append((during.progress, during.progress_note, during.state))
            ctx.progress(200)

        job = steps.enqueue()
        tickwork.tick()
        assert seen == [(50.0, "half", State.PROCESSING)]
        assert fetch(tickwork, job.id).progress == 100.0

    def test_progress_of_a_failed_attempt_stays(self, tickwork: Tickwork) -> None:
        @tickwork.handler("steps", max_attempts=1)
        def steps(ctx: JobContext) -> None:
            ctx.progress(40, "so far")
            raise ValueError

        job = steps.enqueue()
        tickwork.tick()
        ended = fetch(tickwork, job.id)
        assert (ended.progress, ended.progress_note) == (40.0, "so far")

    def test_listeners_hear_and_cannot_break_a_job(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        heard: list[JobEvent] = []

        def broken(_event: JobEvent) -> None:
            raise RuntimeError("a listener of somebody else")

        for name in ("enqueued", "started", "completed", "failed", "retried", "progress"):
            tickwork.on(name, broken)
            tickwork.on(name, heard.append)

        @tickwork.handler("alpha", max_attempts=2)
        def alpha(payload: dict[str, Any], ctx: JobContext) -> str:
            if payload["bad"]:
                raise ValueError("bad")
            ctx.progress(30)
            return "good"

        good = alpha.enqueue({"bad": False})
        bad = alpha.enqueue({"bad": True}, priority=5)
        drain(tickwork)
        by_job = {
            job.id: [event.name for event in heard if event.job_id == job.id] for job in (good, bad)
        }
        assert by_job[good.id] == ["enqueued", "started", "progress", "completed"]
        assert by_job[bad.id] == ["enqueued", "started", "retried", "started", "failed"]
        last = heard[-1]
        assert (last.error, last.attempt, last.max_attempts) == ("ValueError: bad", 2, 2)
        assert next(event for event in heard if event.name == "completed").result == "good"
        assert fetch(tickwork, good.id).state is State.COMPLETED

    def test_unknown_kinds_wait_for_their_deployment(
        self, tickwork: Tickwork, make_tickwork: MakeTickwork
    ) -> None:
        tickwork.register_handler("old", lambda payload: None)
        waiting = tickwork.enqueue("new", {"n": 1})
        result = tickwork.tick()
        assert (result.processed, result.remaining) == (0, 0)
        assert fetch(tickwork, waiting.id).attempts == 0
        deployed = make_tickwork()
        deployed.register_handler("new", lambda payload: payload["n"])
        assert deployed.tick().jobs == (waiting.id,)

    def test_the_best_run_first(self, make_tickwork: MakeTickwork) -> None:
        tickwork = make_tickwork(concurrency=1)
        order: list[str] = []
        tickwork.register_handler("alpha", lambda payload, ctx: order.append(ctx.job_id))
        tickwork.register_handler("beta", lambda payload, ctx: order.append(ctx.job_id))
        usual = [tickwork.enqueue("alpha").id for _ in range(10)]
        low = tickwork.enqueue("beta", priority=5).id
        high = tickwork.enqueue("beta", priority=1).id
        drain(tickwork)
        assert order == [high, *usual, low]

    def test_a_tick_takes_ten_and_says_what_is_left(self, tickwork: Tickwork) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.enqueue_many([("alpha", {})] * 25)
        assert [(r.processed, r.remaining) for r in (tickwork.tick(), tickwork.tick())] == [
            (10, 15),
            (10, 5),
        ]
        assert tickwork.tick(limit=3).processed == 3
        with pytest.raises(ConfigurationError):
            tickwork.tick(limit=0)

    def test_no_more_than_the_limit_run_at_once(self, make_tickwork: MakeTickwork) -> None:
        tickwork = make_tickwork(concurrency=3)
        lock, running, peak = threading.Lock(), [0], [0]
        full = threading.Barrier(3)

        @tickwork.handler("alpha")
        def alpha() -> None:
            with lock:
                running[0] += 1
                peak[0] = max(peak[0], running[0])
            full.wait(10)
            with lock:
                running[0] -= 1

        tickwork.enqueue_many([("alpha", {})] * 12)
        assert tickwork.tick(limit=12).succeeded == 12
        assert peak == [3]

    def test_on_demand(self, tickwork: Tickwork) -> None:
        for kind in ("alpha", "beta"):
            tickwork.register_handler(kind, lambda payload, ctx: ctx.kind)
        tickwork.enqueue_many([("alpha", {}), ("beta", {}), ("alpha", {}), ("beta", {})])
        done = tickwork.process_next_job("beta")
        assert done is not None
        assert (done.kind, done.state) == ("beta", State.COMPLETED)
        assert tickwork.process_next_job("gamma") is None
        batch = tickwork.process_batch(["alpha", "gamma"], limit=10)
        assert [job.kind for job in batch] == ["alpha", "alpha"]
        assert [job.kind for job in tickwork.process_batch()] == ["beta"]
        assert tickwork.process_next_job() is None

    def test_clearing_needs_force_where_rows_last(self, tickwork: Tickwork) -> None:
        tickwork.enqueue("alpha")
        if Capability.DURABLE in tickwork.store.capabilities:
            with pytest.raises(Exception, match="force=True"):
                tickwork.clear()
            assert len(tickwork.list()) == 1
        assert tickwork.clear(force=True) == 1
        assert tickwork.list() == []

    def test_cancelling_says_what_it_could_not_do(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        done, waiting = tickwork.enqueue("alpha"), tickwork.enqueue("alpha", delay=60)
        tickwork.tick()
        assert tickwork.cancel(waiting.id).state is State.CANCELLED
        for ended in (done, waiting):
            before = fetch(tickwork, ended.id)
            with pytest.raises(JobStateConflict):
                tickwork.cancel(ended.id)
            assert fetch(tickwork, ended.id) == before
        with pytest.raises(JobNotFound):
            tickwork.cancel("no such job")
        manual_clock.advance(60)
        assert tickwork.tick().processed == 0

    @requires(Capability.SHARED)
    def test_other_namespaces_are_not_run(
        self, tickwork: Tickwork, make_tickwork: MakeTickwork, make_store: MakeStore, clock: Clock
    ) -> None:
        preview = make_tickwork(store=make_store(clock, namespace="preview"))
        ran: list[str] = []
        tickwork.register_handler("alpha", lambda payload: ran.append("production"))
        preview.register_handler("alpha", lambda payload: ran.append("preview"))
        job = preview.enqueue("alpha")
        assert tickwork.tick().processed == 0
        assert tickwork.get(job.id) is None
        assert preview.tick().processed == 1
        assert ran == ["preview"]


class ManyRunnersConformance(Conformance):
    """Ticks that overlap."""

    def test_sixteen_tickers_run_each_job_once(
        self, store: Store, make_store: MakeStore, make_tickwork: MakeTickwork, clock: Clock
    ) -> None:
        lock = threading.Lock()
        runs: list[str] = []

        def note(_payload: dict[str, Any], ctx: JobContext) -> None:
            with lock:
                runs.append(ctx.job_id)

        shared = Capability.SHARED in store.capabilities
        tickers = []
        for _ in range(16):
            tickers.append(make_tickwork(store=make_store(clock) if shared else store))
            tickers[-1].register_handler("alpha", note)
            tickers[-1].register_handler("beta", note)
        ids = tickers[0].enqueue_many([(kind, {}) for kind in ("alpha", "beta") * 500])

        def tick_until_empty(number: int) -> int:
            done = 0
            for _ in range(1000):
                result = tickers[number].tick(limit=25, concurrency=2)
                done += result.processed
                if not (result.processed or result.remaining):
                    return done
            return done

        processed = in_threads(16, tick_until_empty)
        assert sorted(runs) == sorted(ids)
        assert sum(processed) == 1000
        assert tickers[0].counts() == {
            ("default", "alpha", "completed"): 500,
            ("default", "beta", "completed"): 500,
        }
