"""Cancelling and retention, through the tick."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from jobs.core.clock import ManualClock
from jobs.core.context import JobContext
from jobs.core.errors import JobCancelled, JobStateConflict
from jobs.core.job import State
from jobs.system import Tickwork
from jobs.testing.areas.base import Conformance, MakeTickwork, fetch, in_threads
from jobs.testing.drain import drain


class StoppingConformance(Conformance):
    """Cancel against run."""

    def test_a_running_handler_is_told_at_its_checkpoint(self, tickwork: Tickwork) -> None:
        effects = []

        @tickwork.handler("alpha")
        def alpha(ctx: JobContext) -> None:
            asked = tickwork.cancel(ctx.job_id)
            assert (asked.state, asked.cancel_requested) == (State.PROCESSING, True)
            with pytest.raises(JobCancelled):
                ctx.checkpoint()
            ctx.checkpoint()
            effects.append("after")

        job = alpha.enqueue()
        assert tickwork.tick().cancelled == 1
        ended = fetch(tickwork, job.id)
        assert (ended.state, ended.error) == (State.CANCELLED, "cancelled while running")
        assert (effects, ended.attempts) == ([], 1)

    def test_a_handler_that_never_looks_is_recorded_as_what_it_did(
        self, tickwork: Tickwork
    ) -> None:
        tickwork.register_handler("alpha", lambda payload, ctx: tickwork.cancel(ctx.job_id).status)
        job = tickwork.enqueue("alpha")
        assert tickwork.tick().succeeded == 1
        assert fetch(tickwork, job.id).state is State.COMPLETED

    def test_a_job_asked_to_stop_is_not_tried_again(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        @tickwork.handler("alpha", max_attempts=9)
        def alpha(ctx: JobContext) -> None:
            tickwork.cancel(ctx.job_id)
            raise ValueError("boom")

        job = alpha.enqueue()
        drain(tickwork)
        ended = fetch(tickwork, job.id)
        assert (ended.state, ended.attempts) == (State.CANCELLED, 1)
        assert "boom" in str(ended.error)

    def test_a_claimed_job_that_waits_for_its_slot_never_starts(
        self, make_tickwork: MakeTickwork
    ) -> None:
        tickwork = make_tickwork(concurrency=1)
        ran: list[str] = []
        waiting: list[str] = []

        @tickwork.handler("alpha")
        def alpha(ctx: JobContext) -> None:
            ran.append(ctx.job_id)
            if len(ran) == 1:
                states = [tickwork.cancel(job_id).state for job_id in waiting]
                assert states == [State.CANCELLED] * 4

        alpha.enqueue()
        waiting += [alpha.enqueue().id for _ in range(4)]
        result = tickwork.tick()
        assert (result.succeeded, len(ran)) == (1, 1)
        assert {fetch(tickwork, job_id).state for job_id in waiting} == {State.CANCELLED}

    def test_never_cancelled_and_yet_an_effect(self, make_tickwork: MakeTickwork) -> None:
        """Cancels in a loop against ticks: a job that ended at once has not begun."""
        tickwork = make_tickwork(concurrency=4)
        effects: set[str] = set()

        @tickwork.handler("alpha")
        def alpha(ctx: JobContext) -> None:
            effects.add(ctx.job_id)

        ids = tickwork.enqueue_many([("alpha", {})] * 200)
        done = threading.Event()

        def race(number: int) -> None:
            if number:
                while not done.is_set():
                    tickwork.tick(limit=20)
                return
            for job_id in random.Random(7).sample(ids, len(ids)):
                try:
                    tickwork.cancel(job_id)
                except JobStateConflict:
                    continue
            done.set()

        in_threads(3, race)
        drain(tickwork)
        states = {job.id: job.state for job in tickwork.list(limit=500)}
        assert set(states.values()) <= {State.COMPLETED, State.CANCELLED}
        cancelled = {job_id for job_id, state in states.items() if state is State.CANCELLED}
        assert cancelled & effects == set()
        assert cancelled | effects == set(ids)


class KeepingConformance(Conformance):
    """How long finished jobs stay."""

    def test_each_state_has_its_time(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        tickwork = make_tickwork()

        @tickwork.handler("alpha", max_attempts=1)
        def alpha(payload: dict[str, Any]) -> None:
            if payload["bad"]:
                raise ValueError

        good, bad = alpha.enqueue({"bad": False}), alpha.enqueue({"bad": True})
        cancelled = alpha.enqueue({"bad": True}, delay=60)
        tickwork.cancel(cancelled.id)
        waiting = alpha.enqueue({"bad": False}, delay=30 * 86_400)
        tickwork.tick()

        def there() -> set[str]:
            tickwork.tick()
            return {job.id for job in tickwork.list()}

        manual_clock.advance(86_399)
        assert there() == {good.id, bad.id, cancelled.id, waiting.id}
        manual_clock.advance(1)
        assert there() == {bad.id, cancelled.id, waiting.id}
        manual_clock.advance(6 * 86_400 - 1)
        assert there() == {bad.id, cancelled.id, waiting.id}
        manual_clock.advance(1)
        assert there() == {waiting.id}

    def test_the_settings_say_how_long(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        tickwork = make_tickwork(keep_completed=60.0, keep_failed=120.0)
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.register_handler("beta", lambda payload: 1 / 0, max_attempts=1)
        tickwork.enqueue("alpha")
        tickwork.enqueue("beta")
        tickwork.tick()
        manual_clock.advance(60)
        tickwork.tick()
        assert [job.kind for job in tickwork.list()] == ["beta"]
        manual_clock.advance(60)
        tickwork.tick()
        assert tickwork.list() == []

    def test_remove_on_complete_and_on_fail(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        tickwork.register_handler("gone", lambda payload: None, remove_on_complete=True)
        tickwork.register_handler("kept", lambda payload: None, remove_on_complete=False)
        tickwork.register_handler(
            "bad", lambda payload: 1 / 0, max_attempts=1, remove_on_fail={"age": 5}
        )
        for kind in ("gone", "kept", "bad"):
            tickwork.enqueue(kind)
        assert tickwork.tick().processed == 3
        tickwork.tick()
        assert {job.kind for job in tickwork.list()} == {"kept", "bad"}
        manual_clock.advance(3650 * 86_400)
        tickwork.tick()
        assert {job.kind for job in tickwork.list()} == {"kept"}

    @pytest.mark.parametrize("end", ["completed", "failed"])
    def test_no_more_than_so_many_are_kept(
        self, tickwork: Tickwork, manual_clock: ManualClock, end: str
    ) -> None:
        keep = {"age": 1000, "count": 3}

        @tickwork.handler("alpha", max_attempts=1, remove_on_complete=keep, remove_on_fail=keep)
        def alpha() -> None:
            if end == "failed":
                raise ValueError

        newest = []
        for _ in range(7):
            newest.append(alpha.enqueue().id)
            tickwork.tick()
            manual_clock.advance(1)
        assert {job.id for job in tickwork.list()} == set(newest[-3:])
        manual_clock.advance(1000)
        tickwork.tick()
        assert tickwork.list() == []

    def test_a_purge_in_a_loop_touches_nothing_unfinished(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        tickwork = make_tickwork(keep_completed=0.0, keep_failed=0.0, concurrency=2)
        runs: list[str] = []

        @tickwork.handler("alpha")
        def alpha(ctx: JobContext) -> None:
            tickwork.store.purge(100)
            runs.append(ctx.job_id)
            if ctx.attempt == 1:
                raise ValueError("once more")

        ids = tickwork.enqueue_many([("alpha", {})] * 30)
        drain(tickwork)
        assert sorted(runs) == sorted([*ids, *ids])
