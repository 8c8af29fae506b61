"""No cron at all: a real server whose own ticks are started by kicks, and killed in between."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from jobs import State, Tickwork
from tests.http.conftest import SECRET
from tests.support.databases import Database
from tests.support.web import Web, eventually, serving

TASKS = """
import os, time
from flask import Blueprint, request
from jobs import Tickwork, handler

@handler("order")
def order(payload):
    # One write of one short line to a file opened for appending: lines of several processes do
    # not mix.
    with open("trace", "a") as file:
        file.write(f"{payload['n']} {os.getpid()} {time.time()}\\n")

blueprint = Blueprint("shop", __name__)

@blueprint.post("/orders")
def take_orders():
    first, count = int(request.args["first"]), int(request.args["count"])
    tickwork = Tickwork.from_env()
    if count == 1:
        tickwork.enqueue("order", {"n": first})
    else:
        tickwork.enqueue_many(("order", {"n": n}) for n in range(first, first + count))
    return {"at": time.time()}, 201
"""
# The server knows its address only once it has a port.
START = """
import os, runpy, sys
port, module, *arguments = sys.argv[1:]
os.environ["JOBS_KICK_URL"] = f"http://127.0.0.1:{port}"
sys.argv = [module, *(each.replace("PORT", port) for each in arguments)]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
SERVE = ("jobs", "serve", "--port", "PORT")


def gunicorn(folder: Path, *arguments: str) -> tuple[str, ...]:
    own = ("--bind", "127.0.0.1:PORT", "--no-control-socket", "--worker-tmp-dir", str(folder))
    return ("gunicorn", *own, *arguments, "api.index:app")


@contextmanager
def shop(folder: Path, url: str, command: tuple[str, ...], **environ: str) -> Iterator[Web]:
    (folder / "tasks.py").write_text(TASKS)
    (folder / "start.py").write_text(START)
    (folder / "trace").touch()
    environ = {"DATABASE_URL": url, "CRON_SECRET": SECRET, "JOBS_HANDLERS": "tasks", **environ}
    with (
        closing(Tickwork(url)) as tickwork,
        serving(folder, lambda port: ["start.py", str(port), *command], environ) as web,
    ):
        tickwork.create_schema()
        yield web


def order(web: Web, first: int, count: int = 1) -> float:
    answer = web.ask("POST", f"/orders?first={first}&count={count}", body=b"")
    assert answer.status == 201, web.log
    at: float = json.loads(answer.body)["at"]
    return at


def ran(folder: Path) -> list[tuple[int, int]]:
    """The number of each order that was begun, and in which process."""
    words = (line.split() for line in (folder / "trace").read_text().splitlines())
    return [(int(n), int(pid)) for n, pid, _ in words]


SERVERS = {
    "serve": SERVE,
    "gunicorn sync": ("--workers=1", "--worker-class=sync"),
    "gunicorn threads": ("--workers=1", "--worker-class=gthread", "--threads=4"),
}


@pytest.mark.parametrize("server", SERVERS)
def test_an_order_is_worked_on_at_once(server: str, database: Database, tmp_path: Path) -> None:
    """Even where the one process that serves is still busy with the request that enqueued."""
    command = SERVERS[server]
    if command is not SERVE:
        command = gunicorn(tmp_path, *command)
    with shop(tmp_path, database.url, command) as web:
        for n in range(3):
            order(web, n)
            assert eventually(lambda n=n: any(each == n for each, _ in ran(tmp_path))), web.log
        with closing(Tickwork(database.url)) as tickwork:
            assert eventually(
                lambda: {job.state for job in tickwork.list()} == {State.COMPLETED}
            ), web.log
    assert Counter(n for n, _ in ran(tmp_path)) == {0: 1, 1: 1, 2: 1}
    assert "Traceback" not in web.log


def drain(folder: Path, url: str, jobs: int, batch: int, kills: int) -> None:
    """Order once, kill processes in mid-chain, and go on ordering now and then, as customers do."""
    command = gunicorn(folder, "--workers=2", "--worker-class=gthread", "--threads=4")
    short = {"JOBS_TICK_LIMIT": "1", "JOBS_TIME_BUDGET": "0.5"}
    with (
        shop(folder, url, command, JOBS_BATCH_SIZE=str(batch), **short) as web,
        closing(Tickwork(url)) as tickwork,
    ):
        order(web, 0, jobs)
        extra = itertools.count(jobs)

        def customers_come_until(is_so: Callable[[], bool], seconds: float) -> None:
            deadline = time.monotonic() + seconds
            while not is_so():
                assert time.monotonic() < deadline, (tickwork.counts(), web.log)
                with suppress(OSError):  # this request's own process may be the one that died
                    order(web, next(extra))
                time.sleep(0.5)

        for kill in range(kills):
            wanted = jobs * (kill + 1) // (kills + 2)
            # A chain that died keeps its place for a while, in which customers' ticks start none.
            customers_come_until(lambda wanted=wanted: len(ran(folder)) >= wanted, 120)  # type: ignore[misc]
            _, pid = ran(folder)[-1]
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        def is_done() -> bool:
            return all(state == State.COMPLETED for _, _, state in tickwork.counts())

        customers_come_until(is_done, 240)
        counts = tickwork.counts()
    began = Counter(n for n, _ in ran(folder))
    assert set(began) >= set(range(jobs)), "nothing is lost"
    assert sum(counts.values()) >= jobs
    # Only what a killed process was at began twice: five jobs at once, in each of its ticks.
    again = [n for n, times in began.items() if times > 1]
    assert len(again) <= kills * 4 * max(5, batch)
    assert len({pid for _, pid in ran(folder)}) >= 2 + kills - 1


@pytest.mark.parametrize("batch", [10, 100])
def test_a_backlog_drains_by_chained_ticks_though_some_are_killed(
    batch: int, sqlite_url: str, tmp_path: Path
) -> None:
    drain(tmp_path, sqlite_url, jobs=2_000, batch=batch, kills=1)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [10, 100])
def test_a_large_backlog_drains(batch: int, postgresql_database: Database, tmp_path: Path) -> None:
    drain(tmp_path, postgresql_database.url, jobs=10_000, batch=batch, kills=3)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [10, 100])
def test_one_order_is_enough_for_a_large_backlog(
    batch: int, postgresql_database: Database, tmp_path: Path
) -> None:
    """No cron, and nobody who orders again: each tick is started by the one before it."""
    command = gunicorn(tmp_path, "--workers=2", "--worker-class=gthread", "--threads=4")
    url = postgresql_database.url
    # By default a chain has 1,000 ticks: just what 10,000 jobs take at 10 a tick, if none is short.
    wide = {"JOBS_BATCH_SIZE": str(batch), "JOBS_CHAIN_LIMIT": "2000"}
    with shop(tmp_path, url, command, **wide) as web:
        order(web, 0, 10_000)
        assert eventually(lambda: len(ran(tmp_path)) >= 10_000, 240), web.log
        with closing(Tickwork(url)) as tickwork:
            assert eventually(
                lambda: tickwork.counts() == {("default", "order", State.COMPLETED): 10_000}
            ), web.log
    assert set(Counter(n for n, _ in ran(tmp_path)).values()) == {1}
