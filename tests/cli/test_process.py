"""The command as it is really started: `python -m jobs`, in a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs import Job, Tickwork
from tests.support.databases import Database
from tests.support.web import ROOT, eventually, serving

SECRET = "a-secret-of-some-length"
TASKS = """
import os, subprocess, sys
from jobs import handler

print("on import")

@handler("chatty")
def chatty(payload):
    print("printed")
    os.write(1, b"written\\n")
    subprocess.run([sys.executable, "-c", "print('by a child')"], check=True)

@handler("hold", timeout=50)
def hold(payload):
    open("begun", "w").close()
    with open("gate") as gate:  # a FIFO: returns when the test opens its other end
        gate.read()

@handler("hang", timeout=0.2, max_attempts=1)
def hang(payload):
    import time
    time.sleep(600)
"""


def environ(folder: Path, url: str | None, **more: str) -> dict[str, str]:
    (folder / "own_tasks.py").write_text(TASKS)
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "JOBS_HANDLERS": "own_tasks"}
    return {**own, **({"DATABASE_URL": url} if url else {}), **more}


def run(
    folder: Path, environment: Mapping[str, str], *arguments: str, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs", *arguments],
        cwd=folder,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_job_from_end_to_end(database: Database, tmp_path: Path) -> None:
    """The handlers' module lies in the current directory; what it prints is not in the way."""
    environment = environ(tmp_path, database.url)
    assert run(tmp_path, environment, "db", "upgrade").returncode == 0

    enqueued = run(tmp_path, environment, "enqueue", "chatty", "-", "--json", given='{"n": 1}')
    job_id = json.loads(enqueued.stdout)["id"]
    ticked = run(tmp_path, environment, "tick", "--json")
    shown = run(tmp_path, environment, "show", job_id, "--json")

    assert json.loads(ticked.stdout)["jobs"] == [job_id]
    assert all(
        line in ticked.stderr for line in ("on import\n", "printed\n", "written\n", "by a child\n")
    )
    assert json.loads(shown.stdout)["state"] == "completed"
    assert json.loads(shown.stdout)["payload"] == {"n": 1}
    assert (ticked.returncode, shown.returncode) == (0, 0)
    assert shown.stderr == ""


def test_without_json_handlers_print_as_they_like(sqlite_url: str, tmp_path: Path) -> None:
    environment = environ(tmp_path, sqlite_url, JOBS_ENV="development")
    run(tmp_path, environment, "enqueue", "chatty")

    ticked = run(tmp_path, environment, "tick")

    assert {"printed", "written", "by a child"} <= set(ticked.stdout.splitlines())


def test_a_handler_that_hangs_does_not_keep_the_command(sqlite_url: str, tmp_path: Path) -> None:
    environment = environ(tmp_path, sqlite_url, JOBS_ENV="development")
    run(tmp_path, environment, "enqueue", "hang")

    ticked = run(tmp_path, environment, "tick")

    assert ticked.returncode == 0
    assert "TimedOut: gave up after 0.2 s" in ticked.stdout


def test_help_and_version_load_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom jobs.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'sqlalchemy', 'flask', 'rich', 'alembic', 'boto3', 'werkzeug'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert "Usage: " in done.stdout
    assert done.stdout.endswith("LOADED []\n"), done.stdout + done.stderr
    version = run(tmp_path, environ(tmp_path, None), "--version")
    assert version.stdout.startswith("tickwork, version ")


def test_a_reader_that_goes_away_is_no_trouble(sqlite_url: str, tmp_path: Path) -> None:
    tickwork = Tickwork(sqlite_url)
    tickwork.create_schema()
    tickwork.enqueue_many([("x", {"text": "y" * 500})] * 1000)
    tickwork.close()
    command = f"{sys.executable} -m jobs list --limit 1000 --json | head -1"

    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=environ(tmp_path, sqlite_url),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr


def on_a_terminal(
    folder: Path, environment: Mapping[str, str], *arguments: str, columns: int = 100
) -> str:
    """What a command writes to a terminal."""
    leader, follower = pty.openpty()
    size = {"COLUMNS": str(columns), "LINES": "40", "TERM": "xterm"}
    command = subprocess.Popen(
        [sys.executable, "-m", "jobs", *arguments],
        cwd=folder,
        env={**environment, **size},
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    written = b""
    while True:
        try:
            chunk = os.read(leader, 65_536)
        except OSError:  # Linux's way to say that nobody writes any more
            break
        if not chunk:
            break
        written += chunk
    os.close(leader)
    assert command.wait(timeout=60) == 0, written
    return written.decode()


def test_a_terminal_gets_a_table_that_fits(sqlite_url: str, tmp_path: Path) -> None:
    tickwork = Tickwork(sqlite_url)
    tickwork.create_schema()
    job = tickwork.enqueue("x", max_attempts=1)
    tickwork.handler("x")(_fail_at_length)
    tickwork.tick()
    tickwork.close()

    drawn = on_a_terminal(tmp_path, environ(tmp_path, sqlite_url), "list")

    assert job.id in drawn
    assert "\x1b[2J" not in drawn
    assert "…" in drawn
    assert "ValueError: [red]not" in drawn  # no markup
    assert len(drawn.splitlines()) == 2


@pytest.mark.parametrize("columns", [40, 300])
def test_stats_are_whole_on_any_terminal(sqlite_url: str, tmp_path: Path, columns: int) -> None:
    tickwork = Tickwork(sqlite_url)
    tickwork.create_schema()
    tickwork.enqueue_many([("a-kind-with-a-rather-long-name", {})] * 3)
    tickwork.close()

    drawn = on_a_terminal(tmp_path, environ(tmp_path, sqlite_url), "stats", columns=columns)

    assert "a-kind-with-a-rather-long-name" in drawn
    assert "TOTAL" in drawn
    assert "…" not in drawn


def _fail_at_length(payload: dict[str, str]) -> None:
    raise ValueError("[red]not markup[/red] \x1b[2J" + "long " * 100)


def test_serve_runs_the_real_application(sqlite_url: str, tmp_path: Path) -> None:
    environment = environ(tmp_path, sqlite_url, CRON_SECRET=SECRET)
    run(tmp_path, environment, "db", "upgrade")
    enqueued = json.loads(run(tmp_path, environment, "enqueue", "chatty", "--json").stdout)

    def command(port: int) -> list[str]:
        return ["-m", "jobs", "serve", "--port", str(port)]

    with serving(tmp_path, command, environment) as web:
        assert web.ask("GET", "/cron/process-jobs").status == 401
        bearer = {"Authorization": f"Bearer {SECRET}"}
        answer = web.ask("POST", "/cron/process-jobs", bearer)
        taken = run(tmp_path, environment, "serve", "--port", str(web.port))

        assert answer.json["jobs"] == [enqueued["id"]]
        assert f"Serving on http://127.0.0.1:{web.port}" in web.log
        assert "This is not a production server" in web.log
        assert '"POST /cron/process-jobs HTTP/1.1" 200' in web.log
        assert taken.returncode == 1
        assert "in use" in taken.stderr


def test_serve_dev_runs_jobs_by_itself(sqlite_url: str, tmp_path: Path) -> None:
    """No tables, no secret, no request: a laptop."""
    environment = environ(tmp_path, sqlite_url, JOBS_POLL_INTERVAL="0.1")

    def command(port: int) -> list[str]:
        return ["-m", "jobs", "serve", "--dev", "--port", str(port)]

    with serving(tmp_path, command, environment) as web:
        enqueued = json.loads(run(tmp_path, environment, "enqueue", "chatty", "--json").stdout)
        tickwork = Tickwork(sqlite_url)
        assert eventually(lambda: _state(tickwork.get(enqueued["id"])) == "completed")
        tickwork.close()
        assert "run by themselves" in web.log
        assert "not a production server" not in web.log


def _state(job: Job | None) -> str | None:
    return None if job is None else job.status


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_well(tmp_path: Path, ending: signal.Signals) -> None:
    """In development without a database: the stub in memory."""
    server = subprocess.Popen(
        [sys.executable, "-m", "jobs", "serve", "--dev", "--port", "0"],
        cwd=tmp_path,
        env=environ(tmp_path, None),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    for line in server.stderr:
        if line.startswith("Serving on http://127.0.0.1:"):
            break
    server.send_signal(ending)

    _, rest = server.communicate(timeout=30)

    assert server.returncode == 0
    assert "Ending." in rest
    assert "Traceback" not in rest


@contextmanager
def a_job_in_its_middle(folder: Path, url: str) -> Iterator[tuple[subprocess.Popen[str], Tickwork]]:
    """`tickwork serve` with one job running behind the FIFO `gate`, and a second one claimed."""
    os.mkfifo(folder / "gate")
    tickwork = Tickwork(url)
    tickwork.create_schema()
    tickwork.enqueue_many([("hold", {"n": 1}), ("hold", {"n": 2})])
    server = subprocess.Popen(
        [sys.executable, "-m", "jobs", "serve", "--port", "0"],
        cwd=folder,
        env=environ(folder, url, CRON_SECRET=SECRET, JOBS_CONCURRENCY="1"),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        serving_at = re.compile(r"Serving on http://127.0.0.1:(\d+)")
        port = next(int(found[1]) for line in server.stderr if (found := serving_at.search(line)))
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        asking.request("POST", "/cron/process-jobs", headers={"Authorization": f"Bearer {SECRET}"})
        assert eventually((folder / "begun").exists)
        yield server, tickwork
        asking.close()
    finally:
        server.kill()
        server.communicate()
        tickwork.close()


def test_a_job_ends_and_the_one_behind_it_goes_back_when_serve_is_told_to_end(
    sqlite_url: str, tmp_path: Path
) -> None:
    with a_job_in_its_middle(tmp_path, sqlite_url) as (server, tickwork):
        server.send_signal(signal.SIGTERM)

        # While the first one still runs.
        assert eventually(lambda: shown(tickwork) == [("pending", 0), ("processing", 1)])
        (tmp_path / "gate").open("w").close()
        _, rest = server.communicate(timeout=30)

        assert server.returncode == 0, rest
        assert shown(tickwork) == [("completed", 1), ("pending", 0)]
        assert "Waiting up to 10 s" in rest
        assert '"POST /cron/process-jobs HTTP/1.1" 200' in rest
        assert "Traceback" not in rest


def test_a_second_signal_leaves_at_once(sqlite_url: str, tmp_path: Path) -> None:
    with a_job_in_its_middle(tmp_path, sqlite_url) as (server, tickwork):
        server.send_signal(signal.SIGTERM)
        assert eventually(lambda: ("pending", 0) in shown(tickwork))
        server.send_signal(signal.SIGTERM)

        _, rest = server.communicate(timeout=30)

        assert server.returncode == 0, rest
        assert shown(tickwork) == [("pending", 0), ("processing", 1)], "its lease will tell"
        assert "Left what still runs" in rest
        assert "Traceback" not in rest


def shown(tickwork: Tickwork) -> list[tuple[str, int]]:
    return sorted((str(job.state), job.attempts) for job in tickwork.list())


def test_serve_refuses_production_without_a_database(tmp_path: Path) -> None:
    done = run(tmp_path, environ(tmp_path, None), "serve", "--port", "0")

    assert done.returncode == 2
    assert done.stderr.startswith("tickwork: DATABASE_URL is not set")
