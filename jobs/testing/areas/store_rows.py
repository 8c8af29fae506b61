"""Rows go in and are found again, the same on every store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from jobs.core.clock import Clock, ManualClock
from jobs.core.job import NewJob, State
from jobs.core.store import Capability, JobFilter, Store
from jobs.testing.areas.base import (
    LEASE_SECONDS,
    Conformance,
    MakeStore,
    claim,
    claim_one,
    claimed_ids,
    completed,
    fetch,
    new_job,
    pending,
    put,
    put_one,
    requires,
)

ODD_IDS = ["", " ", "nul\x00inside", "ümlaut", "\ud800", "😀", "x" * 10_000, "%", "'; DROP TABLE x"]
ODD_TEXT = "quote ' double \" back \\ tab \t line \n bell \x07 {brace} null NULL 😀 é \u202e"


class InsertConformance(Conformance):
    """Insert, get, list, count."""

    def test_a_new_job_is_pending_and_as_it_was_given(self, store: Store) -> None:
        job = new_job(
            "beta",
            payload='{"a":[1,2]}',
            queue="mail",
            priority=2,
            max_attempts=7,
            timeout_seconds=12.5,
            backoff='{"type":"fixed"}',
            tenant="Änderung & Co",
        )
        store.insert([job])
        found = fetch(store, job.id)
        assert (found.kind, found.queue, found.priority) == ("beta", "mail", 2)
        assert (found.payload, found.tenant) == ({"a": [1, 2]}, "Änderung & Co")
        assert (found.max_attempts, found.timeout_seconds) == (7, 12.5)
        assert found.backoff == '{"type":"fixed"}'
        assert found.state is State.PENDING
        assert (found.attempts, found.fence, found.progress) == (0, 0, 0.0)
        assert (found.result, found.error, found.errors) == (None, None, [])
        assert found.started_at is found.finished_at is found.lease_until is None
        assert not found.cancel_requested

    def test_what_insert_returns_is_what_get_finds(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        (returned,) = store.insert([new_job(delay_seconds=90, expires_in_seconds=3600)])
        assert returned == fetch(store, returned.id)
        assert returned.run_at == manual_clock.now() + timedelta(seconds=90)
        assert returned.expires_at == manual_clock.now() + timedelta(seconds=3600)

    def test_times_are_aware_and_the_stores_own(self, store: Store) -> None:
        before = store.now()
        found = fetch(store, put_one(store))
        assert before <= found.created_at <= found.run_at <= store.now()
        assert found.created_at.utcoffset() == timedelta(0)

    @pytest.mark.parametrize("many", [False, True], ids=["insert", "insert_many"])
    def test_any_text_comes_back(self, store: Store, *, many: bool) -> None:
        job = new_job(payload=json.dumps({"text": ODD_TEXT}, ensure_ascii=False), tenant="😀 '\\\"")
        if many:
            store.insert_many([job])
        else:
            store.insert([job])
        found = fetch(store, job.id)
        assert found.payload == {"text": ODD_TEXT}
        assert found.tenant == "😀 '\\\""
        assert claim_one(store).payload == job.payload

    def test_an_odd_instant_is_due_at_once(self, store: Store, manual_clock: ManualClock) -> None:
        """A store that keeps milliseconds must not round the present into the future."""
        manual_clock.advance(0.0006)
        job_id = put_one(store)
        store.insert_many([new_job()])
        assert len(claim(store)) == 2
        assert fetch(store, job_id).run_at <= manual_clock.now()

    def test_inserting_an_id_again_changes_nothing(self, store: Store) -> None:
        """A producer whose answer was lost may send the same job twice."""
        job, other = new_job(), new_job()
        store.insert([job])
        store.settle([completed(claim_one(store))])
        store.insert([job])
        assert fetch(store, job.id).state is State.COMPLETED
        assert len(store.list(JobFilter(), 10)) == 1
        try:
            store.insert([job, other])
        except Exception:  # noqa: BLE001 - a refusal, in the words of any database
            return
        assert store.get(other.id) is not None, "insert told success and lost a job"

    def test_many_are_written_and_counted(self, store: Store) -> None:
        jobs = [new_job("beta", delay_seconds=float(n % 2 * 60)) for n in range(250)]
        assert store.insert_many(iter(jobs)) == 250
        assert {job.id for job in store.list(JobFilter(kind="beta"), 1000)} == {
            job.id for job in jobs
        }
        assert len(claim(store, 1000)) == 125

    def test_many_are_all_or_nothing(self, store: Store) -> None:
        def half() -> Iterator[NewJob]:
            yield from (new_job() for _ in range(20))
            raise RuntimeError("the source broke off")

        with pytest.raises(RuntimeError, match="broke off"):
            store.insert_many(half())
        assert store.list(JobFilter(), 10) == []
        assert store.insert_many([]) == 0

    @pytest.mark.parametrize("job_id", ODD_IDS, ids=repr)
    def test_an_odd_id_is_no_job(self, store: Store, job_id: str) -> None:
        put_one(store)
        assert store.get(job_id) is None
        assert store.cancel(job_id) is None
        assert claim(store, ids=[job_id]) == []
        assert len(claim(store, ids=[job_id, store.list(JobFilter(), 1)[0].id])) == 1

    @pytest.mark.parametrize("text", ODD_IDS, ids=repr)
    def test_an_odd_filter_finds_nothing(self, store: Store, text: str) -> None:
        put_one(store, tenant="acme")
        for where in (JobFilter(kind=text), JobFilter(queue=text)):
            assert store.list(where, 10) == []
        if text:
            assert store.list(JobFilter(tenant=text), 10) == []
        assert len(store.list(JobFilter(before_id=text), 10)) <= 1

    def test_a_list_is_newest_first_in_pages(self, store: Store) -> None:
        ids = put(store, *[new_job() for _ in range(7)])
        first = store.list(JobFilter(), 3)
        second = store.list(JobFilter(before_id=first[-1].id), 3)
        third = store.list(JobFilter(before_id=second[-1].id), 3)
        listed = [job.id for page in (first, second, third) for job in page]
        assert listed == ids[::-1]

    def test_a_list_is_filtered(self, store: Store) -> None:
        wanted = put_one(store, "beta", queue="mail", tenant="Acme")
        put_one(store, "beta", queue="mail", tenant="acme")
        put_one(store, "beta", queue="post", tenant="Acme")
        put_one(store, "alpha", queue="mail", tenant="Acme")
        where = JobFilter(State.PENDING, "beta", "mail", "Acme")
        assert [job.id for job in store.list(where, 10)] == [wanted]
        assert store.list(where._replace(state=State.FAILED), 10) == []

    def test_counts_say_what_a_person_is_told(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put_one(store, "beta")
        store.settle([completed(claim_one(store))])
        put_one(store, "beta")
        store.settle([pending(claim_one(store), delay_seconds=500.0)])
        put_one(store, "beta")
        claim_one(store)
        manual_clock.advance(LEASE_SECONDS + 1)
        put_one(store, "gamma", queue="mail")
        claim_one(store)
        put_one(store)
        put_one(store, delay_seconds=60)
        assert store.counts() == {
            ("default", "beta", "completed"): 1,
            ("default", "beta", "retrying"): 1,
            ("default", "beta", "stalled"): 1,
            ("mail", "gamma", "processing"): 1,
            ("default", "alpha", "pending"): 1,
            ("default", "alpha", "delayed"): 1,
        }

    def test_jobs_are_counted_by_tenant(self, store: Store) -> None:
        put(store, *[new_job(tenant=tenant) for tenant in ("a", "a", "b", "", "A")])
        assert store.counts("a") == {("default", "alpha", "pending"): 2}
        assert store.counts("") == {("default", "alpha", "pending"): 1}
        assert store.counts() == {("default", "alpha", "pending"): 5}
        assert store.counts("nobody") == store.counts("\x00") == {}

    def test_due_jobs_are_counted_up_to_a_cap(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put(store, *[new_job() for _ in range(5)], new_job("beta"), new_job("unknown"))
        put_one(store, delay_seconds=60)
        kinds = frozenset({"alpha", "beta"})
        assert store.due_count(kinds, 100) == 6
        assert store.due_count(kinds, 4) == 4
        assert store.due_count(frozenset(), 4) == 0
        manual_clock.advance(60)
        assert store.due_count(kinds, 100) == 7

    def test_clearing_deletes_every_row(self, store: Store) -> None:
        put(store, *[new_job() for _ in range(3)])
        claim(store, 1)
        assert store.clear() == 3
        assert store.list(JobFilter(), 10) == []
        assert claim(store) == []
        assert store.counts() == {}

    @requires(Capability.SHARED)
    def test_namespaces_do_not_see_each_other(
        self, store: Store, make_store: MakeStore, clock: Clock
    ) -> None:
        other = make_store(clock, namespace="other")
        mine, theirs = put_one(store), put_one(other)
        assert store.get(theirs) is None
        assert store.cancel(theirs) is None
        assert [job.id for job in store.list(JobFilter(), 10)] == [mine]
        assert store.counts() == {("default", "alpha", "pending"): 1}
        assert store.due_count(frozenset({"alpha"}), 10) == 1
        assert claim(store, ids=[theirs]) == []
        assert claimed_ids(claim(store)) == [mine]
        assert store.clear() == 1
        assert fetch(other, theirs).state is State.PENDING
        assert claimed_ids(claim(other)) == [theirs]
        other.close()

    @requires(Capability.SHARED)
    def test_upkeep_keeps_to_its_namespace(
        self, store: Store, make_store: MakeStore, manual_clock: ManualClock
    ) -> None:
        other = make_store(manual_clock, namespace="other")
        put_one(other)
        put_one(other)
        held, done = claim(other)
        other.settle([completed(done, keep_seconds=0.0)])
        manual_clock.advance(LEASE_SECONDS + 1)
        due = store.probe()
        assert (due.stalled, due.outstayed, due.lanes) == (False, False, ())
        assert store.stalled(10) == []
        assert store.purge(10) == 0
        assert store.trim("alpha", State.COMPLETED, 0, 10) == 0
        assert [job.id for job in other.stalled(10)] == [held.id]
        assert other.purge(10) == 1
        other.close()
