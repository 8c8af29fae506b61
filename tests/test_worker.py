"""The worker in this process: slots, leases, limits, and what its looks cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import force_setattr
from sqlalchemy import event, update

from jobs import JobContext, Snooze, State, Tickwork
from jobs.runtime.worker import Worker
from tests.support.databases import Database
from tests.support.web import eventually


@pytest.fixture
def tickwork(database: Database) -> Iterator[Tickwork]:
    tickwork = Tickwork(database.url, poll_interval=0.1, concurrency=3)
    tickwork.create_schema()
    yield tickwork
    tickwork.close()


def state(tickwork: Tickwork, job_id: str) -> State:
    job = tickwork.get(job_id)
    assert job is not None
    return job.state


def stop(worker: Worker, grace_seconds: float = 10) -> None:
    worker.stop(grace_seconds)
    assert worker.wait(20)
    assert worker.error is None


def test_a_slow_job_holds_up_no_free_slot(tickwork: Tickwork) -> None:
    gate = threading.Event()

    @tickwork.handler("slow")
    def slow() -> None:
        gate.wait(30)

    @tickwork.handler("quick")
    def quick() -> None:
        return

    for _ in range(2):
        slow.enqueue()
    ids = tickwork.enqueue_many([("quick", {})] * 40)
    worker = tickwork.worker()
    worker.start()
    try:
        assert eventually(lambda: all(state(tickwork, each) == "completed" for each in ids))
        assert worker.take_stats().running == 2
        late = quick.enqueue()
        assert eventually(lambda: state(tickwork, late.id) == "completed")
    finally:
        gate.set()
        stop(worker)
    assert worker.take_stats().succeeded >= 1
    assert tickwork.list(state=State.PENDING) == []


def test_what_was_claimed_ahead_goes_back_when_the_slots_are_all_at_long_jobs(
    tickwork: Tickwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst of small jobs has it claim ahead; then come long ones, and another runner is free."""
    monkeypatch.setattr("jobs.runtime.stream.STALE_SECONDS", 0.2)
    gate = threading.Event()
    begun = []

    @tickwork.handler("work")
    def work(payload: dict[str, int], ctx: JobContext) -> None:
        begun.append(ctx.job_id)
        if payload["n"] >= 100:
            gate.wait(30)

    tickwork.enqueue_many([("work", {"n": n}) for n in range(150)])
    worker = tickwork.worker(concurrency=2)
    worker.start()
    try:
        assert eventually(lambda: len(begun) == 102)
        # The two that run, and nothing else, are held.
        assert eventually(lambda: len(tickwork.list(state=State.PROCESSING, limit=200)) == 2)
        waiting = tickwork.list(state=State.PENDING, limit=200)
        assert (len(waiting), {job.attempts for job in waiting}) == (48, {0})
    finally:
        gate.set()
        stop(worker)


def test_what_may_have_killed_its_runner_runs_alone(tickwork: Tickwork) -> None:
    """What runs goes on to its end, what waits begins after it; then all slots are filled again."""
    gate, begun = threading.Event(), list[tuple[str, frozenset[str]]]()
    running: set[str] = set()
    lock = threading.Lock()

    @tickwork.handler("work")
    def work(payload: dict[str, str], ctx: JobContext) -> None:
        with lock:
            begun.append((payload["name"], frozenset(running)))
            running.add(payload["name"])
        gate.wait(30 if payload["name"] == "slow" else 0.02)
        with lock:
            running.remove(payload["name"])

    suspects = [work.enqueue({"name": name}).id for name in ("first", "second")]
    assert len(tickwork.store.claim(2, kinds=["work"], lease_seconds=60, mark=2)) == 2
    jobs, past = tickwork.store.tables.jobs, datetime(2020, 1, 1, tzinfo=UTC)  # type: ignore[attr-defined]
    with tickwork.engine.begin() as connection:
        connection.execute(update(jobs).values(lease_until=past))
    assert tickwork.reclaim() == 2
    slow = work.enqueue({"name": "slow"}, priority=1)
    worker = tickwork.worker(concurrency=3)
    worker.start()
    try:
        assert eventually(lambda: state(tickwork, slow.id) == "processing" and bool(begun))
        with tickwork.engine.begin() as connection:
            connection.execute(update(jobs).where(jobs.c.id.in_(suspects)).values(run_at=past))
        worker.wake()
        assert eventually(lambda: state(tickwork, suspects[0]) == "processing")
        others = [work.enqueue({"name": f"other {n}"}).id for n in range(6)]
        assert not gate.is_set()
        assert begun == [("slow", frozenset())]
        gate.set()
        assert eventually(lambda: all(state(tickwork, each) == "completed" for each in others))
    finally:
        gate.set()
        stop(worker)
    found = dict(begun)
    assert found["first"] == found["second"] == frozenset()
    assert not any({"first", "second"} & among for among in found.values())
    assert {job.attempts for job in tickwork.list(state=State.COMPLETED)} == {1, 2}


def test_what_waits_for_its_turn_alone_goes_back_at_the_end(tickwork: Tickwork) -> None:
    gate = threading.Event()

    @tickwork.handler("work")
    def work(payload: dict[str, bool]) -> None:
        if payload["slow"]:
            gate.wait(30)

    suspect = work.enqueue({"slow": False})
    tickwork.store.claim(1, kinds=["work"], lease_seconds=60, mark=1)
    jobs, past = tickwork.store.tables.jobs, datetime(2020, 1, 1, tzinfo=UTC)  # type: ignore[attr-defined]
    with tickwork.engine.begin() as connection:
        connection.execute(update(jobs).values(lease_until=past))
    tickwork.reclaim()
    slow = work.enqueue({"slow": True}, priority=1)
    with tickwork.engine.begin() as connection:
        connection.execute(update(jobs).values(run_at=past))
    worker = tickwork.worker(concurrency=2)
    worker.start()
    assert eventually(lambda: state(tickwork, suspect.id) == "processing")
    assert eventually(lambda: worker.take_stats().running == 1)
    worker.stop(10)
    assert eventually(lambda: state(tickwork, suspect.id) == "pending")
    gate.set()
    stop(worker)
    assert state(tickwork, slow.id) == "completed"
    back = tickwork.get(suspect.id)
    assert back is not None
    assert back.attempts == 1  # that of its lost runner alone


def test_a_lease_is_renewed_for_as_long_as_a_job_runs(tickwork: Tickwork) -> None:
    gate = threading.Event()

    @tickwork.handler("long")
    def long() -> None:
        gate.wait(30)

    job = long.enqueue()
    worker = Worker(tickwork._runtime, lease_seconds=0.9)
    worker.start()
    try:
        assert eventually(lambda: state(tickwork, job.id) == "processing")
        until = time.monotonic() + 2.0  # more than two leases
        while time.monotonic() < until:
            assert tickwork.store.stalled(10) == []
            time.sleep(0.05)
    finally:
        gate.set()
        stop(worker)
    done = tickwork.get(job.id)
    assert done is not None
    assert (done.state, done.attempts) == ("completed", 1)


def test_a_transactional_job_keeps_its_lease_too(tickwork: Tickwork) -> None:
    gate, begun = threading.Event(), threading.Event()

    @tickwork.handler("long", transactional=True)
    def long(ctx: JobContext) -> str:
        begun.set()
        gate.wait(30)
        return "once"

    job = long.enqueue()
    worker = Worker(tickwork._runtime, lease_seconds=1.2)
    worker.start()
    other = Tickwork(tickwork.settings.database_url)
    reclaimer = threading.Thread(target=other.reclaim)
    try:
        assert begun.wait(30)
        time.sleep(1.7)
        reclaimer.start()  # on SQLite it waits for the handler's transaction
        time.sleep(0.2)
    finally:
        gate.set()
        stop(worker)
        reclaimer.join(20)
        other.close()
    done = tickwork.get(job.id)
    assert done is not None
    assert (done.state, done.attempts, done.result) == ("completed", 1, "once")


def test_a_lost_job_is_reclaimed_by_the_worker(tickwork: Tickwork) -> None:
    @tickwork.handler("job")
    def handle() -> None:
        return

    job = handle.enqueue()
    claimed = tickwork.store.claim(1, kinds=["job"], lease_seconds=3600, mark=0)
    assert [each.id for each in claimed] == [job.id]
    jobs = tickwork.store.tables.jobs  # type: ignore[attr-defined]
    with tickwork.engine.begin() as connection:
        connection.execute(update(jobs).values(lease_until=datetime(2020, 1, 1, tzinfo=UTC)))
    worker = tickwork.worker()
    worker.start()
    try:
        assert eventually(lambda: state(tickwork, job.id) == "completed")
        assert worker.take_stats().reclaimed == 1
    finally:
        stop(worker)


def test_delayed_jobs_and_schedules_come_when_they_are_due(tickwork: Tickwork) -> None:
    """The poll is far away: it sleeps until the next thing is due."""
    force_setattr(tickwork.settings, "poll_interval", 60.0)
    begun = threading.Event()

    @tickwork.handler("job")
    def handle() -> None:
        begun.set()

    due_at = datetime.now(UTC) + timedelta(seconds=1)
    handle.enqueue(run_at=due_at)
    worker = tickwork.worker()
    worker.start()
    try:
        assert begun.wait(20)
        assert timedelta(0) <= datetime.now(UTC) - due_at < timedelta(seconds=5)
        begun.clear()
        at = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
        tickwork.schedule("once", kind="job", at=at)
        worker.wake()
        assert begun.wait(20)
    finally:
        stop(worker)


def test_limits_hold_and_free_places_are_taken_at_once(tickwork: Tickwork) -> None:
    force_setattr(tickwork.settings, "poll_interval", 60.0)
    running: list[int] = []
    most = 0
    lock = threading.Lock()

    @tickwork.handler("limited", max_concurrency=1)
    def limited() -> None:
        nonlocal most
        with lock:
            running.append(1)
            most = max(most, len(running))
        time.sleep(0.02)
        with lock:
            running.pop()

    ids = tickwork.enqueue_many([("limited", {})] * 8)
    worker = tickwork.worker()
    worker.start()
    try:
        assert eventually(lambda: all(state(tickwork, each) == "completed" for each in ids))
    finally:
        stop(worker)
    assert most == 1


def test_a_limit_in_the_process_keeps_no_slot_from_others(tickwork: Tickwork) -> None:
    gate = threading.Event()

    @tickwork.handler("one", concurrency_in_process=1)
    def one() -> None:
        gate.wait(30)

    @tickwork.handler("other")
    def other() -> None:
        return

    tickwork.enqueue_many([("one", {})] * 30, priority=1)
    ids = tickwork.enqueue_many([("other", {})] * 10, priority=5)
    worker = tickwork.worker(concurrency=2)
    worker.start()
    try:
        assert eventually(lambda: all(state(tickwork, each) == "completed" for each in ids))
    finally:
        gate.set()
        stop(worker)


def test_a_job_that_only_snoozes_is_no_spin(tickwork: Tickwork) -> None:
    calls = []

    @tickwork.handler("never")
    def never() -> None:
        calls.append(1)
        raise Snooze(0)

    never.enqueue()
    worker = tickwork.worker()
    worker.start()
    time.sleep(1.0)
    stop(worker)
    assert 1 <= len(calls) < 400


def test_only_the_named_queues_and_kinds(tickwork: Tickwork) -> None:
    done = []
    for kind in ("a", "b"):
        tickwork.handler(kind)(lambda ctx: done.append((ctx.kind, ctx.queue)))
    for kind in ("a", "b"):
        for queue in ("fast", "slow"):
            tickwork.enqueue(kind, queue=queue)
    worker = tickwork.worker(kinds=["a"], queues=["fast"])
    worker.start()
    try:
        assert eventually(lambda: done == [("a", "fast")])
        time.sleep(0.3)
        assert done == [("a", "fast")]
        assert len(tickwork.list(state=State.PENDING)) == 3
    finally:
        stop(worker)


def test_an_idle_worker_asks_one_statement_a_poll(tickwork: Tickwork) -> None:
    force_setattr(tickwork.settings, "poll_interval", 0.2)

    @tickwork.handler("job")
    def handle() -> None:
        return

    job = handle.enqueue()
    seen: list[str] = []
    worker = tickwork.worker()
    worker.start()
    try:
        assert eventually(lambda: state(tickwork, job.id) == "completed")
        time.sleep(0.3)

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if not statement.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
                seen.append(statement)

        event.listen(tickwork.engine, "before_cursor_execute", note)
        time.sleep(1.1)
        event.remove(tickwork.engine, "before_cursor_execute", note)
    finally:
        stop(worker)
    assert 3 <= len(seen) <= 6, seen


def test_a_stop_hands_back_and_gives_up_after_the_grace(tickwork: Tickwork) -> None:
    gate = threading.Event()

    @tickwork.handler("hang", max_attempts=3)
    def hang() -> None:
        begun.append(None)
        gate.wait(30)

    begun: list[None] = []
    ids = tickwork.enqueue_many([("hang", {})] * 5)
    worker = tickwork.worker(concurrency=2)
    worker.start()
    try:
        assert eventually(lambda: len(begun) == 2)
        stop(worker, grace_seconds=0.1)
        jobs = [job for each in ids if (job := tickwork.get(each)) is not None]
        assert [job.state for job in jobs] == ["pending"] * 5
        assert sorted(job.attempts for job in jobs) == [0, 0, 0, 1, 1]
        assert any("told to end" in (job.error or "") for job in jobs)
        assert worker.leaves_threads
    finally:
        gate.set()


def test_what_a_handler_enqueues_starts_without_a_poll(tickwork: Tickwork) -> None:
    force_setattr(tickwork.settings, "poll_interval", 60.0)
    done = threading.Event()

    @tickwork.handler("second")
    def second() -> None:
        done.set()

    @tickwork.handler("first")
    def first() -> None:
        second.enqueue()

    first.enqueue()
    worker = tickwork.worker()
    worker.start()
    try:
        assert done.wait(20)
    finally:
        stop(worker)


def test_it_forgets_what_has_ended(tickwork: Tickwork) -> None:
    @tickwork.handler("job")
    def handle() -> None:
        return

    worker = tickwork.worker()
    worker.start()
    ids = tickwork.enqueue_many([("job", {})] * 500)
    try:
        assert eventually(lambda: state(tickwork, ids[-1]) == "completed")
        assert eventually(lambda: tickwork.list(state=State.PENDING) == [])
    finally:
        stop(worker)
    stream = worker._stream
    held = (stream._claimed_by_id, stream._taken_at, stream._ended, stream._committed)
    held += (stream._starts, stream._places)
    assert [len(each) for each in held] == [0] * 6  # type: ignore[arg-type]
    assert stream.total == 0
    assert stream.report.outcomes == []
