"""A job that waits is given up by a person: the row, and the job's story."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.core.clock import ManualClock
from jobs.core.context import JobContext
from jobs.core.errors import ConfigurationError, JobNotFound, JobStateConflict
from jobs.core.job import State
from jobs.core.store import Store
from jobs.system import Tickwork
from jobs.testing.areas.base import Conformance, claim, claim_one, fetch, pending
from jobs.testing.areas.store_controls import failed_job, put_one
from jobs.testing.drain import drain


class DiscardConformance(Conformance):
    """A row that waits ends as failed, where it still is what somebody found."""

    def test_what_waits_ends_and_stays_for_a_while(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        job_id = put_one(store, delay_seconds=60.0)
        found = fetch(store, job_id)
        assert store.discard(found, "Discarded: enough", '[{"type":"Discarded"}]', 30.0)
        assert not store.discard(found, "twice", "[]", 30.0)
        job = fetch(store, job_id)
        assert (job.state, job.error, job.attempts) == (State.FAILED, "Discarded: enough", 0)
        assert job.errors == [{"type": "Discarded"}]
        assert job.finished_at == manual_clock.now()
        assert [each.id for each in store.failures(10)] == [job_id]
        manual_clock.advance(120)
        assert claim(store) == []
        assert store.purge(10) == 1
        for_ever = put_one(store)
        assert store.discard(fetch(store, for_ever), "x", "[]", None)
        assert fetch(store, for_ever).keep_until is None

    def test_what_runs_ended_or_is_another_by_now_stays(self, store: Store) -> None:
        job_id = put_one(store)
        found = fetch(store, job_id)
        taken = claim_one(store, mark=1)
        assert not store.discard(found, "x", "[]", None)
        assert not store.discard(fetch(store, job_id), "x", "[]", None)
        store.settle([pending(taken)])
        assert not store.discard(found, "x", "[]", None), "it has run since it was looked at"
        assert store.discard(fetch(store, job_id), "x", "[]", None)
        for other in (put_one(store, alias="done"), failed_job(store)):
            store.cancel(other)
            assert not store.discard(fetch(store, other), "x", "[]", None)

    def test_its_dedupe_key_is_free(self, store: Store) -> None:
        first = put_one(store, dedupe_key="k")
        assert store.discard(fetch(store, first), "x", "[]", None)
        assert put_one(store, dedupe_key="k") != first


class DiscardJobConformance(Conformance):
    """A person gives a job up: no further attempt, and its story says who and why."""

    def test_given_up_between_attempts(
        self, tickwork: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        runs: list[int] = []

        @tickwork.handler("alpha", max_attempts=5, backoff=60)
        def alpha(ctx: JobContext) -> None:
            runs.append(ctx.attempt)
            raise ValueError("no such address")

        job = alpha.enqueue()
        tickwork.tick()
        given_up = tickwork.discard(job.id, by="ada", because="it never existed")
        assert (given_up.state, given_up.attempts) == (State.FAILED, 1)
        assert given_up.error == "Discarded: given up by ada: it never existed"
        assert [entry["type"] for entry in given_up.errors] == ["ValueError", "Discarded"]
        assert given_up.keep_until == manual_clock.now() + timedelta(seconds=7 * 86_400)
        manual_clock.advance(3600)
        drain(tickwork)
        assert runs == [1]
        assert [each.id for each in tickwork.dead_letters()] == [job.id]
        assert tickwork.retry(job.id).state is State.PENDING

    def test_what_cannot_be_given_up(self, tickwork: Tickwork, store: Store) -> None:
        running = put_one(store)
        claim(store, mark=1)
        for job_id, mend in ((running, "cancel it"), (failed_job(store), "ended already")):
            with pytest.raises(JobStateConflict, match=mend):
                tickwork.discard(job_id)
        mine = put_one(store, tenant="a")
        for job_id, tenant in (("unheard-of", None), (mine, "b")):
            with pytest.raises(JobNotFound):
                tickwork.discard(job_id, tenant=tenant)
        with pytest.raises(ConfigurationError, match="because"):
            tickwork.discard(mine, because="x" * 1000)
        assert tickwork.discard(mine, tenant="a").error == "Discarded: given up"

    def test_its_group_ends_with_it(self, tickwork: Tickwork, store: Store) -> None:
        for kind in ("alpha", "beta"):
            tickwork.handler(kind)(lambda _payload: None)
        with tickwork.group(on_failure="beta") as group:
            job_id = group.enqueue("alpha", {}, delay=60)
        tickwork.discard(job_id)
        (after,) = tickwork.list(kind="beta")
        assert after.payload["group"]["state"] == "failed"
