"""Handlers that note, in the database, who else runs: for limits over several processes."""

from __future__ import annotations

import os
import threading
from typing import Any

from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, func, insert, select

from jobs import JobContext, Tickwork

METADATA = MetaData()
RUNNING = Table(
    "limited_running",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("name", String(50), nullable=False),
    Column("pid", Integer, nullable=False),
)
SEEN = Table(
    "limited_seen",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(50), nullable=False),
    Column("at_once", Integer, nullable=False),
)


def build(url: str, **settings: Any) -> Tickwork:
    """A system with a narrow kind (3 at once) and a keyed one (1 of each key)."""
    # Short leases: what a killed process held is soon reclaimed by the others.
    tickwork = Tickwork(
        url, batch_size=4, concurrency=4, time_budget=0.5, tick_limit=6, retry_delay=0, **settings
    )

    @tickwork.handler("narrow", max_concurrency=3, max_attempts=20)
    def narrow(ctx: JobContext) -> None:
        run_noted(tickwork.engine, "narrow", ctx)

    @tickwork.handler(
        "keyed",
        max_concurrency_per_key=1,
        max_attempts=20,
        concurrency_key=lambda payload: payload["key"],
    )
    def keyed(payload: dict[str, Any], ctx: JobContext) -> None:
        run_noted(tickwork.engine, f"keyed {payload['key']}", ctx)

    return tickwork


def run_noted(engine: Engine, name: str, ctx: JobContext) -> None:
    """Note that this runs, look how many do, and take the note back before the handler ends.

    A note is committed before others are counted: of two at once, one at least sees both.
    """
    with engine.begin() as connection:
        connection.execute(insert(RUNNING).values(job_id=ctx.job_id, name=name, pid=os.getpid()))
    threading.Event().wait(0.02)
    with engine.begin() as connection:
        of_name = select(func.count()).select_from(RUNNING).where(RUNNING.c.name == name)
        at_once = connection.execute(of_name).scalar_one()
        connection.execute(insert(SEEN).values(name=name, at_once=at_once))
    with engine.begin() as connection:
        connection.execute(RUNNING.delete().where(RUNNING.c.job_id == ctx.job_id))


def tick_until_done(url: str, runners: int) -> None:
    """Ticks in several threads until nothing is left, here or elsewhere."""
    tickwork = build(url)

    def work() -> None:
        while tickwork.list(state="pending", limit=1) or tickwork.list(state="processing", limit=1):
            tickwork.tick()

    threads = [threading.Thread(target=work) for _ in range(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
