"""The tick behind a real server with several processes and threads, called from outside."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path

import pytest

from jobs import Job, State, Tickwork
from jobs.core.clock import ManualClock
from tests.http.conftest import BEARER, SECRET
from tests.support.databases import Database
from tests.support.web import Web, eventually, serving

TICK = "/cron/process-jobs"
TASKS = """
import os, time
from jobs import handler

@handler("trace")
def trace(payload):
    # One write of one short line to a file opened for appending: lines of several processes do
    # not mix.
    with open("trace", "a") as file:
        file.write(f"{payload['n']} {os.getpid()}\\n")
    time.sleep(payload.get("seconds", 0))

@handler("hang")
def hang(payload):
    time.sleep(600)
"""


@contextmanager
def gunicorn(folder: Path, url: str, *arguments: str, **environ: str) -> Iterator[Web]:
    """Gunicorn as a user would start it, in production."""
    (folder / "tasks.py").write_text(TASKS)
    environ = {"DATABASE_URL": url, "CRON_SECRET": SECRET, "JOBS_HANDLERS": "tasks", **environ}

    def command(port: int) -> list[str]:
        bound = f"127.0.0.1:{port}"
        # Its temporary files and those of a killed worker stay in the folder.
        own = ["--bind", bound, "--no-control-socket", "--worker-tmp-dir", str(folder)]
        return ["-m", "gunicorn", *own, *arguments, "api.index:app"]

    with serving(folder, command, environ) as web:
        yield web


@contextmanager
def system(url: str) -> Iterator[Tickwork]:
    with closing(Tickwork(url)) as tickwork:
        tickwork.create_schema()
        yield tickwork


def trace(folder: Path) -> Counter[str]:
    """How often each job ran."""
    return Counter(line.split()[0] for line in (folder / "trace").read_text().splitlines())


def states(tickwork: Tickwork) -> Counter[State]:
    return Counter(job.state for job in tickwork.list(limit=1000))


def test_overlapping_ticks_run_each_job_once(database: Database, tmp_path: Path) -> None:
    jobs, callers = 60, 12
    with (
        system(database.url) as tickwork,
        gunicorn(
            tmp_path, database.url, "--workers=2", "--worker-class=gthread", "--threads=6"
        ) as web,
    ):
        tickwork.enqueue_many([("trace", {"n": n, "seconds": 0.01}) for n in range(jobs)])

        def call(_: int) -> list[str]:
            answer = web.ask("GET", TICK, BEARER)
            assert answer.status == 200, web.log
            ran: list[str] = answer.json["jobs"]
            return ran

        with ThreadPoolExecutor(callers) as pool:
            told = [job_id for ids in pool.map(call, range(callers)) for job_id in ids]
        while left := tickwork.list(state=State.PENDING):
            told += call(0)
            assert len(tickwork.list(state=State.PENDING)) < len(left)

        assert states(tickwork) == {State.COMPLETED: jobs}
        assert {job.attempts for job in tickwork.list(limit=1000)} == {1}
    assert trace(tmp_path) == {str(n): 1 for n in range(jobs)}
    assert sorted(told) == sorted(set(told))
    assert len(told) == jobs
    assert "Traceback" not in web.log


def test_a_tick_keeps_its_budget_below_the_limit_of_its_server(
    sqlite_url: str, tmp_path: Path
) -> None:
    """A synchronous worker is killed after five seconds; six seconds of work wait."""
    with (
        system(sqlite_url) as tickwork,
        gunicorn(
            tmp_path,
            sqlite_url,
            "--worker-class=sync",
            "--timeout=5",
            JOBS_TICK_LIMIT="4.5",
            JOBS_TIME_BUDGET="1",
            JOBS_CONCURRENCY="1",
        ) as web,
    ):
        tickwork.enqueue_many([("trace", {"n": n, "seconds": 0.7}) for n in range(9)])
        begun = time.monotonic()
        body = web.ask("GET", TICK, BEARER).json
        seconds = time.monotonic() - begun

        assert 1.4 <= seconds < 4.5
        assert (body["processed"], body["released"], body["remaining"]) == (2, 7, 7)
        waiting = tickwork.list(state=State.PENDING)
        assert [job.attempts for job in waiting] == [0] * 7
    assert trace(tmp_path) == {"0": 1, "1": 1}
    assert "WORKER TIMEOUT" not in web.log


def test_a_handler_that_hangs_is_cut_off_and_the_others_are_not(
    sqlite_url: str, tmp_path: Path
) -> None:
    with (
        system(sqlite_url) as tickwork,
        gunicorn(
            tmp_path,
            sqlite_url,
            "--worker-class=sync",
            "--timeout=5",
            "--graceful-timeout=1",
            JOBS_TICK_LIMIT="4",
            JOBS_TIME_BUDGET="1",
        ) as web,
    ):
        hung = tickwork.enqueue("hang", {}, priority=1, max_attempts=1)
        tickwork.enqueue_many([("trace", {"n": n}) for n in range(5)])
        begun = time.monotonic()
        body = web.ask("GET", TICK, BEARER).json
        seconds = time.monotonic() - begun

        assert seconds < 4
        assert (body["succeeded"], body["failed"]) == (5, 1)
        ended = tickwork.get(hung.id)
        assert isinstance(ended, Job)
        assert ended.state == State.FAILED
        assert "the tick that ran it ends there" in str(ended.error)
        # The same process serves on.
        tickwork.enqueue("trace", {"n": 5})
        assert web.ask("GET", TICK, BEARER).json["succeeded"] == 1
        assert "WORKER TIMEOUT" not in web.log


def test_a_tick_that_its_server_kills_loses_nothing_and_blames_only_what_ran(
    sqlite_url: str, tmp_path: Path
) -> None:
    """A limit that is longer than the server's own: gunicorn aborts the process in mid-tick."""
    with (
        system(sqlite_url) as tickwork,
        gunicorn(
            tmp_path,
            sqlite_url,
            "--worker-class=sync",
            "--timeout=1",
            "--graceful-timeout=1",
            JOBS_CONCURRENCY="1",
        ) as web,
    ):
        tickwork.enqueue_many([("trace", {"n": n}) for n in range(2)], priority=1)
        hung = tickwork.enqueue("hang", {}, priority=2)
        waiting = tickwork.enqueue_many([("trace", {"n": n}) for n in range(2, 6)])
        with suppress(OSError, HTTPException):  # the process dies with the answer
            web.ask("GET", TICK, BEARER)
        assert eventually(lambda: "WORKER TIMEOUT" in web.log), web.log
        # Another process serves on, and takes nothing whose lease still holds.
        assert web.ask("GET", TICK, BEARER).json["processed"] == 0

    assert trace(tmp_path) == {"0": 1, "1": 1}
    an_hour_later = ManualClock(datetime.now(UTC) + timedelta(hours=1))
    with closing(Tickwork(sqlite_url, clock=an_hour_later)) as tickwork:
        tickwork.register_handler("trace", lambda payload: None)
        tickwork.register_handler("hang", lambda payload: None)
        assert tickwork.tick().reclaimed == 5
        an_hour_later.advance(3600)
        tickwork.drain()
        assert states(tickwork) == {State.COMPLETED: 7}
        attempts = {job.id: job.attempts for job in tickwork.list()}
        assert attempts.pop(hung.id) == 2
        assert set(attempts.values()) == {1}
        assert attempts.keys() > set(waiting)
        (lost,) = (job for job in tickwork.list() if job.errors)
        assert (lost.id, lost.errors[0]["type"]) == (hung.id, "RunnerLost")


@pytest.mark.parametrize(
    "header",
    [
        b"Bearer \xe9\xff",
        b"Bearer " + "пароль".encode(),
        b"bearer " + SECRET.encode(),
        b"Bearer ",
        b"Bearer None",
    ],
)
def test_bytes_that_no_text_has_are_refused(header: bytes, gate: Web) -> None:
    answer = gate.ask("GET", TICK, {"Authorization": header})

    assert (answer.status, answer.body) == (401, b'{"error": "Unauthorized"}')


def test_two_headers_are_refused(gate: Web) -> None:
    """The second must not be able to stand in for the first."""
    import socket

    with socket.create_connection(("127.0.0.1", gate.port), timeout=20) as line:
        line.sendall(
            f"GET {TICK} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Authorization: Bearer no\r\nAuthorization: Bearer {SECRET}\r\n\r\n".encode()
        )
        first_line = line.makefile("rb").readline()

    assert b" 401 " in first_line or b" 400 " in first_line


def test_over_a_socket_a_head_runs_nothing_and_nothing_redirects(gate: Web) -> None:
    head = gate.ask("HEAD", TICK, BEARER)
    assert (head.status, head.body) == (405, b"")
    assert gate.ask("GET", f"{TICK}/", BEARER).status == 200
    assert gate.ask("POST", f"{TICK}?limit=1", BEARER, b"").status == 200


def test_health_tells_no_version_of_ours(gate: Web) -> None:
    answer = gate.ask("GET", "/healthz")

    assert json.loads(answer.body) == {"status": "ok"}
    assert "sqlite" not in str(answer).lower()
    assert "tickwork" not in str(answer).lower()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder = tmp_path_factory.mktemp("gate")
    url = f"sqlite:///{folder / 'gate.db'}"
    with system(url), gunicorn(folder, url, "--worker-class=gthread", "--threads=2") as web:
        yield web
