"""``JOBS_BACKEND=sqs`` from the environment: the commands ring, tick and say what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import ConfigurationError, Tickwork
from jobs.core.settings import read_settings
from jobs.doorbells.sqs import SqsDoorbell
from tests.sqs.conftest import MakeQueue
from tests.sqs.consuming import consume
from tests.support.databases import Database
from tests.support.queues import Queue

Run = Callable[..., "subprocess.CompletedProcess[str]"]
TASKS = """
from jobs import handler

@handler("greet")
def greet(payload: dict) -> str:
    return f"hello {payload['name']}"
"""


@pytest.fixture
def environ(database: Database, queue: Queue) -> dict[str, str]:
    return {
        "DATABASE_URL": database.url,
        "SQS_QUEUE_URL": queue.url,
        "JOBS_BACKEND": "sqs",
        "JOBS_NAMESPACE": "preview",
        "JOBS_HANDLERS": "shop_tasks",
    }


@pytest.fixture
def run(environ: dict[str, str], tmp_path: Path) -> Run:
    """`tickwork` as a process, in a folder with a module of handlers."""
    (tmp_path / "shop_tasks.py").write_text(TASKS)

    def command(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobs", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **environ, **more},
            timeout=120,
        )

    return command


def test_from_enqueue_to_result(
    run: Run,
    environ: dict[str, str],
    queue: Queue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run("db", "upgrade").returncode == 0
    said = run("enqueue", "greet", '{"name": "Ada"}', "--json")
    assert said.returncode == 0, said.stderr
    job_id = json.loads(said.stdout)["id"]

    ticked = run("tick", "--json")
    assert json.loads(ticked.stdout)["processed"] == 0, ticked.stderr
    message, *_ = queue.messages()  # and a second, if these commands took ten seconds
    assert (message.job_id, message.kind, message.namespace) == (job_id, "greet", "preview")

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    tickwork = Tickwork.from_env(environ)
    assert isinstance(tickwork._runtime.doorbell, SqsDoorbell)
    tickwork.load_handlers("shop_tasks")
    consume(tickwork, [message])
    tickwork.close()
    assert "hello Ada" in run("show", job_id).stdout


def test_a_tick_runs_what_is_overdue(run: Run, queue: Queue) -> None:
    run("db", "upgrade")
    run("enqueue", "greet", '{"name": "Ada"}')
    ticked = run("tick", "--json", JOBS_SQS_OVERDUE="0")
    assert json.loads(ticked.stdout)["succeeded"] == 1, ticked.stderr


def test_without_boto3_it_is_said_at_once(environ: dict[str, str]) -> None:
    program = (
        "import sys; sys.modules['boto3'] = None\n"
        "from jobs import Tickwork, ConfigurationError\n"
        "try: Tickwork.from_env()\n"
        "except ConfigurationError as error: print(error)\n"
    )
    environ = {**os.environ, **environ, "JOBS_HANDLERS": ""}
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environ
    )
    assert "pip install 'tickwork[aws]'" in said.stdout, said.stderr


@pytest.mark.parametrize(("raw", "seconds"), [("0", 0.0), ("45.5", 45.5), ("604800", 604_800.0)])
def test_the_wait_of_ticks_is_read(raw: str, seconds: float) -> None:
    base = {"DATABASE_URL": "sqlite:///a.db", "SQS_QUEUE_URL": "https://sqs.example/q"}
    assert read_settings({**base, "JOBS_SQS_OVERDUE": raw}).sqs_overdue == seconds
    assert read_settings(base).sqs_overdue == 300.0


@pytest.mark.parametrize("raw", ["-1", "soon", "1e9", "nan"])
def test_a_wait_that_makes_no_sense_is_refused_by_name(raw: str) -> None:
    with pytest.raises(ConfigurationError, match="JOBS_SQS_OVERDUE"):
        read_settings({"DATABASE_URL": "sqlite:///a.db", "JOBS_SQS_OVERDUE": raw})


def test_a_bell_of_ones_own_is_the_bell(make_queue: MakeQueue, sqlite_url: str) -> None:
    bell = SqsDoorbell(make_queue(fifo=True).url)
    tickwork = Tickwork(sqlite_url, doorbell=bell)
    assert tickwork._runtime.doorbell is bell
    assert tickwork._runtime.rules is bell.rules
    tickwork.close()
