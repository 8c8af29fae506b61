"""Runners that die: what they held comes back, and only the guilty pay."""

from __future__ import annotations

from typing import Any

from jobs.core.clock import ManualClock
from jobs.core.context import JobContext
from jobs.core.job import State
from jobs.core.store import Store
from jobs.system import Tickwork
from jobs.testing.areas.base import LEASE_SECONDS, Conformance, claim, fetch
from jobs.testing.drain import drain


class LostRunnerConformance(Conformance):
    """A runner that dies is a claim that nobody settles."""

    def test_a_lost_job_runs_again(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        attempts = []
        tickwork.register_handler("alpha", lambda payload, ctx: attempts.append(ctx.attempt))
        job = tickwork.enqueue("alpha")
        claim(store, mark=1)
        assert tickwork.tick().processed == 0
        manual_clock.advance(LEASE_SECONDS)
        assert tickwork.tick().reclaimed == 0
        manual_clock.advance(1)
        result = tickwork.tick()
        assert (result.reclaimed, attempts) == (1, [])
        lost = fetch(tickwork, job.id)
        assert (lost.state, lost.attempts) == (State.PENDING, 1)
        assert "runner lost" in str(lost.error)
        assert lost.errors[0]["type"] == "RunnerLost"
        drain(tickwork)
        assert attempts == [2]
        assert fetch(tickwork, job.id).state is State.COMPLETED

    def test_jobs_that_had_not_started_are_not_blamed(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        seen: dict[str, int] = {}

        @tickwork.handler("alpha", max_attempts=1)
        def alpha(ctx: JobContext) -> None:
            seen[ctx.job_id] = ctx.attempt

        ids = [alpha.enqueue().id for _ in range(5)]
        claim(store, mark=2)
        manual_clock.advance(LEASE_SECONDS + 1)
        result = tickwork.tick()
        assert result.reclaimed == 5
        assert seen == dict.fromkeys(ids[2:], 1)
        for job_id in ids[:2]:
            lost = fetch(tickwork, job_id)
            assert (lost.state, lost.attempts) == (State.FAILED, 1)
            assert "runner lost" in str(lost.error)
        for job_id in ids[2:]:
            done = fetch(tickwork, job_id)
            assert (done.state, done.error, done.errors) == (State.COMPLETED, None, [])

    def test_poison_ends_as_a_dead_letter(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        tickwork.register_handler("alpha", lambda payload: None, max_attempts=3)
        job = tickwork.enqueue("alpha")
        starts = 0
        for _ in range(20):
            starts += len(claim(store, mark=1))
            manual_clock.advance(LEASE_SECONDS + 1)
            assert tickwork.reclaim() <= 1
            manual_clock.advance(60)
        ended = fetch(tickwork, job.id)
        assert (starts, ended.attempts, ended.state) == (3, 3, State.FAILED)
        assert "runner lost" in str(ended.error)
        assert [entry["attempt"] for entry in ended.errors] == [1, 2, 3]
        assert tickwork.tick().processed == 0

    def test_what_may_have_killed_its_runner_runs_last_and_alone(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        """Of those that were running nobody knows which it was, so each has its own turn."""
        seen: dict[str, list[tuple[State, bool]]] = {}
        ids: list[str] = []

        @tickwork.handler("alpha")
        def alpha(ctx: JobContext) -> None:
            rows = [fetch(store, each) for each in ids if each != ctx.job_id]
            seen[ctx.job_id] = [(row.state, row.started_at is not None) for row in rows]

        ids += [alpha.enqueue(priority=1).id for _ in range(2)]
        claim(store, mark=2)
        manual_clock.advance(LEASE_SECONDS + 1)
        tickwork.reclaim()
        manual_clock.advance(60)
        innocent = [alpha.enqueue().id for _ in range(4)]
        ids += innocent
        result = tickwork.tick()
        assert (result.processed, result.succeeded) == (6, 6)
        order = list(seen)
        assert set(order[:4]) == set(innocent)
        done, waits = (State.COMPLETED, True), (State.PROCESSING, False)
        assert sorted(seen[order[4]]) == sorted([done] * 4 + [waits])
        assert seen[order[5]] == [done] * 5
        assert {fetch(store, each).attempts for each in innocent} == {1}

    def test_a_suspect_that_fits_no_tick_but_as_its_first_is_the_first(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        ran: list[str] = []
        marked: list[bool] = []
        tickwork.register_handler("beta", lambda payload: ran.append("beta"))
        beta: list[str] = []

        @tickwork.handler("alpha", timeout=3600)
        def alpha() -> None:
            ran.append("alpha")
            marked.extend(fetch(store, each).started_at is not None for each in beta)

        alpha.enqueue()
        claim(store, mark=1)
        manual_clock.advance(LEASE_SECONDS + 1)
        tickwork.reclaim()
        manual_clock.advance(60)
        beta += [tickwork.enqueue("beta", priority=1).id for _ in range(2)]
        assert tickwork.tick().succeeded == 3
        assert ran == ["alpha", "beta", "beta"]
        assert marked == [False, False]

    def test_many_lost_rows_come_back_in_turns(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.enqueue_many([("alpha", {})] * 450)
        assert len(claim(store, 450)) == 450
        manual_clock.advance(LEASE_SECONDS + 1)
        reclaimed = [tickwork.tick(limit=1).reclaimed for _ in range(4)]
        assert sum(reclaimed) == 450
        assert reclaimed[0] > 0
        assert reclaimed[-1] == 0

    def test_a_reclaim_is_for_every_kind(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        """Rows of a kind that only a dead deployment knew come back as well."""
        tickwork.register_handler("other", lambda payload: None)
        job = tickwork.enqueue("alpha")
        claim(store)
        manual_clock.advance(LEASE_SECONDS + 1)
        assert tickwork.tick().reclaimed == 1
        assert fetch(tickwork, job.id).state is State.PENDING

    def test_a_runner_that_comes_back_writes_nothing(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        """Frozen past its lease in the middle of its handler, while others went on."""
        seen: list[Any] = []

        @tickwork.handler("alpha")
        def alpha(ctx: JobContext) -> str:
            if ctx.attempt == 1:
                manual_clock.advance(100_000)
                tickwork.reclaim()
                drain(tickwork)
                seen.append(fetch(tickwork, ctx.job_id))
                return "zombie"
            return "good"

        job = alpha.enqueue()
        result = tickwork.tick()
        assert (result.processed, result.late) == (0, 1)
        assert (seen[0].result, seen[0].attempts) == ("good", 2)
        assert fetch(tickwork, job.id) == seen[0]
