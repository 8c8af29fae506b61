"""Records of ticks and what is made of them: each counted once, and nothing waits for anybody."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from jobs.core.clock import ManualClock
from jobs.core.errors import Snooze, StoreUnavailable
from jobs.core.ids import new_id
from jobs.core.measure import (
    TICKS_QUEUE,
    Histogram,
    Key,
    Measure,
    Measures,
    TickRecord,
)
from jobs.core.store import (
    HOURS_KEPT_SECONDS,
    KEPT_REGULAR,
    MINUTES_KEPT_SECONDS,
    Capability,
    Store,
)
from jobs.system import Tickwork
from jobs.testing.areas.base import (
    LEASE_SECONDS,
    Conformance,
    MakeStore,
    MakeTickwork,
    claim,
    claim_one,
    failed,
    in_threads,
    put_one,
)

ALPHA = Key("", "default", "alpha")
WEEK = 7 * 86_400.0


def measure(completed: int = 1, *, ran_ms: float | None = None) -> Measure:
    made = Measure(completed=completed)
    if ran_ms is not None:
        made.ran.note(ran_ms, completed)
    return made


def record(
    store: Store, measures: Measures | None = None, *, trigger: str = "kick", **fields: Any
) -> str:
    """Write a record; returns its id."""
    made = TickRecord(new_id(), trigger, "host-1", measures=measures, **fields)
    store.record_tick(made)
    return made.id


def total(store: Store, key: Key = ALPHA) -> int:
    return store.totals().get(key, Measure()).completed


def fold_all(store: Store, keep: int = 0) -> int:
    folded = 0
    while count := store.fold_ticks(50, keep=keep):
        folded += count
    return folded


def shown(store: Store) -> dict[str, tuple[int, float]]:
    """The depths, by ``queue kind state``."""
    return {
        f"{each.queue} {each.kind} {each.state}": (each.jobs, each.oldest_seconds)
        for each in store.depths(100)
    }


class RecordConformance(Conformance):
    """What is written down of a tick."""

    def test_a_record_comes_back_as_it_was_written(self, store: Store) -> None:
        before = store.now()
        counted = Measure(completed=2, retried=1, ran=Histogram({3: 2, 20: 1}, 86_500_000.0))
        key = Key("Zürich & Søn", "mail", "send")
        record_id = record(
            store,
            {key: counted},
            trigger="cron",
            duration_ms=1500.0,
            limit=10,
            claimed=4,
            processed=3,
            succeeded=2,
            failed=0,
            retried=1,
            released=1,
            reclaimed=5,
            remaining=1000,
            more=True,
            error="ValueError: \x00 no " + "!" * 600,
        )
        (found,) = store.ticks(10)
        assert found.id == record_id
        assert (found.trigger, found.runner, found.ticks) == ("cron", "host-1", 1)
        assert (found.claimed, found.processed, found.reclaimed) == (4, 3, 5)
        assert (found.limit, found.remaining, found.more) == (10, 1000, True)
        assert found.error is not None
        assert found.error.startswith("ValueError: ")
        assert len(found.error) == 500
        assert found.measures == {key: counted}
        assert before <= found.ended_at <= store.now()
        assert (found.ended_at - found.began_at).total_seconds() == 1.5
        assert store.last_tick() == found

    def test_written_twice_it_is_there_once(self, store: Store) -> None:
        """As after a commit whose answer was lost."""
        made = TickRecord(new_id(), "cron", "host-1", measures={ALPHA: measure()})
        store.record_tick(made)
        store.record_tick(made)
        assert [each.id for each in store.ticks(10)] == [made.id]
        assert total(store) == 1

    def test_the_newest_come_first_page_by_page(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        ids = []
        for place in range(6):
            ids.append(record(store, trigger="cron" if place % 2 else "sqs"))
            if place != 2:
                manual_clock.advance(1)  # two of them at the same instant
        newest = store.ticks(4)
        assert [each.id for each in newest] == ids[:1:-1]
        rest = store.ticks(4, before=(newest[-1].ended_at, newest[-1].id))
        assert [each.id for each in rest] == ids[1::-1]
        crons = store.ticks(10, triggers=["cron", "cli"])
        assert [each.id for each in crons] == [ids[5], ids[3], ids[1]]

    def test_without_ticks_there_is_nothing(self, store: Store) -> None:
        assert store.last_tick() is None
        assert store.ticks(5) == []
        assert store.measures(3600, 60) == []
        assert store.totals() == {}
        assert store.fold_ticks(100, keep=0) == 0

    def test_a_namespace_sees_its_own(self, store: Store, make_store: MakeStore) -> None:
        if Capability.SHARED not in store.capabilities:
            pytest.skip("the store declares no shared")
        other = make_store(store.clock, "other")  # type: ignore[attr-defined]
        record(store, {ALPHA: measure()})
        assert (other.last_tick(), other.totals(), other.measures(60, 60)) == (None, {}, [])
        assert fold_all(other) == 0
        record(other, {ALPHA: measure(7)})
        fold_all(other)
        assert (total(store), total(other)) == (1, 7)
        other.close()


class MeasureConformance(Conformance):
    """What ticks did, by time and by key."""

    def test_by_bucket_and_key(self, store: Store, manual_clock: ManualClock) -> None:
        beta = Key("acme", "mail", "beta")
        began = manual_clock.now()
        record(store, {ALPHA: measure(1), beta: measure(2)})
        manual_clock.advance(59)
        record(store, {ALPHA: measure(4)})
        manual_clock.advance(2)
        record(store, {ALPHA: measure(8)})
        found = store.measures(3600, 60)
        assert [
            ((each.starts_at - began).total_seconds(), *each[1:4], each.measure.completed)
            for each in found
        ] == [(0, *ALPHA, 5), (0, *beta, 2), (60, *ALPHA, 8)]
        assert [each.measure.completed for each in store.measures(10, 60)] == [4, 8] or [
            each.measure.completed for each in store.measures(10, 60)
        ] == [12]
        for only in ({"tenant": "acme"}, {"queue": "mail"}, {"kind": "beta"}):
            assert [each.kind for each in store.measures(3600, 60, **only)] == ["beta"]
        assert len(store.measures(3600, 60, tenant="")) == 2
        assert store.measures(3600, 60, tenant="\x00") == []
        assert store.measures(3600, 60, kind="no such") == []

    def test_a_fold_changes_no_number(self, store: Store, manual_clock: ManualClock) -> None:
        """Not within a minute, as long as minutes are kept."""
        for _ in range(20):
            record(store, {ALPHA: measure(3, ran_ms=40), Key("t", "q", "k"): measure(1)})
            manual_clock.advance(17)
        before, ever = store.measures(3600, 60), store.totals()
        assert store.fold_ticks(7, keep=5) == 7
        assert store.fold_ticks(100, keep=5) in (7, 8)
        assert len(store.ticks(100)) in (5, 6)
        assert store.measures(3600, 60) == before
        assert store.totals() == ever
        assert fold_all(store) == len(store.ticks(100)) or store.ticks(100) == []
        assert store.measures(3600, 60) == before
        assert store.totals() == ever

    def test_totals_leave_the_tenant_out_and_count_the_ticks(self, store: Store) -> None:
        for tenant in ("a", "b"):
            record(
                store,
                {Key(tenant, "q", "k"): measure(2, ran_ms=8)},
                trigger="cron",
                duration_ms=300,
            )
        record(store, trigger="worker", ticks=5, duration_ms=100, error="it broke")
        for _ in range(2):
            found = store.totals()
            assert set(found) == {
                Key("", "q", "k"),
                Key("", TICKS_QUEUE, "cron"),
                Key("", TICKS_QUEUE, "worker"),
            }
            assert found[Key("", "q", "k")] == measure(4, ran_ms=8)
            cron, worker = (found[Key("", TICKS_QUEUE, each)] for each in ("cron", "worker"))
            assert (cron.completed, cron.failed, cron.ran.sum_ms) == (2, 0, 600)
            assert (worker.completed, worker.failed, worker.ran.count) == (4, 1, 5)
            fold_all(store)

    def test_minutes_become_hours_and_hours_are_forgotten(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        for _ in range(30):
            record(store, {ALPHA: measure(2)})
            manual_clock.advance(600)  # five hours in all
        fold_all(store)
        spans = {each.starts_at.minute for each in store.measures(WEEK, 60)}
        assert spans != {0}, "the last three hours by the minute"
        first = store.measures(WEEK, 60)[0]
        assert (first.starts_at.minute, first.measure.completed) == (0, 12)
        assert sum(each.measure.completed for each in store.measures(WEEK, 3600)) == 60
        manual_clock.advance(MINUTES_KEPT_SECONDS)
        record(store, {ALPHA: measure(100)})
        fold_all(store)
        hours = store.measures(WEEK, 60)
        assert sum(each.measure.completed for each in hours) == 160
        assert len(hours) <= 7
        manual_clock.advance(HOURS_KEPT_SECONDS + 3600)
        record(store)
        fold_all(store)
        assert store.measures(HOURS_KEPT_SECONDS * 2, 60) == []
        assert total(store) == 160, "what was counted for ever stays"

    def test_regular_ticks_stay_for_the_cadence(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        for place in range(KEPT_REGULAR + 10):
            record(store, {ALPHA: measure()}, trigger="cron")
            record(store, {ALPHA: measure()}, trigger="sqs" if place % 2 else "kick")
            manual_clock.advance(60)
        fold_all(store)
        left = store.ticks(1000)
        assert [each.trigger for each in left] == ["cron"] * KEPT_REGULAR
        assert total(store) == 2 * (KEPT_REGULAR + 10)

    def test_overlapping_folds_count_each_record_once(self, store: Store) -> None:
        """While ticks go on recording; and nobody ever sees the totals go down."""
        for _ in range(60):
            record(store, {ALPHA: measure(), Key("t", "q", "k"): measure()})
        seen: list[int] = []
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                seen.append(total(store))

        watcher = threading.Thread(target=watch)
        watcher.start()

        def work(number: int) -> int:
            folded = 0
            for _ in range(10):
                if number % 2:
                    record(store, {ALPHA: measure()})
                else:
                    folded += store.fold_ticks(9, keep=4)
            return folded

        try:
            folded = sum(in_threads(6, work))
        finally:
            over.set()
            watcher.join(timeout=60)
        assert folded + len(store.ticks(1000)) == 90
        assert total(store) == 90
        assert seen == sorted(seen)
        buckets = store.measures(3600, 3600, kind="alpha")
        assert sum(each.measure.completed for each in buckets) == 90


class DepthConformance(Conformance):
    """How deep the queues are."""

    def test_by_queue_kind_and_state(self, store: Store, manual_clock: ManualClock) -> None:
        for _ in range(3):
            put_one(store)
        put_one(store, delay_seconds=500)
        put_one(store, "beta", queue="mail", priority=1)
        put_one(store, "beta", queue="mail", priority=5, tenant="acme", flow="0" * 24)
        manual_clock.advance(100)
        put_one(store, "gamma", queue="held")
        store.pause("queue/held", by="ada", because=None)
        held = claim(store, 2, kinds={"alpha"})
        assert len(held) == 2
        found = shown(store)
        assert found["default alpha pending"] == (1, 100.0)
        assert found["default alpha delayed"][0] == 1
        assert found["default alpha processing"][0] == 2
        assert found["mail beta pending"] == (2, 100.0)
        assert found["held gamma paused"] == (1, 0.0)
        assert len(found) == 5
        manual_clock.advance(LEASE_SECONDS + 30)
        found = shown(store)
        assert found["default alpha stalled"] == (2, 30.0)

    def test_counted_up_to_a_cap(self, store: Store) -> None:
        for _ in range(5):
            put_one(store)
        for _ in range(2):
            put_one(store, "beta")
        found = {each[:3]: each.jobs for each in store.depths(3)}
        assert found == {("default", "alpha", "pending"): 3, ("default", "beta", "pending"): 2}

    def test_dead_letters_by_kind(self, store: Store) -> None:
        for kind in ("alpha", "alpha", "alpha", "beta"):
            put_one(store, kind)
            store.settle([failed(claim_one(store), keep_seconds=100)])
        assert store.failed_counts(["alpha", "beta", "gamma"], 100) == {"alpha": 3, "beta": 1}
        assert store.failed_counts(["alpha"], 2) == {"alpha": 2}
        assert store.failed_counts([], 2) == {}


class Stumbling:
    """A store one of whose operations fails."""

    def __init__(self, store: Store, operation: str, error: Exception) -> None:
        self._store, self._operation, self._error = store, operation, error

    def __getattr__(self, name: str) -> Any:
        if name == self._operation:
            return self._fail
        return getattr(self._store, name)

    def _fail(self, *_: Any, **__: Any) -> Any:
        raise self._error


class TickRecordConformance(Conformance):
    """What ticks write down of themselves."""

    def test_a_tick_is_recorded_with_what_it_did(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        def work(payload: dict[str, Any]) -> None:
            if payload["n"] == 1:
                raise ValueError("not today")
            if payload["n"] == 2:
                raise Snooze(60)

        tickwork.register_handler("work", work, queue="mail")
        tickwork.register_handler("last", work, max_attempts=1)
        for n in range(3):
            tickwork.enqueue("work", {"n": n}, tenant="acme")
        tickwork.enqueue("last", {"n": 1})
        manual_clock.advance(30)
        result = tickwork.tick(limit=7, trigger="cron")
        (found,) = tickwork.ticks()
        assert (found.trigger, found.limit, found.claimed) == ("cron", 7, 4)
        assert (found.processed, found.succeeded) == (result.processed, result.succeeded) == (4, 1)
        assert (found.failed, found.retried, found.error) == (1, 1, None)
        assert 0 < found.duration_ms < 60_000
        assert set(found.measures or {}) == {
            Key("acme", "mail", "work"),
            Key("", "default", "last"),
        }
        counted = (found.measures or {})[Key("acme", "mail", "work")]
        assert (counted.completed, counted.retried, counted.snoozed) == (1, 1, 1)
        assert (counted.ran.count, counted.waited.count) == (3, 3)
        assert 30_000 <= (counted.waited.mean_ms or 0) < 35_000
        assert (counted.ran.mean_ms or 0) < 5_000
        (bucket,) = tickwork.measures(60, 3600, kind="last")
        assert (bucket.tenant, bucket.queue, bucket.measure.failed) == ("", "default", 1)

    def test_a_tick_without_work_is_recorded_too(self, tickwork: Tickwork) -> None:
        tickwork.tick()
        (found,) = tickwork.ticks()
        assert (found.trigger, found.claimed, found.measures) == ("call", 0, {})

    def test_a_lost_runner_is_counted(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        for _ in range(2):
            put_one(store)
        assert len(claim(store, mark=1)) == 2
        manual_clock.advance(LEASE_SECONDS + 1)
        tickwork.tick()
        (found,) = tickwork.ticks()
        counted = (found.measures or {})[ALPHA]
        assert found.reclaimed == 2
        # The one that had begun is retried later; the other is run by the same tick.
        assert (counted.lost, counted.retried, counted.released) == (1, 1, 1)
        assert counted.completed == 1

    def test_a_tick_that_raises_is_recorded_with_its_error(
        self, make_tickwork: MakeTickwork, store: Store
    ) -> None:
        stumbling: Any = Stumbling(store, "due_count", RuntimeError("the look back broke"))
        tickwork = make_tickwork(store=stumbling)
        tickwork.register_handler("alpha", lambda payload: None)
        put_one(store)
        with pytest.raises(RuntimeError):
            tickwork.tick(limit=1)
        (found,) = store.ticks(5)
        assert found.error == "RuntimeError: the look back broke"
        assert (found.claimed, found.succeeded) == (1, 1), "what it did before counts"
        assert total(store) == 1

    @pytest.mark.parametrize("error", [RuntimeError("no"), StoreUnavailable("gone")])
    def test_a_record_that_cannot_be_written_fails_no_tick(
        self, make_tickwork: MakeTickwork, store: Store, error: Exception
    ) -> None:
        stumbling: Any = Stumbling(store, "record_tick", error)
        tickwork = make_tickwork(store=stumbling)
        tickwork.register_handler("alpha", lambda payload: None)
        put_one(store)
        assert tickwork.tick().succeeded == 1
        assert store.ticks(5) == []

    def test_a_drain_writes_few_records_of_many_ticks(
        self, tickwork: Tickwork, store: Store
    ) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.enqueue_many([("alpha", {})] * 30)
        results = tickwork.drain(limit=3, trigger="cli")
        found = store.ticks(100)
        assert len(found) <= 3
        assert sum(each.ticks for each in found) == len(results) >= 10
        assert {each.trigger for each in found} == {"cli"}
        assert sum(each.succeeded for each in found) == 30
        assert total(store) == 30
