"""SIGTERM in the middle of a tick: nothing more starts, and what has not begun is handed back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from jobs import Job, State, Tickwork
from jobs.http import ending
from tests.http.conftest import BEARER, SECRET, open_shop
from tests.support.databases import Database
from tests.support.web import ROOT, Answer, Web, eventually, serving

TASKS = """
import os, time
from jobs import handler

@handler("slow", max_attempts=2, backoff=0)
def slow(payload):
    with open("trace", "a") as file:
        file.write(f"{payload['n']} {os.getpid()}\\n")
    time.sleep(payload["seconds"])
"""
# As Vercel's runtime does it: the main thread listens, each request has a thread of its own, and
# nobody listens to SIGTERM. Its 500 ms are not held against a busy machine here.
VERCEL = """
import sys
from werkzeug.serving import make_server
from jobs.http import ending

ending.LEAVE_SECONDS = 30.0
from api.index import app

make_server("127.0.0.1", int(sys.argv[1]), app, threaded=True).serve_forever()
"""


@contextmanager
def server(folder: Path, url: str, command: list[str], **environ: str) -> Iterator[Web]:
    (folder / "tasks.py").write_text(TASKS)
    (folder / "vercel.py").write_text(VERCEL)
    (folder / "trace").touch()
    environ = {
        "DATABASE_URL": url,
        "CRON_SECRET": SECRET,
        "JOBS_HANDLERS": "tasks",
        "JOBS_CONCURRENCY": "1",
        **environ,
    }

    def whole(port: int) -> list[str]:
        return [word.replace("PORT", str(port)) for word in command]

    with serving(folder, whole, environ) as web:
        yield web


ON_VERCEL = {"VERCEL": "1", "VERCEL_ENV": "production", "VERCEL_REGION": "iad1"}


def pids(folder: Path) -> list[int]:
    return [int(line.split()[1]) for line in (folder / "trace").read_text().splitlines()]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def states(tickwork: Tickwork) -> Counter[tuple[State, int]]:
    return Counter((job.state, job.attempts) for job in tickwork.list())


def begin_tick(pool: ThreadPoolExecutor, web: Web) -> None:
    def call() -> Answer | None:
        with suppress(OSError, HTTPException):  # the process may end before it answers
            return web.ask("GET", "/cron/process-jobs", BEARER)
        return None

    pool.submit(call)


def test_on_vercel_all_is_given_back_before_the_process_ends(
    database: Database, tmp_path: Path
) -> None:
    with (
        closing(Tickwork(database.url)) as tickwork,
        ThreadPoolExecutor(1) as pool,
    ):
        tickwork.create_schema()
        tickwork.enqueue_many([("slow", {"n": n, "seconds": 600}) for n in range(5)])
        with server(tmp_path, database.url, ["vercel.py", "PORT"], **ON_VERCEL) as web:
            begin_tick(pool, web)
            assert eventually(lambda: bool(pids(tmp_path))), web.log
            (pid,) = pids(tmp_path)
            os.kill(pid, signal.SIGTERM)
            # The lease would be there for another minute.
            assert eventually(lambda: not _processing(tickwork)), web.log

        assert states(tickwork) == {(State.PENDING, 0): 4, (State.PENDING, 1): 1}
        (begun,) = (job for job in tickwork.list() if job.attempts)
        assert "told to end" in (begun.error or "")
    assert len(pids(tmp_path)) == 1, "nothing more was started"
    assert "Traceback" not in web.log


def _processing(tickwork: Tickwork) -> list[Job]:
    return list(tickwork.list(state=State.PROCESSING))


# What waits for the end stands in the main thread, as the platform's loop does.
IDLE = """
import os, signal, time
from jobs.http import create_app

create_app()
print("told to end")
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(30)
"""


def test_on_vercel_a_process_ends_with_0(sqlite_url: str) -> None:
    environ = {"DATABASE_URL": sqlite_url, "CRON_SECRET": SECRET, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", IDLE],
        env={"PATH": os.environ["PATH"], **environ, **ON_VERCEL},
        capture_output=True,
        text=True,
        timeout=25,
    )
    assert (done.returncode, done.stdout) == (0, "told to end\n"), done.stderr


def test_under_gunicorn_what_runs_ends_and_the_rest_is_handed_back(
    sqlite_url: str, tmp_path: Path
) -> None:
    bound = ["--bind", "127.0.0.1:PORT", "--no-control-socket", "--worker-tmp-dir", str(tmp_path)]
    threads = ["--worker-class=gthread", "--threads=2"]
    command = ["-m", "gunicorn", *bound, *threads, "api.index:app"]
    with (
        closing(Tickwork(sqlite_url)) as tickwork,
        ThreadPoolExecutor(1) as pool,
    ):
        tickwork.create_schema()
        tickwork.enqueue_many([("slow", {"n": n, "seconds": 2}) for n in range(5)])
        with server(tmp_path, sqlite_url, command) as web:
            begin_tick(pool, web)
            assert eventually(lambda: bool(pids(tmp_path))), web.log
            (worker,) = pids(tmp_path)
            os.kill(worker, signal.SIGTERM)
            assert eventually(lambda: not is_alive(worker)), web.log

        assert states(tickwork) == {(State.PENDING, 0): 4, (State.COMPLETED, 1): 1}
    assert len(pids(tmp_path)) == 1


# -- who listens, and who is left alone --------------------------------------------------------


@pytest.fixture
def sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_whoever_listened_before_is_called_too(sigterm: None) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    shop = open_shop()
    assert ending.install(shop.tickwork, ending.Busy(), ON_VERCEL)
    shop.tickwork.enqueue("note", {"n": 1})
    os.kill(os.getpid(), signal.SIGTERM)

    assert eventually(lambda: heard == [signal.SIGTERM])
    assert shop.tickwork.tick().remaining == 1, "nothing starts any more"
    shop.tickwork.close()


def test_one_that_is_ignored_stays_ignored(sigterm: None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    shop = open_shop()
    assert ending.install(shop.tickwork, ending.Busy(), ON_VERCEL)
    os.kill(os.getpid(), signal.SIGTERM)
    shop.tickwork.close()


@pytest.mark.parametrize(
    "environ", [{}, {"VERCEL": "1", "VERCEL_ENV": "development"}, {"SERVER_SOFTWARE": "Werkzeug"}]
)
def test_elsewhere_signals_are_nobodys_business(environ: dict[str, str], sigterm: None) -> None:
    shop = open_shop()
    before = signal.getsignal(signal.SIGTERM)

    assert not ending.install(shop.tickwork, ending.Busy(), environ)
    assert signal.getsignal(signal.SIGTERM) == before
    shop.tickwork.close()


def test_outside_the_main_thread_nobody_may_listen(sigterm: None) -> None:
    shop = open_shop()
    listens: list[bool] = []

    def install() -> None:
        listens.append(ending.install(shop.tickwork, ending.Busy(), ON_VERCEL))

    thread = threading.Thread(target=install)
    thread.start()
    thread.join()

    assert listens == [False]
    shop.tickwork.close()
