"""Rings: which rows are to be rung, when, and by which of two ticks."""

from __future__ import annotations

import pytest

from jobs.core.clock import Clock, ManualClock
from jobs.core.ids import new_id
from jobs.core.store import Capability, Store
from jobs.testing.areas.base import (
    KINDS,
    LEASE_SECONDS,
    Conformance,
    MakeStore,
    claim,
    claim_one,
    completed,
    fetch,
    in_threads,
    new_job,
    pending,
    put,
    put_one,
)


def taken(store: Store, limit: int = 100) -> list[str]:
    return [row.id for row in store.take_rings(limit)]


class RingConformance(Conformance):
    """What a tick asks for that rings for rows instead of running them."""

    def test_rows_without_a_time_are_never_rung(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put_one(store)
        manual_clock.advance(1e6)
        assert not store.probe(rings=True).unrung
        assert store.take_rings(100) == []

    def test_a_row_is_rung_when_its_time_has_come(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        job_id = put_one(
            store, "beta", tenant="acme", concurrency_key="order-7", ring_after_seconds=10
        )
        manual_clock.advance(9)
        assert not store.probe(rings=True).unrung
        assert store.take_rings(100) == []
        manual_clock.advance(1)
        assert store.probe(rings=True).unrung
        assert not store.probe().unrung, "nobody asked"
        (row,) = store.take_rings(100)
        assert row == (job_id, "beta", "acme", 1, 0.0, "order-7")
        assert not store.probe(rings=True).unrung

    def test_a_bulk_has_its_times_too(self, store: Store, manual_clock: ManualClock) -> None:
        jobs = [
            new_job(),
            new_job(ring_after_seconds=10),
            new_job(delay_seconds=100, ring_after_seconds=5),
            new_job(),
        ]
        assert store.insert_many(jobs) == 4
        manual_clock.advance(10)
        assert {(row.id, row.delay_seconds) for row in store.take_rings(100)} == {
            (jobs[1].id, 0.0),
            (jobs[2].id, 90.0),
        }

    def test_the_longest_waiting_come_first_and_no_more_than_asked_for(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        ids = put(store, *(new_job(ring_after_seconds=after) for after in (3, 1, 2)))
        manual_clock.advance(3)
        assert set(taken(store, 2)) == {ids[1], ids[2]}
        assert taken(store, 2) == [ids[0]]

    def test_each_further_ring_waits_longer(self, store: Store, manual_clock: ManualClock) -> None:
        put_one(store, ring_after_seconds=0)
        for rings, seconds in enumerate((60, 120, 240, 480, 960, 1920, 3600, 3600, 3600), 1):
            (row,) = store.take_rings(1)
            assert row.rings == rings
            manual_clock.advance(seconds - 1)
            assert taken(store) == []
            manual_clock.advance(1)

    def test_the_wait_begins_when_the_row_is_due(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put_one(store, delay_seconds=800, ring_after_seconds=0)
        (row,) = store.take_rings(1)
        assert row.delay_seconds == pytest.approx(800)
        manual_clock.advance(859)
        assert taken(store) == []
        manual_clock.advance(1)
        assert len(taken(store)) == 1

    def test_a_row_that_waits_no_more_is_not_rung(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        running, cancelled = put(store, *(new_job(ring_after_seconds=0) for _ in range(2)))
        claim(store, ids=[running])
        store.cancel(cancelled)
        manual_clock.advance(10)
        assert not store.probe(rings=True).unrung
        assert store.take_rings(100) == []

    def test_a_settle_sets_the_time(self, store: Store, manual_clock: ManualClock) -> None:
        ids = put(store, *(new_job() for _ in range(3)))
        jobs = {job.id: job for job in claim(store)}
        store.settle(
            [
                pending(jobs[ids[0]], delay_seconds=30, ring_after_seconds=40),
                pending(jobs[ids[1]], delay_seconds=30),
                completed(jobs[ids[2]], result="1"),
            ]
        )
        manual_clock.advance(39)
        assert taken(store) == []
        manual_clock.advance(1)
        assert taken(store) == [ids[0]]
        assert fetch(store, ids[2]).result == 1

    def test_a_settle_that_says_nothing_leaves_the_time(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        job_id = put_one(store, ring_after_seconds=10)
        store.settle([pending(claim_one(store), delay_seconds=0)])
        manual_clock.advance(10)
        assert taken(store) == [job_id]

    def test_a_reclaim_sets_the_time(self, store: Store, manual_clock: ManualClock) -> None:
        job_id = put_one(store)
        lost = claim_one(store)
        manual_clock.advance(LEASE_SECONDS + 1)
        verdict = pending(lost, delay_seconds=0, ring_after_seconds=0)
        assert store.settle([verdict], stalled_only=True) == frozenset()
        assert taken(store) == [job_id]

    def test_a_failed_ring_is_found_again(self, store: Store, manual_clock: ManualClock) -> None:
        ids = put(store, *(new_job(ring_after_seconds=10) for _ in range(3)))
        claim(store, ids=[ids[2]])
        store.ring_again([])
        store.ring_again([ids[0], ids[2], new_id()])
        assert taken(store) == [ids[0]]
        manual_clock.advance(10)
        assert taken(store) == [ids[1]]

    def test_two_at_once_ring_different_rows(self, store: Store) -> None:
        if Capability.CONCURRENT_WRITERS not in store.capabilities:
            pytest.skip("one writer at a time")
        store.insert_many([new_job(ring_after_seconds=0) for _ in range(200)])
        found = in_threads(4, lambda _: [job_id for _ in range(10) for job_id in taken(store, 10)])
        everything = [job_id for own in found for job_id in own]
        assert len(everything) == len(set(everything))
        assert len(everything) + len(taken(store, 200)) == 200

    def test_another_namespace_is_not_rung(
        self, make_store: MakeStore, store: Store, clock: Clock
    ) -> None:
        if Capability.SHARED not in store.capabilities:
            pytest.skip("the store is not shared")
        put_one(store, ring_after_seconds=0)
        other = make_store(clock, "other")
        assert not other.probe(rings=True).unrung
        assert other.take_rings(10) == []
        other.close()


class OverdueConformance(Conformance):
    """Rows that ticks run only when nobody else came for them."""

    def test_only_what_was_due_for_long_is_claimed(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        early = put_one(store, "alpha")
        manual_clock.advance(200)
        late = put_one(store, "beta", delay_seconds=50)
        manual_clock.advance(100)
        assert store.due_count(KINDS, 10) == 2
        assert store.due_count(KINDS, 10, overdue_seconds=300.0) == 1
        assert store.due_count(KINDS, 10, overdue_seconds=300.1) == 0
        assert claim(store, overdue_seconds=300.1) == []
        assert claim(store, overdue_seconds=300.1, ids=[early, late]) == []
        assert [job.id for job in claim(store, overdue_seconds=300.0)] == [early]
        assert [job.id for job in claim(store, overdue_seconds=50.0, ids=[late])] == [late]
