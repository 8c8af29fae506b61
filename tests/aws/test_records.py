"""The row decides: every kind of message, delivered by a real queue, on real databases."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event

from jobs import Tickwork
from jobs.aws.consumer import Consumer
from jobs.core.delivery import (
    SOON_SECONDS,
    WAIT_FOR_HANDLER_SECONDS,
    WAIT_FOR_PLACE_SECONDS,
    WAIT_FOR_RESUME_SECONDS,
)
from tests.aws.conftest import MakePlace, Place
from tests.support.sqs import Context, Queue, QueueClock, record


def test_jobs_run_and_their_messages_are_gone(place: Place, queue: Queue) -> None:
    ids = [place.put() for _ in range(4)]
    queue.ring(*ids)

    assert place.work_off(queue) == []
    assert place.states(*ids) == ["completed"] * 4
    assert sorted(place.ran) == sorted(ids)
    assert queue.count() == (0, 0)
    assert place.consumer.counts["completed"] == 4


def test_one_bad_message_is_no_other_ones_trouble(place: Place, queue: Queue) -> None:
    """Ten: #4 raises, #7 is not JSON, #8 names nobody."""
    ids = [place.put() for _ in range(10)]
    ids[3] = place.put("boom")
    bodies: list[Any] = [{"jobId": job_id} for job_id in ids]
    bodies[6] = "not JSON"
    bodies[7] = {"jobId": "01900000-0000-7000-8000-000000000000"}
    messages = queue.send(*bodies)

    assert sorted(place.work_off(queue)) == sorted([messages[3], messages[6]])
    ran = [job_id for place_, job_id in enumerate(ids) if place_ not in (6, 7)]
    assert sorted(place.ran) == sorted(ran)
    assert place.job(ids[3]).attempts == 1
    assert queue.count() == (0, 2)
    counts = place.consumer.counts
    assert (counts["completed"], counts["retried"]) == (7, 1)
    assert (counts["malformed"], counts["unknown"]) == (1, 1)


def test_limits_hold_for_what_messages_name(
    place: Place, queue: Queue, queue_clock: QueueClock
) -> None:
    """Of four at once two have a place; the messages of the others come back for one."""
    place.tickwork.register_handler(
        "narrow", lambda payload, ctx: place.ran.append(ctx.job_id), max_concurrency=2
    )
    ids = [place.put("narrow") for _ in range(4)]
    queue.ring(*ids)

    assert len(place.work_off(queue)) == 2
    assert len(place.ran) == 2
    assert place.consumer.counts["no place"] == 2
    queue_clock.advance(WAIT_FOR_PLACE_SECONDS + 1)
    assert place.work_off(queue) == []
    assert sorted(place.ran) == sorted(ids)


def test_a_message_comes_back_when_its_retry_is_due(
    place: Place, queue: Queue, queue_clock: QueueClock
) -> None:
    job_id = place.put("steered", {"how": "retry", "seconds": 41.5})
    queue.ring(job_id)
    assert len(place.work_off(queue)) == 1

    queue_clock.advance(41)
    assert queue.event()["Records"] == []
    queue_clock.advance(1.5)
    place.clock.advance(42.5)
    assert len(place.work_off(queue)) == 1
    assert place.ran == [job_id, job_id], "the very message that was kept ran it again"
    assert place.job(job_id).attempts == 2


def test_a_snooze_costs_no_attempt(place: Place, queue: Queue, queue_clock: QueueClock) -> None:
    job_id = place.put("steered", {"how": "snooze", "seconds": 30})
    queue.ring(job_id)
    place.work_off(queue)

    assert place.job(job_id).attempts == 0
    queue_clock.advance(30.5)
    assert len(queue.event()["Records"]) == 1


@pytest.mark.parametrize("how", ["retry", "snooze"])
def test_what_is_due_beyond_what_a_queue_can_hide_is_left_to_ticks(
    place: Place, queue: Queue, how: str
) -> None:
    job_id = place.put("steered", {"how": how, "seconds": 13 * 3600})
    queue.ring(job_id)

    assert place.work_off(queue) == []
    assert queue.count() == (0, 0)
    assert place.states(job_id) == ["pending"]


@pytest.mark.parametrize(
    ("count", "hours_ago", "is_kept"),
    [(1, 0, True), (1, 10.5, False), (7, 10.5, True)],
    ids=["fresh", "received long ago", "received again"],
)
def test_the_queue_counts_from_when_it_handed_the_message_out(
    lite: Place, count: int, hours_ago: float, is_kept: bool
) -> None:
    job_id = lite.put(delay=2 * 3600)
    received = int((lite.clock.now().timestamp() - hours_ago * 3600) * 1000)
    attributes = {
        "ApproximateReceiveCount": str(count),
        "ApproximateFirstReceiveTimestamp": str(received),
    }

    reported = lite.handle({"Records": [record({"jobId": job_id}, attributes=attributes)]})

    assert reported == (["m1"] if is_kept else [])


def test_a_job_that_is_not_due_is_kept_until_it_is(
    place: Place, queue: Queue, queue_clock: QueueClock
) -> None:
    soon, far = place.put(delay=600), place.put(delay=13 * 3600)
    queue.ring(soon, far)

    assert len(place.work_off(queue)) == 1
    assert place.ran == []
    queue_clock.advance(599)
    assert queue.event()["Records"] == []
    queue_clock.advance(1.5)
    place.clock.advance(600)
    assert place.work_off(queue) == []
    assert place.ran == [soon]


@pytest.mark.parametrize("subject", ["queue", "kind"])
def test_a_paused_job_is_kept_until_it_is_resumed(
    place: Place, queue: Queue, queue_clock: QueueClock, subject: str
) -> None:
    job_id = place.put()
    job = place.job(job_id)
    where = {"queue": job.queue} if subject == "queue" else {"kind": job.kind}
    place.tickwork.pause(**where, by="ada", because="the warehouse is down")
    queue.ring(job_id)

    assert len(place.work_off(queue)) == 1
    assert place.consumer.counts["paused"] == 1
    assert (place.ran, place.job(job_id).attempts) == ([], 0)
    place.tickwork.resume(**where, by="ada")
    queue_clock.advance(WAIT_FOR_RESUME_SECONDS - 1)
    assert queue.event()["Records"] == []
    queue_clock.advance(1.5)
    place.clock.advance(WAIT_FOR_RESUME_SECONDS)
    assert place.work_off(queue) == []
    assert place.ran == [job_id]


def test_a_job_that_has_ended_is_acked(place: Place, queue: Queue) -> None:
    done, failed, cancelled = place.put(), place.put("steered", {"how": "discard"}), place.put()
    place.tickwork.cancel(cancelled)
    queue.ring(done, failed)
    place.work_off(queue)
    queue.ring(done, failed, cancelled)

    assert place.work_off(queue) == []
    assert place.states(done, failed, cancelled) == ["completed", "failed", "cancelled"]
    assert place.ran == [done, failed] or place.ran == [failed, done]
    assert place.consumer.counts["ended"] == 3


def test_a_job_that_another_runner_holds_waits_for_its_lease(
    place: Place, queue: Queue, queue_clock: QueueClock
) -> None:
    """And if that runner is dead by then, this very message has the job tried again."""
    job_id = place.put()
    place.tickwork.store.claim(1, kinds={"note"}, lease_seconds=100, mark=1)
    queue.ring(job_id)
    assert len(place.work_off(queue)) == 1
    assert place.ran == []

    queue_clock.advance(100)
    assert queue.event()["Records"] == [], "not before its lease is over"
    queue_clock.advance(2.5)
    place.clock.advance(102.5)
    assert len(place.work_off(queue)) == 1, "reclaimed; its retry waits"
    job = place.job(job_id)
    assert (job.status, job.attempts) == ("pending", 1)
    assert job.errors[-1]["type"] == "RunnerLost"

    queue_clock.advance(12)
    place.clock.advance(12)
    assert place.work_off(queue) == []
    assert (place.states(job_id), place.ran) == (["completed"], [job_id])


def test_a_job_that_had_not_begun_when_its_runner_died_runs_at_once(
    place: Place, queue: Queue
) -> None:
    job_id = place.put()
    place.tickwork.store.claim(1, kinds={"note"}, lease_seconds=10, mark=0)
    place.clock.advance(11)
    queue.ring(job_id)

    assert place.work_off(queue) == []
    assert (place.states(job_id), place.job(job_id).attempts) == (["completed"], 1)


def test_a_job_that_killed_its_runners_dies_without_any_tick(place: Place, queue: Queue) -> None:
    job_id = place.put(max_attempts=1)
    place.tickwork.store.claim(1, kinds={"note"}, lease_seconds=10, mark=1)
    place.clock.advance(11)
    queue.ring(job_id)

    assert place.work_off(queue) == []
    assert place.states(job_id) == ["failed"]
    assert "runner lost" in (place.job(job_id).error or "")
    assert place.ran == []


def test_a_kind_without_a_handler_waits(
    place: Place, queue: Queue, queue_clock: QueueClock
) -> None:
    job_id = place.put("of-tomorrow")
    queue.ring(job_id)

    assert len(place.work_off(queue)) == 1
    assert (place.states(job_id), place.job(job_id).attempts) == (["pending"], 0)
    queue_clock.advance(WAIT_FOR_HANDLER_SECONDS + 0.5)
    place.tickwork.register_handler("of-tomorrow", lambda payload: None)
    assert place.work_off(queue) == []
    assert place.states(job_id) == ["completed"]


def test_messages_of_other_namespaces_are_acked(make_place: MakePlace, sql_url: str) -> None:
    place = make_place(sql_url, namespace="preview")
    elsewhere = make_place(sql_url).put()
    own = place.put()
    bodies = [
        {"jobId": elsewhere, "namespace": ""},
        {"jobId": elsewhere},  # says nothing of it, and is of another one
        {"jobId": own, "namespace": "preview"},
    ]
    event = {"Records": [record(body, f"m{n}") for n, body in enumerate(bodies)]}

    assert place.handle(event) == []
    assert place.ran == [own]
    assert place.consumer.counts["foreign"] == 1
    assert place.consumer.counts["unknown"] == 1


# --- the same job more than once


def test_copies_in_one_batch_run_once(place: Place, queue: Queue) -> None:
    done, failing = place.put(), place.put("boom")
    messages = queue.ring(done, failing, done, failing)

    assert place.work_off(queue) == [messages[1]], "one message is enough to try it again"
    assert sorted(place.ran) == sorted([done, failing])
    assert place.consumer.counts["duplicate"] == 2


def test_five_deliveries_at_once_run_it_once(
    make_place: MakePlace, sql_url: str, queue: Queue, queue_clock: QueueClock
) -> None:
    """Each by a process of its own, as far as the database can tell; and once more at the end."""
    places = [make_place(sql_url) for _ in range(5)]
    job_id = places[0].put("hold")
    queue.ring(*[job_id] * 5)
    events = [queue.event(1) for _ in range(5)]
    reports: list[list[str]] = [[] for _ in places]

    def deliver(number: int) -> None:
        reports[number] = places[number].handle(events[number])

    threads = [threading.Thread(target=deliver, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    # Four are answered while the fifth is running: nobody waits for it.
    for thread in threads:
        thread.join(0.01)
    for _ in range(3000):
        if sum(thread.is_alive() for thread in threads) == 1:
            break
        threading.Event().wait(0.01)
    assert sum(thread.is_alive() for thread in threads) == 1
    for place in places:
        place.gate.set()
    for thread in threads:
        thread.join(30)

    for event, reported in zip(events, reports, strict=True):
        queue.take_off(event, {"batchItemFailures": [{"itemIdentifier": i} for i in reported]})
    assert sorted(map(len, reports)) == [0, 1, 1, 1, 1]
    assert [ran for place in places for ran in place.ran] == [job_id]
    assert queue.count() == (0, 4)

    queue_clock.advance(70)  # past the lease that they were kept for
    assert places[2].work_off(queue) == []
    assert [ran for place in places for ran in place.ran] == [job_id]
    assert queue.count() == (0, 0)


def test_as_many_at_once_as_is_set(make_place: MakePlace, sqlite_url: str, queue: Queue) -> None:
    """Of a batch of ten; the second round meets as the first did."""
    place = make_place(sqlite_url, concurrency=5)
    together = threading.Barrier(5)
    lock, now, most = threading.Lock(), 0, 0

    @place.tickwork.handler("meet")
    def meet(payload: dict[str, Any]) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait(30)
        with lock:
            now -= 1

    ids = [place.put("meet") for _ in range(10)]
    queue.ring(*ids)
    assert place.work_off(queue) == []
    assert place.states(*ids) == ["completed"] * 10
    assert most == 5


# --- the time there is


def test_what_does_not_start_in_time_is_handed_back(
    make_place: MakePlace, sql_url: str, queue: Queue, queue_clock: QueueClock
) -> None:
    place = make_place(sql_url, concurrency=1)
    ids = [place.put("spend", {"seconds": 40}), place.put(), place.put()]
    queue.ring(*ids)

    reported = place.work_off(queue, seconds=60)  # starts jobs for half of that

    assert len(reported) == 2
    assert place.states(*ids) == ["completed", "pending", "pending"]
    assert [place.job(job_id).attempts for job_id in ids] == [1, 0, 0]
    queue_clock.advance(SOON_SECONDS + 0.5)
    assert place.work_off(queue) == []
    assert place.states(*ids) == ["completed"] * 3


def test_the_lease_ends_with_the_invocation(place: Place, queue: Queue) -> None:
    left: list[float] = []

    @place.tickwork.handler("look")
    def look(payload: dict[str, Any], ctx: Any) -> None:
        lease = place.job(ctx.job_id).lease_until
        assert lease is not None
        left.append((lease - place.clock.now()).total_seconds())

    queue.ring(place.put("look"))
    place.work_off(queue, seconds=900)

    assert 900 <= left[0] < 910


def test_without_a_context_it_goes_by_the_settings(lite: Place) -> None:
    job_id = lite.put()

    assert lite.consumer.handle({"Records": [record({"jobId": job_id})]}) == {
        "batchItemFailures": []
    }
    assert lite.states(job_id) == ["completed"]


def test_a_system_that_ends_starts_nothing(lite: Place, queue: Queue) -> None:
    messages = queue.ring(lite.put(), lite.put())
    lite.tickwork.stop_starting()

    assert sorted(lite.work_off(queue)) == sorted(messages)
    assert lite.ran == []


# --- a job that may kill its runner


def test_a_suspect_runs_last_and_alone(place: Place, queue: Queue) -> None:
    suspect = place.put("look", priority=1)
    place.tickwork.store.claim(1, kinds={"look"}, lease_seconds=1, mark=1)
    place.clock.advance(2)
    place.tickwork.reclaim()
    place.clock.advance(60)
    others = [place.put("look") for _ in range(6)]
    seen: dict[str, list[str]] = {}

    @place.tickwork.handler("look")
    def look(payload: dict[str, Any], ctx: Any) -> None:
        seen[ctx.job_id] = place.states(*others)

    queue.ring(suspect, *others)
    assert place.work_off(queue) == []

    assert list(seen)[-1] == suspect
    assert seen[suspect] == ["completed"] * 6, "their ends were written before it began"


def test_a_suspect_that_fits_no_batch_waits_for_one_of_its_own(place: Place, queue: Queue) -> None:
    """Late in a used-up batch it would be cut off sooner than it need be."""
    lefts: list[float] = []

    @place.tickwork.handler("long", timeout=500)
    def long(payload: dict[str, Any], ctx: Any) -> None:
        lefts.append(ctx.time_left())

    suspect = place.put("long")
    place.tickwork.store.claim(1, kinds={"long"}, lease_seconds=1, mark=1)
    place.clock.advance(2)
    place.tickwork.reclaim()
    place.clock.advance(60)
    other = place.put()
    queue.ring(suspect, other)

    assert len(place.work_off(queue)) == 1
    assert (place.ran, lefts) == ([other], [])
    assert place.job(suspect).attempts == 1, "handed back"
    queue.ring(suspect)
    assert place.work_off(queue) == []
    assert lefts[0] > 50


# --- what cannot be known


def test_when_the_database_is_away_every_message_comes_back(
    lite: Place, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    messages = queue.ring(*[lite.put() for _ in range(3)])
    with lite.tickwork.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE tickwork_jobs RENAME TO elsewhere")

    assert sorted(lite.work_off(queue)) == sorted(messages)
    assert queue.count() == (0, 3)
    assert lite.consumer.counts["unsettled"] == 3
    assert "could not be run" in caplog.text


def test_a_queue_that_cannot_be_told_changes_nothing_else(
    lite: Place, queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The retry comes back early then, and is found to be not due."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")  # nobody listens there
    job_id = lite.put("boom")
    messages = queue.ring(job_id)
    event = queue.event()

    assert lite.handle(event) == messages
    assert lite.handle(event) == messages, "delivered again too early: kept, not run"
    assert lite.ran == [job_id]
    assert lite.consumer.counts["not due"] == 1
    assert "come back early" in caplog.text


def test_a_stale_receipt_is_told_of_and_harmless(
    lite: Place, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.ring(lite.put("boom"), lite.put("boom"))
    event = queue.event()
    event["Records"][0]["receiptHandle"] = "stale"

    assert len(lite.handle(event)) == 2
    assert "a message was not told" in caplog.text


def test_time_that_is_up_is_not_spent_on_the_queue(
    lite: Place, queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A function that is killed while it tells the queue has answered for none of its jobs."""
    monkeypatch.setattr("jobs.aws.consumer.LAST_CALL_SECONDS", 1000.0)
    done = lite.put()
    messages = queue.ring(done, *[lite.put("boom") for _ in range(3)])

    assert sorted(lite.work_off(queue)) == sorted(messages[1:])
    assert lite.states(done) == ["completed"]
    assert "3 messages come back early: TimeoutError" in caplog.text


# --- forged events


FORGED: dict[str, tuple[object, list[str]]] = {
    "nothing": (None, []),
    "a list": ([], []),
    "a text": ("Records", []),
    "no Records": ({"source": "aws.events"}, []),
    "Records that are none": ({"Records": {"0": {}}}, []),
    "records that are none": ({"Records": [None, 7, "m1", []]}, []),
    "an empty record": ({"Records": [{}]}, []),
    "no messageId": ({"Records": [{"body": '{"jobId": "x"}'}]}, []),
    "an empty messageId": ({"Records": [{"messageId": "", "body": "{}"}]}, []),
    "a messageId that is a number": ({"Records": [{"messageId": 7, "body": "{}"}]}, []),
    "nothing but an id": ({"Records": [{"messageId": "m1"}]}, ["m1"]),
    "a body that is null": ({"Records": [{**record("x"), "body": None}]}, ["m1"]),
    "a body that is a list": ({"Records": [record([1, 2])]}, ["m1"]),
    "a body that is a number": ({"Records": [record("7")]}, ["m1"]),
    "a body of a megabyte": ({"Records": [record("x" * 2**20)]}, ["m1"]),
    "a megabyte of brackets": ({"Records": [record("[" * 2**20)]}, ["m1"]),
    "a jobId that is a list": ({"Records": [record({"jobId": ["a"]})]}, ["m1"]),
    "a jobId with SQL in it": ({"Records": [record({"jobId": "' OR 1=1 --"})]}, ["m1"]),
    "a jobId with NUL in it": ({"Records": [record({"jobId": "a\0b"})]}, ["m1"]),
    "a jobId of a megabyte": ({"Records": [record({"jobId": "a" * 2**20})]}, ["m1"]),
    "attributes that are none": (
        {"Records": [record({"jobId": "a"}, attributes=["x"], receiptHandle=None)]},
        [],
    ),
    "times that are none": (
        {
            "Records": [
                record(
                    {"jobId": "a"},
                    attributes={
                        "ApproximateReceiveCount": "²",
                        "ApproximateFirstReceiveTimestamp": "9" * 5000,
                    },
                )
            ]
        },
        [],
    ),
    "an ARN that is none": ({"Records": [record("x", eventSourceARN={"a": 1})]}, ["m1"]),
    "the same message twice": ({"Records": [record("x"), record("x")]}, ["m1"]),
}


@pytest.mark.parametrize(("event", "reported"), FORGED.values(), ids=FORGED)
def test_a_forged_event_gets_an_exact_answer(
    lite: Place, event: object, reported: list[str]
) -> None:
    assert lite.handle(event) == reported


def test_a_bad_record_does_not_keep_the_good_ones_from_running(lite: Place) -> None:
    job_id = lite.put()
    records = [None, {}, record("x", "m1"), record({"jobId": job_id}, "m2")]

    assert lite.handle({"Records": records}) == ["m1"]
    assert lite.ran == [job_id]
    assert lite.consumer.counts["without a name"] == 2


def test_a_retry_from_an_unknown_place_is_reported_all_the_same(lite: Place) -> None:
    job_id = lite.put("boom")
    event = {"Records": [record({"jobId": job_id}, eventSourceARN="nonsense")]}

    assert lite.handle(event) == ["m1"]


def test_logs_name_messages_and_jobs_and_nothing_of_what_they_carry(
    lite: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="tickwork")
    job_id = lite.put("boom", {"card": "4111-1111"})
    bodies = ['{"jobId": 7, "card": "4111-1111"}', json.dumps({"jobId": job_id})]
    records = [record(body, f"m{n}\nFORGED") for n, body in enumerate(bodies)]

    lite.handle({"Records": records})

    assert job_id in caplog.text
    assert "4111" not in caplog.text
    assert "\nFORGED" not in caplog.text


# --- what it costs


def statements(place: Place, tickwork: Tickwork, count: int) -> int:
    records = [record({"jobId": place.put()}, f"m{n}") for n in range(count)]
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(statement)

    sqlalchemy_event.listen(tickwork.engine, "before_cursor_execute", note)
    try:
        assert Consumer(tickwork).handle({"Records": records}, Context()) == {
            "batchItemFailures": []
        }
    finally:
        sqlalchemy_event.remove(tickwork.engine, "before_cursor_execute", note)
    return len(seen)


def test_a_batch_makes_few_statements_however_many_messages(place: Place) -> None:
    tickwork = place.tickwork
    statements(place, tickwork, 10)  # learns the pace, which says how many to mark at the claim

    one, ten = statements(place, tickwork, 1), statements(place, tickwork, 10)

    # MySQL has no RETURNING: it locks, takes and reads.
    fewest = 5 if tickwork.engine.dialect.name == "mysql" else 3  # the last one records it
    assert one == fewest, "one claim and one settle"
    assert ten <= fewest + 1, "a mark more, if the pace had dropped"
