"""Exactly-once effects: a transactional handler's writes, its child and its completion are one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select, text

from jobs import Discard, Job, JobContext, Retry, Snooze, State, Tickwork
from jobs.core.clock import ManualClock
from jobs.core.store import Capability
from jobs.stores.sql import SqlStore
from tests.support.crashing import Crasher
from tests.support.databases import Database
from tests.support.scenarios import EFFECTS, EXIT_CODE, build, wait_for
from tests.test_crashes import expire_leases, get, starts, tick_to_the_end


@pytest.fixture
def tickwork(database: Database, log: Path) -> Iterator[Tickwork]:
    tickwork = build(database.url, str(log))
    tickwork.create_schema()
    EFFECTS.create(tickwork.engine)
    yield tickwork
    tickwork.close()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def effects(tickwork: Tickwork) -> list[tuple[str, int]]:
    """Each effect as its job's id and the fence it was made under."""
    with tickwork.engine.connect() as connection:
        rows = connection.execute(select(EFFECTS.c.job_id, EFFECTS.c.fence).order_by(EFFECTS.c.id))
        return [(row.job_id, row.fence) for row in rows]


def children(tickwork: Tickwork, job: Job) -> list[Job]:
    return [child for child in tickwork.list(kind="note") if child.payload == {"parent": job.id}]


def write(ctx: JobContext) -> None:
    ctx.session.execute(insert(EFFECTS).values(job_id=ctx.job_id, fence=ctx.fence))


def test_effect_child_and_completion(tickwork: Tickwork) -> None:
    job = tickwork.enqueue("effect")
    result = tickwork.tick()
    assert (result.succeeded, result.late) == (1, 0)
    assert effects(tickwork) == [(job.id, 1)]
    assert len(children(tickwork, job)) == 1
    done = get(tickwork, job.id)
    assert (done.state, done.result, done.attempts) == (State.COMPLETED, "attempt 1", 1)
    assert done.started_at is not None
    assert done.finished_at is not None
    assert tickwork.tick().succeeded == 1


def test_a_crash_at_every_statement(
    tickwork: Tickwork, crasher: Crasher, database: Database, log: Path
) -> None:
    """Before and after each statement and each commit: in the end there is one of each."""
    crashed_after_the_effect = 0
    for crash_at in range(1, 200):
        tickwork.clear(force=True)
        log.unlink(missing_ok=True)
        with tickwork.engine.begin() as connection:
            connection.execute(EFFECTS.delete())
        job = tickwork.enqueue("effect")
        code = crasher.run("tick", url=database.url, log=str(log), crash_at=crash_at, limit=1)
        crashed_after_the_effect += bool(starts(log)) and code == EXIT_CODE
        tick_to_the_end(tickwork)
        assert len(effects(tickwork)) == 1, crash_at
        (child,) = children(tickwork, job)
        assert child.state is State.COMPLETED, crash_at
        done = get(tickwork, job.id)
        assert done.state is State.COMPLETED, crash_at
        assert effects(tickwork) == [(job.id, done.fence)], crash_at
        assert starts(log)[child.id] == 1, crash_at
        if code == 0:
            assert crashed_after_the_effect >= 8
            return
        assert code == EXIT_CODE
    raise AssertionError("the tick never came to its end")


@pytest.mark.parametrize(
    ("error", "outcome", "state"),
    [
        (ValueError("no"), "retried", State.PENDING),
        (Retry(after=5), "retried", State.PENDING),
        (Snooze(5), "snoozed", State.PENDING),
        (Discard("no"), "failed", State.FAILED),
        (SystemExit(), "retried", State.PENDING),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_is_raised_rolls_back(
    tickwork: Tickwork, error: BaseException, outcome: str, state: State
) -> None:
    @tickwork.handler("raising", transactional=True)
    def raising(ctx: JobContext) -> None:
        write(ctx)
        tickwork.enqueue("note", session=ctx.session)
        raise error

    job = tickwork.enqueue("raising")
    result = tickwork.tick()
    assert getattr(result, outcome) == 1
    assert effects(tickwork) == []
    assert [each.id for each in tickwork.list()] == [job.id]
    assert get(tickwork, job.id).state is state


def test_a_database_error_rolls_back_and_is_told(tickwork: Tickwork) -> None:
    @tickwork.handler("broken", transactional=True)
    def broken(ctx: JobContext) -> None:
        write(ctx)
        ctx.session.execute(text("SELECT * FROM nowhere"))

    job = tickwork.enqueue("broken")
    assert tickwork.tick().retried == 1
    assert effects(tickwork) == []
    assert "nowhere" in str(get(tickwork, job.id).error)


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
def test_a_handler_that_ends_its_session_does_not_break_the_fence(
    tickwork: Tickwork, end: str
) -> None:
    """Both for the one that holds its row and for the one that does not any more."""
    late: list[bool] = [False, True]
    lateness = iter(late)

    @tickwork.handler("ending", transactional=True)
    def ending(ctx: JobContext) -> None:
        write(ctx)
        ctx.session.flush()
        getattr(ctx.session, end)()
        write(ctx)
        if next(lateness):
            # As if reclaimed and claimed again, from within: on SQLite nobody else could write.
            ctx.session.execute(
                text("UPDATE tickwork_jobs SET fence = fence + 1 WHERE id = :id"),
                {"id": ctx.job_id},
            )
            ctx.session.commit()

    held = tickwork.enqueue("ending")
    assert tickwork.tick().succeeded == 1
    written = [(held.id, 1)] * (2 if end == "commit" else 1)
    assert effects(tickwork) == written
    lost = tickwork.enqueue("ending")
    result = tickwork.tick()
    assert result.succeeded == 0
    assert effects(tickwork) == written
    # Rolled back with everything else, the fence is what it was: the attempt failed, no more.
    assert get(tickwork, lost.id).state is State.PENDING


def test_a_row_taken_over_rolls_everything_back(tickwork: Tickwork) -> None:
    if Capability.CONCURRENT_WRITERS not in tickwork.store.capabilities:
        pytest.skip("the handler holds the only writer: nobody can take its row over")
    seen: list[Job] = []

    @tickwork.handler("slow", transactional=True)
    def slow(ctx: JobContext) -> str:
        write(ctx)
        tickwork.enqueue("note", {"parent": ctx.job_id}, session=ctx.session)
        if ctx.attempt == 1:
            tick_to_the_end(tickwork)
            seen.append(get(tickwork, ctx.job_id))
        return f"attempt {ctx.attempt}"

    job = tickwork.enqueue("slow")
    result = tickwork.tick()
    assert (result.processed, result.late) == (0, 1)
    assert get(tickwork, job.id) == seen[0]
    assert (seen[0].result, seen[0].attempts, seen[0].fence) == ("attempt 2", 2, 2)
    assert effects(tickwork) == [(job.id, 2)]
    assert len(children(tickwork, job)) == 1


def test_a_frozen_runner_that_wakes_up_writes_nothing(
    tickwork: Tickwork, crasher: Crasher, database: Database, log: Path
) -> None:
    job = tickwork.enqueue("effect", {"hang": True})
    pid = crasher.start("tick", url=database.url, log=str(log))
    # All is written and nothing committed: in the middle of a commit it could be either.
    wait_for(log.with_name("log.held").exists)
    if Capability.CONCURRENT_WRITERS not in tickwork.store.capabilities:
        # Frozen with the only writer it delays everybody, for as long as it is frozen.
        crasher.freeze(pid)
        log.with_name("log.release").touch()
        others = threading.Thread(target=tickwork.enqueue, args=("note",))
        others.start()
        others.join(0.3)
        assert others.is_alive()
        os.kill(pid, signal.SIGCONT)
        others.join(30)
        assert crasher.wait(pid) == 0
        tick_to_the_end(tickwork)
        assert effects(tickwork) == [(job.id, 1)]
        return
    crasher.freeze(pid)
    log.with_name("log.release").touch()
    tick_to_the_end(tickwork)
    done = get(tickwork, job.id)
    assert (done.state, done.attempts) == (State.COMPLETED, 2)
    os.kill(pid, signal.SIGCONT)
    assert crasher.wait(pid) == 0
    result = json.loads(log.with_name("log.result").read_text())
    assert (result["processed"], result["late"]) == (0, 1)
    assert effects(tickwork) == [(job.id, 2)]
    assert len(children(tickwork, job)) == 1
    assert get(tickwork, job.id) == done


class NeverBusy(SqlStore):
    """Looks at the writer just before a handler takes it: the moment that a test cannot hit."""

    looked = 0

    def writer_busy(self) -> bool:
        import sys

        if sys._getframe(1).f_code.co_name == "_flush":
            return False
        return super().writer_busy()


@pytest.mark.parametrize("store_class", [SqlStore, NeverBusy])
@pytest.mark.parametrize("reading", [False, True], ids=["idle", "reading"])
def test_a_timeout_cuts_the_transaction(
    database: Database, gate: threading.Event, store_class: type[SqlStore], *, reading: bool
) -> None:
    """The handler hangs on and writes on, but nothing of it is seen, and nobody is held up."""
    store = store_class(database.url)
    # Its retry comes long after this test, however slow the machine.
    tickwork = Tickwork(store=store, concurrency=3, retry_delay=3600.0)
    tickwork.create_schema()
    EFFECTS.create(tickwork.engine)
    went_on: list[str] = []
    done = threading.Event()

    @tickwork.handler("hang", transactional=True, timeout=0.3)
    def hang(ctx: JobContext) -> str:
        write(ctx)
        half_read = ctx.session.execute(select(func.count()).select_from(EFFECTS))
        if not reading:
            half_read.all()
        gate.wait(30)
        for attempt in ("first", "second"):
            try:
                write(ctx)
                tickwork.enqueue("good", session=ctx.session)
                ctx.session.commit()
                went_on.append(attempt)
            except Exception:  # noqa: BLE001 - each database has its own words for a cut line
                with contextlib.suppress(Exception):
                    ctx.session.rollback()
        done.set()
        return "too late"

    tickwork.register_handler("good", lambda payload: "good")
    hung = tickwork.enqueue("hang", priority=1)
    goods = [tickwork.enqueue("good").id for _ in range(4)]
    began = time.monotonic()
    result = tickwork.tick()
    assert time.monotonic() - began < 18
    assert (result.retried, result.succeeded) == (1, 4)
    assert "TimedOut" in str(get(tickwork, hung.id).error)
    tickwork.enqueue("good")
    assert tickwork.tick().succeeded == 1
    before = get(tickwork, hung.id)
    gate.set()
    assert done.wait(10)
    wait_for(lambda: tickwork.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]
    assert effects(tickwork) == []
    assert len(tickwork.list(kind="good")) == 5
    assert get(tickwork, hung.id) == before
    assert {get(tickwork, job_id).result for job_id in goods} == {"good"}
    # What was cut off is not lent to anybody again.
    tickwork.register_handler("effect", write, transactional=True)
    for _ in range(3):
        tickwork.enqueue("effect")
    assert tickwork.tick().succeeded == 3
    assert len(effects(tickwork)) == 3
    tickwork.close()


def test_a_long_statement_is_cut_as_well(database: Database) -> None:
    if database.name == "mysql":
        endless = "SELECT SLEEP(20)"
    elif database.name == "postgresql":
        endless = "SELECT pg_sleep(20)"
    else:
        endless = (
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
        )
    tickwork = Tickwork(database.url)
    tickwork.create_schema()
    EFFECTS.create(tickwork.engine)

    @tickwork.handler("endless", transactional=True, timeout=0.3)
    def run(ctx: JobContext) -> None:
        write(ctx)
        ctx.session.execute(text(endless))

    tickwork.register_handler("good", lambda payload: "good")
    tickwork.enqueue("endless")
    tickwork.enqueue("good")
    began = time.monotonic()
    result = tickwork.tick()
    assert time.monotonic() - began < 18
    assert (result.retried, result.succeeded) == (1, 1)
    assert effects(tickwork) == []
    tickwork.close()


def test_one_at_a_time_on_sqlite(sqlite_database: Database) -> None:
    tickwork = Tickwork(sqlite_database.url, concurrency=4)
    tickwork.create_schema()
    EFFECTS.create(tickwork.engine)
    running: list[str] = []
    most: list[int] = []

    @tickwork.handler("effect", transactional=True)
    def effect(ctx: JobContext) -> None:
        running.append(ctx.job_id)
        most.append(len(running))
        write(ctx)
        time.sleep(0.01)
        running.remove(ctx.job_id)

    tickwork.register_handler("good", lambda payload: "good")
    ids = tickwork.enqueue_many([("effect", {}), ("good", {})] * 6)
    assert tickwork.tick(limit=12).succeeded == 12
    assert most == [1] * 6
    assert len(effects(tickwork)) == 6
    assert {get(tickwork, job_id).state for job_id in ids} == {State.COMPLETED}
    tickwork.close()


def test_those_that_wait_for_the_writer_are_handed_back_in_time(
    sqlite_database: Database, gate: threading.Event
) -> None:
    tickwork = Tickwork(sqlite_database.url, concurrency=4)
    tickwork.create_schema()
    began_at: list[float] = []

    @tickwork.handler("slow", transactional=True)
    def slow() -> None:
        began_at.append(time.monotonic())
        gate.wait(0.7)

    tickwork.enqueue_many([("slow", {})] * 4)
    began = time.monotonic()
    result = tickwork.tick(time_budget=0.5, tick_limit=5)
    assert time.monotonic() - began < 3
    assert (result.succeeded, result.released, len(began_at)) == (1, 3, 1)
    assert sorted(job.attempts for job in tickwork.list()) == [0, 0, 0, 1]
    tickwork.close()


def test_a_handler_on_sqlite_is_told_how_to_write(sqlite_database: Database) -> None:
    """Without the session it would wait for itself."""
    tickwork = Tickwork(sqlite_database.url)
    tickwork.create_schema()

    @tickwork.handler("wrong", transactional=True, max_attempts=1)
    def wrong() -> None:
        tickwork.enqueue("note")

    job = tickwork.enqueue("wrong")
    assert tickwork.tick().failed == 1
    assert "session=ctx.session" in str(get(tickwork, job.id).error)
    tickwork.close()


def test_progress_is_part_of_the_transaction(tickwork: Tickwork) -> None:
    during: list[Any] = []

    @tickwork.handler("steps", transactional=True, max_attempts=1)
    def steps(payload: dict[str, Any], ctx: JobContext) -> None:
        ctx.progress(40, "so far")
        ctx.checkpoint()
        during.append(get(tickwork, ctx.job_id).progress)
        if payload["bad"]:
            raise ValueError

    good, bad = (tickwork.enqueue("steps", {"bad": bad}) for bad in (False, True))
    tickwork.tick()
    assert during == [0.0, 0.0]
    assert get(tickwork, good.id).progress == 100.0
    assert get(tickwork, bad.id).progress == 40.0


def test_an_unfit_result_does_not_undo_the_effect(tickwork: Tickwork) -> None:
    @tickwork.handler("odd", transactional=True)
    def odd(ctx: JobContext) -> Any:
        write(ctx)
        return {1, 2}

    job = tickwork.enqueue("odd")
    assert tickwork.tick().succeeded == 1
    done = get(tickwork, job.id)
    assert (done.state, done.result) == (State.COMPLETED, None)
    assert "result unavailable" in str(done.error)
    assert len(effects(tickwork)) == 1


def test_a_commit_whose_answer_is_lost_is_recognised(tickwork: Tickwork) -> None:
    """The database did commit; the runner only hears that its line is dead."""
    commit = tickwork.engine.dialect.do_commit
    lost: list[int] = []

    @tickwork.handler("unlucky", transactional=True)
    def unlucky(ctx: JobContext) -> None:
        write(ctx)

        def do_commit(connection: Any) -> None:
            commit(connection)
            tickwork.engine.dialect.do_commit = commit  # type: ignore[method-assign]
            lost.append(1)
            raise OSError("the line is dead")

        tickwork.engine.dialect.do_commit = do_commit  # type: ignore[method-assign]

    job = tickwork.enqueue("unlucky")
    result = tickwork.tick()
    assert lost == [1]
    assert (result.succeeded, result.late, result.retried) == (1, 0, 0)
    assert get(tickwork, job.id).state is State.COMPLETED
    assert len(effects(tickwork)) == 1


def test_through_a_transaction_pooler(pgbouncer_database: Database, log: Path) -> None:
    """The whole tick, plain and transactional, with no session state to lose."""
    tickwork = build(pgbouncer_database.url, str(log))
    tickwork.create_schema()
    EFFECTS.create(tickwork.engine)
    statements: list[str] = []
    event.listen(
        tickwork.engine, "before_cursor_execute", lambda *args: statements.append(str(args[2]))
    )
    jobs = [tickwork.enqueue("effect") for _ in range(12)]
    tickwork.enqueue_many([("note", {})] * 30)
    for _ in range(20):
        if not tickwork.tick().processed:
            break
    expire_leases(tickwork)
    assert {job.state for job in tickwork.list(limit=100)} == {State.COMPLETED}
    assert len(tickwork.list(limit=100)) == 54
    assert sorted(effects(tickwork)) == sorted((job.id, 1) for job in jobs)
    words = {statement.split()[0].upper() for statement in statements}
    assert not words & {"SET", "LISTEN", "PREPARE", "DECLARE"}
    tickwork.close()


def test_a_manual_clock_runs_transactional_handlers(database: Database) -> None:
    clock = ManualClock()
    tickwork = Tickwork(database.url, clock=clock)
    tickwork.create_schema()
    tickwork.register_handler("alpha", lambda payload, ctx: ctx.attempt, transactional=True)
    job = tickwork.enqueue("alpha", delay=60)
    assert tickwork.tick().processed == 0
    clock.advance(60)
    assert tickwork.tick().succeeded == 1
    assert get(tickwork, job.id).finished_at == clock.now()
    tickwork.close()
