"""Time: timeouts, budgets, leases, expiry."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from jobs.core.clock import ManualClock
from jobs.core.context import JobContext
from jobs.core.errors import LeaseLost, Retry, Snooze
from jobs.core.job import State
from jobs.system import Tickwork
from jobs.testing.areas.base import Conformance, MakeTickwork, fetch
from jobs.testing.drain import drain


class TimeoutConformance(Conformance):
    """An attempt that takes too long is given up on, whatever it is doing."""

    @pytest.mark.parametrize("how", ["wait", "loop", "await", "stubborn await"])
    def test_a_hanging_handler_is_given_up_on(
        self, make_tickwork: MakeTickwork, gate: threading.Event, how: str
    ) -> None:
        tickwork = make_tickwork(concurrency=1, retry_delay=5.0)
        finished = threading.Event()

        @tickwork.handler("hang", timeout=0.2)
        def hang() -> str:
            while not (gate.is_set() if how == "loop" else gate.wait(30)):
                pass
            finished.set()
            return "too late"

        @tickwork.handler("ahang", timeout=0.2)
        async def ahang() -> str:
            while not gate.is_set():
                try:
                    await asyncio.sleep(0.05)
                except asyncio.CancelledError:
                    if how == "await":
                        finished.set()
                        raise
            finished.set()
            return "too late"

        @tickwork.handler("good")
        async def good() -> str:
            return "good"

        hung = tickwork.enqueue("ahang" if "await" in how else "hang")
        goods = [good.enqueue() for _ in range(3)]
        began = time.monotonic()
        result = tickwork.tick()
        assert time.monotonic() - began < 25  # far from the handler's own end
        assert (result.retried, result.succeeded) == (1, 3)
        waiting = fetch(tickwork, hung.id)
        assert (waiting.state, waiting.attempts) == (State.PENDING, 1)
        assert waiting.error is not None
        assert waiting.error.startswith("TimedOut: gave up after 0.2 s")
        gate.set()
        assert finished.wait(10)
        assert fetch(tickwork, hung.id) == waiting
        assert {fetch(tickwork, job.id).result for job in goods} == {"good"}
        assert good.enqueue().id in tickwork.tick().jobs

    def test_the_jobs_own_timeout_wins(self, tickwork: Tickwork, gate: threading.Event) -> None:
        tickwork.register_handler("hang", lambda payload: gate.wait(30), timeout=50)
        job = tickwork.enqueue("hang", timeout=0.1)
        assert tickwork.tick().retried == 1
        assert "0.1 s" in str(fetch(tickwork, job.id).error)

    def test_a_late_result_is_dropped(
        self, tickwork: Tickwork, manual_clock: ManualClock, gate: threading.Event
    ) -> None:
        """The zombie goes on after its job was done by another attempt."""
        returned = threading.Event()

        @tickwork.handler("slow", timeout=0.2)
        def slow(ctx: JobContext) -> str:
            if ctx.attempt == 1:
                gate.wait(30)
                ctx.progress(33, "zombie")
                returned.set()
                return "zombie"
            return "good"

        job = slow.enqueue()
        tickwork.tick()
        drain(tickwork)
        done = fetch(tickwork, job.id)
        assert (done.result, done.attempts) == ("good", 2)
        gate.set()
        assert returned.wait(10)
        tickwork.enqueue("slow")
        drain(tickwork)
        assert fetch(tickwork, job.id) == done

    def test_a_handler_given_up_on_is_told(self, tickwork: Tickwork, gate: threading.Event) -> None:
        told: list[BaseException] = []
        done = threading.Event()

        @tickwork.handler("slow", timeout=0.2)
        def slow(ctx: JobContext) -> None:
            gate.wait(30)
            try:
                ctx.checkpoint()
            except LeaseLost as error:
                told.append(error)
            done.set()

        slow.enqueue()
        tickwork.tick()
        gate.set()
        assert done.wait(10)
        assert len(told) == 1

    def test_many_hanging_handlers_do_not_use_up_the_slots(
        self, make_tickwork: MakeTickwork, gate: threading.Event
    ) -> None:
        tickwork = make_tickwork(concurrency=2)
        tickwork.register_handler("hang", lambda payload: gate.wait(30), timeout=0.1)
        tickwork.register_handler("good", lambda payload: "good")
        tickwork.enqueue_many([("hang", {})] * 6 + [("good", {})] * 6)
        result = tickwork.tick(limit=12)
        assert (result.retried, result.succeeded) == (6, 6)


class BudgetConformance(Conformance):
    """A tick keeps inside its time, and hands back what it could not start."""

    def test_what_could_not_start_costs_nothing(
        self, make_tickwork: MakeTickwork, gate: threading.Event
    ) -> None:
        tickwork = make_tickwork(concurrency=1)
        tickwork.register_handler("slow", lambda payload: gate.wait(0.6))
        tickwork.enqueue_many([("slow", {})] * 8)
        before = {job.id: job for job in tickwork.list()}
        began = time.monotonic()
        result = tickwork.tick(limit=8, time_budget=0.3, tick_limit=20)
        assert time.monotonic() - began < 3
        assert (result.succeeded, result.released, result.remaining) == (1, 7, 7)
        for job in tickwork.list(state="pending"):
            assert (job.attempts, job.errors, job.error) == (0, [], None)
            assert (job.run_at, job.started_at, job.lease_until) == (
                before[job.id].run_at,
                None,
                None,
            )
        assert tickwork.tick(limit=1).succeeded == 1

    def test_a_running_job_is_cut_off_before_the_limit(
        self, tickwork: Tickwork, gate: threading.Event
    ) -> None:
        told: list[float] = []

        @tickwork.handler("slow")
        def slow(ctx: JobContext) -> None:
            told.append(ctx.time_left())
            gate.wait(30)

        job = tickwork.enqueue("slow")
        began = time.monotonic()
        assert tickwork.tick(time_budget=0.8, tick_limit=1).retried == 1
        assert time.monotonic() - began < 25
        assert told[0] <= 0.9  # what is left of the limit is for writing it down
        assert "the tick that ran it ends there" in str(fetch(tickwork, job.id).error)

    def test_a_timeout_that_does_not_fit_any_more_waits(
        self, make_tickwork: MakeTickwork, gate: threading.Event
    ) -> None:
        """Declared timeouts are taken at their word."""
        tickwork = make_tickwork(concurrency=1)

        @tickwork.handler("short")
        def short(payload: dict[str, Any], ctx: JobContext) -> None:
            while ctx.time_left() > 9.4:
                gate.wait(0.02)

        tickwork.register_handler("long", lambda payload: "ran", timeout=9.5)
        tickwork.enqueue("short", priority=1)
        long = tickwork.enqueue("long")
        result = tickwork.tick(time_budget=5, tick_limit=11.2)
        assert (result.succeeded, result.released) == (1, 1)
        assert fetch(tickwork, long.id).attempts == 0
        assert tickwork.tick(time_budget=5, tick_limit=11.2).jobs == (long.id,)

    def test_a_timeout_that_never_fits_starts_only_first(self, make_tickwork: MakeTickwork) -> None:
        tickwork = make_tickwork(concurrency=1)
        started = []
        tickwork.register_handler("small", lambda payload: started.append("small"))

        @tickwork.handler("oversize", timeout=3600, max_attempts=1)
        def oversize(payload: dict[str, Any], ctx: JobContext) -> None:
            started.append(ctx.job_id)
            raise ValueError("so that nobody learns how long it usually takes")

        tickwork.enqueue("small", priority=1)
        big = [tickwork.enqueue("oversize").id for _ in range(2)]
        # Behind work of better priority it would never be the first: one is let before it.
        result = tickwork.tick()
        assert (result.succeeded, result.failed, result.released) == (1, 1, 1)
        assert started == [big[0], "small"]
        assert fetch(tickwork, big[1]).attempts == 0
        tickwork.enqueue("small", priority=1)
        assert tickwork.tick().failed == 1
        assert started == [big[0], "small", big[1], "small"]

    def test_a_kind_known_to_be_quick_fits_whatever_its_timeout(
        self, make_tickwork: MakeTickwork
    ) -> None:
        tickwork = make_tickwork(concurrency=3)
        tickwork.register_handler("export", lambda payload: None, timeout=3600)
        tickwork.enqueue_many([("export", {})] * 9)
        result = tickwork.tick()
        assert (result.succeeded, result.released) == (9, 0)

    def test_a_kind_that_was_cut_off_is_no_longer_thought_quick(
        self, make_tickwork: MakeTickwork
    ) -> None:
        gate = threading.Event()
        tickwork = make_tickwork(concurrency=1)
        tickwork.register_handler("quick", lambda payload: None)

        @tickwork.handler("export", timeout=3600, backoff=0, max_attempts=9)
        def export(payload: dict[str, Any], ctx: JobContext) -> None:
            if payload.get("long") and ctx.attempt == 1:
                gate.wait(30)

        export.enqueue({})
        assert tickwork.tick().succeeded == 1
        export.enqueue({"long": True})
        assert tickwork.tick(time_budget=0.2, tick_limit=0.3).retried == 1
        gate.set()
        tickwork.enqueue("quick", priority=1)
        assert tickwork.tick().succeeded == 2

    def test_a_lease_lasts_as_long_as_the_platform_lets_a_tick_live(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        leases = []

        @tickwork.handler("alpha")
        def alpha(ctx: JobContext) -> None:
            leases.append(fetch(tickwork, ctx.job_id).lease_until)

        for tick_limit in (60.0, 900.0):
            alpha.enqueue()
            tickwork.tick(tick_limit=tick_limit)
            low = manual_clock.now() + timedelta(seconds=tick_limit)
            lease_until = leases.pop()
            assert lease_until is not None
            assert low <= lease_until <= low + timedelta(seconds=30)

    def test_a_checkpoint_renews_a_lease_that_would_run_out(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        left = []

        @tickwork.handler("alpha", timeout=40)
        def alpha(ctx: JobContext) -> None:
            manual_clock.advance(50)
            ctx.checkpoint()
            lease_until = fetch(tickwork, ctx.job_id).lease_until
            assert lease_until is not None
            left.append((lease_until - manual_clock.now()).total_seconds())

        alpha.enqueue()
        assert tickwork.tick().succeeded == 1
        assert left[0] >= 39


class ExpiryConformance(Conformance):
    """``expires_in``: not started by then, cancelled with the reason."""

    def test_a_job_not_started_in_time_is_cancelled(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        ran: list[Any] = []
        tickwork.register_handler("alpha", ran.append)
        late = tickwork.enqueue("alpha", {"n": 1}, expires_in=30)
        manual_clock.advance(30)
        in_time = tickwork.enqueue("alpha", {"n": 2}, expires_in=timedelta(seconds=30))
        result = tickwork.tick()
        assert (result.cancelled, result.jobs) == (1, (in_time.id,))
        ended = fetch(tickwork, late.id)
        assert (ended.state, ended.attempts) == (State.CANCELLED, 0)
        assert "expired" in str(ended.error)
        assert ran == [{"n": 2}]

    @pytest.mark.parametrize("error", [ValueError("x"), Retry(after=60), Snooze(60)])
    def test_a_job_that_started_in_time_may_go_on(
        self, tickwork: Tickwork, manual_clock: ManualClock, error: Exception
    ) -> None:
        starts = []

        @tickwork.handler("alpha")
        def alpha(ctx: JobContext) -> None:
            starts.append(ctx.fence)
            if len(starts) == 1:
                raise error

        job = alpha.enqueue(expires_in=30)
        tickwork.tick()
        manual_clock.advance(120)
        tickwork.tick()
        assert fetch(tickwork, job.id).state is State.COMPLETED
        assert len(starts) == 2

    def test_a_release_does_not_stop_the_clock(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock, gate: threading.Event
    ) -> None:
        tickwork = make_tickwork(concurrency=1)
        tickwork.register_handler("slow", lambda payload: gate.wait(0.4))
        tickwork.enqueue("slow", priority=1)
        job = tickwork.enqueue("slow", expires_in=30)
        assert tickwork.tick(time_budget=0.2, tick_limit=9).released == 1
        manual_clock.advance(31)
        assert tickwork.tick().cancelled == 1
        assert fetch(tickwork, job.id).state is State.CANCELLED
