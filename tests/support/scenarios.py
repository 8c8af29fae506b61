"""What a child of the zygote does: one tick with handlers that note, write, hang or kill."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, event, insert

from jobs import JobContext, Tickwork
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
    tickwork = Tickwork(url, retry_delay=5.0, **settings)

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
            wait_for(Path(f"{log}.release").exists)
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


def limited_ticks(url: str, runners: int) -> None:
    """Tick jobs with limits, in several threads, until all are done."""
    limited.tick_until_done(url, runners)
