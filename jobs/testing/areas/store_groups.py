"""What follows a job, the state it goes on from, and the ends of groups: in one write with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import pytest

from jobs.core.clock import Clock, ManualClock
from jobs.core.group import GROUP_CHECK_SECONDS, GROUP_KEEP_SECONDS, NewGroup
from jobs.core.ids import new_id
from jobs.core.job import NewJob, State
from jobs.core.store import Capability, JobFilter, Store, Touch, Verdict
from jobs.testing.areas.base import (
    LEASE_SECONDS,
    Conformance,
    MakeStore,
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

DAY_SECONDS = 86_400.0


def jobs_of(store: Store, kind: str) -> list[str]:
    """The ids of all jobs of a kind."""
    return [job.id for job in store.list(JobFilter(kind=kind), 1000)]


def _settle_one(work: Sequence[tuple[Store, Verdict]], number: int) -> int:
    store, verdict = work[number]
    return len(store.settle_more([verdict]).late)


class FollowConformance(Conformance):
    """Jobs that are inserted if and only if a verdict is written."""

    def test_what_follows_is_written_with_the_verdict(self, store: Store) -> None:
        put_one(store)
        taken = claim_one(store)
        follow = tuple(new_job("beta", payload=json.dumps({"n": n}), chain="[]") for n in range(7))
        settled = store.settle_more([completed(taken, result='"x"', follow=follow)])
        assert settled == (frozenset(), follow)
        assert fetch(store, taken.id).result == "x"
        assert sorted(jobs_of(store, "beta")) == sorted(job.id for job in follow)
        assert fetch(store, follow[3].id).payload == {"n": 3}

    def test_nothing_follows_what_came_late(self, store: Store, manual_clock: ManualClock) -> None:
        put_one(store)
        old = claim_one(store, lease_seconds=1.0)
        manual_clock.advance(2)
        store.settle([pending(old)], stalled_only=True)
        new = claim_one(store)
        settled = store.settle_more([completed(old, follow=(new_job("beta"),))])
        assert settled == (frozenset({old.id}), ())
        store.cancel(new.id)
        settled = store.settle_more([completed(new, follow=(new_job("beta"),))])
        assert settled.late == {new.id}
        gone = completed(new._replace(id=new_id()), follow=(new_job("beta"),))
        assert store.settle_more([gone]).late == {gone.id}
        assert jobs_of(store, "beta") == []

    def test_a_batch_of_both(self, store: Store) -> None:
        for _ in range(4):
            put_one(store)
        taken = claim(store)
        verdicts = [completed(job, follow=(new_job("beta"),)) for job in taken]
        verdicts[1] = verdicts[1]._replace(fence=99)
        settled = store.settle_more(verdicts)
        assert settled.late == {taken[1].id}
        assert len(settled.inserted) == 3
        assert sorted(jobs_of(store, "beta")) == sorted(job.id for job in settled.inserted)

    @requires(Capability.DURABLE)
    def test_a_repeated_write_inserts_nothing_again(self, store: Store) -> None:
        """Its answer was lost, and it comes again together with a new one."""
        for _ in range(2):
            put_one(store)
        first, second = (completed(job, follow=(new_job("beta"),)) for job in claim(store))
        store.settle_more([first])
        settled = store.settle_more([first, second])
        assert settled == (frozenset(), second.follow)
        assert len(jobs_of(store, "beta")) == 2

    def test_a_steps_lease_must_have_run_out(self, store: Store, manual_clock: ManualClock) -> None:
        put_one(store)
        verdict = failed(claim_one(store), follow=(new_job("beta"),))
        assert store.settle_more([verdict], stalled_only=True).late == {verdict.id}
        assert jobs_of(store, "beta") == []
        manual_clock.advance(LEASE_SECONDS + 1)
        assert store.settle_more([verdict], stalled_only=True) == (frozenset(), verdict.follow)

    @requires(Capability.TRANSACTIONS)
    def test_in_a_handlers_transaction(self, store: Store) -> None:
        put_one(store)
        taken = claim_one(store)
        follow = (new_job("beta"),)

        def undo() -> None:
            with store.transaction() as transaction:
                assert transaction.settle(completed(taken, follow=follow))
                raise RuntimeError

        with pytest.raises(RuntimeError):
            undo()
        assert jobs_of(store, "beta") == []
        with store.transaction() as transaction:
            assert transaction.settle(completed(taken, follow=follow))
        assert transaction.inserted == follow
        assert jobs_of(store, "beta") == [follow[0].id]

    @requires(Capability.SHARED)
    def test_two_settles_at_once(self, store: Store, make_store: MakeStore, clock: Clock) -> None:
        """A runner and a reclaim with the same fence: one of them is late."""
        other = make_store(clock)
        for _ in range(8):
            put_one(store)
            taken = claim_one(store)
            verdicts = [completed(taken, follow=(new_job("beta"),)), failed(taken)]
            late = in_threads(2, partial(_settle_one, [(store, verdicts[0]), (other, verdicts[1])]))
            assert sorted(late) == [0, 1]
            assert len(jobs_of(store, "beta")) == (fetch(store, taken.id).state == "completed")
            store.clear()
        other.close()


class CursorConformance(Conformance):
    """The state that a long job goes on from, and how often and for how long it may."""

    def test_a_cursor_is_kept_over_attempts(self, store: Store, manual_clock: ManualClock) -> None:
        job_id = put_one(store)
        taken = claim_one(store)
        assert taken.cursor is None
        store.touch([Touch(taken.id, taken.fence, cursor='{"page":3}')])
        store.touch([Touch(taken.id, taken.fence, progress=5.0)], lease_seconds=LEASE_SECONDS)
        assert fetch(store, job_id).cursor == {"page": 3}
        manual_clock.advance(LEASE_SECONDS + 1)
        (stalled,) = store.stalled(1)
        assert stalled.cursor == '{"page":3}'
        store.settle([pending(stalled)], stalled_only=True)
        again = claim_one(store)
        assert (again.cursor, again.continues) == ('{"page":3}', 0)
        assert store.touch([Touch(again.id, 1, cursor='"late"')]).lost == {job_id}
        store.settle([completed(again)])
        assert fetch(store, job_id).cursor == {"page": 3}

    def test_touches_with_and_without(self, store: Store) -> None:
        for _ in range(3):
            put_one(store)
        taken = claim(store)
        store.touch(
            [
                Touch(job.id, job.fence, progress=float(n), cursor=None if n == 1 else f'"é{n}"')
                for n, job in enumerate(taken)
            ],
            lease_seconds=LEASE_SECONDS,
        )
        found = [fetch(store, job.id) for job in taken]
        assert [job.cursor for job in found] == ["é0", None, "é2"]
        assert [job.progress for job in found] == [0.0, 1.0, 2.0]

    def test_being_put_off_is_counted(self, store: Store) -> None:
        for _ in range(3):
            put_one(store)
        first, second, third = claim(store)
        put_off = {"attempts_back": 1, "continue_within_seconds": DAY_SECONDS}
        verdicts = [
            pending(first, cursor="[1]", **put_off),
            pending(second, **put_off),
            pending(third),
        ]
        assert store.settle(verdicts) == frozenset()
        found = [fetch(store, job.id) for job in (first, second, third)]
        assert [(job.cursor, job.continues) for job in found] == [([1], 1), (None, 1), (None, 0)]
        again = {job.id: job for job in claim(store)}
        assert (again[first.id].cursor, again[first.id].continues) == ("[1]", 1)
        store.settle([pending(again[first.id], **put_off)])
        assert (fetch(store, first.id).cursor, fetch(store, first.id).continues) == ([1], 2)

    def test_but_not_for_ever(self, store: Store, manual_clock: ManualClock) -> None:
        put_one(store)
        manual_clock.advance(DAY_SECONDS - 1)
        verdict = pending(claim_one(store), continue_within_seconds=DAY_SECONDS)
        assert store.settle([verdict]) == frozenset()
        manual_clock.advance(1)
        put_one(store)
        old, new = claim(store)
        verdicts = [
            pending(old, continue_within_seconds=DAY_SECONDS, cursor="1"),
            pending(new, continue_within_seconds=DAY_SECONDS, cursor="1"),
        ]
        assert store.settle(verdicts) == {old.id}
        found = fetch(store, old.id)
        assert (found.state, found.continues, found.cursor) == (State.PROCESSING, 1, None)
        assert fetch(store, new.id).state is State.PENDING


def new_group(**fields: str | None) -> NewGroup:
    """A group with a callback of each sort."""
    steps = {name: json.dumps({"kind": name, "payload": {"x": 1}}) for name in CALLBACKS}
    return NewGroup(new_id(), **{**steps, **fields})  # type: ignore[arg-type]


CALLBACKS = ("on_success", "on_failure", "on_done")


def member(group: NewGroup, kind: str = "alpha", **fields: object) -> NewJob:
    return new_job(kind, group_id=group.id, **fields)


def called(store: Store) -> list[str]:
    """The kinds of the callbacks that were enqueued, each as often as it was."""
    return sorted(name for name in CALLBACKS for _ in jobs_of(store, name))


class GroupConformance(Conformance):
    """A group ends once, with its last job, whatever its jobs end as."""

    def test_the_last_job_ends_it(self, store: Store) -> None:
        group = new_group(name="nightly", tenant="org1")
        assert store.insert_group(group, [member(group), member(group)]) == []
        first, second = claim(store)
        assert first.group_id == group.id
        settled = store.settle_more([completed(first, group_id=group.id)])
        assert settled == (frozenset(), ())
        found = store.group(group.id)
        assert found is not None
        assert (found.state, found.name, found.tenant) == ("open", "nightly", "org1")
        assert (found.counts, found.unfinished) == ({"completed": 1, "processing": 1}, 1)
        settled = store.settle_more([completed(second, group_id=group.id)])
        assert [job.kind for job in settled.inserted] == ["on_success", "on_done"]
        assert called(store) == ["on_done", "on_success"]
        told = fetch(store, jobs_of(store, "on_done")[0])
        counts = {"completed": 2, "failed": 0, "cancelled": 0}
        group_told = {"id": group.id, "name": "nightly", "state": "completed", **counts}
        assert told.payload == {"x": 1, "group": group_told}
        found = store.group(group.id)
        assert found is not None
        assert (found.state, found.total, found.unfinished) == ("completed", 2, 0)
        assert found.finished_at is not None

    @pytest.mark.parametrize("end", [State.FAILED, State.CANCELLED])
    def test_one_that_did_not_complete_fails_it(self, store: Store, end: State) -> None:
        group = new_group()
        store.insert_group(group, [member(group), member(group)])
        bad, good = claim(store)
        bad_end = completed(bad, group_id=group.id)._replace(state=end)
        assert store.settle_more([bad_end]).inserted == ()
        store.settle_more([completed(good, group_id=group.id)])
        assert called(store) == ["on_done", "on_failure"]

    def test_all_in_one_settle(self, store: Store) -> None:
        groups = [new_group() for _ in range(3)]
        for group in groups:
            store.insert_group(group, [member(group), member(group)])
        verdicts = [completed(job, group_id=job.group_id) for job in claim(store)]
        assert len(store.settle_more(verdicts).inserted) == 6
        assert called(store) == ["on_done"] * 3 + ["on_success"] * 3

    def test_what_goes_back_to_waiting_does_not_end_it(self, store: Store) -> None:
        group = new_group()
        store.insert_group(group, [member(group)])
        store.settle_more([pending(claim_one(store), group_id=group.id)])
        assert called(store) == []
        taken = claim_one(store, mark=1)
        store.cancel(taken.id)
        store.settle_more([pending(taken, group_id=group.id)])  # which is then cancelled
        assert called(store) == ["on_done", "on_failure"]

    def test_what_follows_is_waited_for(self, store: Store) -> None:
        group = new_group()
        store.insert_group(group, [member(group)])
        taken = claim_one(store)
        follow = (member(group, "beta"),)
        settled = store.settle_more([completed(taken, group_id=group.id, follow=follow)])
        assert settled.inserted == follow
        assert called(store) == []
        store.settle_more([completed(claim_one(store), group_id=group.id)])
        assert called(store) == ["on_done", "on_success"]

    def test_a_group_of_no_jobs_ends_at_once(self, store: Store) -> None:
        group = new_group(on_success=None)
        (done,) = store.insert_group(group, [])
        assert called(store) == ["on_done"]
        assert jobs_of(store, "on_done") == [done.id]

    def test_it_ends_once(self, store: Store) -> None:
        """Whatever becomes of its jobs later."""
        group = new_group()
        store.insert_group(group, [member(group)])
        store.settle_more([failed(claim_one(store), group_id=group.id)])
        store.insert([member(group)])
        store.settle_more([completed(claim_one(store), group_id=group.id)])
        assert store.check_groups(10, [group.id, new_id()]) == []
        assert called(store) == ["on_done", "on_failure"]
        found = store.group(group.id)
        assert found is not None
        assert found.state == "failed"

    def test_nobody_told_of_the_end(self, store: Store, manual_clock: ManualClock) -> None:
        """Cancelled by a statement of somebody's own, or by a runner that died after it."""
        group = new_group()
        store.insert_group(group, [member(group), member(group)])
        store.cancel(claim_one(store, limit=1).id)
        assert store.check_groups(10) == []
        store.cancel(claim_one(store).id)
        assert called(store) == []
        assert not store.probe().groups
        manual_clock.advance(GROUP_CHECK_SECONDS)
        assert store.probe().groups
        assert [job.kind for job in store.check_groups(10)] == ["on_failure", "on_done"]
        assert not store.probe().groups
        assert called(store) == ["on_done", "on_failure"]

    def test_an_open_group_is_looked_at_again(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        group = new_group()
        store.insert_group(group, [member(group)])
        manual_clock.advance(GROUP_CHECK_SECONDS)
        assert store.check_groups(10) == []
        assert not store.probe().groups
        manual_clock.advance(GROUP_CHECK_SECONDS)
        assert store.probe().groups

    def test_the_sweep_is_bounded(self, store: Store, manual_clock: ManualClock) -> None:
        for _ in range(3):
            group = new_group()
            store.insert_group(group, [member(group)])
            store.cancel(claim_one(store).id)
        manual_clock.advance(GROUP_CHECK_SECONDS)
        assert len(store.check_groups(2)) == 4
        assert len(store.check_groups(2)) == 2
        assert store.check_groups(2) == []

    def test_one_that_ended_long_ago_is_forgotten(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        group = new_group()
        store.insert_group(group, [])
        manual_clock.advance(GROUP_KEEP_SECONDS - 1)
        assert not store.probe().groups
        manual_clock.advance(1)
        assert store.check_groups(10) == []
        assert store.group(group.id) is None
        assert not store.probe().groups

    def test_its_rows_stay_until_it_ends(self, store: Store, manual_clock: ManualClock) -> None:
        group = new_group()
        store.insert_group(group, [member(group), member(group)])
        first, second = claim(store)
        store.settle_more([completed(first, group_id=group.id, keep_seconds=1.0)])
        manual_clock.advance(5)
        assert not store.probe().outstayed
        assert store.purge(10) == 0
        assert store.trim("alpha", State.COMPLETED, 0, 10) == 0
        store.settle_more([completed(second, group_id=group.id, keep_seconds=60.0)])
        assert store.probe().outstayed
        assert store.purge(10) == 1
        assert store.trim("alpha", State.COMPLETED, 0, 10) == 1

    def test_clear_takes_them_along(self, store: Store, manual_clock: ManualClock) -> None:
        group = new_group()
        store.insert_group(group, [member(group)])
        assert store.clear() == 1
        manual_clock.advance(GROUP_CHECK_SECONDS)
        assert store.check_groups(10) == []
        assert called(store) == []

    @pytest.mark.parametrize("count", [2, 8])
    @requires(Capability.SHARED)
    def test_the_last_ones_end_at_once(
        self, store: Store, make_store: MakeStore, clock: Clock, count: int
    ) -> None:
        others = [make_store(clock) for _ in range(count)]
        for _ in range(5):
            group = new_group()
            store.insert_group(group, [member(group) for _ in range(count)])
            taken = claim(store)
            assert len(taken) == count
            verdicts = [completed(job, group_id=group.id) for job in taken]
            assert (
                in_threads(count, partial(_settle_one, list(zip(others, verdicts, strict=True))))
                == [0] * count
            )
            assert called(store) == ["on_done", "on_success"]
            store.clear()
        for each in others:
            each.close()

    @requires(Capability.SHARED)
    def test_ends_and_sweeps_at_once(
        self, store: Store, make_store: MakeStore, manual_clock: ManualClock
    ) -> None:
        others = [make_store(manual_clock) for _ in range(4)]
        for _ in range(5):
            group = new_group()
            store.insert_group(group, [member(group)])
            taken = claim_one(store)
            manual_clock.advance(GROUP_CHECK_SECONDS)
            verdict = completed(taken, group_id=group.id)

            def work(number: int, verdict: Verdict = verdict) -> None:
                if number % 2:
                    others[number].check_groups(10)
                else:
                    others[number].settle_more([verdict])

            in_threads(4, work)
            assert called(store) == ["on_done", "on_success"]
            store.clear()
        for each in others:
            each.close()

    @requires(Capability.SHARED)
    def test_other_namespaces_do_not_see_it(
        self, store: Store, make_store: MakeStore, manual_clock: ManualClock
    ) -> None:
        other = make_store(manual_clock, "preview")
        group = new_group()
        store.insert_group(group, [member(group)])
        store.cancel(claim_one(store).id)
        manual_clock.advance(GROUP_CHECK_SECONDS + timedelta(days=1).total_seconds())
        assert other.group(group.id) is None
        assert other.check_groups(10, [group.id]) == other.check_groups(10) == []
        assert not other.probe().groups
        other.clear()
        assert len(store.check_groups(10)) == 2
        other.close()

    @requires(Capability.SESSIONS)
    def test_in_a_callers_transaction(self, store: Store) -> None:
        engine = store.engine  # type: ignore[attr-defined]
        kept, undone = new_group(), new_group()
        with engine.begin() as connection:
            assert store.insert_group(kept, [member(kept)], connection) == []
        with engine.connect() as connection, connection.begin() as transaction:
            store.insert_group(undone, [member(undone)], connection)
            transaction.rollback()
        assert store.group(undone.id) is None
        found = store.group(kept.id)
        assert found is not None
        assert found.counts == {"pending": 1}
