"""Names that one job holds: dedupe keys, aliases, replacing and debouncing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.core.clock import Clock, ManualClock
from jobs.core.errors import ConfigurationError, JobNotFound
from jobs.core.ids import new_id
from jobs.core.job import Job, NewJob, State
from jobs.core.store import Capability, JobFilter, Store, Verdict
from jobs.system import Tickwork
from jobs.testing.areas.base import (
    LEASE_SECONDS,
    Conformance,
    MakeStore,
    MakeTickwork,
    claim,
    claim_one,
    completed,
    failed,
    fetch,
    in_threads,
    new_job,
    pending,
    put_one,
    requires,
)

HOUR = 3600.0


def keyed(kind: str = "alpha", key: str = "k", **fields: Any) -> NewJob:
    return new_job(kind, dedupe_key=key, **fields)


def put_keyed(store: Store, kind: str = "alpha", key: str = "k", **fields: Any) -> Job:
    (job,) = store.insert([keyed(kind, key, **fields)])
    return job


def put_alias(store: Store, alias: str = "cancel-42", **fields: Any) -> Job:
    (job,) = store.insert([new_job(alias=alias, **fields)])
    return job


def everything(store: Store | Tickwork) -> list[str]:
    """The ids of all rows, oldest first."""
    if isinstance(store, Tickwork):
        store = store.store
    return [job.id for job in store.list(JobFilter(), 10_000)][::-1]


# How a job may end, and whether its key is free then though its window runs on.


def complete(store: Store, job_id: str) -> None:
    store.settle([completed(claim_one(store, ids=[job_id]), keep_seconds=9 * HOUR)])


def die(store: Store, job_id: str) -> None:
    store.settle([failed(claim_one(store, ids=[job_id]), error="no", keep_seconds=9 * HOUR)])


def cancel(store: Store, job_id: str) -> None:
    store.cancel(job_id)


def expire(store: Store, job_id: str) -> None:
    """What a runner writes of a job that nobody started in time."""
    held = claim_one(store, ids=[job_id])
    store.settle([Verdict(held.id, held.fence, State.CANCELLED, error="expired")])


ENDS: list[tuple[Callable[[Store, str], None], bool]] = [
    (complete, False),
    (die, True),
    (cancel, True),
    (expire, True),
]


class DedupeConformance(Conformance):
    """One live job to a key, and none within its window but after a failure."""

    def test_a_second_job_is_not_made(self, store: Store) -> None:
        first = put_keyed(store, payload='{"n": 1}')
        second = put_keyed(store, payload='{"n": 2}')
        assert (first.existing, second.existing) == (False, True)
        assert (second.id, second.payload, second.dedupe_key) == (first.id, {"n": 1}, "k")
        assert everything(store) == [first.id]
        assert not fetch(store, first.id).existing

    def test_no_name_ends_in_a_space(self, tickwork: Tickwork) -> None:
        # To MySQL's collations "a" and "a " are equal: another tenant's key would be held by it.
        for option in ("tenant", "dedupe_key", "job_id", "concurrency_key"):
            for name in ("a ", " a"):
                with pytest.raises(ConfigurationError, match=rf"^{option} {name!r}"):
                    tickwork.enqueue_many([{"kind": "alpha", "payload": {}, option: name}])
        assert tickwork.list() == []

    def test_a_key_belongs_to_a_tenant_and_a_kind(
        self, make_store: MakeStore, store: Store, clock: Clock
    ) -> None:
        jobs = [
            put_keyed(store),
            put_keyed(store, "beta"),
            put_keyed(store, tenant="acme"),
            put_keyed(store, tenant="Acme"),
            put_keyed(store, key="K"),
            put_keyed(store, key="ключ"),
        ]
        assert not any(job.existing for job in jobs)
        assert len(everything(store)) == len(jobs)
        if Capability.SHARED in store.capabilities:
            assert not put_keyed(make_store(clock, "other")).existing

    def test_no_key_is_no_key(self, store: Store) -> None:
        assert len({put_one(store) for _ in range(3)}) == 3

    def test_a_waiting_and_a_running_job_hold_their_key(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        """However long ago its window ended, and whatever its attempts came to."""
        first = put_keyed(store, dedupe_window_seconds=10.0, delay_seconds=20.0)
        manual_clock.advance(20)
        assert put_keyed(store).id == first.id
        held = claim_one(store)
        assert put_keyed(store).id == first.id
        store.settle([pending(held, delay_seconds=5, error="try again")])
        assert put_keyed(store).id == first.id

    @pytest.mark.parametrize(
        ("end", "free"), ENDS, ids=lambda value: getattr(value, "__name__", "")
    )
    def test_within_the_window_only_what_failed_frees_its_key(
        self,
        store: Store,
        manual_clock: ManualClock,
        end: Callable[[Store, str], None],
        free: bool,
    ) -> None:
        first = put_keyed(store)
        end(store, first.id)
        manual_clock.advance(HOUR - 1)
        second = put_keyed(store)
        assert second.existing is not free
        assert (second.id == first.id) is not free
        if second.existing:
            assert second.state == fetch(store, first.id).state

    @pytest.mark.parametrize(
        ("end", "free"), ENDS, ids=lambda value: getattr(value, "__name__", "")
    )
    def test_after_the_window_every_end_frees_the_key(
        self,
        store: Store,
        manual_clock: ManualClock,
        end: Callable[[Store, str], None],
        free: bool,
    ) -> None:
        first = put_keyed(store)
        end(store, first.id)
        manual_clock.advance(HOUR)
        second = put_keyed(store)
        assert not second.existing
        assert put_keyed(store).id == second.id

    def test_without_a_window_the_end_frees_the_key(self, store: Store) -> None:
        first = put_keyed(store, dedupe_window_seconds=0.0)
        assert put_keyed(store, dedupe_window_seconds=0.0).id == first.id
        complete(store, first.id)
        assert not put_keyed(store, dedupe_window_seconds=0.0).existing

    def test_a_row_that_is_gone_holds_its_key_to_the_end_of_the_window(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        first = put_keyed(store)
        store.settle([completed(claim_one(store), keep_seconds=0.0)])
        assert store.purge(10) == 1
        second = put_keyed(store, payload='{"n": 2}')
        assert (second.id, second.existing) == (first.id, True)
        assert second.state is State.COMPLETED
        assert store.get(first.id) is None
        manual_clock.advance(HOUR)
        assert not put_keyed(store).existing

    def test_trim_and_clear_leave_nothing_held_for_good(self, store: Store) -> None:
        first = put_keyed(store, dedupe_window_seconds=0.0)
        complete(store, first.id)
        assert store.trim("alpha", State.COMPLETED, 0, 10) == 1
        second = put_keyed(store)
        assert not second.existing
        store.clear()
        assert not put_keyed(store).existing

    def test_a_reclaimed_job_keeps_its_key(self, store: Store, manual_clock: ManualClock) -> None:
        first = put_keyed(store, dedupe_window_seconds=0.0)
        lost = claim_one(store)
        manual_clock.advance(LEASE_SECONDS + 1)
        assert put_keyed(store).id == first.id
        store.settle([pending(lost)], stalled_only=True)
        assert put_keyed(store).id == first.id

    def test_one_of_many_at_once_is_made(self, store: Store) -> None:
        jobs = in_threads(50, lambda _: put_keyed(store))
        assert len({job.id for job in jobs}) == 1
        assert sum(job.existing for job in jobs) == 49
        assert len(everything(store)) == 1

    def test_one_of_many_at_once_takes_a_free_key_over(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        first = put_keyed(store, dedupe_window_seconds=0.0)
        die(store, first.id)
        jobs = in_threads(20, lambda _: put_keyed(store, dedupe_window_seconds=0.0))
        assert len({job.id for job in jobs}) == 1
        assert jobs[0].id != first.id
        assert sum(job.existing for job in jobs) == 19
        assert len(everything(store)) == 2

    @requires(Capability.SHARED)
    def test_two_stores_share_the_keys(
        self, make_store: MakeStore, store: Store, clock: Clock
    ) -> None:
        other = make_store(clock)
        jobs = in_threads(8, lambda number: put_keyed((store, other)[number % 2]))
        assert len({job.id for job in jobs}) == 1
        assert sum(job.existing for job in jobs) == 7

    def test_jobs_are_claimed_once_however_often_enqueued(self, store: Store) -> None:
        for _ in range(3):
            put_keyed(store)
        assert len(claim(store)) == 1


class ManyKeysConformance(Conformance):
    """``insert_many``: whoever has a key already stands for the others, in place."""

    def test_duplicates_in_the_call_and_in_the_table(self, store: Store) -> None:
        there = put_keyed(store, key="there")
        jobs = [
            new_job(),
            keyed(key="new"),
            keyed(key="there"),
            keyed(key="new"),
            new_job("beta"),
            keyed("beta", key="new"),
        ]
        existing: dict[str, str] = {}
        assert store.insert_many(jobs, existing=existing) == 4
        assert existing == {jobs[2].id: there.id, jobs[3].id: jobs[1].id}
        made = [job.id for job in jobs if job.id not in existing]
        assert set(everything(store)) == {there.id, *made}
        assert fetch(store, jobs[5].id).dedupe_key == "new"

    def test_all_or_none(self, store: Store) -> None:
        def broken() -> Any:
            yield from (keyed(key=str(n)) for n in range(30))
            raise LookupError("the source broke off")

        with pytest.raises(LookupError):
            store.insert_many(broken())
        assert everything(store) == []
        assert not put_keyed(store, key="7").existing

    def test_a_great_many(self, store: Store) -> None:
        jobs = [keyed(key=f"k{n % 1500}", tenant=f"t{n % 2}") for n in range(2500)]
        existing: dict[str, str] = {}
        assert store.insert_many(iter(jobs), existing=existing) == 1500
        assert len(existing) == 1000
        assert existing[jobs[1500].id] == jobs[0].id
        again = [keyed(key=f"k{n}", tenant=f"t{n % 2}") for n in range(1500)]
        existing.clear()
        assert store.insert_many(again, existing=existing) == 0
        assert [existing[job.id] for job in again] == [job.id for job in jobs[:1500]]

    def test_free_keys_are_taken_over(self, store: Store) -> None:
        old = [put_keyed(store, key=str(n), dedupe_window_seconds=0.0) for n in range(20)]
        for job in old[::2]:
            die(store, job.id)
        jobs = [keyed(key=str(n)) for n in range(20)]
        existing: dict[str, str] = {}
        assert store.insert_many(jobs, existing=existing) == 10
        assert existing == {jobs[n].id: old[n].id for n in range(1, 20, 2)}

    def test_two_calls_with_the_same_keys_in_other_order(self, store: Store) -> None:
        def put_many(number: int) -> tuple[list[NewJob], dict[str, str]]:
            jobs = [keyed(key=str(n)) for n in range(200)]
            existing: dict[str, str] = {}
            store.insert_many(jobs[:: 1 if number % 2 else -1], existing=existing)
            return jobs, existing

        calls = in_threads(4, put_many)
        ids = [[existing.get(job.id, job.id) for job in jobs] for jobs, existing in calls]
        assert ids[0] == ids[1] == ids[2] == ids[3]
        assert sorted(everything(store)) == sorted(ids[0])

    def test_an_alias_and_a_key_on_one_job(self, store: Store) -> None:
        there = put_keyed(store, key="there")
        jobs = [
            keyed(key="there", alias="a"),  # its key is held: it gets no alias either
            new_job(alias="a"),
            keyed(key="free", alias="a"),  # its alias is held: it gets no key either
            keyed(key="free"),
            keyed(key="both", alias="b"),
        ]
        existing: dict[str, str] = {}
        assert store.insert_many(jobs, existing=existing) == 3
        assert existing == {jobs[0].id: there.id, jobs[2].id: jobs[1].id}
        assert store.id_of("a", "") == jobs[1].id
        assert store.id_of("b", "") == jobs[4].id


class AliasConformance(Conformance):
    """A caller's own name for a job, unique per tenant while the row is there."""

    def test_a_second_job_of_the_name_is_not_made(self, store: Store) -> None:
        first = put_alias(store)
        second = put_alias(store)
        assert (second.id, second.existing, second.alias) == (first.id, True, "cancel-42")
        assert store.insert([new_job("beta", alias="cancel-42")])[0].id == first.id
        assert not put_alias(store, tenant="acme").existing

    def test_it_finds_the_job(self, make_store: MakeStore, store: Store, clock: Clock) -> None:
        first, theirs = put_alias(store), put_alias(store, tenant="acme")
        assert store.id_of("cancel-42", "") == first.id
        assert store.id_of("cancel-42", "acme") == theirs.id
        for name, tenant in (("cancel-4", ""), ("Cancel-42", ""), ("cancel-42", "x"), ("\0", "")):
            assert store.id_of(name, tenant) is None
        if Capability.SHARED in store.capabilities:
            assert make_store(clock, "other").id_of("cancel-42", "") is None

    @pytest.mark.parametrize(
        ("end", "_free"), ENDS, ids=lambda value: getattr(value, "__name__", "")
    )
    def test_it_is_held_in_every_state(
        self,
        store: Store,
        manual_clock: ManualClock,
        end: Callable[[Store, str], None],
        _free: bool,
    ) -> None:
        first = put_alias(store)
        end(store, first.id)
        manual_clock.advance(8 * HOUR)
        assert put_alias(store).id == first.id

    def test_it_is_free_when_the_row_goes(self, store: Store) -> None:
        first = put_alias(store)
        store.settle([completed(claim_one(store), keep_seconds=0.0)])
        assert store.purge(10) == 1
        second = put_alias(store)
        assert not second.existing
        assert store.id_of("cancel-42", "") == second.id != first.id

    def test_of_many_with_one_id_at_once_one_is_made(self, store: Store) -> None:
        jobs = in_threads(20, lambda _: put_alias(store))
        assert len({job.id for job in jobs}) == 1
        assert sum(job.existing for job in jobs) == 19


class ReplaceConformance(Conformance):
    """What a newer job says is written onto one that still waits."""

    def test_a_waiting_job_is_replaced(self, store: Store, manual_clock: ManualClock) -> None:
        first = put_keyed(store, payload='{"n": 1}', delay_seconds=500.0)
        manual_clock.advance(10)
        second = put_keyed(
            store,
            payload='{"n": 2}',
            delay_seconds=20.0,
            priority=1,
            version=4,
            replaces=("payload", "priority", "run_at"),
        )
        assert (second.id, second.existing) == (first.id, True)
        found = fetch(store, first.id)
        assert (found.payload, found.priority, found.version) == ({"n": 2}, 1, 4)
        assert found.run_at == manual_clock.now() + timedelta(seconds=20)
        assert found.created_at == first.created_at
        assert (second.payload, second.run_at) == (found.payload, found.run_at)
        manual_clock.advance(20)
        assert claim_one(store).payload == '{"n": 2}'

    @pytest.mark.parametrize("part", ["payload", "priority", "run_at"])
    def test_only_what_is_asked_for(
        self, store: Store, manual_clock: ManualClock, part: str
    ) -> None:
        first = put_keyed(store, payload='{"n": 1}')
        at = manual_clock.now() + timedelta(seconds=40)
        put_keyed(store, payload='{"n": 2}', priority=1, run_at=at, replaces=(part,))
        found = fetch(store, first.id)
        assert (found.payload == {"n": 2}) is (part == "payload")
        assert (found.priority == 1) is (part == "priority")
        assert (found.run_at == at) is (part == "run_at")

    def test_a_running_and_an_ended_job_are_left_alone(self, store: Store) -> None:
        first = put_keyed(store, payload='{"n": 1}')
        newer: dict[str, Any] = {
            "payload": '{"n": 2}',
            "priority": 1,
            "replaces": ("payload", "priority"),
        }
        held = claim_one(store)
        assert put_keyed(store, **newer).id == first.id
        store.settle([completed(held)])
        assert put_keyed(store, **newer).id == first.id
        found = fetch(store, first.id)
        assert (found.payload, found.priority) == ({"n": 1}, 3)

    def test_by_alias(self, store: Store) -> None:
        first = put_alias(store, payload='{"n": 1}')
        put_alias(store, payload='{"n": 2}', replaces=("payload",))
        assert fetch(store, first.id).payload == {"n": 2}

    def test_in_a_bulk_the_last_one_stands(self, store: Store) -> None:
        jobs = [keyed(payload=f'{{"n": {n}}}', replaces=("payload",)) for n in range(5)]
        assert store.insert_many(jobs) == 1
        assert fetch(store, jobs[0].id).payload == {"n": 4}

    def test_a_debounced_job_is_put_off_but_not_for_ever(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        begun = manual_clock.now()
        wait: dict[str, Any] = {
            "delay_seconds": 30.0,
            "debounce_max_seconds": 70.0,
            "replaces": ("payload", "run_at"),
            "dedupe_window_seconds": 0.0,
        }
        first = put_keyed(store, payload='{"n": 0}', **wait)
        assert first.run_at == begun + timedelta(seconds=30)
        for number, due in enumerate((50, 70, 70), 1):
            manual_clock.advance(20)
            put_keyed(store, payload=f'{{"n": {number}}}', **wait)
            found = fetch(store, first.id)
            assert found.run_at == begun + timedelta(seconds=due)
            assert found.payload == {"n": number}
        manual_clock.advance(10)
        store.settle([completed(claim_one(store))])
        assert not put_keyed(store, **wait).existing

    def test_a_replaced_time_is_rung_anew(self, store: Store, manual_clock: ManualClock) -> None:
        first = put_keyed(store, delay_seconds=900.0, ring_after_seconds=910.0)
        put_keyed(store, ring_after_seconds=10.0, replaces=("run_at",))
        manual_clock.advance(10)
        assert [row.id for row in store.take_rings(10)] == [first.id]


class KeyUpkeepConformance(Conformance):
    """Names that nobody holds are deleted, bounded, and the probe knows of them."""

    def test_a_plain_store_has_nothing_to_do(self, store: Store, manual_clock: ManualClock) -> None:
        put_one(store)
        manual_clock.advance(1e6)
        assert not store.probe().keys
        assert store.purge_keys(10) == 0

    def test_free_keys_go_and_held_ones_stay(self, store: Store, manual_clock: ManualClock) -> None:
        ended, waiting = put_keyed(store, key="ended"), put_keyed(store, key="waiting")
        complete(store, ended.id)
        assert not store.probe().keys
        manual_clock.advance(2 * HOUR)
        assert store.probe().keys
        assert store.purge_keys(10) == 1
        assert not store.probe().keys, "the held one is not looked at in every tick"
        assert put_keyed(store, key="waiting").id == waiting.id
        complete(store, waiting.id)
        manual_clock.advance(2 * HOUR)
        assert store.purge_keys(10) == 1
        manual_clock.advance(100 * HOUR)
        assert not store.probe().keys

    def test_aliases_go_with_their_rows(self, store: Store, manual_clock: ManualClock) -> None:
        gone = put_alias(store, "gone")
        store.settle([completed(claim_one(store), keep_seconds=0.0)])
        store.purge(10)
        kept = put_alias(store, "kept")
        manual_clock.advance(25 * HOUR)
        assert store.id_of("gone", "") == gone.id
        assert store.purge_keys(10) == 1
        assert store.id_of("gone", "") is None
        assert store.id_of("kept", "") == kept.id

    def test_no_more_than_asked_for(self, store: Store, manual_clock: ManualClock) -> None:
        store.insert_many([keyed(key=str(n), dedupe_window_seconds=1.0) for n in range(30)])
        for job_id in everything(store):
            store.cancel(job_id)
        manual_clock.advance(2 * HOUR)
        assert [store.purge_keys(12) for _ in range(4)] == [12, 12, 6, 0]

    def test_a_tick_does_it(self, make_tickwork: MakeTickwork, manual_clock: ManualClock) -> None:
        tickwork = make_tickwork()
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.enqueue("alpha", dedupe_key="k")
        assert tickwork.tick().succeeded == 1
        manual_clock.advance(2 * HOUR)
        assert tickwork.store.probe().keys
        tickwork.tick()
        assert not tickwork.store.probe().keys

    def test_others_are_left_alone(
        self, make_store: MakeStore, store: Store, manual_clock: ManualClock
    ) -> None:
        if Capability.SHARED not in store.capabilities:
            pytest.skip("the store is not shared")
        put_keyed(store, dedupe_window_seconds=0.0)
        claim(store)
        manual_clock.advance(2 * HOUR)
        other = make_store(manual_clock, "other")
        assert not other.probe().keys
        assert other.purge_keys(10) == 0
        other.clear()
        assert put_keyed(store).existing


class UniqueEnqueueConformance(Conformance):
    """The enqueue calls: what is said, what is refused, who is told."""

    def test_the_existing_job_is_returned_and_nobody_is_told(self, tickwork: Tickwork) -> None:
        told: list[str] = []
        tickwork.on("enqueued", lambda event: told.append(event.job_id))
        first = tickwork.enqueue("alpha", {"n": 1}, dedupe_key="s1-daily")
        second = tickwork.enqueue("alpha", {"n": 2}, dedupe_key="s1-daily", dedupe_window=3600)
        assert (second.id, second.existing) == (first.id, True)
        assert told == [first.id]
        assert second.as_dict()["existing"] is True

    def test_a_key_of_which_nothing_is_said_is_held_for_an_hour(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        @tickwork.handler("alpha")
        def alpha() -> None: ...

        first = alpha.enqueue(dedupe_key="daily")
        assert tickwork.tick().succeeded == 1
        manual_clock.advance(3599)
        assert alpha.enqueue(dedupe_key="daily").id == first.id
        manual_clock.advance(2)
        assert not alpha.enqueue(dedupe_key="daily").existing

    def test_many(self, tickwork: Tickwork) -> None:
        told: list[str] = []
        tickwork.on("enqueued", lambda event: told.append(event.job_id))
        there = tickwork.enqueue("alpha", dedupe_key="b")
        ids = tickwork.enqueue_many(
            ("alpha", {"n": n}, {"dedupe_key": key}) for n, key in enumerate("abacx")
        )
        assert len(ids) == 5
        assert ids[1] == there.id
        assert ids[2] == ids[0]
        assert told == [there.id, ids[0], ids[3], ids[4]]
        assert fetch(tickwork, ids[0]).payload == {"n": 0}

    def test_a_kind_may_make_its_keys(self, tickwork: Tickwork, manual_clock: ManualClock) -> None:
        @tickwork.handler("alpha", dedupe_key=lambda payload: payload.get("id"), dedupe_window=60)
        def alpha(payload: dict[str, Any]) -> None: ...

        first = alpha.enqueue({"id": "x"})
        assert (first.dedupe_key, alpha.enqueue({"id": "x"}).id) == ("x", first.id)
        assert alpha.enqueue({"id": "x"}, dedupe_key="y").dedupe_key == "y"
        assert alpha.enqueue({}).dedupe_key is None
        assert len(set(alpha.enqueue_many([{"id": "x"}, {"id": "z"}, {}, {}]))) == 4
        tickwork.tick(limit=100)
        manual_clock.advance(60)
        assert not alpha.enqueue({"id": "x"}).existing

    def test_a_typed_payload_makes_the_key(self, tickwork: Tickwork) -> None:
        @dataclass
        class Order:
            number: int
            placed: datetime

        def ship(order: Order) -> None: ...

        ship.__annotations__["order"] = Order
        handler = tickwork.register_handler(
            "ship", ship, dedupe_key=lambda order: f"{order.number}-{order.placed:%Y%m%d}"
        )
        job = handler.enqueue(Order(7, datetime(2030, 1, 31, tzinfo=UTC)))
        assert job.dedupe_key == "7-20300131"
        plain = {"number": 7, "placed": "2030-01-31T00:00:00Z"}
        assert handler.enqueue(plain).id == job.id

    def test_a_job_has_a_name_of_the_callers(self, tickwork: Tickwork) -> None:
        job = tickwork.enqueue("alpha", {"n": 1}, job_id="cancel-42", delay=60)
        assert tickwork.enqueue("beta", job_id="cancel-42").id == job.id
        for tenant in (None, ""):
            found = tickwork.get("cancel-42", tenant=tenant)
            assert found is not None
            assert found.id == job.id
        assert tickwork.cancel("cancel-42").state is State.CANCELLED
        assert fetch(tickwork, job.id).state is State.CANCELLED

    def test_a_tenant_sees_its_own_alone(self, tickwork: Tickwork) -> None:
        ours = tickwork.enqueue("alpha", job_id="n1", tenant="acme")
        theirs = tickwork.enqueue("alpha", job_id="n1", tenant="other")
        assert ours.id != theirs.id
        assert tickwork.get("n1") is None
        for name in ("n1", ours.id):
            found = tickwork.get(name, tenant="acme")
            assert found is not None
            assert found.id == ours.id
        assert tickwork.get(ours.id, tenant="other") is None
        with pytest.raises(JobNotFound):
            tickwork.cancel(ours.id, tenant="other")
        with pytest.raises(JobNotFound):
            tickwork.cancel("n1")
        assert tickwork.cancel("n1", tenant="other").id == theirs.id
        assert fetch(tickwork, ours.id).state is State.PENDING

    def test_replace_and_debounce(self, tickwork: Tickwork, manual_clock: ManualClock) -> None:
        begun = manual_clock.now()
        first = tickwork.enqueue("alpha", {"n": 1}, dedupe_key="r", delay=500)
        tickwork.enqueue("alpha", {"n": 2}, dedupe_key="r", replace={"payload"})
        assert fetch(tickwork, first.id).payload == {"n": 2}
        assert fetch(tickwork, first.id).run_at == begun + timedelta(seconds=500)
        second = tickwork.enqueue("alpha", {"n": 3}, dedupe_key="r", replace=True, priority=1)
        assert (second.id, second.existing, second.payload) == (first.id, True, {"n": 3})
        assert (second.run_at, second.priority) == (begun, 1)

        job = tickwork.enqueue("beta", {"n": 1}, dedupe_key="d", debounce=30)
        for number in range(2, 40):
            manual_clock.advance(10)
            job = tickwork.enqueue("beta", {"n": number}, dedupe_key="d", debounce=30)
        assert job.run_at == job.created_at + timedelta(seconds=300)
        assert job.payload == {"n": 39}
        limited: dict[str, Any] = {"dedupe_key": "e", "debounce": 30, "debounce_max": 45}
        tickwork.enqueue("beta", {}, **limited)
        manual_clock.advance(29)
        job = tickwork.enqueue("beta", {}, **limited)
        assert job.run_at == job.created_at + timedelta(seconds=45)

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"dedupe_key": ""}, "dedupe_key '' must be printable text"),
            ({"dedupe_key": " x"}, "no space at its ends"),
            ({"dedupe_key": "a\nb"}, "must be printable"),
            ({"dedupe_key": "x" * 201}, "1 to 200 characters"),
            ({"dedupe_key": 7}, "dedupe_key 7 must be"),
            ({"dedupe_key": "\ud800"}, "must be printable"),
            ({"dedupe_key": "k", "dedupe_window": -1}, "dedupe_window is from 0 seconds"),
            ({"dedupe_key": "k", "dedupe_window": "1h"}, "dedupe_window is a number"),
            ({"dedupe_window": 5}, "give dedupe_key as well"),
            ({"debounce": 5}, "give dedupe_key as well"),
            ({"job_id": "a", "debounce": 5}, "give dedupe_key as well"),
            ({"replace": True}, "give dedupe_key or job_id"),
            ({"dedupe_key": "k", "replace": {"queue"}}, "replace is True or some of payload"),
            ({"dedupe_key": "k", "replace": "payload"}, "replace is True or some of"),
            ({"dedupe_key": "k", "replace": []}, "replace is True or some of"),
            ({"dedupe_key": "k", "replace": 1.5}, "replace is True or some of"),
            ({"dedupe_key": "k", "debounce": 5, "delay": 1}, "debounce sets delay itself"),
            ({"dedupe_key": "k", "debounce": 5, "replace": True}, "debounce sets replace itself"),
            ({"dedupe_key": "k", "debounce_max": 5}, "give debounce as well"),
            ({"dedupe_key": "k", "debounce": 5, "debounce_max": 4}, "is not shorter than"),
            ({"job_id": "x" * 201}, "job_id 'xxx"),
            ({"job_id": "01890a5d-ac96-774b-bcce-b302099a8057"}, "has the shape of a UUID"),
            ({"job_id": "01890A5D-AC96-774B-BCCE-B302099A8057"}, "has the shape of a UUID"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, tickwork: Tickwork, manual_clock: ManualClock, options: Any, reason: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=reason):
            tickwork.enqueue("alpha", {}, **options)
        with pytest.raises(ConfigurationError, match=reason):
            tickwork.enqueue_many([("alpha", {}, options)])
        assert everything(tickwork) == []

    def test_a_key_that_is_none_is_the_kinds_mistake(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        handler = tickwork.register_handler("alpha", lambda p: None, dedupe_key=lambda p: p["n"])
        with pytest.raises(ConfigurationError, match="kind 'alpha': its dedupe_key made no key"):
            handler.enqueue({"n": 7})
        with pytest.raises(ConfigurationError, match="a function of the payload"):
            tickwork.register_handler("beta", lambda p: None, dedupe_key="n")
        with pytest.raises(ConfigurationError, match="dedupe_window is a number"):
            tickwork.register_handler("beta", lambda p: None, dedupe_window=-1)

    def test_an_unknown_id_is_no_alias(self, tickwork: Tickwork) -> None:
        assert tickwork.get(new_id()) is None
        assert tickwork.get("nope") is None
        assert tickwork.get("no\0pe") is None


class UniqueSessionConformance(Conformance):
    """Keys in the caller's transaction."""

    @requires(Capability.SESSIONS)
    def test_a_rollback_frees_the_key(self, tickwork: Tickwork) -> None:
        with tickwork.engine.connect() as connection:
            first = tickwork.enqueue("alpha", dedupe_key="k", job_id="a", session=connection)
            again = tickwork.enqueue("alpha", dedupe_key="k", session=connection)
            assert (again.id, again.existing) == (first.id, True)
            (many,) = tickwork.enqueue_many([("alpha", {}, {"job_id": "a"})], session=connection)
            assert many == first.id
            connection.rollback()
        second = tickwork.enqueue("alpha", dedupe_key="k", job_id="a")
        assert not second.existing
        assert second.id != first.id

    @requires(Capability.SESSIONS)
    def test_a_commit_holds_it(self, tickwork: Tickwork) -> None:
        told: list[str] = []
        tickwork.on("enqueued", lambda event: told.append(event.job_id))
        with tickwork.engine.begin() as connection:
            first = tickwork.enqueue("alpha", dedupe_key="k", session=connection)
            tickwork.enqueue("alpha", dedupe_key="k", session=connection)
        assert tickwork.enqueue("alpha", dedupe_key="k").id == first.id
        assert told == [first.id]

    @requires(Capability.SESSIONS, Capability.CONCURRENT_WRITERS)
    @pytest.mark.parametrize("ending", ["commit", "rollback"])
    @pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
    def test_a_second_waits_for_the_first(
        self, tickwork: Tickwork, ending: str, many: bool
    ) -> None:
        """Whose transaction is still open: if it rolls back, the job is made all the same."""
        results: list[str] = []
        begun = threading.Event()

        def second() -> None:
            begun.set()
            if many:
                results.extend(tickwork.enqueue_many([("alpha", {}, {"dedupe_key": "k"})]))
            else:
                results.append(tickwork.enqueue("alpha", dedupe_key="k").id)

        with tickwork.engine.connect() as connection:
            first = tickwork.enqueue("alpha", dedupe_key="k", dedupe_window=0, session=connection)
            waiting = threading.Thread(target=second)
            waiting.start()
            assert begun.wait(60)
            # Not proof that it waits, but a second that did not would mostly be done by now.
            waiting.join(0.3)
            assert waiting.is_alive()
            getattr(connection, ending)()
        waiting.join(60)
        assert not waiting.is_alive()
        assert (results == [first.id]) is (ending == "commit")
        assert everything(tickwork) == results
