"""Why a job is not running: every reason, and that ticks take just what is said to be taken."""

from __future__ import annotations

import random
import re
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from jobs.core.clock import ManualClock
from jobs.core.errors import Discard, JobNotFound
from jobs.core.job import Job, State
from jobs.core.limits import Breaker
from jobs.core.ring import RingRules
from jobs.core.store import Store
from jobs.ops.why import LATE_SECONDS, Why
from jobs.system import Tickwork
from jobs.testing.areas.base import (
    KINDS,
    Conformance,
    MakeTickwork,
    claim_one,
    fetch,
    new_job,
    put,
    put_one,
)


class AheadConformance(Conformance):
    """How many rows a claim would take before one."""

    def test_better_and_earlier_rows_are_ahead(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        now = manual_clock.now()
        ids = put(
            store,
            new_job("beta", priority=1),
            new_job("alpha", run_at=now - timedelta(seconds=2)),
            new_job("alpha", run_at=now - timedelta(seconds=1), queue="other"),
            new_job("alpha", run_at=now - timedelta(seconds=1)),
            new_job("alpha"),
            new_job("alpha", priority=4, run_at=now - timedelta(seconds=9)),
        )
        claimed_first = [store.ahead(fetch(store, job_id), KINDS, 100) for job_id in ids]
        assert claimed_first == [0, 1, 2, 3, 4, 5]
        assert store.ahead(fetch(store, ids[-1]), KINDS, 3) == 3

    def test_rows_that_no_claim_takes_are_not_ahead(
        self, store: Store, manual_clock: ManualClock
    ) -> None:
        put_one(store, "alpha", priority=1, delay_seconds=60)
        put_one(store, "nobodys", priority=1)
        put_one(store, "beta", priority=1)
        put_one(store, "alpha", priority=1, queue="held")
        claim_one(store, kinds={"beta"})
        store.pause("queue/held", by=None, because=None)
        job_id = put_one(store, "alpha")
        assert store.ahead(fetch(store, job_id), KINDS, 100) == 0

    def test_ahead_is_of_the_namespace_alone(self, store: Store) -> None:
        job_id = put_one(store, "alpha")
        assert store.ahead(fetch(store, job_id), KINDS, 100) == 0
        assert store.ahead(fetch(store, job_id), frozenset(), 100) == 0


def _fail(_: Any) -> None:
    raise ValueError("the shop is closed\nfor good")


def _discard(_: Any) -> None:
    raise Discard("no such shop")


class WhyConformance(Conformance):
    """One test for each reason; and a tick takes a job if, and only if, that is what was said."""

    @pytest.fixture
    def shop(self, tickwork: Tickwork) -> Tickwork:
        tickwork.register_handler("work", lambda _: None)
        tickwork.register_handler("fails", _fail, max_attempts=2, backoff=600)
        tickwork.register_handler("discards", _discard)
        return tickwork

    def test_nobody_s_job_is_not_found(self, shop: Tickwork) -> None:
        job = shop.enqueue("work", tenant="acme")
        with pytest.raises(JobNotFound):
            shop.why("01900000-0000-7000-8000-000000000000")
        with pytest.raises(JobNotFound):
            shop.why(job.id, tenant="other")
        assert shop.why(job.id, tenant="acme").reason == "next-tick"

    def test_a_due_job_waits_for_the_next_tick(self, shop: Tickwork) -> None:
        found = shop.why(shop.enqueue("work").id)
        assert (found.reason, found.claimable) == ("next-tick", True)
        assert found.sentence == "the next tick takes it"

    def test_why_a_completed_job_does_not_run(self, shop: Tickwork) -> None:
        job = shop.enqueue("work")
        shop.tick()
        found = shop.why(job.id)
        assert (found.reason, found.state, found.claimable) == ("completed", "completed", False)

    def test_a_failed_job_says_its_error_and_how_to_retry(self, shop: Tickwork) -> None:
        job = shop.enqueue("discards")
        shop.tick()
        found = shop.why(job.id)
        assert found.reason == "failed"
        assert "no such shop" in found.sentence
        assert f"tickwork retry {job.id}" in found.mend

    def test_a_cancelled_job(self, shop: Tickwork) -> None:
        job = shop.enqueue("work")
        shop.cancel(job.id)
        assert shop.why(job.id).reason == "cancelled"

    def test_a_delayed_job_says_until_when(self, shop: Tickwork, manual_clock: ManualClock) -> None:
        job = shop.enqueue("work", delay=600)
        found = shop.why(job.id)
        assert found.reason == "delayed"
        assert "in 10 min" in found.sentence
        assert found.facts["run_at"] == manual_clock.now() + timedelta(seconds=600)
        manual_clock.advance(600)
        assert shop.why(job.id).reason == "next-tick"

    def test_a_retrying_job_says_what_failed(
        self, shop: Tickwork, manual_clock: ManualClock
    ) -> None:
        job = shop.enqueue("fails")
        shop.tick()
        found = shop.why(job.id)
        assert found.reason == "retrying"
        assert "attempt 1 of 2 failed (ValueError: the shop is closed)" in found.sentence
        manual_clock.advance(3600)
        assert shop.why(job.id).claimable

    def test_a_running_job_says_since_when_and_until_when(
        self, shop: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        job = shop.enqueue("work")
        claim_one(store, kinds={"work"}, lease_seconds=500)
        assert shop.why(job.id).reason == "claimed"
        job = shop.enqueue("work")
        claim_one(store, kinds={"work"}, lease_seconds=500, mark=1)
        manual_clock.advance(180)
        shop.cancel(job.id)
        found = shop.why(job.id)
        assert found.reason == "running"
        assert "since 3 min (attempt 1 of 3), and was asked to stop" in found.sentence
        assert found.facts["lease_until"] == manual_clock.now() + timedelta(seconds=320)

    def test_a_stalled_job_is_put_back_by_the_next_tick(
        self, shop: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        job = shop.enqueue("work")
        claim_one(store, kinds={"work"}, lease_seconds=60, mark=1)
        manual_clock.advance(181)
        found = shop.why(job.id)
        assert found.reason == "stalled"
        assert "ran out 2 min ago" in found.sentence
        shop.tick()
        assert fetch(store, job.id).state is not State.PROCESSING

    def test_a_kind_without_a_handler_says_which_there_are(self, shop: Tickwork) -> None:
        found = shop.why(shop.enqueue("unheard-of").id)
        assert (found.reason, found.claimable) == ("no-handler", False)
        assert found.facts == {"kind": "unheard-of", "known": ["discards", "fails", "work"]}

    @pytest.mark.parametrize(
        ("subject", "words", "mend"),
        [
            ({"queue": "default"}, "queue 'default'", "resume default"),
            ({"kind": "work"}, "kind 'work'", "resume --kind work"),
            ({"queue": "all"}, "everything", "resume all"),
        ],
        ids=["queue", "kind", "all"],
    )
    def test_a_pause_says_who_when_and_why(
        self, subject: dict[str, str], words: str, mend: str, shop: Tickwork
    ) -> None:
        job = shop.enqueue("work")
        shop.pause(**subject, by="ann", because="the mail server is down")
        found = shop.why(job.id)
        assert (found.reason, found.claimable) == ("paused", False)
        said = rf"{re.escape(words)} was paused \d s ago by ann: the mail server"
        assert re.match(said, found.sentence)
        assert mend in found.mend
        shop.resume(**subject, by="ann")
        assert shop.why(job.id).reason == "next-tick"

    def test_all_that_holds_a_job_back_is_told_in_order(self, shop: Tickwork) -> None:
        job = shop.enqueue("unheard-of", delay=60)
        shop.pause(queue="default")
        found = shop.why(job.id)
        assert [each.reason for each in found.reasons] == ["no-handler", "paused", "delayed"]
        document = found.as_dict()
        assert document["reason"] == "no-handler"
        assert len(document["reasons"]) == 3

    def test_an_expired_job_is_cancelled_by_the_next_tick(
        self, shop: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        job = shop.enqueue("work", expires_in=30)
        assert shop.why(job.id).reason == "next-tick"
        manual_clock.advance(30)
        assert shop.why(job.id).reason == "expired"
        shop.tick()
        assert fetch(store, job.id).state is State.CANCELLED

    def test_a_job_behind_more_than_a_tick_takes(self, make_tickwork: MakeTickwork) -> None:
        tickwork = make_tickwork(batch_size=3)
        tickwork.register_handler("work", lambda _: None)
        tickwork.enqueue_many([("work", {})] * 3, priority=1)
        job = tickwork.enqueue("work")
        found = tickwork.why(job.id)
        assert (found.reason, found.claimable, found.facts["ahead"]) == ("behind", True, 3)
        tickwork.tick()
        assert tickwork.why(job.id).reason == "next-tick"

    def test_a_job_that_is_due_for_long_tells_of_missing_ticks(
        self, shop: Tickwork, manual_clock: ManualClock
    ) -> None:
        job = shop.enqueue("work")
        manual_clock.advance(LATE_SECONDS)
        assert shop.why(job.id).reason == "next-tick"
        manual_clock.advance(720)
        found = shop.why(job.id)
        assert (found.reason, found.claimable) == ("ticks-missing", True)
        assert "due for 17 min: no tick has ever been recorded" in found.sentence
        shop.pause(kind="work", by="ann")
        shop.tick()
        shop.resume(kind="work", by="ann")
        assert "ticks come, the last 0 s ago" in shop.why(job.id).sentence

    def test_ticks_that_stopped_are_told_with_how_often_they_came(
        self, shop: Tickwork, manual_clock: ManualClock
    ) -> None:
        for _ in range(4):
            manual_clock.advance(300)
            shop.tick(trigger="cron")
        job = shop.enqueue("work")
        manual_clock.advance(899)
        # Late by its own measure, but the doctor and /healthz/ticks say nothing yet.
        assert "no tick for 15 min, and" in shop.why(job.id).sentence
        manual_clock.advance(121)
        found = shop.why(job.id)
        assert (found.reason, found.claimable) == ("ticks-missing", True)
        assert "there was no tick for 17 min; they are to come every 5 min" in found.sentence
        assert found.facts["cadence_seconds"] == 300

    def test_a_job_with_a_message_is_left_to_it(
        self, make_tickwork: MakeTickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        tickwork = make_tickwork(sqs_overdue=300.0, doorbell=_Bell())
        tickwork.register_handler("work", lambda _: None)
        job = tickwork.enqueue("work")
        found = tickwork.why(job.id)
        assert (found.reason, found.claimable) == ("left-to-message", False)
        assert tickwork.tick().processed == 0
        manual_clock.advance(300)
        assert tickwork.why(job.id).claimable
        assert tickwork.tick().processed == 1

    @pytest.mark.parametrize("seed", range(6))
    def test_a_tick_takes_just_what_is_said_to_be_taken(
        self, seed: int, shop: Tickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        """In situations made up by chance, with all the reasons mixed."""
        chance, outcomes = random.Random(seed), set()
        for _ in range(4):
            _disturb(shop, manual_clock, chance)
            said = {job.id: shop.why(job.id) for job in shop.list(limit=1000)}
            fences = {job_id: fetch(store, job_id).fence for job_id in said}
            shop.tick(limit=1000)
            for job_id, each in said.items():
                if each.reason == "stalled":  # put back first, and perhaps taken then
                    assert fetch(store, job_id).state is not State.PROCESSING
                else:
                    taken = fetch(store, job_id).fence > fences[job_id]
                    assert taken is each.claimable, each
                    outcomes.add(taken)
        assert outcomes == {True, False}, "these situations show nothing"

    @pytest.mark.parametrize("of", ["kind", "queue", "key"])
    def test_a_full_limit_says_who_holds_it(
        self, of: str, make_tickwork: MakeTickwork, store: Store
    ) -> None:
        tickwork = make_tickwork()
        options: dict[str, Any] = {
            "kind": {"max_concurrency": 2},
            "queue": {},
            "key": {"max_concurrency_per_key": 2},
        }[of]
        tickwork.register_handler("work", lambda _: None, **options)
        if of == "queue":
            tickwork.queue("default", max_concurrency=2)
        jobs = [tickwork.enqueue("work", concurrency_key="shop-1") for _ in range(4)]
        held = _claim(tickwork, 2)
        assert held == [job.id for job in jobs[:2]]
        found = tickwork.why(jobs[3].id)
        assert (found.reason, found.claimable) == ("limit-full", False)
        assert "may run 2 at once, and 2 run: " in found.sentence
        assert found.facts["held_by"] == held
        assert found.facts["limit"].startswith(f"{of}/")
        assert _claim(tickwork, 9) == []
        other = tickwork.enqueue("work", concurrency_key="shop-2")
        assert tickwork.why(other.id).claimable is (of == "key")
        assert len(_claim(tickwork, 9)) == (of == "key")
        if of == "key":
            assert "kind 'work' of key shop-1" in found.sentence

    def test_too_few_places_for_all_that_wait(self, make_tickwork: MakeTickwork) -> None:
        tickwork = make_tickwork()
        tickwork.register_handler("work", lambda _: None, max_concurrency=2)
        jobs = [tickwork.enqueue("work") for _ in range(3)]
        assert tickwork.why(jobs[1].id).reason == "next-tick"
        found = tickwork.why(jobs[2].id)
        assert (found.reason, found.claimable, found.facts["free"]) == ("behind", True, 2)

    def test_a_rate_says_when_the_next_may_start(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        tickwork = make_tickwork()
        tickwork.register_handler("work", lambda _: None, rate_limit="2/h")
        jobs = [tickwork.enqueue("work") for _ in range(3)]
        began = manual_clock.now()
        _claim(tickwork, 1)
        manual_clock.advance(600)
        _claim(tickwork, 1)
        found = tickwork.why(jobs[2].id)
        assert (found.reason, found.claimable) == ("rate-limited", False)
        assert "may start 2/h, and 2 have been taken; the next may start in 50 min" in (
            found.sentence
        )
        assert found.facts["refills_at"] == began + timedelta(hours=1)
        assert _claim(tickwork, 1) == []
        manual_clock.advance(3000)
        assert tickwork.why(jobs[2].id).claimable
        assert _claim(tickwork, 1) == [jobs[2].id]

    def test_an_open_breaker_says_until_when(
        self, make_tickwork: MakeTickwork, manual_clock: ManualClock
    ) -> None:
        tickwork = make_tickwork()
        breaker = Breaker(failure_ratio=0.5, minimum=2, window=60, pause=120)
        tickwork.register_handler("fails", _fail, max_attempts=1, breaker=breaker)
        for _ in range(2):
            tickwork.enqueue("fails")
        tickwork.tick()
        job, other = tickwork.enqueue("fails"), tickwork.enqueue("fails")
        found = tickwork.why(job.id)
        assert (found.reason, found.claimable) == ("breaker-open", False)
        assert "the circuit breaker of kind 'fails' is open until " in found.sentence
        assert "of the last 2 attempts 2 failed" in found.sentence
        assert found.facts["open_until"] == manual_clock.now() + timedelta(seconds=120)
        assert tickwork.tick().processed == 0
        manual_clock.advance(120)
        assert tickwork.why(job.id).claimable
        assert _claim(tickwork, 9) == [job.id]
        found = tickwork.why(other.id)
        assert found.reason == "breaker-open"
        assert "lets one job try" in found.sentence

    def test_what_was_set_at_run_time_counts(
        self, make_tickwork: MakeTickwork, store: Store
    ) -> None:
        tickwork, elsewhere = make_tickwork(), make_tickwork()
        tickwork.register_handler("work", lambda _: None)
        jobs = [tickwork.enqueue("work") for _ in range(2)]
        elsewhere.set_queue("default", max_concurrency=1)
        claim_one(store, kinds={"work"}, ids=[jobs[0].id])
        assert tickwork.why(jobs[1].id).reason == "limit-full"
        assert tickwork.tick().processed == 0

    @pytest.mark.parametrize("seed", range(4))
    def test_with_limits_a_tick_takes_just_as_many_as_was_said(
        self, seed: int, make_tickwork: MakeTickwork, store: Store, manual_clock: ManualClock
    ) -> None:
        """What a limit holds back is not taken; where places are few, all of them are."""
        tickwork = make_tickwork()
        tickwork.register_handler("work", lambda _: None, max_concurrency=3)
        tickwork.register_handler("keyed", lambda _: None, max_concurrency_per_key=1)
        tickwork.register_handler("rated", lambda _: None, rate_limit="4/h")
        chance = random.Random(seed)
        for _ in range(4):
            for _ in range(chance.randint(2, 12)):
                tickwork.enqueue(
                    chance.choice(["work", "keyed", "rated"]),
                    concurrency_key=chance.choice(["one", "two"]),
                    delay=chance.choice([0, 0, 60]),
                )
            _claim(tickwork, chance.randint(0, 3), lease_seconds=100_000)
            said = {job.id: tickwork.why(job.id) for job in tickwork.list(limit=1000)}
            fences = {job_id: fetch(store, job_id).fence for job_id in said}
            tickwork.tick(limit=1000, concurrency=64)
            waiting, taken = Counter[str](), Counter[str]()
            for job_id, each in said.items():
                group = _group(fetch(store, job_id))
                waiting[group] += each.claimable
                if fetch(store, job_id).fence > fences[job_id]:
                    assert each.claimable, each
                    taken[group] += 1
            for group, count in waiting.items():
                places = _places(said, store, group)
                # What is held back is not called claimable; of the rest as many go as there are
                # places.
                assert count == 0 or places > 0, group
                assert taken[group] == min(count, places), group
            manual_clock.advance(chance.choice([0, 60, 3000]))


def _group(job: Job) -> str:
    """What shares places: a kind, or a key of a kind with limits on each."""
    return f"{job.kind}/{job.concurrency_key if job.kind == 'keyed' else ''}"


def _places(said: dict[str, Why], store: Store, group: str) -> int:
    """The places that were left for a group when the answers were given."""
    of_group = {i: each for i, each in said.items() if _group(fetch(store, i)) == group}
    if group == "rated/":  # what was taken in the window is no row to be counted
        told = [each.facts["free"] for each in of_group.values() if "free" in each.facts]
        return min(told, default=4)
    running = sum(each.state == "processing" for each in of_group.values())
    return (3 if group == "work/" else 1) - running


def _claim(tickwork: Tickwork, limit: int, lease_seconds: float = 600) -> list[str]:
    """Claim as a tick does; returns the ids."""
    claimed = tickwork.store.claim(
        limit,
        kinds=tickwork.registry.kinds,
        lease_seconds=lease_seconds,
        mark=limit,
        limits=tickwork._runtime.limits,
    )
    return [job.id for job in claimed]


def _disturb(shop: Tickwork, clock: ManualClock, chance: random.Random) -> None:
    """Some jobs of all sorts, some pauses and resumptions, some time."""
    for _ in range(chance.randint(3, 9)):
        options: dict[str, Any] = {
            "queue": chance.choice(["default", "mail"]),
            "priority": chance.randint(1, 5),
            "delay": chance.choice([0, 0, 30, 600]),
            "tenant": chance.choice(["", "", "acme"]),
        }
        if chance.random() < 0.3:
            options["expires_in"] = 700
        shop.enqueue(chance.choice(["work", "work", "fails", "discards", "unheard-of"]), **options)
    for _ in range(chance.randint(0, 3)):
        shop.store.claim(1, kinds={"work"}, lease_seconds=chance.choice([100, 1000]), mark=1)
    for subject in ({"queue": "mail"}, {"kind": "fails"}, {"queue": "all"}):
        if chance.random() < 0.25:
            shop.pause(**subject, by="ann")
        elif chance.random() < 0.5:
            shop.resume(**subject, by="ann")
    clock.advance(chance.choice([0, 29, 30, 300, 601, 1200]))


class _Bell:
    """A doorbell that is a queue, whose messages nobody reads."""

    rules = RingRules(longest_delay_seconds=900.0, lead_seconds=60.0)

    def ring(self, rings: Any) -> None:
        return None
