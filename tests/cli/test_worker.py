"""``tickwork worker`` in processes of its own: signals, crashes, freezes, NOTIFY."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import make_url

from jobs import State, Tickwork
from jobs.cli import main
from tests.support import postgresql
from tests.support.databases import Database
from tests.support.proxy import Proxy
from tests.support.web import ROOT, eventually

TASKS = """
import os, time
from jobs import handler

def note(word):
    with open("notes", "a") as file:
        file.write(word + "\\n")

@handler("quick")
def quick(payload):
    note(f"quick {payload.get('n')} {time.monotonic()}")

@handler("hold", timeout=50, max_attempts=3)
def hold(payload, ctx):
    note(f"begun {ctx.attempt} {os.getpid()}")
    until = time.monotonic() + 40
    while not os.path.exists("gate") and time.monotonic() < until:
        time.sleep(0.01)
    note(f"ended {ctx.attempt} {os.getpid()}")
    return os.getpid()
"""


class Running:
    """One worker process and the events that it printed."""

    def __init__(self, folder: Path, url: str, *arguments: str, **more: str) -> None:
        (folder / "own_tasks.py").write_text(TASKS)
        self.folder = folder
        self.events: list[dict[str, Any]] = []
        errors = (folder / f"errors-{time.monotonic_ns()}").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobs", "worker", "--json", *arguments],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "DATABASE_URL": url,
                "JOBS_HANDLERS": "own_tasks",
                "JOBS_POLL_INTERVAL": "0.2",
                **more,
            },
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        errors.close()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert eventually(lambda: self.has("running") or self.process.poll() is not None)
        assert self.process.poll() is None, self.errors()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.events.append(json.loads(line))

    def has(self, name: str) -> bool:
        return any(event["event"] == name for event in self.events)

    def notes(self) -> list[str]:
        file = self.folder / "notes"
        return file.read_text().splitlines() if file.exists() else []

    def errors(self) -> str:
        return "".join(file.read_text() for file in sorted(self.folder.glob("errors-*")))

    def end(self, *, within: float = 30) -> int:
        code = self.process.wait(within)
        self._reader.join(10)
        return code


@pytest.fixture
def tickwork(database: Database) -> Iterator[Tickwork]:
    tickwork = Tickwork(database.url)
    tickwork.create_schema()
    yield tickwork
    tickwork.close()


@pytest.fixture
def workers() -> Iterator[list[Running]]:
    started: list[Running] = []
    yield started
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.end()


def state(tickwork: Tickwork, job_id: str) -> tuple[State, int]:
    job = tickwork.get(job_id)
    assert job is not None
    return job.state, job.attempts


def test_sigterm_ends_it_in_order(
    tickwork: Tickwork, database: Database, tmp_path: Path, workers: list[Running]
) -> None:
    """What runs ends and is written, nothing else starts, and the exit code is 0."""
    held = tickwork.enqueue("hold")
    workers.append(worker := Running(tmp_path, database.url, "--concurrency", "1"))
    assert eventually(lambda: len(worker.notes()) == 1)
    waiting = tickwork.enqueue("quick")

    worker.process.send_signal(signal.SIGTERM)
    assert eventually(lambda: worker.has("ending"))
    (tmp_path / "gate").touch()

    assert worker.end() == 0
    assert worker.events[-1]["event"] == "ended"
    assert state(tickwork, held.id) == ("completed", 1)
    assert state(tickwork, waiting.id) == ("pending", 0)
    assert [note.split()[0] for note in worker.notes()] == ["begun", "ended"]


def test_after_the_grace_a_job_is_given_up_on_and_retried_without_its_lease(
    tickwork: Tickwork, database: Database, tmp_path: Path, workers: list[Running]
) -> None:
    held = tickwork.enqueue("hold")
    workers.append(worker := Running(tmp_path, database.url, "--grace", "0.3"))
    assert eventually(lambda: len(worker.notes()) == 1)

    worker.process.send_signal(signal.SIGINT)

    assert worker.end() == 0
    job = tickwork.get(held.id)
    assert job is not None
    assert (job.state, job.attempts, job.lease_until) == ("pending", 1, None)
    assert "told to end" in (job.error or "")


def test_a_second_signal_leaves_at_once(
    sqlite_url: str, tmp_path: Path, workers: list[Running]
) -> None:
    tickwork = Tickwork(sqlite_url)
    tickwork.create_schema()
    held = tickwork.enqueue("hold")
    workers.append(worker := Running(tmp_path, sqlite_url))
    assert eventually(lambda: len(worker.notes()) == 1)

    worker.process.send_signal(signal.SIGTERM)
    assert eventually(lambda: worker.has("ending"))
    worker.process.send_signal(signal.SIGTERM)

    assert worker.end(within=10) == 1
    assert state(tickwork, held.id) == ("processing", 1)
    tickwork.close()


def test_what_a_killed_worker_held_is_run_by_another(
    tickwork: Tickwork, database: Database, tmp_path: Path, workers: list[Running]
) -> None:
    from datetime import UTC, datetime

    from sqlalchemy import update

    held = tickwork.enqueue("hold")
    workers.append(first := Running(tmp_path, database.url))
    assert eventually(lambda: len(first.notes()) == 1)
    first.process.kill()
    first.end()
    workers.append(second := Running(tmp_path, database.url, JOBS_RETRY_DELAY="0"))
    time.sleep(0.5)
    assert len(second.notes()) == 1, "its lease still holds"

    jobs = tickwork.store.tables.jobs  # type: ignore[attr-defined]
    with tickwork.engine.begin() as connection:
        connection.execute(update(jobs).values(lease_until=datetime(2020, 1, 1, tzinfo=UTC)))
    (tmp_path / "gate").touch()

    assert eventually(lambda: state(tickwork, held.id) == ("completed", 2))
    assert [note.split()[1] for note in second.notes()] == ["1", "2", "2"]


def test_a_frozen_worker_changes_nothing_when_it_wakes(
    tickwork: Tickwork, database: Database, tmp_path: Path, workers: list[Running]
) -> None:
    from datetime import UTC, datetime

    from sqlalchemy import update

    held = tickwork.enqueue("hold")
    workers.append(first := Running(tmp_path, database.url))
    assert eventually(lambda: len(first.notes()) == 1)
    first.process.send_signal(signal.SIGSTOP)
    jobs = tickwork.store.tables.jobs  # type: ignore[attr-defined]
    with tickwork.engine.begin() as connection:
        connection.execute(update(jobs).values(lease_until=datetime(2020, 1, 1, tzinfo=UTC)))
    (tmp_path / "gate").touch()
    workers.append(second := Running(tmp_path, database.url, JOBS_RETRY_DELAY="0"))
    assert eventually(lambda: state(tickwork, held.id) == ("completed", 2))
    before = tickwork.get(held.id)
    assert before is not None
    assert before.result == second.process.pid

    first.process.send_signal(signal.SIGCONT)
    assert eventually(lambda: f"ended 1 {first.process.pid}" in first.notes())
    first.process.send_signal(signal.SIGTERM)

    assert first.end() == 0
    assert tickwork.get(held.id) == before
    assert sum(e["late"] for e in first.events if e["event"] == "statistics") == 1


def test_side_by_side_with_ticks_each_job_runs_once(
    tickwork: Tickwork, database: Database, tmp_path: Path, workers: list[Running]
) -> None:
    seen: list[int] = []

    @tickwork.handler("quick")
    def quick(payload: dict[str, int]) -> None:
        seen.append(payload["n"])

    ids = tickwork.enqueue_many([("quick", {"n": n}) for n in range(300)])
    workers.append(one := Running(tmp_path, database.url, "--quiet"))
    while tickwork.tick(limit=10).remaining:
        pass
    assert eventually(lambda: all(state(tickwork, each)[0] == "completed" for each in ids))
    by_worker = [int(note.split()[1]) for note in one.notes()]
    assert sorted(seen + by_worker) == list(range(300))


def test_it_says_what_it_will_run_and_statistics(
    sqlite_url: str, tmp_path: Path, workers: list[Running]
) -> None:
    tickwork = Tickwork(sqlite_url)
    tickwork.create_schema()
    (tmp_path / "own_tasks.py").write_text(TASKS)
    (tmp_path / "gate").touch()
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs", "worker", "--statistics", "0.2", "-q", "default,mail"],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "DATABASE_URL": sqlite_url,
                "JOBS_HANDLERS": "own_tasks",
                "JOBS_CONCURRENCY": "7",
            },
            stdout=output,
        )
    tickwork.enqueue("quick", {"n": 1})
    try:
        assert eventually(lambda: "1 succeeded" in (tmp_path / "output").read_text())
    finally:
        process.terminate()
        assert process.wait(30) == 0
    text = (tmp_path / "output").read_text()
    assert "worker is now running" in text
    assert "kinds     hold, quick" in text
    assert "queues    default, mail" in text
    assert "slots     7" in text
    assert "completed" in text
    assert text.endswith("Ended.\n")
    tickwork.close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kinds", "nope"], "no handler here for nope"),
        (["--timeout", "5"], "with --sqs"),
        (["--sqs", "--grace", "5"], "without --sqs"),
        (["--queues", ","], "names none"),
        (["--concurrency", "0"], "concurrency"),
    ],
)
def test_asked_wrongly(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.setattr(Tickwork, "_from_env", None)
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setenv("JOBS_HANDLERS", "tests.cli.tasks")
    tickwork = Tickwork(sqlite_url)
    tickwork.create_schema()
    tickwork.close()
    done = CliRunner().invoke(main, ["worker", *arguments])
    assert done.exit_code == 2, done.output
    assert says in done.output


def test_a_database_without_tables_is_refused_with_the_mend(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tickwork, "_from_env", None)
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    done = CliRunner().invoke(main, ["worker"])
    assert done.exit_code != 0
    assert "tickwork db upgrade" in done.output


# -- NOTIFY ------------------------------------------------------------------------------------


@pytest.fixture
def notifying(postgresql_database: Database) -> Iterator[Tickwork]:
    tickwork = Tickwork(postgresql_database.url, notify=True)
    tickwork.create_schema()
    yield tickwork
    tickwork.close()


FAR = {"JOBS_NOTIFY": "1", "JOBS_POLL_INTERVAL": "600"}


def hears(worker: Running) -> bool:
    return any(e.get("doorbell") == "LISTEN" for e in worker.events[-1:])


def test_a_commit_wakes_it(
    notifying: Tickwork, postgresql_database: Database, tmp_path: Path, workers: list[Running]
) -> None:
    url = postgresql_database.url
    workers.append(worker := Running(tmp_path, url, "--statistics", "0.1", **FAR))
    assert eventually(lambda: hears(worker))
    for number in range(3):
        notifying.enqueue("quick", {"n": number})
        assert eventually(lambda n=number: len(worker.notes()) == n + 1)  # type: ignore[misc]
    from sqlalchemy.orm import Session

    with Session(notifying.engine) as session:
        notifying.enqueue("quick", {"n": 4}, session=session)
        time.sleep(0.3)
        assert len(worker.notes()) == 3, "nothing is committed yet"
        session.commit()
    assert eventually(lambda: len(worker.notes()) == 4)


def test_a_cut_line_is_made_anew(
    notifying: Tickwork, postgresql_database: Database, tmp_path: Path, workers: list[Running]
) -> None:
    direct = make_url(postgresql_database.url)
    proxy = Proxy(direct.host or "", direct.port or 0)
    through = direct.set(host="127.0.0.1", port=proxy.port)
    url = through.render_as_string(hide_password=False)
    workers.append(worker := Running(tmp_path, url, "--statistics", "0.1", **FAR))
    assert eventually(lambda: hears(worker))

    proxy.down()
    assert eventually(lambda: not hears(worker))
    notifying.enqueue("quick", {"n": 1})  # its ring is heard by nobody
    time.sleep(0.3)
    assert worker.notes() == []
    proxy.up()

    assert eventually(lambda: len(worker.notes()) == 1)
    assert eventually(lambda: hears(worker))
    notifying.enqueue("quick", {"n": 2})
    assert eventually(lambda: len(worker.notes()) == 2)
    proxy.down()


def test_behind_a_pooler_it_polls_and_says_so(
    pgbouncer_database: Database, tmp_path: Path, workers: list[Running]
) -> None:
    tickwork = Tickwork(pgbouncer_database.url, notify=True)
    tickwork.create_schema()
    more = {"JOBS_NOTIFY": "1", "JOBS_POLL_INTERVAL": "0.5"}
    workers.append(
        worker := Running(tmp_path, pgbouncer_database.url, "--statistics", "0.1", **more)
    )
    said = "polling (LISTEN: not through this pooler)"
    assert eventually(lambda: worker.events[-1].get("doorbell") == said)
    assert worker.errors().count("LISTEN is not heard") == 1
    tickwork.enqueue("quick", {"n": 1})
    assert eventually(lambda: len(worker.notes()) == 1)
    tickwork.close()


@pytest.mark.slow
def test_a_database_that_is_stopped_and_started(tmp_path: Path, workers: list[Running]) -> None:
    """The server itself goes and comes back, on the same port and with the same rows."""
    with postgresql.server() as url:
        tickwork = Tickwork(url, notify=True)
        tickwork.create_schema()
        workers.append(worker := Running(tmp_path, url, "--statistics", "0.1", **FAR))
        assert eventually(lambda: hears(worker))
        held = tickwork.enqueue("hold")
        assert eventually(lambda: len(worker.notes()) == 1)
        with tickwork.engine.connect() as connection:
            data = connection.exec_driver_sql("SHOW data_directory").scalar_one()
        postmaster = int((Path(data) / "postmaster.pid").read_text().split()[0])
        command = Path(f"/proc/{postmaster}/cmdline").read_bytes().split(b"\0")[:-1]
        account = Path(f"/proc/{postmaster}").stat()
        os.kill(postmaster, signal.SIGINT)
        assert eventually(lambda: not (Path(data) / "postmaster.pid").exists())
        (tmp_path / "gate").touch()  # the job ends while there is no database
        time.sleep(1)
        again = subprocess.Popen(command, user=account.st_uid, group=account.st_gid, cwd=data)
        try:
            assert eventually(lambda: hears(worker))
            assert eventually(lambda: state(tickwork, held.id) == ("completed", 1))
            tickwork.enqueue("quick", {"n": 1})
            assert eventually(lambda: len(worker.notes()) == 3)
        finally:
            tickwork.close()
            worker.process.kill()
            again.send_signal(signal.SIGINT)
            again.wait(30)
