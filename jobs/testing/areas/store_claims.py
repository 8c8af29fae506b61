"""Claims: the best due rows, each to one runner."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.core.clock import Clock, ManualClock
from jobs.core.job import State
from jobs.core.store import Capability, Store
from jobs.testing.areas.base import (
    LEASE_SECONDS,
    Conformance,
    MakeStore,
    claim,
    claim_one,
    claimed_ids,
    completed,
    fetch,
    in_threads,
    new_job,
    pending,
    put,
    put_one,
    requires,
)


class ClaimConformance(Conformance):
    """Order, limits, ids, kinds, leases, and two claims at once."""

    def test_a_claim_takes_the_row(self, store: Store) -> None:
        job_id = put_one(store, "beta", queue="mail", priority=1, timeout_seconds=9.0, tenant="t")
        before = store.now()
        taken = claim_one(store)
        found = fetch(store, job_id)
        assert taken[:5] == (job_id, "beta", "mail", "{}", 1)
        assert (taken.attempt, taken.max_attempts, taken.fence) == (1, 3, 1)
        assert (taken.timeout_seconds, taken.tenant, taken.errors) == (9.0, "t", None)
        assert (taken.marked, taken.expired, taken.cancel_requested) == (False, False, False)
        assert taken.run_at == found.run_at
        assert (found.state, found.attempts, found.fence) == (State.PROCESSING, 1, 1)
        assert found.started_at is None
        assert found.lease_until is not None
        lease_ends = before + timedelta(seconds=LEASE_SECONDS)
        assert lease_ends <= found.lease_until <= lease_ends + timedelta(seconds=30)
        assert claim(store) == []

    def test_the_order_is_priority_then_time_then_id(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        now = manual_clock.now()
        late = put_one(store, priority=1, run_at=now - timedelta(seconds=1))
        early = put_one(store, "beta", priority=1, run_at=now - timedelta(seconds=2))
        twins = put(store, *[new_job(kind, priority=3) for kind in ("gamma", "alpha", "beta")])
        last = put_one(store, priority=5, run_at=now - timedelta(days=1))
        first = put_one(store, queue="mail", priority=1, run_at=now - timedelta(seconds=3))
        expected = [first, early, late, *twins, last]
        assert claimed_ids(claim(store, 4)) == expected[:4]
        assert claimed_ids(claim(store, 10)) == expected[4:]

    def test_a_hundred_of_one_instant_go_first_in_first_out(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        assert manual_clock.now() == store.now()
        ids = put(store, *[new_job() for _ in range(50)])
        bulk = [new_job() for _ in range(50)]
        store.insert_many(bulk)
        ids += [job.id for job in bulk]
        taken = [job.id for _ in range(12) for job in claim(store, 9)]
        assert taken == ids

    def test_a_limit_is_kept(self, store: Store) -> None:
        put(store, *[new_job() for _ in range(5)])
        assert claim(store, 0) == []
        assert len(claim(store, 2)) == 2
        assert len(claim(store, 100)) == 3

    def test_nothing_is_claimed_before_it_is_due(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        job_id = put_one(store, delay_seconds=60)
        manual_clock.advance(59.9)
        assert claim(store) == []
        assert claim(store, ids=[job_id]) == []
        manual_clock.advance(0.1)
        assert claimed_ids(claim(store)) == [job_id]

    def test_unknown_kinds_are_left_alone(self, store: Store) -> None:
        put_one(store, "unknown", priority=1)
        known = put_one(store, priority=5)
        assert claimed_ids(claim(store)) == [known]
        assert claim(store, ids=[put_one(store, "unknown")]) == []
        assert claim(store, kinds=frozenset()) == []
        assert claimed_ids(claim(store, 1, kinds={"unknown"})) != []

    def test_queues_are_kept(self, store: Store) -> None:
        put_one(store, queue="mail")
        wanted = put_one(store, queue="post")
        assert claimed_ids(claim(store, queues={"post", "none"})) == [wanted]
        assert claim(store, queues=set()) == []

    def test_a_claim_by_ids_takes_those_that_may_run(self, store: Store) -> None:
        a, b, c, d = put(store, *[new_job(priority=p) for p in (4, 3, 2, 1)])
        claim(store, ids=[d])
        store.cancel(c)
        missing = new_job().id
        assert claimed_ids(claim(store, ids=[a, b, b, c, d, missing])) == [b, a]
        assert claim(store, ids=[]) == []
        assert claim(store, ids=[a]) == []

    def test_a_claim_by_ids_keeps_its_limit_and_marks(self, store: Store) -> None:
        jobs = [new_job() for _ in range(1000)]
        store.insert_many(jobs)
        ids = [job.id for job in jobs]
        taken = claim(store, 3, ids=ids, mark=1)
        assert [(job.id, job.marked) for job in taken] == list(
            zip(ids[:3], [True, False, False], strict=True)
        )
        assert (taken[0].attempt, taken[0].fence) == (1, 1)
        assert len(claim(store, 2000, ids=ids)) == 997

    def test_lanes_of_a_probe_claim_the_same(self, store: Store) -> None:
        ids = put(store, new_job("beta", priority=1), new_job(), new_job(queue="mail"))
        put_one(store, "unknown")
        lanes = store.probe().lanes
        assert set(lanes) == {
            "1/default/beta/",
            "3/default/alpha/",
            "3/mail/alpha/",
            "3/default/unknown/",
        }
        assert claimed_ids(claim(store, lanes=lanes)) == ids

    def test_start_marks_go_to_the_first(self, store: Store) -> None:
        put(store, *[new_job(kind) for kind in ("alpha", "beta", "gamma", "alpha")])
        taken = claim(store, mark=2)
        assert [job.marked for job in taken] == [True, True, False, False]
        assert [fetch(store, job.id).started_at is not None for job in taken] == [
            True,
            True,
            False,
            False,
        ]

    def test_many_lanes_are_merged_in_order(self, store: Store) -> None:
        ids = []
        for _ in range(3):
            ids += put(store, *[new_job(queue=f"q{number}") for number in range(60)])
        taken = [job.id for _ in range(9) for job in claim(store, 20)]
        assert taken == ids

    def test_waiting_jobs_do_not_hide_the_others(self, store: Store) -> None:
        """Jobs of a better priority that may not run yet stand ahead in every order."""
        store.insert_many(new_job(priority=1, delay_seconds=3600) for _ in range(300))
        store.insert_many(new_job("unknown", priority=1) for _ in range(300))
        free = put_one(store, priority=5)
        assert claimed_ids(claim(store, 1)) == [free]

    def test_each_claim_counts_an_attempt_and_raises_the_fence(self, store: Store) -> None:
        put_one(store)
        seen = []
        for _ in range(5):
            taken = claim_one(store)
            seen.append((taken.attempt, taken.fence))
            store.settle([pending(taken)])
        assert seen == [(n, n) for n in range(1, 6)]

    def test_the_fence_never_falls(self, store: Store, manual_clock: ManualClock) -> None:
        """Not by a release, a snooze, a reclaim, whatever happens to the attempts."""
        job_id = put_one(store)
        fences = []
        for turn in range(6):
            taken = claim_one(store)
            fences.append(taken.fence)
            if turn % 2:
                store.settle([pending(taken, attempts_back=1)])
            else:
                manual_clock.advance(LEASE_SECONDS + 1)
                store.settle([pending(taken, attempts_back=1)], stalled_only=True)
        assert fences == [1, 2, 3, 4, 5, 6]
        assert fetch(store, job_id).attempts == 0

    def test_a_job_is_expired_when_it_did_not_start_in_time(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put_one(store, expires_in_seconds=30)
        in_time = put_one(store, expires_in_seconds=31)
        manual_clock.advance(30)
        assert [job.expired for job in claim(store)] == [True, False]
        assert fetch(store, in_time).state is State.PROCESSING

    @pytest.mark.parametrize("by_ids", [False, True], ids=["by limit", "by ids"])
    def test_claims_at_once_are_disjoint(
        self, store: Store, make_store: MakeStore, clock: Clock, *, by_ids: bool
    ) -> None:
        ids = put(store, *[new_job() for _ in range(80)])
        shared = Capability.SHARED in store.capabilities
        stores = [make_store(clock) if shared else store for _ in range(8)]

        def take(number: int) -> list[str]:
            options = {"ids": ids} if by_ids else {}
            taken: list[str] = []
            while more := claim(stores[number], 5, **options):
                taken += claimed_ids(more)
                stores[number].settle([completed(job) for job in more])
            return taken

        taken = [job_id for part in in_threads(8, take) for job_id in part]
        assert sorted(taken) == sorted(ids)
        for each in stores:
            each.close()

    @requires(Capability.SHARED)
    def test_another_store_sees_the_claim(
        self, store: Store, make_store: MakeStore, clock: Clock
    ) -> None:
        other = make_store(clock)
        job_id = put_one(store)
        taken = claim_one(store)
        assert claim(other) == []
        assert other.settle([completed(taken)]) == frozenset()
        assert fetch(store, job_id).state is State.COMPLETED
        other.close()
