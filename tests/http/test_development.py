"""`flask --app api.index run` as somebody types it after cloning."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs import Tickwork
from jobs.http import create_app
from tests.http.conftest import BEARER, SECRET
from tests.support.web import ROOT, Web, eventually, serving

STARTED = "run by themselves"
TICK = "/cron/process-jobs"
TASKS = """
import os
from flask import Blueprint
from jobs import Tickwork, handler

blueprint = Blueprint("shop", __name__)

@handler("greet")
def greet(payload):
    return {"said": "hello " + payload["name"], "process": os.getpid()}

@blueprint.post("/greet/<name>")
def enqueue(name):
    return {"id": greet.enqueue({"name": name}).id}

@blueprint.get("/show/<job_id>")
def show(job_id):
    job = Tickwork.from_env().get(job_id)
    return {"state": job.state, "result": job.result, "process": os.getpid()}
"""
# So rare a poll that only the doorbell of the enqueue can have been it.
BASE = {"JOBS_HANDLERS": "tasks", "JOBS_POLL_INTERVAL": "3600"}
CRON = {"CRON_SECRET": SECRET}


@contextmanager
def flask_run(folder: Path, *arguments: str, **environ: str) -> Iterator[Web]:
    (folder / "tasks.py").write_text(TASKS)

    def command(port: int) -> list[str]:
        return ["-m", "flask", "--app", "api.index", "run", "--port", str(port), *arguments]

    with serving(folder, command, BASE | environ) as web:
        yield web


def enqueue(web: Web) -> str:
    answer = web.ask("POST", "/greet/Ada", body=b"")
    assert answer.status == 200, web.log
    job_id: str = answer.json["id"]
    return job_id


def runs_by_itself(web: Web, job_id: str) -> bool:
    def is_done() -> bool:
        return bool(web.ask("GET", f"/show/{job_id}").json["state"] == "completed")

    return eventually(is_done)


def waits_for_a_tick(web: Web, job_id: str) -> bool:
    """A runner that looked when the job was enqueued would have been there before this tick."""
    return bool(web.ask("GET", TICK, BEARER).json["jobs"] == [job_id])


def test_with_nothing_set_jobs_run_by_themselves(tmp_path: Path) -> None:
    with flask_run(tmp_path) as web:
        job_id = enqueue(web)

        assert runs_by_itself(web, job_id), web.log
        shown = web.ask("GET", f"/show/{job_id}").json
        assert shown["result"] == {"said": "hello Ada", "process": shown["process"]}
        assert web.log.count(STARTED) == 1
        assert "JOBS_AUTO_START=0" in web.log
        assert "3 at once" in web.log
        # Nobody has to set a secret to try the tick by hand.
        assert web.ask("GET", TICK).status == 200


@pytest.mark.parametrize("arguments", [["--debug"], ["--reload"]])
def test_under_the_reloader_only_the_process_that_serves_runs_jobs(
    arguments: list[str], tmp_path: Path
) -> None:
    with flask_run(tmp_path, *arguments) as web:
        job_id = enqueue(web)

        assert runs_by_itself(web, job_id), web.log
        assert web.log.count(STARTED) == 1


def test_with_a_file_the_tables_are_made_and_the_file_is_ticked(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'dev.db'}"
    with flask_run(tmp_path, "--debug", "--no-reload", DATABASE_URL=url) as web:
        assert runs_by_itself(web, enqueue(web)), web.log
        assert web.log.count(STARTED) == 1


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    with flask_run(tmp_path, JOBS_AUTO_START="0", **CRON) as web:
        assert waits_for_a_tick(web, enqueue(web))
        assert STARTED not in web.log


def test_in_production_nothing_starts(tmp_path: Path, sqlite_url: str) -> None:
    tickwork = Tickwork(sqlite_url)
    tickwork.create_schema()
    tickwork.close()
    production = {"JOBS_ENV": "production", "DATABASE_URL": sqlite_url, "JOBS_AUTO_START": "1"}
    with flask_run(tmp_path, **production, **CRON) as web:
        assert waits_for_a_tick(web, enqueue(web))
        assert STARTED not in web.log


def test_on_a_platform_nothing_starts_and_the_tick_is_closed(tmp_path: Path) -> None:
    with flask_run(tmp_path, JOBS_ENV="development", VERCEL="1") as web:
        enqueue(web)
        assert web.ask("GET", TICK).status == 503
        assert STARTED not in web.log


def flask(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command of Flask's that ends by itself."""
    (folder / "tasks.py").write_text(TASKS)
    paths = os.pathsep.join([str(ROOT), str(folder)])
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "api.index", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": paths, **BASE, **environ},
        timeout=60,
    )


@pytest.mark.parametrize("environ", [{"VERCEL": "1"}, {"JOBS_ENV": "production"}])
def test_production_without_a_database_refuses_to_start(
    environ: dict[str, str], tmp_path: Path
) -> None:
    run = flask(tmp_path, "run", "--port", "0", **environ)

    assert run.returncode != 0
    assert "DATABASE_URL is not set" in run.stderr


def test_a_command_that_only_looks_starts_nothing(tmp_path: Path) -> None:
    run = flask(tmp_path, "routes")

    assert run.returncode == 0
    assert TICK in run.stdout
    assert STARTED not in run.stderr


def test_under_gunicorn_nothing_starts(tmp_path: Path) -> None:
    """Each of its workers would hold a stub of its own, with other jobs."""
    (tmp_path / "tasks.py").write_text(TASKS)

    def command(port: int) -> list[str]:
        bound = f"127.0.0.1:{port}"
        return ["-m", "gunicorn", "--bind", bound, "--no-control-socket", "api.index:app"]

    with serving(tmp_path, command, {**BASE, **CRON, "JOBS_ENV": "development"}) as web:
        assert waits_for_a_tick(web, enqueue(web))
        assert STARTED not in web.log


# In this process: any other development server, which Flask's command line knows nothing of.


def test_elsewhere_it_starts_with_the_first_request() -> None:
    tickwork = Tickwork(poll_interval=3600)
    client = create_app(tickwork).test_client()
    assert not tickwork.is_running

    client.get("/healthz")
    client.get("/healthz")

    assert tickwork.is_running
    tickwork.close()


def test_first_requests_at_the_same_time_start_it_once() -> None:
    tickwork = Tickwork(poll_interval=3600)
    app = create_app(tickwork)
    starts: list[None] = []
    really_start: Callable[[], None] = tickwork.start
    tickwork.start = lambda: (starts.append(None), really_start())[1]  # type: ignore[method-assign]
    threads = [threading.Thread(target=lambda: app.test_client().get("/healthz")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(starts) == 1
    tickwork.close()


def test_an_application_under_test_is_left_alone() -> None:
    tickwork = Tickwork()
    app = create_app(tickwork)
    app.testing = True

    app.test_client().get("/healthz")

    assert not tickwork.is_running


def test_an_engine_of_ones_own_is_not_taken_for_a_laptops(sqlite_url: str) -> None:
    """Which database it speaks to is not in the settings, so it is neither ticked nor changed."""
    with_tables = Tickwork(sqlite_url)
    tickwork = Tickwork(with_tables.engine, env="development")

    create_app(tickwork).test_client().get("/healthz")

    assert not tickwork.is_running
    with pytest.raises(Exception, match="db upgrade"):
        tickwork.tick()
    with_tables.close()


def test_without_apscheduler_the_application_still_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "apscheduler"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "apscheduler", None)

    assert create_app(Tickwork()).test_client().get("/healthz").status_code == 200
    assert "pip install 'tickwork[local]'" in caplog.text
