"""FIFO queues: each group in order, one at a time, and nobody overtakes a message that is kept."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.aws.conftest import MakePlace, Place
from tests.support.sqs import Queue, QueueClock, record

FIFO_ARN = "arn:aws:sqs:eu-central-1:123456789012:jobs.fifo"


def ordered(*bodies: Any, groups: str) -> dict[str, Any]:
    """An event of a FIFO queue, messages m0, m1, ... of these groups (a letter each)."""
    records = []
    for place, (body, group) in enumerate(zip(bodies, groups, strict=True)):
        made = record(body, f"m{place}", eventSourceARN=FIFO_ARN)
        made["attributes"]["MessageGroupId"] = group
        records.append(made)
    return {"Records": records}


def naming(*job_ids: str) -> list[dict[str, str]]:
    return [{"jobId": job_id} for job_id in job_ids]


def test_a_failure_stops_its_group(place: Place, fifo: Queue, queue_clock: QueueClock) -> None:
    """The third of five fails: it and the two behind it come back, together and in order."""
    ids = [place.put(kind) for kind in ("note", "note", "boom", "note", "note")]
    messages = fifo.ring(*ids)

    assert place.work_off(fifo) == messages[2:]
    assert place.ran == ids[:3]
    assert [place.job(job_id).attempts for job_id in ids] == [1, 1, 1, 0, 0]
    assert place.states(*ids) == ["completed", "completed", "pending", "pending", "pending"]

    queue_clock.advance(39)
    assert fifo.event()["Records"] == []
    queue_clock.advance(6)
    place.clock.advance(45)
    assert place.work_off(fifo) == messages[2:]
    queue_clock.advance(45)
    place.clock.advance(45)
    assert place.work_off(fifo) == [], "failed for good, it no longer stands in the way"
    assert place.ran == [*ids[:3], ids[2], ids[2], *ids[3:]]
    assert place.states(*ids) == ["completed", "completed", "failed", "completed", "completed"]


def test_order_within_a_group_and_groups_side_by_side(make_place: MakePlace, sql_url: str) -> None:
    place = make_place(sql_url, concurrency=3)
    meeting = threading.Barrier(3)  # passes only if three run at once
    running: dict[str, int] = dict.fromkeys("abc", 0)
    trace: list[tuple[str, int]] = []
    lock = threading.Lock()

    @place.tickwork.handler("step")
    def step(payload: dict[str, Any]) -> None:
        group, number = payload["group"], payload["number"]
        with lock:
            running[group] += 1
            assert running[group] == 1, "two of a group at once"
            trace.append((group, number))
        if number == 0:
            meeting.wait(30)
        with lock:
            running[group] -= 1

    groups = "abcabcabc"
    ids = [
        # A better priority must not help a later one.
        place.put("step", {"group": group, "number": place_ // 3}, priority=5 - place_ // 3)
        for place_, group in enumerate(groups)
    ]

    assert place.handle(ordered(*naming(*ids), groups=groups)) == []
    assert place.states(*ids) == ["completed"] * 9
    for group in "abc":
        assert [number for each, number in trace if each == group] == [0, 1, 2]


def test_one_groups_failure_is_not_the_others(place: Place) -> None:
    ids = [place.put(kind) for kind in ("boom", "note", "note", "note")]

    assert place.handle(ordered(*naming(*ids), groups="abab")) == ["m0", "m2"]
    assert place.states(*ids) == ["pending", "completed", "pending", "completed"]
    assert sorted(place.ran) == sorted([ids[0], ids[1], ids[3]])


@pytest.mark.parametrize("why", ["not due", "held", "no handler", "malformed"])
def test_nobody_overtakes_a_message_that_is_kept_unrun(place: Place, why: str) -> None:
    first, second, third = place.put(), place.put(), place.put()
    body: object = {"jobId": second}
    if why == "not due":
        body = {"jobId": place.put(delay=60)}
    elif why == "held":
        place.tickwork.store.claim(1, kinds={"note"}, lease_seconds=90, ids=[second])
    elif why == "no handler":
        body = {"jobId": place.put("of-tomorrow")}
    else:
        body = "not JSON"

    event = ordered({"jobId": first}, body, {"jobId": third}, groups="aaa")
    assert place.handle(event) == ["m1", "m2"]
    assert place.ran == [first]
    assert place.states(third) == ["pending"]
    assert place.job(third).attempts == 0


def test_what_is_acked_unrun_stands_in_nobodys_way(place: Place) -> None:
    gone, done, last = "0190-gone", place.put(), place.put()
    place.tickwork.cancel(done)
    bodies = naming(gone, done, last)
    bodies[0]["namespace"] = "elsewhere"

    assert place.handle(ordered(*bodies, groups="aaa")) == []
    assert place.ran == [last]


def test_a_copy_behind_a_stop_is_kept_with_it(place: Place) -> None:
    boom, note = place.put("boom"), place.put()

    event = ordered(*naming(note, boom, note, boom), groups="aaaa")
    assert place.handle(event) == ["m1", "m2", "m3"]
    assert place.ran == [note, boom]


def test_far_away_in_a_group_is_kept_as_long_as_can_be(place: Place, fifo: Queue) -> None:
    far, behind = place.put("steered", {"how": "retry", "seconds": 90_000}), place.put()
    messages = fifo.ring(far, behind)

    assert place.work_off(fifo) == messages, "acked, the one behind it would overtake it"
    assert place.ran == [far]


def test_what_stands_behind_has_paid_nothing_when_the_runner_dies(place: Place) -> None:
    """Marks are written ahead, but not for what may not start yet."""
    marks: list[list[bool]] = []
    ids = [place.put("look") for _ in range(3)]

    @place.tickwork.handler("look")
    def look(payload: dict[str, Any]) -> None:
        marks.append([place.job(job_id).started_at is not None for job_id in ids])

    assert place.handle(ordered(*naming(*ids), groups="aaa")) == []
    assert marks == [[True, False, False], [True, True, False], [True, True, True]]


def test_the_time_ends_within_a_group(make_place: MakePlace, sql_url: str) -> None:
    place = make_place(sql_url, concurrency=4)
    ids = [place.put("spend", {"seconds": 40}), place.put(), place.put()]

    assert place.handle(ordered(*naming(*ids), groups="aaa"), seconds=60) == ["m1", "m2"]
    assert [place.job(job_id).attempts for job_id in ids] == [1, 0, 0]
    assert place.ran == ids[:1]


def test_a_suspects_group_runs_after_the_others_and_in_order(place: Place) -> None:
    suspect = place.put()
    place.tickwork.store.claim(1, kinds={"note"}, lease_seconds=1, mark=1)
    place.clock.advance(2)
    place.tickwork.reclaim()
    place.clock.advance(60)
    first, behind, other = place.put(), place.put(), place.put()

    bodies = naming(first, suspect, behind, other)
    assert place.handle(ordered(*bodies, groups="aaab")) == []
    assert place.ran == [other, first, suspect, behind]


def test_a_timed_out_head_gives_its_slot_back(make_place: MakePlace, sql_url: str) -> None:
    """It ran out of its attempts, so those behind it go on; its thread is left to itself."""
    place = make_place(sql_url, concurrency=1)

    @place.tickwork.handler("hang", timeout=0.1, max_attempts=1)
    def hang(payload: dict[str, Any]) -> None:
        place.gate.wait(30)

    ids = [place.put("hang"), place.put()]

    assert place.handle(ordered(*naming(*ids), groups="aa")) == []
    assert place.states(*ids) == ["failed", "completed"]


def test_a_job_that_was_taken_over_stops_its_group(place: Place) -> None:
    """Its own end came too late to be written, so nothing is known of what is behind it."""
    ids = [place.put("lose"), place.put()]

    @place.tickwork.handler("lose")
    def lose(payload: dict[str, Any]) -> None:
        place.clock.advance(1000)
        place.tickwork.reclaim()

    assert place.handle(ordered(*naming(*ids), groups="aa")) == ["m0", "m1"]
    assert place.ran == []
    assert [place.job(job_id).attempts for job_id in ids] == [1, 0]
    assert place.consumer.counts["not due"] == 1
    assert place.consumer.counts["behind"] == 1


def test_transactional_jobs_of_a_group(place: Place) -> None:
    """Each commits its own end; on SQLite it holds the only writer meanwhile."""
    seen: list[list[str]] = []
    ids = [place.put("effect") for _ in range(4)]

    @place.tickwork.handler("effect", transactional=True)
    def effect(payload: dict[str, Any]) -> None:
        seen.append(place.states(*ids))

    assert place.handle(ordered(*naming(*ids), groups="aabb")) == []
    assert place.states(*ids) == ["completed"] * 4
    for first, second in ((0, 1), (2, 3)):
        for states in seen:
            assert states[second] != "completed" or states[first] == "completed"


def test_an_async_group(place: Place) -> None:
    order: list[int] = []

    @place.tickwork.handler("step")
    async def step(payload: dict[str, Any]) -> None:
        order.append(payload["n"])

    ids = [place.put("step", {"n": n}) for n in range(5)]

    assert place.handle(ordered(*naming(*ids), groups="aaaaa")) == []
    assert order == [0, 1, 2, 3, 4]
