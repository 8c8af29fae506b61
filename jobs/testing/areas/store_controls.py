"""Controls as rows, and what people do to many rows at once."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.core.clock import Clock, ManualClock
from jobs.core.controls import Said
from jobs.core.ids import new_id
from jobs.core.job import NewJob, State
from jobs.core.store import Capability, JobFilter, Revival, Store
from jobs.testing.areas.base import (
    KINDS,
    Conformance,
    MakeStore,
    claim,
    claim_one,
    claimed_ids,
    completed,
    failed,
    fetch,
    in_threads,
    put,
)
from jobs.testing.areas.base import new_job as unrung_job


def new_job(kind: str = "alpha", **fields: Any) -> NewJob:
    """A job that is also found where jobs only run because they were rung for."""
    return unrung_job(kind, **{"ring_after_seconds": 0.0, **fields})


def put_one(store: Store, kind: str = "alpha", **fields: Any) -> str:
    return put(store, new_job(kind, **fields))[0]


def all_ids(store: Store, where: JobFilter | None = None) -> list[str]:
    return store.find(where or JobFilter(), 10_000)


def failed_job(store: Store, **fields: Any) -> str:
    """A dead letter; returns its id."""
    job_id = put_one(store, **fields)
    store.settle([failed(claim_one(store, ids=[job_id]), error="boom", keep_seconds=60.0)])
    return job_id


class PausedRowsConformance(Conformance):
    """Rows that a pause holds back, and the rows that say so."""

    @pytest.mark.parametrize("subject", ["queue/mail", "kind/beta", "queue/all"])
    def test_what_is_paused_is_not_claimed(self, store: Store, subject: str) -> None:
        held = put_one(store, "beta", queue="mail")
        free = put_one(store, "alpha", queue="default")
        expected = [] if subject == "queue/all" else [free]
        store.pause(subject, by="ada", because="the relay is down")
        assert store.paused() == {subject}
        assert store.probe().said.paused == {subject}
        lanes = store.probe().lanes
        assert len(lanes) == len(expected)
        assert store.due_count(KINDS, 10) == len(expected)
        assert store.due_count(KINDS, 10, lanes=lanes) == len(expected)
        assert claim(store, ids=[held]) == []
        assert claimed_ids(claim(store, ids=[held, free])) == expected
        assert claim(store) == claim(store, lanes=lanes) == []
        standing = store.standing([held, free])
        assert (standing[held].paused, standing[free].paused) == (True, not expected)
        assert store.resume(subject, by="ada")
        assert store.paused() == frozenset()
        assert sorted(claimed_ids(claim(store))) == sorted({held, free} - set(expected))

    def test_like_names_are_not_paused(self, store: Store) -> None:
        ids = [
            put_one(store, "alpha", queue="mail"),
            put_one(store, "alpha", queue="Mai"),
            put_one(store, "beta", queue="alpha"),
        ]
        for subject in ("queue/mai", "queue/mail2", "kind/Alpha", "kind/mail", "queue/beta"):
            store.pause(subject, by=None, because=None)
        assert len(store.probe().lanes) == 3
        assert sorted(claimed_ids(claim(store, ids=ids))) == sorted(ids)

    def test_who_paused_when_and_why(self, store: Store, manual_clock: ManualClock) -> None:
        assert store.controls() == []
        began = manual_clock.now()
        store.pause("queue/mail", by="ada", because="why ✓")
        manual_clock.advance(60)
        store.pause("queue/mail", by="grace", because=None)
        (control,) = store.controls()
        assert (control.subject, control.paused_at) == ("queue/mail", began)
        assert (control.paused_by, control.paused_because) == ("grace", None)
        manual_clock.advance(60)
        assert store.resume("queue/mail", by="joan")
        assert not store.resume("queue/mail", by="joan")
        assert not store.resume("queue/other", by="joan")
        (control,) = store.controls()
        assert (control.is_paused, control.paused_by) == (False, None)
        assert (control.changed_by, control.changed_at) == ("joan", manual_clock.now())

    def test_paused_is_a_count_of_its_own(self, store: Store) -> None:
        put(store, *(new_job(queue="mail") for _ in range(3)))
        put(store, new_job(queue="mail", delay_seconds=60), new_job(queue="other"))
        claim(store, 1)
        store.pause("queue/mail", by=None, because=None)
        assert store.counts() == {
            ("mail", "alpha", "paused"): 2,
            ("mail", "alpha", "processing"): 1,
            ("mail", "alpha", "delayed"): 1,
            ("other", "alpha", "pending"): 1,
        }

    def test_another_namespace_is_not_paused(
        self, make_store: MakeStore, store: Store, clock: Clock
    ) -> None:
        if Capability.SHARED not in store.capabilities:
            pytest.skip("the store is not shared")
        other = make_store(clock, "other")
        job_id = put_one(other)
        store.pause("queue/all", by=None, because=None)
        store.set_settings("queue/default", {"timeout": 1}, by=None)
        assert other.controls() == []
        assert other.probe().said == (frozenset(), {})
        assert claimed_ids(claim(other, ids=[job_id])) == [job_id]
        assert not other.resume("queue/all", by=None)
        other.close()


class SettingRowsConformance(Conformance):
    """Rows that hold settings."""

    def test_settings_are_changed_one_by_one(self, store: Store) -> None:
        assert store.set_settings("queue/mail", {"timeout": 30, "priority": 1}, by="ada") == {
            "timeout": 30,
            "priority": 1,
        }
        changed = store.set_settings("queue/mail", {"timeout": None, "priority": 2}, by="grace")
        assert changed == {"priority": 2}
        (control,) = store.controls()
        assert (control.settings, control.changed_by) == ('{"priority":2}', "grace")
        assert store.probe().said == (frozenset(), {"queue/mail": '{"priority":2}'})
        store.pause("queue/mail", by="ada", because="both at once")
        assert store.probe().said == Said(
            frozenset({"queue/mail"}), {"queue/mail": '{"priority":2}'}
        )
        assert store.set_settings("queue/mail", {"priority": None}, by=None) == {}
        assert store.probe().said.settings == {}
        assert store.paused() == {"queue/mail"}

    def test_of_two_changes_at_once_none_is_lost(self, store: Store) -> None:
        def change(number: int) -> None:
            for turn in range(10):
                store.set_settings("queue/mail", {f"key{number}": turn}, by=None)

        in_threads(4, change)
        left = store.set_settings("queue/mail", {}, by=None)
        assert left == {f"key{number}": 9 for number in range(4)}


class RemovalConformance(Conformance):
    """Rows are deleted by their ids, where they still fit."""

    def test_the_store_itself_never_removes_what_runs(self, store: Store) -> None:
        job_id = put_one(store)
        claim_one(store, mark=1)
        assert store.remove([job_id], list(State)) == 0
        assert store.remove([], list(State)) == store.remove([job_id], []) == 0
        assert store.remove([new_id(), "no name at all"], list(State)) == 0
        assert fetch(store, job_id).state is State.PROCESSING

    def test_what_is_removed_is_not_claimed(self, store: Store) -> None:
        gone, left = put_one(store), put_one(store)
        assert store.remove([gone], [State.PENDING]) == 1
        assert store.due_count(KINDS, 10) == len(store.probe().lanes) == 1
        assert claim(store, ids=[gone]) == []
        assert claimed_ids(claim(store)) == [left]
        assert store.cancel(gone) is None

    def test_what_ran_again_meanwhile_is_kept(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        """The age is looked at once more where the row is deleted."""
        job_id = put_one(store)
        store.settle([completed(claim_one(store))])
        manual_clock.advance(10)
        assert store.remove([job_id], [State.COMPLETED], ended_for_seconds=11) == 0
        assert store.remove([job_id], [State.FAILED], ended_for_seconds=0) == 0
        assert store.remove([job_id], [State.COMPLETED], ended_for_seconds=10) == 1


class RevivalConformance(Conformance):
    """Rows are put back to pending, where they still fit."""

    def test_a_revival_changes_only_what_it_found(self, store: Store) -> None:
        job_id = failed_job(store)
        found = Revival(fetch(store, job_id), 0.0)
        assert store.revive([found]) == 1
        assert store.revive([found]) == 0
        taken = claim_one(store, mark=1)
        assert store.revive([found, Revival(fetch(store, job_id), 0.0)]) == 0
        store.settle([failed(taken)])
        assert store.revive([found]) == 0, "another failure than the one that was looked at"
        assert fetch(store, job_id).state is State.FAILED

    def test_a_late_result_of_the_old_attempt_is_refused(self, store: Store) -> None:
        job_id = put_one(store)
        old = claim_one(store, mark=1)
        store.settle([failed(old)])
        store.revive([Revival(fetch(store, job_id), 0.0)])
        assert store.settle([completed(old)]) == {job_id}
        new = claim_one(store)
        assert new.fence == old.fence + 1
        assert store.settle([completed(old)]) == {job_id}
        assert store.settle([completed(new)]) == frozenset()

    def test_a_listing_goes_both_ways(self, store: Store) -> None:
        ids = sorted(put(store, *(new_job() for _ in range(5))))
        assert all_ids(store) == ids[::-1]
        assert all_ids(store, JobFilter(after_id="")) == ids
        assert all_ids(store, JobFilter(after_id=ids[1])) == ids[2:]
        between = JobFilter(after_id=ids[0], before_id=ids[4])
        assert [job.id for job in store.list(between, 2)] == ids[1:3]
        assert store.find(JobFilter(error="\x00"), 5) == []
