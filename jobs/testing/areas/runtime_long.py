"""Long work over many ticks, and payloads of other versions than the code's."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.core.clock import ManualClock
from jobs.core.context import JobContext
from jobs.core.errors import (
    ConfigurationError,
    Continue,
    JobCancelled,
    PayloadError,
    PayloadTooLarge,
    Retry,
    Snooze,
)
from jobs.core.job import State
from jobs.core.store import Capability
from jobs.system import Tickwork
from jobs.testing.areas.base import Conformance, MakeTickwork, fetch, requires

DAY_SECONDS = 86_400.0


class ContinueConformance(Conformance):
    """``Continue``, ``ctx.checkpoint(state=...)`` and ``ctx.state``."""

    def test_it_goes_on_where_it_was(self, tickwork: Tickwork) -> None:
        seen: list[Any] = []

        def count(payload: dict[str, Any], ctx: JobContext) -> int:
            seen.append((ctx.state, ctx.attempt))
            done = ctx.state["done"] if ctx.state else 0
            if done < 3:
                raise Continue({"done": done + 1})
            return int(done)

        tickwork.register_handler("alpha", count, max_attempts=1)
        job = tickwork.enqueue("alpha")
        results = [tickwork.tick() for _ in range(4)]
        assert [result.processed for result in results] == [1] * 4
        assert [result.remaining for result in results] == [1, 1, 1, 0]
        assert seen == [(None, 1), ({"done": 1}, 1), ({"done": 2}, 1), ({"done": 3}, 1)]
        found = fetch(tickwork, job.id)
        assert (found.state, found.result, found.continues) == (State.COMPLETED, 3, 3)
        assert found.attempts == 1

    def test_it_waits_as_long_as_it_says(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        def wait(ctx: JobContext) -> None:
            raise Continue([1], after=60)

        tickwork.register_handler("alpha", wait)
        tickwork.enqueue("alpha")
        assert tickwork.tick().processed == 1
        assert tickwork.tick().processed == 0
        manual_clock.advance(60)
        assert tickwork.tick().processed == 1

    def test_drained_in_one_go(self, tickwork: Tickwork) -> None:
        def count(ctx: JobContext) -> None:
            if (ctx.state or 0) < 20:
                raise Continue((ctx.state or 0) + 1)

        tickwork.register_handler("alpha", count)
        job = tickwork.enqueue("alpha")
        tickwork.drain()
        assert fetch(tickwork, job.id).state is State.COMPLETED

    def test_a_checkpoint_survives_what_comes_after_it(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        seen: list[Any] = []

        def work(ctx: JobContext) -> None:
            seen.append(ctx.state)
            if len(seen) == 1:
                ctx.checkpoint(state={"page": 7})
                assert ctx.state == {"page": 7}
                ctx.checkpoint()
                raise Retry(after=1)
            if len(seen) == 2:
                raise Continue
            ctx.checkpoint(state=None)
            assert ctx.state is None

        tickwork.register_handler("alpha", work)
        job = tickwork.enqueue("alpha")
        for _ in range(3):
            tickwork.tick()
            manual_clock.advance(2)
        assert seen == [None, {"page": 7}, {"page": 7}]
        found = fetch(tickwork, job.id)
        assert (found.state, found.cursor, found.attempts) == (State.COMPLETED, None, 2)

    def test_states_that_cannot_be_kept(self, tickwork: Tickwork) -> None:
        refused: list[PayloadError] = []

        def work(payload: dict[str, Any], ctx: JobContext) -> None:
            for state in ("x" * 100_001, {1}):
                with pytest.raises(PayloadError) as caught:
                    ctx.checkpoint(state=state)
                refused.append(caught.value)
            raise Continue("x" * 100_001)

        tickwork.register_handler("alpha", work, max_attempts=1)
        job = tickwork.enqueue("alpha")
        tickwork.tick()
        assert isinstance(refused[0], PayloadTooLarge)
        found = fetch(tickwork, job.id)
        assert (found.state, found.cursor) == (State.FAILED, None)
        assert "over the limit of 100,000" in str(found.error)

    @pytest.mark.parametrize("steering", [Continue, Snooze])
    def test_not_more_often_than_the_kind_says(
        self, tickwork: Tickwork, steering: type[Exception]
    ) -> None:
        def work(ctx: JobContext) -> None:
            raise steering(0)

        tickwork.register_handler("alpha", work, max_continues=3, max_attempts=9)
        job = tickwork.enqueue("alpha")
        failed: list[str] = []
        tickwork.on("failed", lambda event: failed.append(str(event.error)))
        results = [tickwork.tick() for _ in range(5)]
        assert [result.failed for result in results] == [0, 0, 0, 1, 0]
        found = fetch(tickwork, job.id)
        assert (found.state, found.continues, found.attempts) == (State.FAILED, 3, 1)
        assert "put off 3 times" in str(found.error)
        assert "max_continues of kind 'alpha'" in str(found.error)
        assert failed == [found.error]

    def test_a_retry_by_hand_counts_anew(self, tickwork: Tickwork) -> None:
        def work(ctx: JobContext) -> None:
            raise Continue(1)

        tickwork.register_handler("alpha", work, max_continues=1)
        job = tickwork.enqueue("alpha")
        for _ in range(2):
            tickwork.tick()
        assert fetch(tickwork, job.id).state is State.FAILED
        tickwork.retry(job.id)
        found = fetch(tickwork, job.id)
        assert (found.continues, found.cursor) == (0, 1)
        tickwork.tick()
        assert fetch(tickwork, job.id).continues == 1

    @pytest.mark.parametrize("steering", [Continue, Snooze])
    def test_not_longer_than_the_kind_says(
        self, tickwork: Tickwork, manual_clock: ManualClock, steering: type[Exception]
    ) -> None:
        def work(ctx: JobContext) -> None:
            raise steering(0)

        failed: list[str] = []
        tickwork.on("failed", lambda event: failed.append(event.job_id))
        tickwork.register_handler("alpha", work, max_age=2 * DAY_SECONDS)
        old = tickwork.enqueue("alpha")
        manual_clock.advance(2 * DAY_SECONDS - 1)
        assert tickwork.tick().failed == 0
        manual_clock.advance(1)
        new = tickwork.enqueue("alpha")
        result = tickwork.tick()
        assert (result.failed, result.late, result.processed) == (1, 0, 2)
        found = fetch(tickwork, old.id)
        assert (found.state, failed) == (State.FAILED, [old.id])
        assert "2 days after it was enqueued" in str(found.error)
        assert "max_age of kind 'alpha'" in str(found.error)
        assert fetch(tickwork, new.id).state is State.PENDING

    def test_seven_days_by_default(self, tickwork: Tickwork, manual_clock: ManualClock) -> None:
        def work(ctx: JobContext) -> None:
            raise Snooze(0)

        tickwork.register_handler("alpha", work)
        job = tickwork.enqueue("alpha")
        manual_clock.advance(7 * DAY_SECONDS - 1)
        tickwork.tick()
        assert fetch(tickwork, job.id).state is State.PENDING
        manual_clock.advance(1)
        tickwork.tick()
        assert fetch(tickwork, job.id).state is State.FAILED

    def test_a_cancelled_one_does_not_go_on(self, tickwork: Tickwork) -> None:
        def work(ctx: JobContext) -> None:
            tickwork.cancel(ctx.job_id)
            raise Continue(1)

        tickwork.register_handler("alpha", work)
        job = tickwork.enqueue("alpha")
        tickwork.tick()
        assert fetch(tickwork, job.id).state is State.CANCELLED

    def test_when_to_stop(self, tickwork: Tickwork) -> None:
        told: list[bool] = []

        def work(ctx: JobContext) -> None:
            told.append(ctx.should_stop(margin=9))
            told.append(ctx.should_stop(margin=11))
            tickwork.stop_starting()
            told.append(ctx.should_stop(margin=0))

        tickwork.register_handler("alpha", work, timeout=10)
        tickwork.enqueue("alpha")
        tickwork.tick()
        assert told == [False, True, True]

    @requires(Capability.TRANSACTIONS)
    def test_transactional_work_slice_by_slice(self, tickwork: Tickwork) -> None:
        """Each slice's writes commit together with its state, or not at all."""
        tries: list[Any] = []

        def work(payload: dict[str, Any], ctx: JobContext) -> str:
            tries.append(ctx.state)
            done = ctx.state or 0
            tickwork.enqueue("beta", {"slice": done}, session=ctx.session)
            if len(tries) == 2:
                raise Retry(after=0)
            if done < 2:
                ctx.checkpoint(state=done + 1)
                raise Continue
            return "done"

        tickwork.register_handler("alpha", work, transactional=True)
        tickwork.register_handler("beta", lambda payload: None)
        job = tickwork.enqueue("alpha")
        for _ in range(4):
            tickwork.tick()
        assert tries == [None, 1, 1, 2]
        slices = sorted(each.payload["slice"] for each in tickwork.list(kind="beta"))
        assert slices == [0, 1, 2]
        assert fetch(tickwork, job.id).result == "done"

    @requires(Capability.TRANSACTIONS)
    @pytest.mark.parametrize("limit", ["count", "age", "state", "cancel"])
    def test_transactional_work_that_may_not_go_on(
        self, tickwork: Tickwork, manual_clock: ManualClock, limit: str
    ) -> None:
        def work(payload: dict[str, Any], ctx: JobContext) -> None:
            tickwork.enqueue("beta", session=ctx.session)
            if limit == "cancel":
                raise JobCancelled("no more")
            raise Continue("x" * 100_001 if limit == "state" else 1)

        tickwork.register_handler(
            "alpha",
            work,
            transactional=True,
            max_attempts=1,
            max_continues=0 if limit == "count" else 9,
            max_age=60.0,
        )
        job = tickwork.enqueue("alpha")
        manual_clock.advance(61 if limit == "age" else 1)
        tickwork.tick()
        assert tickwork.list(kind="beta") == []
        found = fetch(tickwork, job.id)
        wanted = State.CANCELLED if limit == "cancel" else State.FAILED
        assert found.state is wanted, found.error
        reasons = {"count": "max_continues", "age": "max_age", "state": "limit of 100,000"}
        assert reasons.get(limit, "") in str(found.error)


class VersionConformance(Conformance):
    """Rows of older code are upgraded; those of newer code are left for it."""

    def test_an_old_payload_is_upgraded(self, tickwork: Tickwork) -> None:
        def upgrade(payload: dict[str, Any], from_version: int) -> dict[str, Any]:
            return {"amount": payload["cents"] / 100, "from": from_version}

        seen: list[Any] = []
        tickwork.register_handler("alpha", seen.append, version=3, upgrade=upgrade)
        tickwork.enqueue("alpha", {"cents": 250}, version=2)
        job = tickwork.enqueue("alpha", {"amount": 1})
        assert (job.version, fetch(tickwork, job.id).version) == (3, 3)
        assert tickwork.tick().succeeded == 2
        assert seen == [{"amount": 2.5, "from": 2}, {"amount": 1}]

    def test_a_newer_one_waits_for_newer_code(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        old, new = make_tickwork(), make_tickwork()
        seen: list[Any] = []
        old.register_handler("alpha", seen.append)
        new.register_handler("alpha", seen.append, version=2, upgrade=lambda payload, _: payload)
        job = new.enqueue("alpha", {"n": 1}, max_attempts=1)
        for _ in range(3):
            assert old.tick().snoozed == 1
            assert old.tick().processed == 0
            manual_clock.advance(60)
        found = fetch(old, job.id)
        assert (found.state, found.attempts, found.continues) == (State.PENDING, 0, 0)
        assert "waits for newer code" in str(found.error)
        why = old.why(job.id)
        assert (why.reason, why.facts["version"], why.facts["known"]) == ("newer-payload", 2, 1)
        manual_clock.advance(30 * DAY_SECONDS)
        assert old.tick().failed == 0
        manual_clock.advance(60)
        assert new.tick().succeeded == 1
        assert seen == [{"n": 1}]
        assert fetch(new, job.id).error is None

    def test_a_producer_may_know_better(self, tickwork: Tickwork) -> None:
        assert tickwork.enqueue("beta").version == 1
        assert tickwork.enqueue("beta", version=4).version == 4
        for version in (0, True, "2"):
            with pytest.raises(ConfigurationError, match="version is a whole number"):
                tickwork.enqueue("beta", version=version)  # type: ignore[arg-type]

    def test_an_upgrade_that_fails(self, tickwork: Tickwork) -> None:
        def upgrade(payload: dict[str, Any], from_version: int) -> Any:
            return payload["list"] if "list" in payload else payload["gone"]

        tickwork.register_handler("alpha", lambda payload: None, version=2, upgrade=upgrade)
        first = tickwork.enqueue("alpha", version=1)
        second = tickwork.enqueue("alpha", {"list": []}, version=1)
        tickwork.tick()
        found = fetch(tickwork, first.id)
        assert (found.state, found.attempts) == (State.FAILED, 1)
        assert "payload of version 1 could not be upgraded to 2: KeyError" in str(found.error)
        assert "returns the payload, a dict, and not list" in str(fetch(tickwork, second.id).error)
