"""The event source of a laptop, in this process and as the command that people start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobs import Tickwork
from jobs.aws.consumer import Consumer
from jobs.aws.queue import open_client
from jobs.aws.source import QueueSource
from jobs.cli import main
from jobs.core.errors import ConfigurationError
from tests.aws.conftest import Place
from tests.support.databases import Database
from tests.support.sqs import ENVIRON, Queue, QueueClock, make_queue
from tests.support.web import ROOT, eventually


class Seconds:
    """Monotonic time that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def source_of(place: Place, queue: Queue, **options: Any) -> QueueSource:
    values = {"function_seconds": 60.0, "wait_seconds": 0, **options}
    return QueueSource(place.consumer, open_client(), queue.url, **values)


def test_it_deletes_what_is_done_and_leaves_what_is_not(lite: Place, queue: Queue) -> None:
    done, boom = lite.put(), lite.put("boom")
    queue.ring(done, boom)
    queue.send("not JSON")
    source = source_of(lite, queue)

    assert source.look() == 3
    assert lite.states(done, boom) == ["completed", "pending"]
    assert queue.count() == (0, 2)
    assert source.look() == 0
    assert (source.batches, source.received, source.deleted) == (1, 3, 1)


def test_a_retry_comes_when_it_is_due(lite: Place, queue: Queue, queue_clock: QueueClock) -> None:
    job_id = lite.put("boom")
    queue.ring(job_id)
    source = source_of(lite, queue)
    for expected in (1, 2, 3):
        source.look()
        assert lite.job(job_id).attempts == expected
        assert source.look() == 0
        queue_clock.advance(41)
        lite.clock.advance(41)

    assert lite.states(job_id) == ["failed"]
    assert queue.count() == (0, 0)


def test_a_function_that_raises_has_deleted_nothing(
    lite: Place, queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queue.ring(lite.put())

    def handle(self: Consumer, event: object, context: Any = None) -> dict[str, Any]:
        raise RuntimeError("the function itself is broken")

    monkeypatch.setattr(Consumer, "handle", handle)
    source_of(lite, queue).look()

    assert queue.count() == (0, 1)
    assert "all 1 messages come back" in caplog.text


def test_a_batch_has_no_longer_than_the_queue_hides_it(
    aws: Any, lite: Place, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(aws, visibility_seconds=30)

    assert source_of(lite, queue, function_seconds=60.0).function_seconds == 30
    assert "raise its VisibilityTimeout" in caplog.text


def test_statistics_every_thirty_seconds(lite: Place, queue: Queue) -> None:
    said: list[str] = []
    seconds = Seconds()
    source = source_of(lite, queue, say=said.append, monotonic=seconds)
    queue.ring(lite.put(), lite.put(), lite.put("boom"))

    source.look()
    seconds.now += 29
    source.look()
    assert said == []
    seconds.now += 1
    source.look()
    (first,) = said
    assert "3 messages (+3)" in first
    assert "2 completed (+2)" in first
    assert "1 retried (+1)" in first
    queue.ring(lite.put())
    seconds.now += 30
    source.look()
    assert "4 messages (+1)" in said[1]
    assert "3 completed (+1)" in said[1]


def test_a_queue_that_is_away_is_looked_at_again(
    lite: Place, queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_of(lite, queue)
    queue.ring(lite.put())
    pauses: list[float | None] = []
    monkeypatch.setattr(source._stopping, "wait", pauses.append)
    source._client.meta.events.register("before-send.sqs.ReceiveMessage", _refuse)

    assert [source.look() for _ in range(7)] == [0] * 7
    assert pauses == [2, 4, 8, 16, 30, 30, 30]
    assert "cannot be looked at: ServiceUnavailable" in caplog.text

    source._client.meta.events.unregister("before-send.sqs.ReceiveMessage", _refuse)
    assert source.look() == 1


def _refuse(request: Any, **_: Any) -> Any:
    from botocore.awsrequest import AWSResponse

    class Raw:
        def stream(self, **_: Any) -> Any:
            yield b'{"__type": "ServiceUnavailable"}'

    return AWSResponse(request.url, 400, {}, Raw())


def test_a_queue_that_is_not_there(lite: Place, queue: Queue) -> None:
    with pytest.raises(ConfigurationError, match="SQS_QUEUE_URL: there is no such queue"):
        QueueSource(lite.consumer, open_client(), f"{queue.url}-not", function_seconds=60)


def test_a_stop_lets_what_runs_end_and_hands_back_the_rest(
    lite: Place, queue: Queue, queue_clock: QueueClock
) -> None:
    ids = [lite.put("hold") for _ in range(7)]
    queue.ring(*ids)
    source = source_of(lite, queue)
    thread = threading.Thread(target=source.run)
    thread.start()
    assert eventually(lambda: len(lite.ran) == 5)  # as many as JOBS_CONCURRENCY

    source.stop()
    lite.gate.set()
    thread.join(30)

    assert not thread.is_alive()
    assert sorted(lite.states(*ids)) == ["completed"] * 5 + ["pending"] * 2
    assert queue.count() == (0, 2)
    queue_clock.advance(3)
    assert queue.count() == (2, 0), "not hidden for longer than a moment"


# --- the command

TASKS = """
from jobs import handler

@handler("greet")
def greet(payload):
    return f"hello {payload['name']}"

@handler("hold")
def hold(payload):
    open("begun", "w").close()
    with open("gate") as gate:  # a FIFO: returns when the test opens its other end
        gate.read()
"""

WORK = [("hold", "{}"), ("greet", '{"name": "Ada"}'), ("greet", '{"name": "Grace"}')]


class Shop:
    """A laptop with a database, a queue and the command line."""

    def __init__(self, folder: Path, url: str, queue: Queue, sqs_url: str) -> None:
        (folder / "own_tasks.py").write_text(TASKS)
        self.folder = folder
        self.environ = {
            **ENVIRON,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "AWS_ENDPOINT_URL_SQS": sqs_url,
            "DATABASE_URL": url,
            "SQS_QUEUE_URL": queue.url,
            "JOBS_HANDLERS": "own_tasks",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobs", *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        with (self.folder / "out").open("w") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "jobs", *arguments],
                cwd=self.folder,
                env=self.environ,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )

    @property
    def said(self) -> str:
        return (self.folder / "out").read_text()

    def state(self, job_id: str) -> str:
        return str(json.loads(self.run("show", job_id, "--json").stdout)["state"])


@pytest.fixture
def shop(database: Database, tmp_path: Path, queue: Queue, sqs_url: str) -> Shop:
    made = Shop(tmp_path, database.url, queue, sqs_url)
    migrated = made.run("db", "upgrade")
    assert migrated.returncode == 0, migrated.stderr
    return made


@pytest.mark.parametrize(
    "database",
    ["sqlite", *(pytest.param(n, marks=pytest.mark.slow) for n in ("postgresql", "mysql"))],
    indirect=True,
)
def test_the_whole_way_on_a_laptop(shop: Shop, queue: Queue) -> None:
    """Enqueued by one process, rung after its commit, run by another, recorded for a third."""
    worker = shop.start("worker", "--sqs", "--wait", "1")
    try:
        assert eventually(lambda: "worker is now running" in shop.said), shop.said
        enqueued = shop.run("enqueue", "greet", '{"name": "Ada"}', "--json")
        job_id = json.loads(enqueued.stdout)["id"]
        assert eventually(lambda: f"completed {job_id}" in shop.said), shop.said
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0, shop.said
    finally:
        worker.kill()
        worker.wait()

    assert shop.state(job_id) == "completed"
    assert queue.count() == (0, 0)
    assert "1 completed" in shop.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_batch(
    sqlite_url: str, tmp_path: Path, queue: Queue, sqs_url: str, number: signal.Signals
) -> None:
    shop = Shop(tmp_path, sqlite_url, queue, sqs_url)
    shop.run("db", "upgrade")
    os.mkfifo(tmp_path / "gate")
    job_id = json.loads(shop.run("enqueue", "hold", "--json").stdout)["id"]
    worker = shop.start("worker", "--sqs", "--wait", "1")
    try:
        assert eventually((tmp_path / "begun").exists), shop.said
        worker.send_signal(number)
        assert eventually(lambda: "Ending:" in shop.said), shop.said
        assert worker.poll() is None
        (tmp_path / "gate").write_text("")
        assert worker.wait(30) == 0, shop.said
    finally:
        worker.kill()
        worker.wait()

    assert shop.state(job_id) == "completed"
    assert queue.count() == (0, 0)


def test_a_killed_worker_has_lost_nothing(
    sqlite_url: str, tmp_path: Path, queue: Queue, queue_clock: QueueClock, sqs_url: str
) -> None:
    """Its messages come back, and the next one finds whose lease is over. No tick is needed."""
    shop = Shop(tmp_path, sqlite_url, queue, sqs_url)
    shop.environ |= {"JOBS_RETRY_DELAY": "0", "JOBS_CONCURRENCY": "1"}
    shop.run("db", "upgrade")
    os.mkfifo(tmp_path / "gate")
    enqueued = [shop.run("enqueue", kind, payload, "--json") for kind, payload in WORK]
    ids = [json.loads(done.stdout)["id"] for done in enqueued]
    first = shop.start("worker", "--sqs", "--wait", "1")
    try:
        assert eventually((tmp_path / "begun").exists), shop.said
    finally:
        first.kill()
        first.wait()

    (tmp_path / "gate").unlink()
    (tmp_path / "gate").write_text("")
    tickwork = Tickwork(sqlite_url)
    with tickwork.engine.begin() as connection:  # hours later
        connection.exec_driver_sql("UPDATE tickwork_jobs SET lease_until = '2020-01-01 00:00:00'")
    queue_clock.advance(400)
    second = shop.start("worker", "--sqs", "--wait", "1")
    try:
        for _ in range(3):  # a retry at once comes at once, by the queue's clock
            if eventually(lambda: queue.count() == (0, 0), 10):
                break
            queue_clock.advance(3)
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0, shop.said
    finally:
        second.kill()
        second.wait()
    jobs = [tickwork.get(job_id) for job_id in ids]
    tickwork.close()

    assert [job.status for job in jobs if job] == ["completed"] * 3
    assert [job.attempts for job in jobs if job] == [2, 1, 1], "only what ran has paid for it"
    assert queue.count() == (0, 0)


@pytest.mark.parametrize("command", ["worker", "redrive"])
def test_asked_wrongly(
    command: str, sqlite_url: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: str) -> Result:
        monkeypatch.setattr(Tickwork, "_from_env", None)
        return CliRunner().invoke(main, [command, *arguments])

    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.delenv("SQS_QUEUE_URL", raising=False)
    plain, unset = run(), run("--sqs")
    monkeypatch.setenv("SQS_QUEUE_URL", f"{queue.url}-not")
    missing = run("--sqs")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")  # nobody listens there
    away = run("--sqs")

    assert (unset.exit_code, missing.exit_code) == (2, 2)
    if command == "redrive":  # a plain worker runs rows
        assert plain.exit_code == 2
        assert "say --sqs" in plain.stderr
    assert unset.stderr == "tickwork: SQS_QUEUE_URL is not set: it says which queue\n"
    assert "there is no such queue" in missing.stderr
    assert away.exit_code == 1
    assert "AWS cannot be asked" in away.stderr
    assert "Traceback" not in away.stderr


def test_the_command_counts_what_it_moved(
    aws: Any, sqlite_url: str, tmp_path: Path, sqs_url: str
) -> None:
    dead = make_queue(aws)
    queue = make_queue(aws, dead_letters=dead.arn)
    dead.ring("a", "b", "c")
    shop = Shop(tmp_path, sqlite_url, queue, sqs_url)

    some = shop.run("redrive", "--sqs", "--max", "1", "--json")
    rest = shop.run("redrive", "--sqs")

    assert json.loads(some.stdout)["moved"] == 1, some.stderr
    assert rest.stdout.startswith("2 moved from "), rest.stderr
    assert (dead.count(), queue.count()) == ((0, 0), (3, 0))


def test_handlers_of_the_environments_system(
    sqlite_url: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child enqueued by a handler is rung by the doorbell, one hop further."""
    tickwork = Tickwork(sqlite_url, backend="sqs", sqs_queue_url=queue.url)
    tickwork.create_schema()

    @tickwork.handler("parent")
    def parent(payload: dict[str, Any]) -> None:
        tickwork.enqueue("child", {})

    @tickwork.handler("child")
    def child(payload: dict[str, Any]) -> None:
        return None

    tickwork.enqueue("parent", {})
    source = QueueSource(
        Consumer(tickwork), open_client(), queue.url, function_seconds=60, wait_seconds=0
    )
    assert source.look() == 1
    event = queue.event()
    tickwork.close()

    (rung,) = event["Records"]
    assert json.loads(rung["body"])["hops"] == 1
