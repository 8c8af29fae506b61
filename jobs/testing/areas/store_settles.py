"""Settles and touches: only what is still held can be written."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from jobs.core.clock import Clock, ManualClock
from jobs.core.job import Claimed, State
from jobs.core.store import Capability, Standing, Store, Touch, Verdict
from jobs.testing.areas.base import (
    LEASE_SECONDS,
    Conformance,
    MakeStore,
    claim,
    claim_one,
    completed,
    failed,
    fetch,
    new_job,
    pending,
    put,
    put_one,
    requires,
)
from jobs.testing.areas.store_rows import ODD_TEXT


class SettleConformance(Conformance):
    """Fenced writes, and what each of them leaves behind."""

    def test_a_completed_job(self, store: Store, manual_clock: ManualClock) -> None:
        job_id = put_one(store)
        taken = claim_one(store, mark=1)
        began = manual_clock.now()
        manual_clock.advance(2)
        verdict = completed(
            taken,
            result='{"n":1}',
            duration_ms=1999.5,
            keep_seconds=60.0,
            progress=100.0,
            progress_note="all done",
        )
        assert store.settle([verdict]) == frozenset()
        found = fetch(store, job_id)
        assert (found.state, found.result, found.error) == (State.COMPLETED, {"n": 1}, None)
        assert (found.started_at, found.finished_at) == (began, manual_clock.now())
        assert found.keep_until == manual_clock.now() + timedelta(seconds=60)
        assert (found.progress, found.progress_note) == (100.0, "all done")
        assert (found.duration_ms, found.lease_until) == (1999.5, None)
        assert (found.attempts, found.fence) == (1, 1)

    @pytest.mark.parametrize(
        "texts",
        [
            ["same", "same", "same"],
            [None, None, None],
            ["null", "NULL", None],
            ["", ",", "{}"],
            ["1,2", "3", "4"],
            ["7a", "8b", "9"],
            [ODD_TEXT, '"', "\\"],
        ],
    )
    @pytest.mark.parametrize("number", [None, 0.1, 1e-7])
    def test_a_batch_of_many_ends(
        self, store: Store, texts: list[str | None], number: float | None
    ) -> None:
        """What differs between the verdicts of one settle and what does not, all as given."""
        put(store, *(new_job() for _ in texts))
        taken = claim(store)
        numbers = [number, 2.5, number]
        verdicts = [
            failed(job, error=text, duration_ms=each)
            for job, text, each in zip(taken, texts, numbers, strict=True)
        ]
        assert store.settle(verdicts) == frozenset()
        found = [fetch(store, job.id) for job in taken]
        assert [job.error for job in found] == texts
        assert [job.duration_ms for job in found] == numbers

    def test_one_batch_of_every_end(self, store: Store) -> None:
        put(store, *(new_job() for _ in range(4)))
        done, over, again, back = claim(store)
        late = store.settle(
            [
                completed(done, result='"x"', keep_seconds=5.0),
                failed(over, error="e", errors="[]"),
                pending(again, delay_seconds=60.0, error="later"),
                pending(back._replace(fence=99), attempts_back=1),
            ]
        )
        assert late == {back.id}
        states = [fetch(store, job.id).state for job in (done, over, again, back)]
        assert states == [State.COMPLETED, State.FAILED, State.PENDING, State.PROCESSING]
        assert fetch(store, done.id).keep_until is not None
        assert fetch(store, over.id).keep_until is None
        assert fetch(store, again.id).run_at > again.run_at

    def test_a_failed_job_keeps_its_history(self, store: Store) -> None:
        job_id = put_one(store)
        history = json.dumps([{"attempt": 1, "message": ODD_TEXT}], ensure_ascii=False)
        store.settle([failed(claim_one(store), error=ODD_TEXT, errors=history)])
        found = fetch(store, job_id)
        assert (found.state, found.error, found.keep_until) == (State.FAILED, ODD_TEXT, None)
        assert found.errors == [{"attempt": 1, "message": ODD_TEXT}]

    def test_a_pending_verdict_sets_when_it_is_due_again(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        job_id = put_one(store)
        taken = claim_one(store, mark=1)
        store.settle([pending(taken, delay_seconds=90.0, error="later", keep_seconds=5.0)])
        found = fetch(store, job_id)
        assert found.state is State.PENDING
        assert found.run_at == manual_clock.now() + timedelta(seconds=90)
        assert (found.error, found.attempts) == ("later", 1)
        assert found.started_at is found.finished_at is found.keep_until is None
        assert found.lease_until is None
        assert claim(store) == []
        manual_clock.advance(90)
        again = claim_one(store)
        assert (again.attempt, again.fence) == (2, 2)

    def test_a_release_gives_the_attempt_back_and_leaves_the_time(self, store: Store) -> None:
        job_id = put_one(store)
        before = fetch(store, job_id)
        store.settle([pending(claim_one(store), attempts_back=1)])
        found = fetch(store, job_id)
        assert (found.attempts, found.fence, found.run_at) == (0, 1, before.run_at)
        assert claim_one(store).attempt == 1

    def test_an_error_stays_until_the_job_succeeds(self, store: Store) -> None:
        job_id = put_one(store)
        store.settle([pending(claim_one(store), error="first", errors='[{"attempt":1}]')])
        store.settle([pending(claim_one(store), attempts_back=1)])
        assert fetch(store, job_id).error == "first"
        taken = claim_one(store)
        assert taken.errors is not None
        assert json.loads(taken.errors) == [{"attempt": 1}]
        store.settle([completed(taken)])
        found = fetch(store, job_id)
        assert (found.error, found.errors) == (None, [{"attempt": 1}])

    @pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.PENDING])
    def test_a_stale_fence_changes_nothing(
        self, store: Store, manual_clock: ManualClock, state: State
    ) -> None:
        """The zombie: its lease ran out, another runner holds the row."""
        job_id = put_one(store)
        zombie = claim_one(store)
        manual_clock.advance(LEASE_SECONDS + 1)
        assert store.settle([pending(zombie)], stalled_only=True) == frozenset()
        holder = claim_one(store, mark=1)
        before = fetch(store, job_id)
        verdict = Verdict(
            zombie.id, zombie.fence, state, result='"stale"', error="stale", attempts_back=1
        )
        assert store.settle([verdict]) == {job_id}
        report = store.touch([Touch(zombie.id, zombie.fence, False, 10.0, "stale")])
        assert report.lost == {job_id}
        assert fetch(store, job_id) == before
        assert store.settle([completed(holder, result='"good"')]) == frozenset()
        assert store.settle([verdict]) == {job_id}
        found = fetch(store, job_id)
        assert (found.state, found.result, found.error) == (State.COMPLETED, "good", None)

    def test_a_reclaimed_row_takes_no_late_result(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        job_id = put_one(store)
        zombie = claim_one(store)
        manual_clock.advance(LEASE_SECONDS + 1)
        store.settle([pending(zombie)], stalled_only=True)
        before = fetch(store, job_id)
        assert store.settle([completed(zombie, result='"late"')]) == {job_id}
        assert fetch(store, job_id) == before

    def test_ended_and_unknown_rows_take_nothing(self, store: Store) -> None:
        taken = []
        for verdict in (completed, failed):
            put_one(store)
            taken.append(claim_one(store))
            store.settle([verdict(taken[-1])])
        ids = {job.id for job in taken}
        before = [fetch(store, job_id) for job_id in ids]
        swapped = [failed(taken[0]), completed(taken[1]), Verdict(new_job().id, 1, "completed")]
        assert store.settle(swapped) == {verdict.id for verdict in swapped}
        assert store.settle([]) == frozenset()
        assert [fetch(store, job_id) for job_id in ids] == before

    def test_late_ones_do_not_hold_up_the_others(self, store: Store) -> None:
        put(store, *[new_job() for _ in range(10)])
        taken = claim(store)
        late = taken[::3]
        verdicts = [
            completed(job._replace(fence=job.fence - 1) if job in late else job, result=f'"{n}"')
            for n, job in enumerate(taken)
        ]
        assert store.settle(verdicts) == {job.id for job in late}
        for number, job in enumerate(taken):
            found = fetch(store, job.id)
            assert found.state is (State.PROCESSING if job in late else State.COMPLETED)
            assert found.result == (None if job in late else str(number))

    def test_a_thousand_verdicts_of_every_sort(self, store: Store) -> None:
        store.insert_many(new_job() for _ in range(1000))
        taken = claim(store, 1000)
        sorts: list[Any] = [
            lambda job, n: completed(job, result=f'{{"n":{n}}}', progress=float(n % 100)),
            lambda job, n: failed(job, error=f"e{n} {ODD_TEXT}", errors=f'[{{"n":{n}}}]'),
            lambda job, n: pending(job, delay_seconds=n / 7, error=None),
            lambda job, _: Verdict(job.id, job.fence, State.CANCELLED, error="NULL"),
        ]
        assert (
            store.settle([sorts[n % 4](job, n) for n, job in enumerate(taken)][::-1]) == frozenset()
        )
        for number in (0, 1, 2, 3, 996, 997, 998, 999):
            found = fetch(store, taken[number].id)
            match number % 4:
                case 0:
                    assert (found.result, found.progress) == ({"n": number}, number % 100)
                case 1:
                    assert found.error == f"e{number} {ODD_TEXT}"
                    assert found.errors == [{"n": number}]
                case 2:
                    assert (found.state, found.error) == (State.PENDING, None)
                case _:
                    assert (found.state, found.error) == (State.CANCELLED, "NULL")

    def test_large_results_of_one_flush_are_written(self, store: Store) -> None:
        """More in one go than a database takes in one packet."""
        store.insert_many(new_job() for _ in range(250))
        taken = claim(store, 250)
        big = json.dumps("é" * 45_000, ensure_ascii=False)
        assert store.settle([completed(job, result=big) for job in taken]) == frozenset()
        assert len(fetch(store, taken[-1].id).result) == 45_000

    def test_only_run_out_leases_are_reclaimed(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        job_id = put_one(store)
        taken = claim_one(store)
        assert store.settle([pending(taken)], stalled_only=True) == {job_id}
        manual_clock.advance(LEASE_SECONDS)
        assert store.settle([pending(taken)], stalled_only=True) == {job_id}
        assert not store.probe().stalled
        manual_clock.advance(0.01)
        assert store.probe().stalled
        assert store.settle([pending(taken)], stalled_only=True) == frozenset()

    @requires(Capability.DURABLE)
    def test_a_settle_whose_answer_was_lost_may_be_repeated(self, store: Store) -> None:
        put(store, *[new_job() for _ in range(3)])
        verdicts = [completed(claim(store, 1)[0]) for _ in range(2)]
        verdicts.append(pending(claim(store, 1)[0]))
        assert store.settle(verdicts) == frozenset()
        assert store.settle(verdicts) == frozenset()


class TouchConformance(Conformance):
    """Marks, progress and leases of rows that are held."""

    def test_marks_come_and_go(self, store: Store, manual_clock: ManualClock) -> None:
        job_id = put_one(store)
        taken = claim_one(store)
        manual_clock.advance(1)
        assert store.touch([Touch(taken.id, taken.fence, True)]) == (frozenset(), frozenset())
        assert fetch(store, job_id).started_at == manual_clock.now()
        store.touch([Touch(taken.id, taken.fence)])
        assert fetch(store, job_id).started_at == manual_clock.now()
        store.touch([Touch(taken.id, taken.fence, False)])
        assert fetch(store, job_id).started_at is None
        assert store.touch([]) == (frozenset(), frozenset())

    @pytest.mark.parametrize(
        "note", ["half way", ODD_TEXT, "null", "NULL", "", "😀" * 500], ids=repr
    )
    def test_progress_is_noted(self, store: Store, note: str) -> None:
        job_id = put_one(store)
        taken = claim_one(store)
        store.touch([Touch(taken.id, taken.fence, None, 12.5, note)])
        found = fetch(store, job_id)
        assert (found.progress, found.progress_note or "") == (12.5, note)
        store.touch([Touch(taken.id, taken.fence, None, 50.0)])
        found = fetch(store, job_id)
        assert (found.progress, found.progress_note or "") == (50.0, note)

    def test_leases_are_renewed_on_request_only(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        job_id = put_one(store)
        taken = claim_one(store)
        first = fetch(store, job_id).lease_until
        manual_clock.advance(10)
        store.touch([Touch(taken.id, taken.fence, None, 5.0)])
        assert fetch(store, job_id).lease_until == first
        store.touch([Touch(taken.id, taken.fence)], lease_seconds=LEASE_SECONDS)
        assert fetch(store, job_id).lease_until == manual_clock.now() + timedelta(
            seconds=LEASE_SECONDS
        )

    def test_rows_no_longer_held_are_told(self, store: Store) -> None:
        put(store, *[new_job() for _ in range(4)])
        held, settled, cancelled, stale = claim(store)
        store.settle([completed(settled)])
        store.cancel(cancelled.id)
        touches = [
            Touch(held.id, held.fence, True),
            Touch(settled.id, settled.fence, True),
            Touch(cancelled.id, cancelled.fence, True),
            Touch(stale.id, stale.fence + 1, True),
        ]
        expected = {settled.id, cancelled.id, stale.id}
        assert store.touch(touches).lost == expected
        assert store.touch(touches, lease_seconds=9.0).lost == expected
        assert fetch(store, held.id).started_at is not None
        assert fetch(store, stale.id).started_at is None

    @pytest.mark.parametrize("lease_seconds", [None, 60.0], ids=["plain", "renewing"])
    def test_a_wish_to_cancel_is_told(self, store: Store, lease_seconds: float | None) -> None:
        put(store, *[new_job() for _ in range(2)])
        asked, other = claim(store, mark=2)
        store.cancel(asked.id)
        touches = [Touch(job.id, job.fence, None, 10.0) for job in (asked, other)]
        report = store.touch(touches, lease_seconds=lease_seconds)
        assert report == (frozenset(), frozenset({asked.id}))


class StalledConformance(Conformance):
    """Finding rows whose runner is gone."""

    def test_run_out_leases_are_found_oldest_first(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        expected = []
        for lease_seconds in (30.0, 10.0, 20.0, 500.0):
            put_one(store)
            expected.append((lease_seconds, claim_one(store, lease_seconds=lease_seconds).id))
        assert store.stalled(10) == []
        manual_clock.advance(31)
        assert store.probe().stalled
        assert [job.id for job in store.stalled(10)] == [id_ for _, id_ in sorted(expected)[:3]]
        assert len(store.stalled(2)) == 2

    def test_a_stalled_row_is_told_as_it_was_claimed(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put(store, new_job(payload='{"x":1}', max_attempts=9), new_job("beta"))
        marked, unmarked = claim(store, mark=1)
        manual_clock.advance(LEASE_SECONDS + 1)
        found: list[Claimed] = sorted(store.stalled(10))
        assert found == sorted([marked, unmarked])

    def test_of_certain_ids_only(self, store: Store, manual_clock: ManualClock) -> None:
        put(store, *[new_job() for _ in range(3)])
        first, second, _ = claim(store)
        manual_clock.advance(LEASE_SECONDS + 1)
        assert [job.id for job in store.stalled(10, [second.id])] == [second.id]
        asked = [first.id, second.id, new_job().id, "no name \0"]
        assert sorted(job.id for job in store.stalled(10, asked)) == sorted([first.id, second.id])
        assert len(store.stalled(1, asked)) == 1
        assert store.stalled(10, []) == []

    def test_one_among_many_that_are_not(self, store: Store, manual_clock: ManualClock) -> None:
        """A reclaim must not starve behind rows that it may not touch."""
        (lost,) = put(store, new_job("beta"))
        claim_one(store, lease_seconds=5.0)
        store.insert_many(new_job() for _ in range(self.running_rows))
        held = claim(store, self.running_rows, lease_seconds=500.0)
        assert len(held) == self.running_rows
        manual_clock.advance(10)
        assert [job.id for job in store.stalled(5)] == [lost]

    running_rows = 1_000


class StandingConformance(Conformance):
    """How rows stand, for somebody who was told their ids."""

    def test_every_state_is_told(self, store: Store, manual_clock: ManualClock) -> None:
        done = put_one(store)
        store.settle([completed(claim_one(store))])
        held = put_one(store, queue="busy")
        claim_one(store)
        later, due = put(store, new_job(delay_seconds=90.0), new_job("beta"))
        manual_clock.advance(30)
        found = store.standing([done, held, later, due])
        assert found == {
            done: Standing(done, "alpha", "default", State.COMPLETED, 0.0, None),
            held: Standing(held, "alpha", "busy", State.PROCESSING, 0.0, LEASE_SECONDS - 30),
            later: Standing(later, "alpha", "default", State.PENDING, 60.0, None),
            due: Standing(due, "beta", "default", State.PENDING, 0.0, None),
        }
        assert not any(standing.is_stalled for standing in found.values())
        manual_clock.advance(LEASE_SECONDS)
        assert store.standing([held])[held].is_stalled

    def test_ids_without_a_row_are_left_out(self, store: Store) -> None:
        job_id = put_one(store)
        odd = ["", "\0", "\ud800", "é", "x" * 5000, new_job().id]
        assert store.standing([*odd, job_id, job_id]).keys() == {job_id}
        assert store.standing(odd) == {}
        assert store.standing([]) == {}

    @requires(Capability.SHARED)
    def test_rows_of_other_namespaces_are_not_seen(
        self, store: Store, make_store: MakeStore, clock: Clock
    ) -> None:
        job_id = put_one(store)
        assert make_store(clock, "preview").standing([job_id]) == {}

    def test_on_the_own_clock(self, store: Store) -> None:
        later, held = put(store, new_job(delay_seconds=600.0), new_job())
        claim(store)
        found = store.standing([later, held])
        assert 500 < found[later].due_in_seconds <= 600
        left = found[held].lease_left_seconds
        assert left is not None
        assert 0 < left <= LEASE_SECONDS + 1
