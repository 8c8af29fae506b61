"""What a tick asks for that has work left, or none: the one chain, and the next instant."""

from __future__ import annotations

from jobs.core.chain import Hold
from jobs.core.clock import ManualClock
from jobs.core.ids import new_id
from jobs.core.store import Capability, Store
from jobs.testing.areas.base import (
    KINDS,
    LEASE_SECONDS,
    Conformance,
    MakeStore,
    claim_one,
    completed,
    in_threads,
    pending,
    put_one,
    requires,
)

HOUR = 3600.0


def hold(store: Store, chain_id: str, *, seconds: float = 60.0, per_hour: int = 100) -> Hold:
    return store.hold_chain(chain_id, seconds=seconds, per_hour=per_hour)


class TickChainConformance(Conformance):
    """One chain at a time, bounded by the hour, and nobody's work left behind."""

    def test_one_chain_holds_and_another_waits_for_its_end(self, store: Store) -> None:
        one, two = new_id(), new_id()
        assert hold(store, one) is Hold.GRANTED
        assert hold(store, one) is Hold.GRANTED, "it goes on"
        assert hold(store, two) is Hold.HELD
        assert store.free_chain(two), "it had none"
        assert hold(store, one) is Hold.GRANTED

    def test_whoever_was_refused_has_the_holder_look_again(self, store: Store) -> None:
        one, two = new_id(), new_id()
        assert hold(store, one) is Hold.GRANTED
        assert hold(store, two) is Hold.HELD
        assert not store.free_chain(one), "two left work to it"
        assert hold(store, one) is Hold.GRANTED
        assert store.free_chain(one), "it has looked"
        assert hold(store, two) is Hold.GRANTED

    def test_the_chain_of_a_tick_that_was_killed_is_free_after_its_time(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        one, two = new_id(), new_id()
        assert hold(store, one, seconds=60) is Hold.GRANTED
        manual_clock.advance(59)
        assert hold(store, two) is Hold.HELD
        manual_clock.advance(2)
        assert hold(store, two) is Hold.GRANTED
        assert store.free_chain(one), "it is another's by now"
        assert hold(store, one) is Hold.HELD

    def test_an_hour_has_so_many_ticks_whoever_makes_them(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        for _ in range(3):
            chain_id = new_id()
            assert hold(store, chain_id, per_hour=3) is Hold.GRANTED
            assert store.free_chain(chain_id)
        assert hold(store, new_id(), per_hour=3) is Hold.SPENT
        manual_clock.advance(HOUR - 1)
        assert hold(store, new_id(), per_hour=3) is Hold.SPENT
        manual_clock.advance(2)
        assert hold(store, new_id(), per_hour=3) is Hold.GRANTED

    def test_no_ticks_an_hour_is_no_chain(self, store: Store) -> None:
        assert hold(store, new_id(), per_hour=0) is Hold.SPENT
        assert hold(store, new_id(), per_hour=0) is Hold.SPENT

    @requires(Capability.SHARED)
    def test_of_many_that_ask_at_once_one_holds(self, store: Store) -> None:
        answers = in_threads(8, lambda _: hold(store, new_id()))
        assert sorted(answer.value for answer in answers) == ["granted", *["held"] * 7]

    @requires(Capability.DURABLE)
    def test_other_namespaces_have_chains_of_their_own(
        self, store: Store, make_store: MakeStore
    ) -> None:
        other = make_store(store.clock, "other")  # type: ignore[attr-defined]
        assert hold(store, new_id()) is Hold.GRANTED
        assert hold(other, new_id()) is Hold.GRANTED
        other.close()


class NextDueConformance(Conformance):
    """When there will be something to do."""

    def test_nothing_waits_for_nothing(self, store: Store) -> None:
        assert store.next_due(KINDS)[:2] == (None, None)
        put_one(store)
        store.settle([completed(claim_one(store))])
        assert store.next_due(KINDS)[:2] == (None, None)

    def test_the_first_of_all_lanes(self, store: Store, manual_clock: ManualClock) -> None:
        put_one(store, delay_seconds=300, queue="slow")
        put_one(store, "beta", delay_seconds=200, priority=5)
        put_one(store, delay_seconds=100, queue="other")
        begun = manual_clock.now()
        due = store.next_due(KINDS).at
        assert due is not None
        assert (due - begun).total_seconds() == 100
        assert store.next_due(KINDS, store.probe().lanes) == (due, 100.0, 100.0)
        assert store.next_due(KINDS, ())[:2] == (None, None)
        manual_clock.advance(150)
        assert store.next_due(KINDS) == (due, 0.0, 0.0), "past, so it is due now"

    def test_kinds_without_a_handler_here_do_not_count(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put_one(store, "unknown", delay_seconds=5)
        put_one(store, delay_seconds=50)
        due = store.next_due(["alpha"]).at
        assert due is not None
        assert (due - manual_clock.now()).total_seconds() == 50
        assert store.next_due(["beta"])[:2] == (None, None)

    def test_a_lease_that_runs_out_and_a_retry_count(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put_one(store)
        claimed = claim_one(store)
        due = store.next_due(KINDS).at
        assert due is not None
        assert (due - manual_clock.now()).total_seconds() == LEASE_SECONDS
        store.settle([pending(claimed, delay_seconds=7)])
        due = store.next_due(KINDS).at
        assert due is not None
        assert (due - manual_clock.now()).total_seconds() == 7
