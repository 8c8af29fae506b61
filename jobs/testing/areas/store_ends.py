"""Cancelling, and what becomes of rows that ended."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.core.clock import ManualClock
from jobs.core.job import State
from jobs.core.store import CANCELLED_KEEP_SECONDS, JobFilter, Store
from jobs.testing.areas.base import (
    LEASE_SECONDS,
    Conformance,
    claim,
    claim_one,
    completed,
    failed,
    fetch,
    in_threads,
    new_job,
    pending,
    put,
    put_one,
)


class CancelConformance(Conformance):
    """A cancel ends what has not started, and asks what runs."""

    def test_a_pending_job_ends_at_once(self, store: Store, manual_clock: ManualClock) -> None:
        job_id = put_one(store, delay_seconds=60)
        manual_clock.advance(5)
        returned = store.cancel(job_id)
        found = fetch(store, job_id)
        assert returned == (found, True)
        assert (found.state, found.error) == (State.CANCELLED, "cancelled")
        assert found.finished_at == manual_clock.now()
        assert found.keep_until == manual_clock.now() + timedelta(seconds=CANCELLED_KEEP_SECONDS)
        manual_clock.advance(60)
        assert claim(store) == []

    def test_a_claimed_job_that_has_not_started_ends_at_once(self, store: Store) -> None:
        job_id = put_one(store)
        taken = claim_one(store)
        assert store.cancel(job_id) == (fetch(store, job_id), True)
        before = fetch(store, job_id)
        assert (before.state, before.lease_until) == (State.CANCELLED, None)
        assert store.settle([completed(taken)]) == {job_id}
        assert fetch(store, job_id) == before

    @pytest.mark.parametrize("mark_at", ["claim", "touch"])
    def test_a_running_job_is_asked(self, store: Store, mark_at: str) -> None:
        from jobs.core.store import Touch

        job_id = put_one(store)
        taken = claim_one(store, mark=1 if mark_at == "claim" else 0)
        store.touch([Touch(taken.id, taken.fence, True)])
        returned = store.cancel(job_id)
        assert returned == (fetch(store, job_id), True)
        job = returned.job
        assert (job.state, job.cancel_requested) == (State.PROCESSING, True)
        assert job.finished_at is None
        assert store.cancel(job_id) == returned  # asked once more
        assert store.settle([completed(taken, result="1")]) == frozenset()
        assert fetch(store, job_id).state is State.COMPLETED

    def test_a_job_asked_to_stop_does_not_run_again(self, store: Store) -> None:
        job_id = put_one(store)
        taken = claim_one(store, mark=1)
        store.cancel(job_id)
        store.settle([pending(taken, delay_seconds=0.0, error="boom", keep_seconds=60.0)])
        found = fetch(store, job_id)
        assert (found.state, found.error) == (State.CANCELLED, "boom")
        assert found.finished_at is not None
        assert found.keep_until is not None
        assert claim(store) == []

    def test_a_lost_runner_ends_a_job_asked_to_stop(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        job_id = put_one(store)
        claim_one(store, mark=1)
        store.cancel(job_id)
        manual_clock.advance(LEASE_SECONDS + 1)
        (stalled,) = store.stalled(10)
        assert stalled.cancel_requested
        store.settle([pending(stalled)], stalled_only=True)
        assert fetch(store, job_id).state is State.CANCELLED

    @pytest.mark.parametrize("end", [completed, failed])
    def test_ended_jobs_stay_as_they_are(self, store: Store, end: object) -> None:
        job_id = put_one(store)
        store.settle([end(claim_one(store))])  # type: ignore[operator]
        before = fetch(store, job_id)
        assert store.cancel(job_id) == (before, False)
        assert store.cancel(job_id) == (before, False)
        assert fetch(store, job_id) == before

    def test_a_cancelled_job_is_cancelled_once(self, store: Store) -> None:
        job_id = put_one(store)
        store.cancel(job_id)
        assert store.cancel(job_id) == (fetch(store, job_id), False)

    def test_there_is_nothing_to_cancel(self, store: Store) -> None:
        assert store.cancel(new_job().id) is None

    def test_cancels_against_claims(self, store: Store) -> None:
        """A row that was cancelled at once is never in anybody's hands to write."""
        ids = put(store, *[new_job() for _ in range(60)])

        def race(number: int) -> list[str]:
            if number == 0:
                return [job_id for job_id in ids[::-1] if store.cancel(job_id) is None]
            written = []
            while taken := claim(store, 5):
                late = store.settle([completed(job) for job in taken])
                written += [job.id for job in taken if job.id not in late]
            return written

        _, first, second = in_threads(3, race)
        states = {job.id: job.state for job in store.list(JobFilter(), 100)}
        assert set(states.values()) <= {State.COMPLETED, State.CANCELLED}
        finished = {id_ for id_, state in states.items() if state is State.COMPLETED}
        assert sorted(first + second) == sorted(finished)


class RetentionConformance(Conformance):
    """Ended rows go when their keeping is over, and no others."""

    def test_each_row_stays_as_long_as_it_was_told(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put(store, *[new_job() for _ in range(4)])
        day, week, ever, cancelled = claim(store)
        store.settle([completed(day, keep_seconds=86_400.0), completed(ever)])
        store.settle([failed(week, keep_seconds=7 * 86_400.0)])
        store.cancel(cancelled.id)
        manual_clock.advance(86_399)
        assert not store.probe().outstayed
        assert store.purge(10) == 0
        manual_clock.advance(1)
        assert store.probe().outstayed
        assert store.purge(10) == 1
        assert store.get(day.id) is None
        manual_clock.advance(6 * 86_400)
        assert store.purge(10) == 2
        manual_clock.advance(3650 * 86_400)
        assert not store.probe().outstayed
        assert [job.id for job in store.list(JobFilter(), 10)] == [ever.id]

    def test_a_purge_is_bounded(self, store: Store, manual_clock: ManualClock) -> None:
        put(store, *[new_job() for _ in range(25)])
        store.settle([completed(job, keep_seconds=1.0) for job in claim(store, 25)])
        manual_clock.advance(2)
        assert [store.purge(10) for _ in range(4)] == [10, 10, 5, 0]

    def test_unfinished_rows_are_never_purged(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put(store, *[new_job() for _ in range(3)])
        running, again = claim(store, 2, mark=2)
        store.settle([pending(again, keep_seconds=1.0)])
        manual_clock.advance(3650 * 86_400)
        assert store.purge(10) == 0
        assert store.trim("alpha", State.COMPLETED, 0, 10) == 0
        assert len(store.list(JobFilter(), 10)) == 3
        assert fetch(store, running.id).state is State.PROCESSING

    def test_a_job_that_runs_again_is_kept(self, store: Store, manual_clock: ManualClock) -> None:
        """What was set to go must not go while the job is being worked on."""
        job_id = put_one(store)
        store.settle([pending(claim_one(store), keep_seconds=1.0)])
        claim_one(store, lease_seconds=1e6)
        manual_clock.advance(100)
        assert store.purge(10) == 0
        assert fetch(store, job_id).state is State.PROCESSING

    def test_the_newest_of_a_kind_are_kept(self, store: Store, manual_clock: ManualClock) -> None:
        finished = []
        for _ in range(6):
            finished.append(put_one(store))
            store.settle([completed(claim_one(store))])
            manual_clock.advance(1)
        other = put_one(store, "beta")
        store.settle([completed(claim_one(store))])
        bad = put_one(store)
        store.settle([failed(claim_one(store))])
        assert store.trim("alpha", State.COMPLETED, 2, 3) == 3
        assert store.trim("alpha", State.COMPLETED, 2, 3) == 1
        assert store.trim("alpha", State.COMPLETED, 2, 3) == 0
        kept = {job.id for job in store.list(JobFilter(), 20)}
        assert kept == {*finished[-2:], other, bad}
