"""Limits: never more at once, never more in a while, turns for tenants, and circuit breakers."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from jobs import Breaker, Discard, Snooze, Tickwork
from jobs.core.clock import Clock, ManualClock
from jobs.core.errors import ConfigurationError, NoSuchLimit
from jobs.core.flow import flow_of
from jobs.core.job import Claimed, NewJob, State
from jobs.core.limits import Limit, Limits, Rate, Tally
from jobs.core.store import Capability, Store
from jobs.testing.areas.base import (
    LEASE_SECONDS,
    Conformance,
    MakeStore,
    MakeTickwork,
    claim,
    claimed_ids,
    completed,
    in_threads,
    new_job,
    pending,
    put,
    put_one,
    requires,
)

TWO = Limit(at_once=2)
_RATED = [("mail", "gamma"), ("default", "alpha")]


def of_tenant(tenant: str, **fields: Any) -> NewJob:
    return new_job(tenant=tenant, flow=flow_of(tenant, None), **fields)


def of_key(key: str, kind: str = "alpha", tenant: str = "", **fields: Any) -> NewJob:
    flow = flow_of(tenant, key)
    return new_job(kind, tenant=tenant, concurrency_key=key, flow=flow, **fields)


class LimitConformance(Conformance):
    """What a claim leaves alone."""

    @pytest.mark.parametrize(
        "limits",
        [
            Limits(kinds={"alpha": TWO}),
            Limits(queues={"default": TWO}),
            Limits(keys={"alpha": TWO}),
        ],
        ids=["kind", "queue", "key"],
    )
    def test_no_more_run_at_once(self, store: Store, limits: Limits) -> None:
        ids = put(store, *[of_key("one") for _ in range(5)])
        first = claim(store, limits=limits)
        assert claimed_ids(first) == ids[:2]
        assert claim(store, limits=limits) == []
        assert claim(store, ids=ids, limits=limits) == []
        store.settle([completed(first[0])])
        assert claimed_ids(claim(store, limits=limits)) == ids[2:3]
        assert claim(store, limits=limits) == []
        store.settle([pending(first[1], attempts_back=1)])
        assert claimed_ids(claim(store, limits=limits)) == [first[1].id]

    def test_a_claim_by_ids_keeps_limits(self, store: Store) -> None:
        limits = Limits(kinds={"alpha": TWO}, queues={"mail": Limit(at_once=1)})
        ids = put(store, *[new_job(queue="mail") for _ in range(3)], *[new_job() for _ in range(3)])
        others = put(store, new_job("beta"), new_job("beta", queue="mail"))
        taken = claim(store, ids=[*ids, *others], limits=limits)
        assert claimed_ids(taken) == [ids[0], ids[3], others[0]]
        assert claim(store, ids=[*ids, *others], limits=limits) == []

    def test_the_narrowest_of_several_limits_holds(self, store: Store) -> None:
        limits = Limits(
            queues={"default": Limit(at_once=5)},
            kinds={"alpha": Limit(at_once=3)},
            keys={"alpha": Limit(at_once=1)},
        )
        put(store, *[of_key(f"k{n % 4}") for n in range(12)])
        put(store, *[new_job("beta") for _ in range(4)])
        taken = claim(store, 20, limits=limits)
        kinds = Counter(job.kind for job in taken)
        keys = Counter(job.concurrency_key for job in taken if job.kind == "alpha")
        assert (kinds["alpha"], kinds["beta"]) == (3, 2)
        assert set(keys.values()) == {1}
        assert claim(store, 20, limits=limits) == []

    def test_limits_do_not_let_a_worse_priority_go_first(self, store: Store) -> None:
        """Though few rows of each lane are looked at first, where there are many lanes."""
        limits = Limits(kinds={"gamma": Limit(at_once=5)})
        others = [new_job(kind, priority=5) for kind in ("beta", "gamma") for _ in range(3)]
        put(store, *others)
        first = put(store, *[new_job(priority=1) for _ in range(9)])
        assert claimed_ids(claim(store, 8, limits=limits)) == first[:8]
        assert claimed_ids(claim(store, 2, limits=limits)) == [first[8], others[0].id]

    def test_limits_keep_the_order_of_age(self, store: Store) -> None:
        limits = Limits(kinds={"gamma": Limit(at_once=5)})
        old = put(store, *[new_job() for _ in range(12)])
        put(store, *[new_job(kind) for kind in ("beta", "gamma") for _ in range(6)])
        assert claimed_ids(claim(store, 11, limits=limits)) == old[:11]

    def test_a_stalled_job_counts_until_it_is_reclaimed(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        limits = Limits(kinds={"alpha": Limit(at_once=1)})
        put(store, new_job(), new_job())
        (lost,) = claim(store, limits=limits)
        manual_clock.advance(3600)
        assert claim(store, limits=limits) == []
        store.settle([pending(lost)], stalled_only=True)
        assert claimed_ids(claim(store, limits=limits)) == [lost.id]

    def test_a_late_result_frees_no_place(self, store: Store, manual_clock: ManualClock) -> None:
        """Of a runner that was taken for dead: its job runs again, and has the only place."""
        limits = Limits(kinds={"alpha": Limit(at_once=1)})
        put(store, new_job(), new_job())
        (zombie,) = claim(store, limits=limits)
        manual_clock.advance(LEASE_SECONDS + 1)
        store.settle([pending(zombie)], stalled_only=True)
        (again,) = claim(store, limits=limits)
        assert again.id == zombie.id
        for _ in range(2):
            assert store.settle([completed(zombie)]) == {zombie.id}
            assert claim(store, limits=limits) == []
        assert store.settle([completed(again)]) == frozenset()
        assert len(claim(store, limits=limits)) == 1

    def test_a_full_key_holds_up_nothing_behind_it(self, store: Store) -> None:
        limits = Limits(keys={"alpha": Limit(at_once=1)})
        store.insert_many(of_key("full") for _ in range(1000))
        assert len(claim(store, limits=limits)) == 1
        free = put(store, of_key("free"))
        assert claimed_ids(claim(store, limits=limits)) == free

    def test_full_lanes_do_not_make_a_claim_come_back_short(self, store: Store) -> None:
        limits = Limits(kinds={"alpha": Limit(at_once=1)})
        put(store, *[new_job(priority=n) for n in (1, 1, 2)])
        assert len(claim(store, 1, limits=limits)) == 1
        put(store, *[new_job("beta") for _ in range(9)], new_job("gamma"))
        assert len(claim(store, 7, limits=limits)) == 7

    def test_a_full_kind_holds_up_no_other(self, store: Store) -> None:
        limits = Limits(kinds={"alpha": Limit(at_once=1)}, queues={"mail": Limit(at_once=1)})
        put(store, *[new_job(priority=1) for _ in range(50)])
        put(store, *[new_job("beta", queue="mail", priority=1) for _ in range(50)])
        assert len(claim(store, limits=limits)) == 2
        free = put_one(store, "gamma", priority=5)
        assert claimed_ids(claim(store, limits=limits)) == [free]

    def test_start_marks_and_order(self, store: Store) -> None:
        limits = Limits(kinds={"alpha": Limit(at_once=3)})
        ids = put(store, *[new_job(kind) for kind in ("beta", "alpha", "beta", "alpha", "beta")])
        taken = claim(store, mark=2, limits=limits)
        assert claimed_ids(taken) == ids
        assert [job.marked for job in taken] == [True, True, False, False, False]
        assert {job.attempt for job in taken} == {job.fence for job in taken} == {1}

    def test_limits_of_other_namespaces_are_their_own(
        self, store: Store, make_store: MakeStore, clock: Clock
    ) -> None:
        if Capability.SHARED not in store.capabilities:
            pytest.skip("the store is not shared")
        other = make_store(clock, "other")
        limits = Limits(kinds={"alpha": Limit(at_once=1, rate=Rate(1, 60))})
        mine, theirs = put_one(store), put_one(other)
        assert claimed_ids(claim(store, limits=limits)) == [mine]
        assert claimed_ids(claim(other, limits=limits)) == [theirs]
        other.close()

    def test_rates_hold_in_every_window(self, store: Store, manual_clock: ManualClock) -> None:
        """Over all starts, not only over windows that begin with the clock."""
        rate = Rate(5, 10)
        limits = Limits(kinds={"alpha": Limit(rate=rate)})
        store.insert_many(new_job() for _ in range(200))
        chance = random.Random(7)
        taken: list[datetime] = []
        for _ in range(120):
            manual_clock.advance(chance.choice([0.0, 0.1, 0.7, 1.9, 3.3]))
            now = manual_clock.now()
            taken += [now] * len(claim(store, chance.randint(1, 4), limits=limits))
        window = timedelta(seconds=rate.seconds)
        for begin in taken:
            assert sum(begin <= at < begin + window for at in taken) <= rate.most
        span = (taken[-1] - taken[0]) / window
        assert len(taken) >= 0.8 * rate.most * span

    def test_rates_hold_however_many_claim_at_once(
        self, store: Store, make_store: MakeStore, manual_clock: ManualClock
    ) -> None:
        """Of a queue, a kind and a key, by twenty claimers on two stores."""
        rates = {"mail": 11, "alpha": 7, "one": 3}
        limits = Limits(
            queues={"mail": Limit(rate=Rate(rates["mail"], 60))},
            kinds={"alpha": Limit(rate=Rate(rates["alpha"], 60))},
            keys={"beta": Limit(rate=Rate(rates["one"], 60))},
        )
        store.insert_many(new_job(kind, queue=q) for q, kind in _RATED for _ in range(60))
        store.insert_many(of_key("one", "beta") for _ in range(60))
        shared = Capability.SHARED in store.capabilities
        stores = (store, make_store(manual_clock)) if shared else (store, store)

        def work(number: int) -> list[Claimed]:
            return [job for _ in range(3) for job in claim(stores[number % 2], 4, limits=limits)]

        for seconds in (60, 59, 1, 60):
            at_once = [job for taken in in_threads(20, work) for job in taken]
            # A key in another claim's hands is left to it: what is free is taken by the next.
            alone = [job for _ in range(20) for job in claim(store, 4, limits=limits)]
            taken = at_once + alone
            ids = claimed_ids(taken)
            assert len(ids) == len(set(ids))
            names = Counter(
                job.concurrency_key or (job.queue if job.queue == "mail" else job.kind)
                for job in taken
            )
            assert names == ({} if seconds == 1 else rates)
            manual_clock.advance(seconds)
        if stores[1] is not store:
            stores[1].close()

    def test_a_rate_refills(self, store: Store, manual_clock: ManualClock) -> None:
        limits = Limits(keys={"alpha": Limit(rate=Rate(2, 60))})
        ids = put(store, *[of_key("one") for _ in range(5)])
        assert len(claim(store, limits=limits)) == 2
        assert claim(store, ids=ids, limits=limits) == []
        manual_clock.advance(59)
        assert claim(store, limits=limits) == []
        manual_clock.advance(1)
        assert len(claim(store, ids=ids, limits=limits)) == 2
        assert claim(store, limits=limits) == []

    def test_a_released_job_has_spent_its_place_in_the_rate(self, store: Store) -> None:
        limits = Limits(kinds={"alpha": Limit(rate=Rate(1, 60))})
        put_one(store)
        (taken,) = claim(store, limits=limits)
        store.settle([pending(taken, attempts_back=1)])
        assert claim(store, limits=limits) == []

    def test_what_is_taken_of_a_rate_can_start_at_once(self, store: Store) -> None:
        limits = Limits(kinds={"alpha": Limit(rate=Rate(100, 60))})
        put(store, *[new_job() for _ in range(10)])
        assert len(claim(store, mark=3, limits=limits)) == 3

    def test_old_takings_are_deleted(self, store: Store, manual_clock: ManualClock) -> None:
        limits = Limits(kinds={"alpha": Limit(rate=Rate(10, 1))})
        store.insert_many(new_job() for _ in range(160))
        for _ in range(160):
            manual_clock.advance(1)
            assert len(claim(store, 1, limits=limits)) == 1
        assert takings_of(store) < 150  # one claim in eight tidies up

    def test_what_stands_is_told(self, store: Store) -> None:
        limits = Limits(
            kinds={"alpha": Limit(at_once=3, rate=Rate(100, 3600))},
            keys={"alpha": Limit(at_once=1)},
        )
        put(store, *[of_key("shop-7", tenant="org1") for _ in range(3)])
        claim(store, limits=limits)
        key, kind = store.limits_now(limits)
        assert (key.name, key.label) == (
            f"key/alpha/{flow_of('org1', 'shop-7')}",
            "tenant org1, key shop-7",
        )
        assert (key.running, key.max_concurrency) == (1, 1)
        assert (kind.name, kind.running, kind.max_concurrency) == ("kind/alpha", 1, 3)
        assert (kind.taken, kind.rate_limit, kind.breaker) == (1, "100/h", None)

    def test_claims_at_once_keep_limits(self, store: Store) -> None:
        """Twenty claimers that claim and settle; what runs is counted where nothing can hide."""
        limits = Limits(
            queues={"default": Limit(at_once=9)},
            kinds={"alpha": Limit(at_once=4), "beta": Limit(at_once=7)},
            keys={"alpha": Limit(at_once=1)},
        )
        count = 160
        put(store, *[of_key(f"k{n % 8}") for n in range(count // 2)])
        put(store, *[new_job("beta") for _ in range(count // 2)])
        held = Held()
        done: list[str] = []
        deadline = time.monotonic() + 100

        def work(number: int) -> None:
            while len(done) < count and time.monotonic() < deadline:
                taken = claim(store, 3, limits=limits)
                held.add(taken)
                # Long enough for another to come between; who got nothing does not spin either.
                threading.Event().wait(0.01)
                if not taken:
                    continue
                held.remove(taken)
                store.settle([completed(job) for job in taken])
                done.extend(claimed_ids(taken))

        in_threads(20, work)
        assert sorted(done) == sorted(set(done))
        assert len(done) == count
        assert held.most["kind/alpha"] <= 4
        assert held.most["kind/beta"] <= 7
        assert held.most["queue/default"] <= 9
        assert held.most_of_a_key == 1


class Held:
    """What the claimers hold, counted by name; removed before it is settled, so never too many."""

    def __init__(self) -> None:
        self.most: Counter[str] = Counter()
        self.most_of_a_key = 0
        self._now: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, jobs: list[Claimed]) -> None:
        with self._lock:
            for job in jobs:
                for name in self._names(job):
                    self._now[name] += 1
                    self.most[name] = max(self.most[name], self._now[name])
                    if name.startswith("key/"):
                        self.most_of_a_key = max(self.most_of_a_key, self._now[name])

    def remove(self, jobs: list[Claimed]) -> None:
        with self._lock:
            for job in jobs:
                self._now.subtract(self._names(job))

    def _names(self, job: Claimed) -> list[str]:
        names = [f"queue/{job.queue}", f"kind/{job.kind}"]
        if job.concurrency_key is not None:
            names.append(f"key/{job.kind}/{job.concurrency_key}")
        return names


def takings_of(store: Store) -> int:
    """How many takings are kept, in whatever way the store keeps them."""
    kept = getattr(store, "_limits", None)
    if kept is not None:
        return sum(map(len, kept._taken.values()))
    engine: Any = getattr(store, "engine", None)
    if engine is None:
        pytest.skip("how many takings the store keeps is not known")
    from sqlalchemy import text

    takings = store.statements.takings  # type: ignore[attr-defined]
    with engine.connect() as connection:
        statement = text(f"SELECT count(*) FROM {takings} WHERE namespace = :namespace")  # noqa: S608
        return int(connection.execute(statement, {"namespace": store.namespace}).scalar_one())


class FairnessConformance(Conformance):
    """Tenants take turns."""

    def test_tenants_take_turns(self, store: Store) -> None:
        put(store, *[of_tenant("big") for _ in range(20)])
        put(store, *[of_tenant("small") for _ in range(2)])
        put(store, *[of_tenant("late") for _ in range(1)])
        taken = claim(store, 6)
        assert Counter(job.tenant for job in taken) == {"big": 3, "small": 2, "late": 1}

    def test_a_large_backlog_delays_nobody_else(self, store: Store) -> None:
        store.insert_many(of_tenant("big") for _ in range(5000))
        claim(store)
        single = put(store, of_tenant("small"))[0]
        assert single in claimed_ids(claim(store))

    def test_keys_of_one_tenant_take_one_turn(self, store: Store) -> None:
        put(store, *[of_key(f"k{n}", tenant="big") for n in range(40)])
        put(store, *[of_tenant("small") for _ in range(10)])
        taken = claim(store, 10)
        assert Counter(job.tenant for job in taken) == {"big": 5, "small": 5}

    def test_jobs_without_a_tenant_are_in_turn_too(self, store: Store) -> None:
        put(store, *[new_job() for _ in range(40)])
        single = put(store, of_tenant("small"))[0]
        assert single in claimed_ids(claim(store))
        assert len(claim(store, 100)) == 31

    def test_priority_stands_above_turns(self, store: Store) -> None:
        put(store, *[of_tenant("small", priority=3) for _ in range(2)])
        first = put(store, *[of_tenant("big", priority=1) for _ in range(5)])
        assert claimed_ids(claim(store, 5)) == first

    def test_within_a_tenant_the_order_stands(self, store: Store) -> None:
        ids = put(store, *[of_tenant("one") for _ in range(10)])
        put(store, *[of_tenant("two") for _ in range(10)])
        taken = [job.id for _ in range(5) for job in claim(store, 4)]
        assert [job_id for job_id in taken if job_id in ids] == ids

    def test_all_that_is_due_is_taken(self, store: Store) -> None:
        """However unevenly it lies on the lanes."""
        put(store, *[of_tenant(f"t{n}") for n in range(30)])
        put(store, *[of_tenant("big") for _ in range(300)])
        assert len(claim(store, 200)) == 200
        assert len(claim(store, 200)) == 130

    def test_of_very_many_tenants_each_gets_its_turn(self, store: Store) -> None:
        """Long before the older jobs of the others are done, which takes 800 claims."""
        store.insert_many(of_tenant(f"t{n}") for _ in range(40) for n in range(200))
        single = put(store, of_tenant("new"))[0]
        for _ in range(600):
            taken = claim(store, 10)
            assert len(taken) == 10
            if single in claimed_ids(taken):
                return
        raise AssertionError("not within 600 claims of 10")

    def test_of_very_many_keys_each_gets_its_turn(self, store: Store) -> None:
        """All but one are full; the free one is found among them."""
        limits = Limits(keys={"alpha": Limit(at_once=1)})
        store.insert_many(of_key(f"k{n}") for n in range(300) for _ in range(2))
        taken: set[str | None] = set()
        for _ in range(400):
            found = claim(store, 50, limits=limits)
            keys = [job.concurrency_key for job in found]
            assert not taken.intersection(keys)
            taken.update(keys)
            if len(taken) == 300:
                return
        raise AssertionError(f"{len(taken)} of 300 keys were found in 400 claims")

    def test_lanes_without_due_jobs_hide_nothing(self, store: Store) -> None:
        """More lanes of better priority than are looked at in one statement, all delayed."""
        store.insert_many(
            new_job(queue=f"q{n}", priority=1, delay_seconds=3600) for n in range(900)
        )
        single = put_one(store, priority=5)
        assert store.due_count({"alpha"}, 1000) == 1
        assert claimed_ids(claim(store)) == [single]

    @requires(Capability.SHARED)
    def test_two_claims_at_once_are_disjoint_and_full(
        self, store: Store, make_store: MakeStore, clock: Clock
    ) -> None:
        other = make_store(clock)
        put(store, *[of_tenant(f"t{n % 20}") for n in range(400)])
        found = in_threads(8, lambda n: claim((store, other)[n % 2], 25))
        ids = [job.id for taken in found for job in taken]
        assert len(ids) == len(set(ids))
        assert all(found)
        assert len(ids) >= 150
        other.close()


class BreakerConformance(Conformance):
    """A breaker's life, as the store keeps it."""

    BREAKER = Breaker(failure_ratio=0.5, minimum=4, window=60, pause=30)
    LIMITS = Limits(kinds={"alpha": Limit(breaker=BREAKER)})

    def note(self, store: Store, successes: int, failures: int) -> None:
        store.note_results([Tally("kind/alpha", self.BREAKER, successes, failures)])

    def word(self, store: Store) -> str | None:
        (status,) = store.limits_now(self.LIMITS)
        return status.breaker

    def test_it_opens_lets_one_through_and_closes(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put(store, *[new_job() for _ in range(20)])
        other = put_one(store, "beta")
        assert len(claim(store, 2, limits=self.LIMITS)) == 2
        self.note(store, 1, 2)
        assert self.word(store) == "closed"
        self.note(store, 1, 0)
        assert self.word(store) == "open"
        assert claimed_ids(claim(store, limits=self.LIMITS)) == [other]
        manual_clock.advance(29.9)
        assert claim(store, limits=self.LIMITS) == []
        store.settle([completed(job) for job in self.running(store)])
        manual_clock.advance(0.1)
        assert self.word(store) == "half-open"
        (probe,) = claim(store, limits=self.LIMITS)
        assert claim(store, limits=self.LIMITS) == []
        store.settle([completed(probe)])
        self.note(store, 1, 0)
        assert self.word(store) == "closed"
        assert len(claim(store, 10, limits=self.LIMITS)) == 10

    def running(self, store: Store) -> list[Claimed]:
        from jobs.core.store import JobFilter

        return [
            Claimed(
                *(job.id, job.kind, job.queue, "{}", 3, 1, 3, job.fence, None, None, ""),
                *(job.run_at, None, False, False, False),
            )
            for job in store.list(JobFilter(state=State.PROCESSING, kind="alpha"), 100)
        ]

    def test_its_pause_doubles_up_to_ten_times(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put(store, *[new_job() for _ in range(20)])
        claim(store, 1, limits=Limits(kinds={"alpha": Limit(at_once=1, breaker=self.BREAKER)}))
        self.note(store, 0, 4)
        for pause in (30, 60, 120, 240, 300, 300):
            (status,) = store.limits_now(self.LIMITS)
            assert status.open_until == manual_clock.now() + timedelta(seconds=pause)
            manual_clock.advance(pause)
            self.note(store, 0, 1)

    def test_what_began_before_it_opened_counts_for_nothing(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put_one(store)
        claim(store, limits=self.LIMITS)
        self.note(store, 0, 4)
        manual_clock.advance(1)
        self.note(store, 9, 9)
        (status,) = store.limits_now(self.LIMITS)
        assert status.open_until == manual_clock.now() + timedelta(seconds=29)

    def test_failures_of_another_window_are_forgotten(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        self.note(store, 0, 3)
        manual_clock.advance(60)
        self.note(store, 0, 3)
        assert self.word(store) == "closed"
        manual_clock.advance(59)
        self.note(store, 0, 1)
        assert self.word(store) == "open"

    def test_it_is_reset(self, store: Store) -> None:
        put_one(store)
        self.note(store, 0, 4)
        assert claim(store, limits=self.LIMITS) == []
        assert store.reset_breaker("kind/alpha")
        assert not store.reset_breaker("kind/none")
        assert not store.reset_breaker("nonsense \0")
        assert self.word(store) == "closed"
        assert len(claim(store, limits=self.LIMITS)) == 1

    def test_each_key_has_its_own(self, store: Store) -> None:
        breaker = Breaker(minimum=2, per_key=True)
        limits = Limits(keys={"alpha": Limit(breaker=breaker)})
        put(store, of_key("bad"), of_key("good"))
        bad = f"key/alpha/{flow_of('', 'bad')}"
        store.note_results([Tally(bad, breaker, 0, 2)])
        assert [job.concurrency_key for job in claim(store, limits=limits)] == ["good"]

    def test_only_one_probe_runs_however_many_claim(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put(store, *[new_job() for _ in range(50)])
        self.note(store, 0, 4)
        manual_clock.advance(30)
        found = in_threads(12, lambda _: claim(store, 5, limits=self.LIMITS))
        assert sum(map(len, found)) == 1


class LimitedRunnersConformance(Conformance):
    """Limits as handlers see them."""

    def test_handlers_are_never_more_than_the_limits(self, make_tickwork: MakeTickwork) -> None:
        """Twenty ticks at a time; each handler notes who else runs."""
        tickwork = make_tickwork(batch_size=6)
        tickwork.queue("narrow", max_concurrency=3)
        seen = Running()
        tickwork.handler("kind", max_concurrency=4)(seen.handler("kind"))
        tickwork.handler("narrow", queue="narrow")(seen.handler("narrow"))
        tickwork.handler(
            "keyed", max_concurrency_per_key=1, concurrency_key=lambda payload: payload["key"]
        )(seen.handler("keyed", by_key=True))
        for name in ("kind", "narrow", "keyed"):
            tickwork.enqueue_many([(name, {"key": f"k{n % 3}"}) for n in range(25)])

        def work(_: int) -> None:
            for _ in range(400):
                idle = tickwork.tick().processed == 0
                if seen.ended >= 75:
                    return
                threading.Event().wait(0.02 * idle)  # no cron spins

        in_threads(20, work)
        assert seen.ended == 75
        assert seen.most["kind"] <= 4
        assert seen.most["narrow"] <= 3
        assert {seen.most[f"keyed/k{n}"] for n in range(3)} == {1}

    def test_a_process_runs_no_more_at_once(self, make_tickwork: MakeTickwork) -> None:
        """Ticks that overlap count together, and slots go on with what may run."""
        tickwork = make_tickwork(batch_size=20, concurrency=5)
        tickwork.queue("narrow", concurrency_in_process=1)
        seen = Running()
        tickwork.handler("two", concurrency_in_process=2)(seen.handler("two"))
        tickwork.handler("one", queue="narrow")(seen.handler("one"))
        tickwork.handler("free")(seen.handler("free"))
        tickwork.enqueue_many([(kind, {}) for kind in ("two", "one", "free") for _ in range(20)])
        in_threads(3, lambda _: tickwork.tick())
        tickwork.drain()  # what a claim left to another that had it in hand
        assert seen.ended == 60
        assert seen.most["two"] == 2
        assert seen.most["one"] == 1
        assert seen.most["free"] > 1

    def test_a_held_job_lets_others_start(
        self, make_tickwork: MakeTickwork, gate: threading.Event
    ) -> None:
        """Jobs ahead that wait for a place in the process do not hold up those behind them."""
        tickwork = make_tickwork(concurrency=2)
        others = threading.Semaphore(0)

        @tickwork.handler("slow", concurrency_in_process=1)
        def slow(payload: dict[str, Any]) -> None:
            assert gate.wait(60)

        @tickwork.handler("quick")
        def quick(payload: dict[str, Any]) -> None:
            others.release()

        tickwork.enqueue_many([("slow", {})] * 3 + [("quick", {})] * 3)
        ticking = threading.Thread(target=tickwork.tick)
        ticking.start()
        for _ in range(3):
            assert others.acquire(timeout=60)
        gate.set()
        ticking.join(timeout=60)
        assert not ticking.is_alive()
        assert tickwork.counts() == {
            ("default", "slow", "completed"): 3,
            ("default", "quick", "completed"): 3,
        }

    def test_what_waits_for_a_place_goes_back_at_the_deadline(
        self, make_tickwork: MakeTickwork
    ) -> None:
        tickwork = make_tickwork(concurrency=3)
        ended = threading.Event()

        @tickwork.handler("slow", concurrency_in_process=1)
        def slow(payload: dict[str, Any]) -> None:
            ended.wait(1.2)

        tickwork.enqueue_many([("slow", {})] * 3)
        result = tickwork.tick(time_budget=0.8, tick_limit=20)
        assert (result.succeeded, result.released) == (1, 2)
        waiting = tickwork.list(state="pending")
        assert [job.attempts for job in waiting] == [0, 0]

    def test_a_tick_says_what_a_limit_left(self, make_tickwork: MakeTickwork) -> None:
        tickwork = make_tickwork()
        tickwork.register_handler("one", lambda payload: None, max_concurrency=1)
        tickwork.enqueue_many([("one", {})] * 4)
        result = tickwork.tick()
        assert (result.succeeded, result.remaining) == (1, 3)
        assert sum(each.succeeded for each in tickwork.drain()) == 3

    def test_a_breaker_opens_and_burns_no_attempts(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        tickwork = make_tickwork(retry_delay=1)
        broken = True

        @tickwork.handler("call", max_attempts=50, breaker=Breaker(minimum=5, pause=30))
        def call(payload: dict[str, Any]) -> None:
            if broken:
                raise ConnectionError("no route")

        tickwork.enqueue_many([("call", {})] * 20)
        tickwork.tick(limit=5)
        (breaker,) = tickwork.breakers()
        assert (breaker.name, breaker.breaker, breaker.failures) == ("kind/call", "open", 5)
        for _ in range(5):
            manual_clock.advance(5)
            assert tickwork.tick().processed == 0
        manual_clock.advance(5)
        assert tickwork.tick().retried == 1
        assert tickwork.tick().processed == 0
        assert sum(job.attempts for job in tickwork.list(limit=50)) == 6
        broken = False
        manual_clock.advance(60)
        assert tickwork.tick().succeeded == 1
        assert sum(result.succeeded for result in tickwork.drain()) == 19
        (breaker,) = tickwork.breakers()
        assert breaker.breaker == "closed"

    def test_what_counts_for_a_breaker(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        tickwork = make_tickwork()
        assert tickwork.clock is manual_clock

        @tickwork.handler("call", max_attempts=1, breaker=Breaker(minimum=100))
        def call(payload: dict[str, Any]) -> None:
            match payload.get("do"):
                case "snooze":
                    raise Snooze(60)
                case "discard":
                    raise Discard("bad data")
                case "fail":
                    raise ValueError("bad")

        for do in ("snooze", "discard", "fail", "nothing", "nothing"):
            tickwork.enqueue("call", {"do": do})
        tickwork.tick()
        (breaker,) = tickwork.breakers()
        assert (breaker.successes, breaker.failures) == (2, 1)
        lost = tickwork.enqueue("call", {})
        tickwork.store.claim(1, kinds={"call"}, lease_seconds=-60, mark=1)
        tickwork.reclaim()
        assert tickwork.get(lost.id).state == State.FAILED  # type: ignore[union-attr]
        assert tickwork.breakers()[0].failures == 2

    def test_a_breaker_is_reset_by_name(self, tickwork: Tickwork) -> None:
        tickwork.register_handler("call", _fails, max_attempts=9, breaker=Breaker(minimum=1))
        tickwork.enqueue("call")
        tickwork.tick()
        assert tickwork.breakers()[0].breaker == "open"
        tickwork.reset_breaker("kind/call")
        assert tickwork.breakers()[0].breaker == "closed"
        with pytest.raises(NoSuchLimit, match="kind/call"):
            tickwork.reset_breaker("kind/cal")

    def test_keys_come_from_the_caller_or_the_payload(self, tickwork: Tickwork) -> None:
        tickwork.register_handler(
            "keyed", lambda payload: None, concurrency_key=lambda payload: payload.get("shop")
        )
        made = tickwork.enqueue("keyed", {"shop": "s1"})
        said = tickwork.enqueue("keyed", {"shop": "s1"}, concurrency_key="mine")
        none = tickwork.enqueue("keyed", {})
        assert [tickwork.get(job.id).concurrency_key for job in (made, said, none)] == [  # type: ignore[union-attr]
            "s1",
            "mine",
            None,
        ]
        with pytest.raises(ConfigurationError, match="concurrency_key"):
            tickwork.enqueue("keyed", {"shop": 7})
        for key in ("", "mine ", " mine"):
            with pytest.raises(ConfigurationError, match="concurrency_key"):
                tickwork.enqueue("keyed", concurrency_key=key)


class Running:
    """Notes how many handlers run, by kind and by key."""

    def __init__(self) -> None:
        self.most: Counter[str] = Counter()
        self.ended = 0
        self._now: Counter[str] = Counter()
        self._lock = threading.Lock()

    def handler(self, kind: str, *, by_key: bool = False) -> Callable[[dict[str, Any]], None]:
        def run(payload: dict[str, Any]) -> None:
            name = f"{kind}/{payload['key']}" if by_key else kind
            with self._lock:
                self._now[name] += 1
                self.most[name] = max(self.most[name], self._now[name])
            threading.Event().wait(0.005)  # long enough for another to come between
            with self._lock:
                self._now[name] -= 1
                self.ended += 1

        return run


def _fails(payload: dict[str, Any]) -> None:
    raise ValueError("always")
