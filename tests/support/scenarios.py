"""What a child of the zygote does: ticks with handlers that note, write, hang or kill."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, event, insert

from jobs import JobContext, Tickwork
from jobs.stores.sql import SqlStore, schema
from tests.support import limited

EXIT_CODE = 9
EFFECTS = Table(
    "effects",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("job_id", String(36), nullable=False),
    Column("fence", Integer, nullable=False),
)


def build(url: str, log: str, **settings: Any) -> Tickwork:
    """A system with the handlers of these tests; each start is a line in the file ``log``."""
    tickwork = Tickwork(url, **{"retry_delay": 5.0, **settings})

    def note(ctx: JobContext) -> None:
        with Path(log).open("a") as lines:
            lines.write(f"{ctx.kind} {ctx.job_id} {ctx.attempt}\n")

    @tickwork.handler("note")
    def noting(ctx: JobContext) -> str:
        note(ctx)
        return "noted"

    @tickwork.handler("poison", max_attempts=3)
    def poison(ctx: JobContext) -> None:
        note(ctx)
        os._exit(EXIT_CODE)

    @tickwork.handler("hang", max_attempts=3)
    def hang(ctx: JobContext) -> str:
        note(ctx)
        wait_for(Path(f"{log}.release").exists)
        return f"attempt {ctx.attempt}"

    @tickwork.handler("effect", transactional=True, max_attempts=3)
    def effect(payload: dict[str, Any], ctx: JobContext) -> str:
        note(ctx)
        ctx.session.execute(insert(EFFECTS).values(job_id=ctx.job_id, fence=ctx.fence))
        tickwork.enqueue("note", {"parent": ctx.job_id}, session=ctx.session)
        if payload.get("hang"):
            Path(f"{log}.held").touch()  # all is written, nothing is committed
            wait_for(Path(f"{log}.release").exists)
        return f"attempt {ctx.attempt}"

    @tickwork.handler("flaky", max_attempts=3)
    def flaky(ctx: JobContext) -> str:
        note(ctx)
        if ctx.attempt == 1:
            raise RuntimeError("the first attempt fails")
        return "done"

    @tickwork.handler("freeze", max_attempts=3)
    def freeze(ctx: JobContext) -> str:
        note(ctx)
        if ctx.attempt == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        return f"attempt {ctx.attempt}"

    return tickwork


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Look every few milliseconds until it is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("waited in vain")
        time.sleep(0.005)


def tick(
    url: str,
    log: str,
    crash_at: int | None = None,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """One tick; with ``crash_at`` the process ends at that point of its talk with the database."""
    tickwork = build(url, log, **(settings or {}))
    if crash_at is not None:
        crash_at_point(tickwork.engine, crash_at)
    result = tickwork.tick(**options)
    Path(f"{log}.result").write_text(json.dumps({**result.as_dict(), "late": result.late}))


def records(url: str, log: str, event: dict[str, Any], seconds: float) -> None:
    """One invocation of a function that an SQS event source calls."""
    from jobs.aws.consumer import Consumer

    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return int(seconds * 1000)

    Path(f"{log}.answer").unlink(missing_ok=True)
    answer = Consumer(build(url, log, retry_delay=0.0)).handle(event, Context())
    Path(f"{log}.answer").write_text(json.dumps(answer))


def crash_at_point(engine: Engine, crash_at: int) -> None:
    """End the process at the ``crash_at``-th point: before or after a statement or a commit."""
    lock = threading.Lock()
    passed = [0]

    def point(*_: Any, **__: Any) -> None:
        with lock:
            passed[0] += 1
            if passed[0] == crash_at:
                os._exit(EXIT_CODE)

    event.listen(engine, "before_cursor_execute", point)
    event.listen(engine, "after_cursor_execute", point)
    commit = engine.dialect.do_commit

    def do_commit(connection: Any) -> None:
        point()
        commit(connection)
        point()

    engine.dialect.do_commit = do_commit  # type: ignore[assignment,method-assign]


def enqueue_and_die(url: str, log: str, settings: dict[str, Any], in_transaction: bool) -> None:
    """Enqueue, and die when the row is committed and nothing is sent yet."""
    tickwork = build(url, log, **settings)

    def die(_rings: Any) -> None:
        os._exit(EXIT_CODE)

    tickwork._runtime.doorbell.ring = die  # type: ignore[assignment,method-assign]
    if in_transaction:
        with tickwork.engine.begin() as connection:
            tickwork.enqueue("note", session=connection)
    else:
        tickwork.enqueue("note")


def produce(url: str, log: str, jobs: list[tuple[str, dict[str, Any]]]) -> None:
    """Enqueue jobs, each a kind and its options, one by one and then once more all at once."""
    tickwork = build(url, log)
    ids = [tickwork.enqueue(kind, **options).id for kind, options in jobs]
    ids += tickwork.enqueue_many((kind, {}, options) for kind, options in jobs)
    Path(f"{log}.produced").write_text(json.dumps({"ids": ids, "clock": time.time()}))


def tick_on(url: str, log: str, name: str, settings: dict[str, Any] | None = None) -> None:
    """Tick again and again until there is a file ``log.stop``, and note each tick.

    A line is the host's time, how many jobs were processed, late and reclaimed.
    """
    tickwork = build(url, log, **(settings or {}))
    while not Path(f"{log}.stop").exists():
        result = tickwork.tick()
        with Path(f"{log}.{name}").open("a") as lines:
            lines.write(f"{time.time()} {result.processed} {result.late} {result.reclaimed}\n")
    tickwork.close()


def make_tables(url: str, way: str, crash_after: int) -> None:
    """Make the tables in that way; the process ends after so many statements that make or write."""
    store = SqlStore(url)
    passed = [0]

    def count(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.split()[0] in {"CREATE", "ALTER", "INSERT", "UPDATE"}:
            passed[0] += 1
            if passed[0] == crash_after:
                os._exit(EXIT_CODE)

    event.listen(store.engine, "after_cursor_execute", count)
    if way == "upgrade":
        schema.upgrade(store.engine, store.tables)
    else:
        store.create_schema()
    store.close()


def limited_ticks(url: str, runners: int) -> None:
    """Tick jobs with limits, in several threads, until all are done."""
    limited.tick_until_done(url, runners)
