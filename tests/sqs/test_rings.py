"""``JOBS_BACKEND=sqs``: what is written beside a row, who rings for it, and who runs it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, text

from jobs import JobContext, Snooze, State, Tickwork
from jobs.core.clock import ManualClock
from jobs.core.ids import new_id
from jobs.core.job import NewJob
from jobs.core.ring import MOST_HOPS, RING_GRACE_SECONDS
from jobs.runtime import ring as ringing
from tests.sqs.conftest import MakeQueue
from tests.sqs.consuming import consume
from tests.support.databases import Database
from tests.support.queues import Endpoint, Queue, fault, refusing

OVERDUE = 300.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


MakeSystem = Callable[..., Tickwork]


@pytest.fixture
def make_system(database: Database, clock: ManualClock) -> Iterator[MakeSystem]:
    made: list[Tickwork] = []

    def make(queue_url: str, **settings: Any) -> Tickwork:
        tickwork = Tickwork(
            database.url, clock=clock, backend="sqs", sqs_queue_url=queue_url, **settings
        )
        if not made:
            tickwork.create_schema()
        tickwork.register_handler("mail", lambda payload: "sent")
        made.append(tickwork)
        return tickwork

    yield make
    for tickwork in made:
        tickwork.close()


@pytest.fixture
def tickwork(make_system: MakeSystem, queue: Queue) -> Tickwork:
    return make_system(queue.url)


def row(tickwork: Tickwork, job_id: str) -> tuple[datetime | None, int]:
    """When the row is to be rung, and how often ticks have rung it."""
    store: Any = tickwork.store
    c = store.tables.jobs.c
    with tickwork.engine.connect() as connection:
        found = connection.execute(select(c.ring_at, c.rings).where(c.id == job_id)).one()
        return found.ring_at, found.rings


def ring_in(tickwork: Tickwork, job_id: str, clock: ManualClock) -> float:
    """Seconds from now until the row is to be rung."""
    ring_at = row(tickwork, job_id)[0]
    assert ring_at is not None
    return (ring_at - clock.now()).total_seconds()


def named(queue: Queue) -> list[str]:
    return [message.job_id for message in queue.messages()]


# -- enqueue -----------------------------------------------------------------------------------


RINGS = {
    0: (RING_GRACE_SECONDS, True),
    1.2: (11.2, True),
    900: (910, True),
    901: (61, False),
    86_400: (85_560, False),
}


@pytest.mark.parametrize(
    ("way", "delay"),
    [
        *(("delay", delay) for delay in RINGS),
        *((way, delay) for way in ("run_at", "many", "session") for delay in (1.2, 901)),
    ],
)
def test_an_enqueue_says_when_it_is_to_be_rung(
    make_system: MakeSystem,
    endpoint: Endpoint,
    clock: ManualClock,
    way: str,
    delay: float,
) -> None:
    rings_in, is_sent = RINGS[delay]
    tickwork = make_system(endpoint.queue_url)
    match way:
        case "delay":
            job_id = tickwork.enqueue("mail", delay=delay or None).id
        case "run_at":
            job_id = tickwork.enqueue("mail", run_at=clock.now() + timedelta(seconds=delay)).id
        case "many":
            (job_id,) = tickwork.enqueue_many([("mail", {}, {"delay": delay})])
        case _:
            with tickwork.engine.begin() as connection:
                job_id = tickwork.enqueue("mail", session=connection, delay=delay).id
                assert endpoint.calls == []
    assert ring_in(tickwork, job_id, clock) == pytest.approx(rings_in, abs=0.002)
    assert row(tickwork, job_id)[1] == 0
    assert [endpoint.jobs(call) for call in range(len(endpoint.calls))] == [[job_id]] * is_sent


def test_on_a_fifo_queue_every_delay_is_left_to_the_tick(
    make_system: MakeSystem, make_queue: MakeQueue, clock: ManualClock
) -> None:
    queue = make_queue(fifo=True)
    tickwork = make_system(queue.url)
    now, soon = tickwork.enqueue("mail"), tickwork.enqueue("mail", delay=5)
    assert ring_in(tickwork, now.id, clock) == pytest.approx(RING_GRACE_SECONDS, abs=0.002)
    assert ring_in(tickwork, soon.id, clock) == pytest.approx(5, abs=0.002)
    assert named(queue) == [now.id]
    clock.advance(5)
    tickwork.tick()
    assert named(queue) == [soon.id]
    clock.advance(5)
    tickwork.tick()
    assert named(queue) == [now.id], "rung for again, by another deduplication id"


def test_without_a_queue_nothing_is_written_and_nothing_asked(
    database: Database, clock: ManualClock
) -> None:
    tickwork = Tickwork(database.url, clock=clock, retry_delay=5.0)
    tickwork.create_schema()

    @tickwork.handler("mail")
    def mail() -> None:
        raise LookupError

    texts: list[str] = []
    event.listen(tickwork.engine, "before_cursor_execute", lambda *said: texts.append(said[2]))
    job = tickwork.enqueue("mail")
    tickwork.enqueue_many([("mail", {}, {"delay": 5})])
    tickwork.tick()
    assert not [text for text in texts if "ring" in text.replace("string", "")]
    assert row(tickwork, job.id) == (None, 0)
    tickwork.close()


def statements_of_enqueues(system: Tickwork) -> int:
    system.enqueue("mail")  # what only the first costs
    texts: list[str] = []
    event.listen(system.engine, "before_cursor_execute", lambda *said: texts.append(said[2]))
    system.enqueue("mail")
    system.enqueue("mail", delay=5)
    system.enqueue_many([("mail", {})] * 20)
    with system.engine.begin() as connection:
        system.enqueue("mail", session=connection)
    return len(texts)


def test_an_enqueue_costs_no_statement_more(
    make_system: MakeSystem, queue: Queue, database: Database, clock: ManualClock
) -> None:
    with_queue = statements_of_enqueues(make_system(queue.url))
    plain = Tickwork(database.url, clock=clock)
    assert statements_of_enqueues(plain) == with_queue
    plain.close()


# -- what ticks do -----------------------------------------------------------------------------


def test_a_tick_rings_and_runs_only_what_nobody_came_for(
    tickwork: Tickwork, queue: Queue, clock: ManualClock
) -> None:
    job = tickwork.enqueue("mail")
    assert named(queue) == [job.id]
    result = tickwork.tick()
    assert (result.processed, result.remaining, named(queue)) == (0, 0, [])
    clock.advance(RING_GRACE_SECONDS)
    tickwork.tick()
    (again,) = queue.messages()
    assert (again.job_id, again.kind, again.namespace, again.send, again.hops) == (
        *(job.id, "mail", "", 2, 0),
    )
    clock.advance(59)
    tickwork.tick()
    assert named(queue) == []
    clock.advance(1)
    tickwork.tick()
    assert [message.send for message in queue.messages()] == [3]
    clock.advance(OVERDUE - RING_GRACE_SECONDS - 61)
    assert tickwork.tick().processed == 0
    clock.advance(1)
    assert tickwork.tick().jobs == (job.id,)


def test_the_wait_is_a_setting(make_system: MakeSystem, queue: Queue, clock: ManualClock) -> None:
    tickwork = make_system(queue.url, sqs_overdue=30.0)
    tickwork.enqueue_many([("mail", {})] * 3)
    clock.advance(29.9)
    assert tickwork.tick(limit=2).remaining == 0
    clock.advance(0.1)
    result = tickwork.tick(limit=2)
    assert (result.processed, result.remaining) == (2, 1)


def test_who_asks_for_a_job_by_name_gets_it_at_once(tickwork: Tickwork) -> None:
    first, second = tickwork.enqueue("mail"), tickwork.enqueue("mail")
    done = tickwork.process_next_job()
    assert done is not None
    assert done.id == first.id
    assert [job.id for job in tickwork.process_batch()] == [second.id]


def test_a_message_runs_its_job(tickwork: Tickwork, queue: Queue) -> None:
    job = tickwork.enqueue("mail")
    report = consume(tickwork, queue.messages())
    assert [outcome.name for outcome in report.outcomes] == ["completed"]
    assert consume(tickwork, [*queue.messages()]).outcomes == []
    done = tickwork.get(job.id)
    assert done is not None
    assert done.result == "sent"


def test_jobs_far_ahead_are_rung_for_in_time(
    tickwork: Tickwork, queue: Queue, clock: ManualClock
) -> None:
    job = tickwork.enqueue("mail", delay=3600)
    clock.advance(3600 - 841)
    tickwork.tick()
    assert (named(queue), queue.held_back()) == ([], 0)
    clock.advance(1)
    tickwork.tick()
    assert (named(queue), queue.held_back()) == ([], 1)
    assert ring_in(tickwork, job.id, clock) == pytest.approx(900, abs=0.002)


def test_a_backlog_is_rung_for_in_bounded_steps(
    tickwork: Tickwork, queue: Queue, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ringing, "RINGS_PER_STATEMENT", 20)
    monkeypatch.setattr(ringing, "STATEMENTS_PER_TICK", 2)
    ids = tickwork.enqueue_many([("mail", {})] * 50)
    queue.take_all()
    clock.advance(RING_GRACE_SECONDS)
    found = []
    for sent in (40, 10, 0):
        tickwork.tick()
        now = named(queue)
        assert len(now) == sent
        found += now
    assert sorted(found) == sorted(ids)


def test_ticks_at_once_ring_once(make_system: MakeSystem, queue: Queue, clock: ManualClock) -> None:
    systems = [make_system(queue.url) for _ in range(3)]
    ids = systems[0].enqueue_many([("mail", {})] * 60)
    queue.take_all()
    clock.advance(RING_GRACE_SECONDS)
    start = threading.Barrier(len(systems))
    troubles: list[BaseException] = []

    def tick(system: Tickwork) -> None:
        start.wait(30)
        try:
            system.tick()
        except BaseException as error:  # noqa: BLE001 - told below
            troubles.append(error)

    threads = [threading.Thread(target=tick, args=(system,)) for system in systems]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert troubles == []
    # One that found the rows in another's hands may have left some: the next tick rings.
    systems[0].tick()
    assert sorted(named(queue)) == sorted(ids)


def plan(tickwork: Tickwork, statement: str) -> str:
    """What the database says of its way to the rows, parameters written in."""
    explain = "EXPLAIN QUERY PLAN" if tickwork.engine.dialect.name == "sqlite" else "EXPLAIN"
    with tickwork.engine.connect() as connection:
        if tickwork.engine.dialect.name == "mysql":
            connection.exec_driver_sql("ANALYZE TABLE tickwork_jobs")
        else:
            connection.exec_driver_sql("ANALYZE")
        rows = connection.execute(text(f"{explain} {statement}")).all()
    return "\n".join(" ".join(map(str, row)) for row in rows)


def test_the_ranges_are_those_of_the_indexes(database: Database, queue: Queue) -> None:
    """Among history and rows rung for later; on the database's own time."""
    tickwork = Tickwork(database.url, backend="sqs", sqs_queue_url=queue.url)
    tickwork.create_schema()
    store: Any = tickwork.store
    rows = (NewJob(new_id(), "mail", "{}", ring_after_seconds=600.0) for _ in range(3000))
    store.insert_many(rows)
    with tickwork.engine.begin() as connection:
        connection.execute(text("UPDATE tickwork_jobs SET state = 'completed' WHERE priority = 3"))
    store.insert_many([NewJob(new_id(), "mail", "{}", ring_after_seconds=0.0)] * 1)
    unrung = store.statements.unrung.replace(":namespace", "''").replace(":limit", "10")
    overdue = store._overdue_statements.due_in("'3/default/mail/'", "10")
    overdue = overdue.replace(":namespace", "''")
    for cast in ("CAST(:overdue_seconds AS float8)", ":overdue_seconds"):
        overdue = overdue.replace(cast, "300")

    assert "jobs_unrung" in plan(tickwork, unrung)
    assert "jobs_pending" in plan(tickwork, overdue)
    tickwork.close()


# -- what goes back to waiting -------------------------------------------------------------------


@pytest.fixture
def patient(make_system: MakeSystem, queue: Queue) -> Tickwork:
    """A system with jobs that wait again after they ran."""
    tickwork = make_system(queue.url, retry_delay=30.0, sqs_overdue=0.0)

    @tickwork.handler("retry")
    def retry(payload: dict[str, Any]) -> None:
        raise LookupError

    @tickwork.handler("snooze")
    def snooze(payload: dict[str, Any]) -> None:
        raise Snooze(payload["seconds"])

    return tickwork


def test_a_retry_by_a_tick_is_rung_for(patient: Tickwork, queue: Queue, clock: ManualClock) -> None:
    job = patient.enqueue("retry")
    queue.take_all()
    assert patient.tick().retried == 1
    found = patient.get(job.id)
    assert found is not None
    left = (found.run_at - clock.now()).total_seconds()
    assert (named(queue), queue.held_back()) == ([], 1)
    assert ring_in(patient, job.id, clock) == pytest.approx(left + 60, abs=0.002)


@pytest.mark.parametrize(
    ("seconds", "sent", "held", "rings_in"),
    [(0, 1, 0, 60), (900, 0, 1, 960), (1000, 0, 0, 160)],
)
def test_a_snooze_by_a_tick(
    patient: Tickwork,
    queue: Queue,
    clock: ManualClock,
    seconds: float,
    sent: int,
    held: int,
    rings_in: float,
) -> None:
    job = patient.enqueue("snooze", {"seconds": seconds})
    queue.take_all()
    assert patient.tick().snoozed == 1
    assert (queue.ready(), queue.held_back()) == (sent, held)
    assert ring_in(patient, job.id, clock) == pytest.approx(rings_in, abs=0.002)


def test_a_lost_runners_job_is_rung_for(
    patient: Tickwork, queue: Queue, clock: ManualClock
) -> None:
    job = patient.enqueue("mail")
    queue.take_all()
    patient.store.claim(1, kinds={"mail"}, lease_seconds=60)
    clock.advance(61)
    assert patient.reclaim() == 1
    assert named(queue) == [job.id]


@pytest.mark.parametrize(
    ("seconds", "rings_in"),
    [(30, 40), (3600, 3610), (11 * 3600, 11 * 3600 + 10), (86_400, 86_400 - 840)],
)
def test_a_consumer_keeps_the_message_and_rings_for_nothing(
    patient: Tickwork, queue: Queue, clock: ManualClock, seconds: float, rings_in: float
) -> None:
    job = patient.enqueue("snooze", {"seconds": seconds})
    report = consume(patient, queue.messages())
    assert [outcome.name for outcome in report.outcomes] == ["snoozed"]
    assert (queue.ready(), queue.held_back()) == (0, 0)
    assert ring_in(patient, job.id, clock) == pytest.approx(rings_in, abs=0.002)


def test_a_settle_stands_though_the_queue_is_dead(
    make_system: MakeSystem, endpoint: Endpoint, clock: ManualClock
) -> None:
    tickwork = make_system(endpoint.queue_url, retry_delay=0.0, sqs_overdue=0.0)

    @tickwork.handler("retry")
    def retry() -> None:
        raise LookupError

    job = tickwork.enqueue("retry")
    endpoint.always = fault(403, "AccessDenied")
    assert tickwork.tick().retried == 1
    found = tickwork.get(job.id)
    assert found is not None
    assert found.state is State.PENDING
    assert ring_in(tickwork, job.id, clock) == pytest.approx(0, abs=0.002)


# -- what fails ----------------------------------------------------------------------------------


def test_what_could_not_be_sent_is_rung_for_by_the_next_tick(
    make_system: MakeSystem, endpoint: Endpoint, clock: ManualClock
) -> None:
    tickwork = make_system(endpoint.queue_url)
    endpoint.answers = [refusing(3, sender_fault=True)]
    ids = tickwork.enqueue_many([("mail", {})] * 10)
    waits = [ring_in(tickwork, job_id, clock) for job_id in ids]
    assert [wait < 0.002 for wait in waits] == [place == 3 for place in range(10)]
    tickwork.tick()
    assert endpoint.jobs(1) == [ids[3]]
    assert row(tickwork, ids[3])[1] == 1


def test_a_request_survives_a_dead_queue(
    make_system: MakeSystem,
    endpoint: Endpoint,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tickwork = make_system(endpoint.queue_url)
    endpoint.always = fault(403, "AccessDenied")
    with caplog.at_level(logging.WARNING, "tickwork"):
        job = tickwork.enqueue("mail")
        tickwork.tick()
    assert ring_in(tickwork, job.id, clock) == pytest.approx(0, abs=0.002)
    assert "sqs:SendMessage" in caplog.text
    clock.advance(OVERDUE)
    assert tickwork.tick().jobs == (job.id,)


def test_a_request_survives_when_even_the_note_fails(
    make_system: MakeSystem, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickwork = make_system(endpoint.queue_url)
    endpoint.always = fault(403, "AccessDenied")

    def refuse(_ids: object) -> None:
        raise LookupError

    monkeypatch.setattr(tickwork.store, "ring_again", refuse)
    assert tickwork.enqueue("mail").state is State.PENDING


# -- chains --------------------------------------------------------------------------------------


def test_a_chain_of_jobs_ends_at_the_fuse_and_goes_on_by_a_tick(
    tickwork: Tickwork, queue: Queue, clock: ManualClock
) -> None:
    @tickwork.handler("sync")
    def chained(payload: dict[str, Any]) -> None:
        tickwork.enqueue("async", payload)

    @tickwork.handler("async")
    async def chained_async(payload: dict[str, Any], ctx: JobContext) -> None:
        await tickwork.aenqueue("sync", payload)

    tickwork.enqueue("sync")
    for hops in range(MOST_HOPS):
        messages = queue.messages()
        assert [message.hops for message in messages] == [hops]
        consume(tickwork, messages)
    assert queue.messages() == []
    (left,) = tickwork.list(state=State.PENDING)
    assert ring_in(tickwork, left.id, clock) == pytest.approx(0, abs=0.002)
    tickwork.tick()
    (message,) = queue.messages()
    assert (message.job_id, message.hops) == (left.id, 0)


def test_a_request_outside_a_consumer_begins_a_chain(tickwork: Tickwork, queue: Queue) -> None:
    tickwork.enqueue("mail")
    assert [message.hops for message in queue.messages()] == [0]
