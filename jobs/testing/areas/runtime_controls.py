"""Controls: pauses, settings at run time, and what people do to many jobs at once."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from jobs.core.clock import ManualClock
from jobs.core.context import JobContext
from jobs.core.deadline import tick_budget
from jobs.core.errors import ConfigurationError, JobNotFound, JobStateConflict
from jobs.core.ids import new_id
from jobs.core.job import TERMINAL, State
from jobs.core.store import JobFilter, Store
from jobs.runtime.deliver import Delivery
from jobs.system import Tickwork
from jobs.testing.areas.base import (
    LEASE_SECONDS,
    Conformance,
    MakeTickwork,
    claim,
    claim_one,
    claimed_ids,
    completed,
    failed,
    fetch,
    in_threads,
    put,
)
from jobs.testing.areas.store_controls import all_ids, failed_job, new_job, put_one
from jobs.testing.drain import drain

DAY_SECONDS = 86_400.0


class PauseConformance(Conformance):
    """What is paused is not claimed, however one claims; everything else goes on."""

    def test_ticks_start_nothing_while_paused_and_reclaim_goes_on(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        ran = []
        tickwork.register_handler("alpha", lambda payload, ctx: ran.append(ctx.job_id))
        lost = tickwork.enqueue("alpha")
        claim(store, mark=1)
        old = tickwork.enqueue("alpha")
        tickwork.tick()
        tickwork.pause("all", by="ada", because="deploy")
        jobs = [tickwork.enqueue("alpha") for _ in range(5)]
        manual_clock.advance(LEASE_SECONDS + 1)
        result = tickwork.tick()
        assert (result.reclaimed, result.processed, result.remaining) == (1, 0, 0)
        assert fetch(tickwork, lost.id).state is State.PENDING
        manual_clock.advance(3600)
        assert [each.processed for each in tickwork.drain()] == [0]
        assert ran == [old.id]
        assert tickwork.resume("all")
        drain(tickwork)
        assert sorted(ran) == sorted([lost.id, old.id, *(job.id for job in jobs)])

    def test_a_message_of_a_paused_job_is_kept(self, tickwork: Tickwork) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        job = tickwork.enqueue("alpha", queue="mail")
        tickwork.pause("mail")
        now = tickwork.clock.monotonic()
        budget = tick_budget(now, now, 25.0, 60.0)
        fate = tickwork.deliver([Delivery(1, job.id)], budget)[1]
        assert (fate.keep, fate.reason) == (True, "paused")
        tickwork.resume("mail")
        assert tickwork.deliver([Delivery(2, job.id)], budget)[2].reason == "completed"

    def test_retention_goes_on_while_paused(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        job = tickwork.enqueue("alpha")
        tickwork.tick()
        tickwork.pause("all")
        manual_clock.advance(DAY_SECONDS)
        tickwork.tick()
        assert tickwork.get(job.id) is None

    def test_a_pause_holds_from_the_next_tick_on(self, tickwork: Tickwork) -> None:
        """Ticks in several threads; after the pause has returned no tick that begins starts any."""
        started: list[str] = []
        paused = threading.Event()
        begun_after: list[int] = []
        tickwork.register_handler("alpha", lambda payload, ctx: started.append(ctx.job_id))
        tickwork.enqueue_many([("alpha", {})] * 60)

        def run(number: int) -> None:
            if number == 0:
                tickwork.pause(kind="alpha")
                paused.set()
                return
            for _ in range(30):
                after = paused.is_set()
                result = tickwork.tick(limit=1)
                if after:
                    begun_after.append(result.processed)

        in_threads(3, run)
        assert not any(begun_after)
        assert not tickwork.tick().processed
        tickwork.resume(kind="alpha")
        drain(tickwork)
        assert len(started) == len(set(started)) == 60

    def test_a_subject_is_a_queue_or_a_kind(self, tickwork: Tickwork) -> None:
        for wrong in ({}, {"queue": "a", "kind": "b"}, {"queue": "stats"}, {"kind": "a b"}):
            with pytest.raises(ConfigurationError):
                tickwork.pause(**wrong)
        with pytest.raises(ConfigurationError, match="because is text"):
            tickwork.pause("mail", because="x" * 501)
        assert tickwork.controls() == []


class SettingsConformance(Conformance):
    """Settings of queues: in code, and at run time over it."""

    def test_a_kind_goes_before_its_queue_and_run_time_before_both(
        self, make_tickwork: MakeTickwork
    ) -> None:
        tickwork = make_tickwork(max_attempts=7)
        tickwork.queue("mail", max_attempts=5, priority=2, timeout=20)
        tickwork.queue("mail", timeout=30)
        tickwork.register_handler("alpha", lambda payload: None, queue="mail", max_attempts=4)
        tickwork.register_handler("beta", lambda payload: None, queue="mail")
        tickwork.register_handler("gamma", lambda payload: None)

        def said(kind: str, **options: Any) -> tuple[int, int]:
            job = tickwork.enqueue(kind, **options)
            return (job.max_attempts, job.priority)

        assert said("alpha") == (4, 2)
        assert said("beta") == (5, 2)
        assert said("gamma") == (7, 3)
        assert said("gamma", queue="mail") == (5, 2)
        assert said("beta", max_attempts=1, priority=5) == (1, 5)
        tickwork.set_queue("mail", max_attempts=9, by="ada")
        assert said("alpha") == (9, 2)
        assert said("beta", max_attempts=1) == (1, 2)
        assert said("gamma") == (7, 3)
        assert tickwork.set_queue("mail", max_attempts=None).said() == {}
        assert said("alpha") == (4, 2)

    def test_another_process_learns_with_its_next_tick(self, make_tickwork: MakeTickwork) -> None:
        here, elsewhere = make_tickwork(), make_tickwork()
        here.set_queue("default", max_attempts=9, by="ada")
        assert elsewhere.enqueue("alpha").max_attempts == 3
        elsewhere.tick()
        assert elsewhere.enqueue("alpha").max_attempts == 9
        here.set_queue("default", max_attempts=None)
        elsewhere.tick()
        assert elsewhere.enqueue("alpha").max_attempts == 3

    def test_a_consumer_of_messages_learns_now_and_then(
        self, make_tickwork: MakeTickwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here, consumer = make_tickwork(), make_tickwork()

        def deliver() -> int:
            now = consumer.clock.monotonic()
            job = consumer.enqueue("alpha")
            consumer.deliver([Delivery(1, job.id)], tick_budget(now, now, 25.0, 60.0))
            return consumer.enqueue("alpha").max_attempts

        consumer.register_handler("alpha", lambda payload: None)
        here.set_queue("default", max_attempts=8)
        assert deliver() == 8
        here.set_queue("default", max_attempts=9)
        monkeypatch.setattr("jobs.runtime.terms.LEARN_AGAIN_SECONDS", 3600.0)
        assert deliver() == 8
        monkeypatch.setattr("jobs.runtime.terms.LEARN_AGAIN_SECONDS", 0.0)
        assert deliver() == 9

    def test_backoff_and_retention_of_a_queue_hold_where_it_runs(
        self, tickwork: Tickwork, manual_clock: ManualClock
    ) -> None:
        tickwork.queue("mail", backoff={"type": "fixed", "delay": 40_000}, remove_on_fail=True)
        tickwork.queue("mail", remove_on_complete={"age": 5})

        @tickwork.handler("alpha", max_attempts=2)
        def alpha(payload: dict[str, Any]) -> None:
            if payload.get("fail"):
                raise ValueError("boom")

        bad = tickwork.enqueue("alpha", {"fail": 1}, queue="mail")
        good = tickwork.enqueue("alpha", queue="mail")
        other = tickwork.enqueue("alpha")
        tickwork.tick()
        now = manual_clock.now()
        assert fetch(tickwork, bad.id).run_at == now + timedelta(seconds=40)
        assert fetch(tickwork, good.id).keep_until == now + timedelta(seconds=5)
        assert fetch(tickwork, other.id).keep_until == now + timedelta(days=1)
        tickwork.set_queue("mail", backoff=[7], remove_on_fail=60)
        manual_clock.advance(40)
        tickwork.tick()
        assert fetch(tickwork, bad.id).keep_until == manual_clock.now() + timedelta(seconds=60)

    def test_the_timeout_of_a_queue_ends_a_job(
        self, tickwork: Tickwork, gate: threading.Event
    ) -> None:
        tickwork.register_handler("alpha", lambda payload: gate.wait(60), max_attempts=1)
        tickwork.set_queue("mail", timeout=0.2)
        job = tickwork.enqueue("alpha", queue="mail")
        tickwork.tick()
        ended = fetch(tickwork, job.id)
        assert ended.state is State.FAILED
        assert "its timeout is 0.2 s" in str(ended.error)

    def test_what_a_hand_wrote_stops_no_tick(self, tickwork: Tickwork, store: Store) -> None:
        tickwork.register_handler("alpha", lambda payload: None)
        nonsense: dict[str, Any] = {"timeout": "soon", "colour": "red", "max_attempts": 5}
        store.set_settings("queue/default", nonsense, by=None)
        tickwork.enqueue("alpha")
        assert tickwork.tick().succeeded == 1
        assert tickwork.enqueue("alpha").max_attempts == 5

    def test_a_wrong_setting_is_refused(self, tickwork: Tickwork) -> None:
        for wrong in ({"timeout": 0}, {"max_attempts": 0}, {"colour": 1}, {"rate_limit": "fast"}):
            with pytest.raises(ConfigurationError):
                tickwork.set_queue("mail", **wrong)
            with pytest.raises(ConfigurationError):
                tickwork.queue("mail", **wrong)
        with pytest.raises(ConfigurationError):
            tickwork.set_queue("all", timeout=5)
        assert tickwork.controls() == []


class CleaningConformance(Conformance):
    """Removing: ended jobs by when they ended, waiting ones by queue, never what runs."""

    def test_ended_jobs_go_by_when_they_ended(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        put(store, *(new_job() for _ in range(4)))
        first, second, third, running = claim(store, mark=4, lease_seconds=1e6)
        store.settle([completed(first), failed(second)])
        manual_clock.advance(100)
        store.settle([completed(third)])
        waiting = put_one(store)
        assert tickwork.clean(101, 0, "completed") == 0
        assert tickwork.clean(100, 0, "completed") == 1
        assert tickwork.clean(timedelta(0), 0, State.COMPLETED) == 1
        assert sorted(all_ids(store)) == sorted([second.id, running.id, waiting])
        assert tickwork.clean(100, 0, "failed") == 1
        assert tickwork.clean(0, 0, "cancelled") == 0

    def test_no_more_are_cleaned_than_was_said(self, tickwork: Tickwork, store: Store) -> None:
        put(store, *(new_job() for _ in range(7)))
        store.settle([completed(job) for job in claim(store)])
        assert [tickwork.clean(0, 3) for _ in range(4)] == [3, 3, 1, 0]

    def test_of_one_kind_or_queue_alone(self, tickwork: Tickwork, store: Store) -> None:
        for kind, queue in (("alpha", "mail"), ("beta", "mail"), ("alpha", "default")):
            put_one(store, kind, queue=queue)
        store.settle([failed(job) for job in claim(store)])
        assert tickwork.clean(0, 0, "failed", kind="beta", queue="default") == 0
        assert tickwork.clean(0, 0, "failed", kind="beta") == 1
        assert tickwork.clean(0, 0, "failed", queue="mail") == 1
        (left,) = tickwork.dead_letters(9)
        assert (left.kind, left.queue) == ("alpha", "default")

    @pytest.mark.parametrize("state", ["pending", "processing", "waiting"])
    def test_only_ended_jobs_are_cleaned(self, tickwork: Tickwork, state: str) -> None:
        with pytest.raises(ConfigurationError):
            tickwork.clean(0, 0, state)

    def test_a_queue_is_emptied_of_what_waits(self, tickwork: Tickwork, store: Store) -> None:
        running = put_one(store, queue="mail")
        claim(store, mark=1)
        put(store, *(new_job(queue="mail", delay_seconds=n) for n in range(5)))
        put(store, new_job("beta", queue="mail"), new_job(queue="mail", tenant="acme"))
        other = put_one(store, queue="other")
        assert tickwork.empty("mail", kind="beta") == 1
        assert tickwork.empty("mail", tenant="acme") == 1
        assert tickwork.empty("mail") == 5
        assert sorted(all_ids(store)) == sorted([running, other])
        assert tickwork.empty("all") == 1
        assert all_ids(store) == [running]

    def test_many_are_removed_in_batches(
        self, tickwork: Tickwork, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("jobs.runtime.steer.IDS_PER_BATCH", 10)
        store.insert_many([new_job() for _ in range(35)])
        sizes: list[int] = []
        find = store.find

        def noting(where: JobFilter, limit: int) -> list[str]:
            sizes.append(limit)
            return find(where, limit)

        monkeypatch.setattr(store, "find", noting)
        assert tickwork.empty("all") == 35
        assert sizes == [10, 10, 10, 10]
        assert all_ids(store) == []

    def test_one_is_removed_unless_it_runs(self, tickwork: Tickwork, store: Store) -> None:
        waiting, ended, running = (put_one(store) for _ in range(3))
        store.settle([failed(claim_one(store, ids=[ended]))])
        claim_one(store, ids=[running], mark=1)
        assert tickwork.remove(waiting).state is State.PENDING
        assert tickwork.remove(ended).state is State.FAILED
        with pytest.raises(JobStateConflict, match="cancel it"):
            tickwork.remove(running)
        with pytest.raises(JobNotFound):
            tickwork.remove(waiting)
        assert all_ids(store) == [running]

    def test_cleaning_at_age_0_against_ticks(self, tickwork: Tickwork, store: Store) -> None:
        """In a loop, while jobs run and fail and wait again: nothing unfinished ever goes."""
        ran: Counter[str] = Counter()

        @tickwork.handler("alpha", max_attempts=3, backoff=0)
        def alpha(payload: dict[str, Any], ctx: JobContext) -> None:
            ran[ctx.job_id] += 1
            if ctx.attempt < payload["succeeds_at"]:
                raise ValueError("boom")

        jobs = [("alpha", {"succeeds_at": number % 3 + 1}) for number in range(60)]
        ids = tickwork.enqueue_many(jobs)
        over = threading.Event()
        cleaned: list[int] = []

        def run(number: int) -> None:
            if number == 0:
                while not over.is_set():
                    cleaned.append(sum(tickwork.clean(0, 0, state) for state in TERMINAL))
                return
            try:
                tickwork.drain(limit=7)
            finally:
                over.set()

        in_threads(2, run)
        drain(tickwork)
        cleaned.append(tickwork.clean(0, 0, "completed"))
        assert sum(cleaned) == 60
        assert all_ids(store) == []
        assert ran == {job_id: number % 3 + 1 for number, job_id in enumerate(ids)}


class RetryConformance(Conformance):
    """Dead letters and others, put back by hand."""

    def test_a_failed_job_begins_anew(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        outcomes: list[int] = []

        @tickwork.handler("alpha", max_attempts=2, backoff=1)
        def alpha(ctx: JobContext) -> str:
            outcomes.append(ctx.attempt)
            if len(outcomes) < 4:
                raise ValueError(f"boom {len(outcomes)}")
            return "done"

        job = alpha.enqueue()
        drain(tickwork)
        dead = fetch(tickwork, job.id)
        assert (dead.state, dead.attempts, dead.fence) == (State.FAILED, 2, 2)
        assert [each.id for each in tickwork.dead_letters(100)] == [job.id]
        manual_clock.advance(3600)
        again = tickwork.retry(job.id, by="ada")
        assert (again.state, again.attempts, again.max_attempts) == (State.PENDING, 0, 2)
        assert (again.fence, again.run_at) == (2, manual_clock.now())
        assert (again.finished_at, again.keep_until, again.started_at) == (None, None, None)
        assert [entry["type"] for entry in again.errors] == ["ValueError", "ValueError", "Retried"]
        assert again.errors[-1]["message"] == "failed after 2 of 2 attempts; retried by ada"
        manual_clock.advance(3600 * 24 * 30)
        drain(tickwork)
        done = fetch(tickwork, job.id)
        assert (done.state, done.result, done.attempts, done.fence) == (
            *(State.COMPLETED, "done", 2),
            4,
        )
        assert outcomes == [1, 2, 1, 2]
        assert [entry["type"] for entry in done.errors][-1] == "ValueError"

    def test_when_and_how_often_may_be_said(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        job_id = failed_job(store)
        when = manual_clock.now() + timedelta(hours=1)
        again = tickwork.retry(job_id, run_at=when, attempts=9)
        assert (again.run_at, again.max_attempts, again.attempts) == (when, 9, 0)
        assert claim(store) == []
        with pytest.raises(ConfigurationError):
            tickwork.retry(job_id, attempts=0)

    def test_a_pending_one_falls_due(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        delayed = put_one(store, delay_seconds=3600, expires_in_seconds=7200)
        before = fetch(store, delayed)
        now = tickwork.retry(delayed)
        assert (now.run_at, now.attempts, now.errors) == (manual_clock.now(), 0, [])
        assert now.expires_at == before.expires_at
        assert claimed_ids(claim(store)) == [delayed]

    def test_a_due_one_keeps_its_place(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        first, second = put_one(store), put_one(store)
        before = fetch(store, first)
        manual_clock.advance(60)
        assert tickwork.retry(first, attempts=7).run_at == before.run_at
        assert fetch(store, first).max_attempts == 7
        assert claimed_ids(claim(store)) == [first, second]

    def test_what_runs_or_is_done_is_refused(self, tickwork: Tickwork, store: Store) -> None:
        job_id = put_one(store)
        taken = claim_one(store, mark=1)
        with pytest.raises(JobStateConflict, match="being worked on"):
            tickwork.retry(job_id)
        store.settle([completed(taken, result='"once"')])
        with pytest.raises(JobStateConflict, match="force=True"):
            tickwork.retry(job_id)
        before = fetch(store, job_id)
        assert (before.state, before.result) == (State.COMPLETED, "once")
        again = tickwork.retry(job_id, force=True)
        assert (again.state, again.result) == (State.PENDING, None)
        with pytest.raises(JobNotFound):
            tickwork.retry(new_id())

    def test_a_cancelled_and_expired_one_runs(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        ran = []
        tickwork.register_handler("alpha", lambda payload, ctx: ran.append(ctx.job_id))
        job = tickwork.enqueue("alpha", expires_in=10)
        manual_clock.advance(11)
        assert tickwork.tick().cancelled == 1
        tickwork.retry(job.id)
        assert tickwork.tick().succeeded == 1
        assert ran == [job.id]

    def test_two_at_once_retry_a_job_once(self, tickwork: Tickwork, store: Store) -> None:
        ids = [failed_job(store) for _ in range(20)]
        totals = in_threads(4, lambda _: tickwork.retry_many())
        assert sum(totals) == 20
        for job_id in ids:
            entries = fetch(store, job_id).errors
            assert [entry["type"] for entry in entries] == ["Retried"]

    def test_many_by_filter(self, tickwork: Tickwork, store: Store) -> None:
        mail = failed_job(store, queue="mail", tenant="acme")
        beta = failed_job(store, kind="beta")
        put_one(store)
        (odd,) = claim(store)
        store.settle([failed(odd, error="Timeout: 50%_off 'x'")])
        assert tickwork.retry_many(queue="mail", tenant="other") == 0
        assert tickwork.retry_many(error="Boom") == 0
        for missing in ("%", "_", "boom' OR '1'='1"):
            expected = 1 if missing in "Timeout: 50%_off 'x'" else 0
            assert tickwork.count("failed", error=missing) == expected
        assert tickwork.retry_many(error="50%_off '") == 1
        assert tickwork.retry_many(queue="mail", tenant="acme", error="boom") == 1
        assert fetch(store, mail).state is State.PENDING
        assert fetch(store, beta).state is State.FAILED
        assert tickwork.retry_many(older_than=3600) == 0
        assert tickwork.retry_many(queue="all", kind="beta", older_than=0) == 1
        with pytest.raises(ConfigurationError, match="not told by colour"):
            tickwork.retry_many(colour="red")  # type: ignore[call-arg]
        with pytest.raises(ConfigurationError):
            tickwork.retry_many("completed")

    def test_many_at_a_rate(
        self,
        tickwork: Tickwork,
        store: Store,
        manual_clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("jobs.runtime.steer.JOBS_PER_BATCH", 3)
        ids = put(store, *(new_job() for _ in range(8)))
        store.settle([failed(job) for job in claim(store)])
        assert tickwork.retry_many(per_second=2, limit=7) == 7
        now = manual_clock.now()
        due = [(fetch(store, job_id).run_at - now).total_seconds() for job_id in ids[:7]]
        assert due == [0, 0.5, 1, 1.5, 2, 2.5, 3]
        assert fetch(store, ids[7]).state is State.FAILED
        with pytest.raises(ConfigurationError):
            tickwork.retry_many(per_second=0)

    def test_another_tenants_job_is_not_there(self, tickwork: Tickwork, store: Store) -> None:
        job_id = failed_job(store, tenant="acme")
        for act in (tickwork.retry, tickwork.remove):
            with pytest.raises(JobNotFound):
                act(job_id, tenant="other")
        assert fetch(store, job_id).state is State.FAILED
        assert tickwork.retry(job_id, tenant="acme").state is State.PENDING

    def test_filters_with_a_tenant_touch_no_other(self, tickwork: Tickwork, store: Store) -> None:
        mine, theirs = failed_job(store, tenant="a"), failed_job(store, tenant="b")
        waiting = put_one(store, tenant="b")
        assert tickwork.clean(0, 0, "failed", tenant="a") == 1
        assert tickwork.retry_many(tenant="a") == tickwork.cancel_many(tenant="a") == 0
        assert tickwork.empty("all", tenant="a") == 0
        assert store.get(mine) is None
        assert {fetch(store, theirs).state, fetch(store, waiting).state} == {
            State.FAILED,
            State.PENDING,
        }

    def test_stuck_jobs_are_put_back_by_hand(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        stuck, last = put_one(store), put_one(store, max_attempts=1)
        held = claim(store, mark=2, lease_seconds=1e6)
        manual_clock.advance(1200)
        young = put_one(store)
        claim_one(store, mark=1, lease_seconds=1e6)
        unstarted = put_one(store)
        claim_one(store, lease_seconds=1e6)
        manual_clock.advance(600)
        assert tickwork.reclaim() == 0
        assert tickwork.reclaim(older_than=1801) == 0
        assert tickwork.reclaim(older_than=1800) == 2
        for job_id, attempts in ((stuck, 1), (last, 0)):
            back = fetch(store, job_id)
            assert (back.state, back.started_at, back.attempts) == (State.PENDING, None, attempts)
            assert back.errors[-1]["type"] == "Reset"
        assert fetch(store, young).state is fetch(store, unstarted).state is State.PROCESSING
        assert store.settle([completed(job) for job in held]) == {stuck, last}
        assert sorted(claimed_ids(claim(store))) == sorted([stuck, last])


class CancelManyConformance(Conformance):
    """Many are cancelled as one is; never `cancelled` and a later effect."""

    def test_many_are_cancelled_by_filter(self, tickwork: Tickwork, store: Store) -> None:
        running = put_one(store, queue="mail")
        claim(store, mark=1)
        waiting = put(store, *(new_job(queue="mail") for _ in range(3)))
        put_one(store, "beta", queue="mail")
        other = put_one(store)
        assert tickwork.cancel_many("pending", queue="mail", kind="alpha") == 3
        assert {fetch(store, job_id).state for job_id in waiting} == {State.CANCELLED}
        assert not fetch(store, running).cancel_requested
        assert tickwork.cancel_many(queue="mail") == 2
        assert fetch(store, running).cancel_requested
        assert fetch(store, other).state is State.PENDING
        assert store.cancel_many([]) == store.cancel_many([new_id(), waiting[0]]) == 0
        with pytest.raises(ConfigurationError):
            tickwork.cancel_many("failed")

    def test_cancels_against_ticks(self, tickwork: Tickwork, store: Store) -> None:
        """One by one and by filter, against two threads that tick."""
        effects: Counter[str] = Counter()

        @tickwork.handler("alpha")
        def alpha(ctx: JobContext) -> None:
            ctx.checkpoint()
            effects[ctx.job_id] += 1

        ids = tickwork.enqueue_many([("alpha", {})] * 90)

        def race(number: int) -> None:
            if number == 0:
                for job_id in ids[::-2]:
                    try:
                        tickwork.cancel(job_id)
                    except JobStateConflict:
                        continue
            elif number == 1:
                for _ in range(20):
                    tickwork.cancel_many(older_than=3600)
                    store.cancel_many(ids[40:50])
            else:
                tickwork.drain(limit=5)

        in_threads(4, race)
        drain(tickwork)
        states = {job.id: job.state for job in store.list(JobFilter(), 1000)}
        assert set(states.values()) <= {State.COMPLETED, State.CANCELLED}
        done = {job_id for job_id, state in states.items() if state is State.COMPLETED}
        assert set(effects) == done
        assert set(effects.values()) == {1}
