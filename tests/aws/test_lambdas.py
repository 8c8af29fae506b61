"""The three handlers as a deployment names them, on the environment's system."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api import lambda_handlers
from jobs import Tickwork
from jobs.aws import lambdas
from tests.support.crashing import Crasher
from tests.support.sqs import Context, record
from tests.support.web import ROOT

SECRET = "correct-horse-battery-staple"
TASKS = """
from jobs import handler

@handler("note")
def note(payload):
    return "noted"
"""
# What a batch in which every job ends well has no use for.
NEEDLESS = {
    *("alembic", "apig_wsgi", "apscheduler", "boto3", "botocore", "click", "flask"),
    *("jinja2", "pydantic", "rich", "sqlalchemy.orm", "werkzeug"),
}


@pytest.fixture
def system(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tickwork]:
    """The environment's system, as a deployment has it."""
    for name in [name for name in os.environ if name.startswith("JOBS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setenv("CRON_SECRET", SECRET)
    monkeypatch.setenv("JOBS_HANDLERS", "tests.cli.tasks")
    monkeypatch.setattr(Tickwork, "_from_env", None)
    for cached in (lambdas._consumer, lambdas._application):
        cached.cache_clear()
    tickwork = Tickwork.from_env()
    tickwork.create_schema()
    yield tickwork
    tickwork.close()
    for cached in (lambdas._consumer, lambdas._application):
        cached.cache_clear()


def test_records_runs_what_messages_name(system: Tickwork) -> None:
    job = system.enqueue("greet", {"name": "Ada"})

    answer = lambda_handlers.records({"Records": [record({"jobId": job.id})]}, Context())

    assert answer == {"batchItemFailures": []}
    done = system.get(job.id)
    assert done is not None
    assert done.result == "hello Ada"


def test_tick_answers_as_over_http(system: Tickwork) -> None:
    jobs = [system.enqueue("greet", {"name": "Ada"}), system.enqueue("boom")]

    answer = lambda_handlers.tick({"source": "aws.events", "detail": {}}, Context())

    assert json.loads(json.dumps(answer)) == answer
    assert (answer["processed"], answer["succeeded"], answer["retried"]) == (2, 1, 1)
    assert sorted(answer["jobs"]) == sorted(job.id for job in jobs)


def test_a_tick_goes_by_what_lambda_says_of_its_time(system: Tickwork) -> None:
    job = system.enqueue("time-left", timeout=3600)

    lambda_handlers.tick({}, Context(900))

    done = system.get(job.id)
    assert done is not None
    assert 890 < done.result <= 900


def test_a_tick_that_fails_is_seen(system: Tickwork) -> None:
    with system.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE tickwork_jobs")

    with pytest.raises(Exception, match="db upgrade"):
        lambda_handlers.tick({}, Context())


def http_event(path: str, *, bearer: str = "", query: str = "") -> dict[str, Any]:
    """A request in payload format 2.0, as a function URL and an HTTP API send it."""
    headers = {"host": "abc.lambda-url.eu-central-1.on.aws", "x-forwarded-proto": "https"}
    if bearer:
        headers["authorization"] = f"Bearer {bearer}"
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "domainName": headers["host"],
            "http": {
                "method": "GET",
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.9",
                "userAgent": "curl/8",
            },
            "requestId": "r1",
            "routeKey": "$default",
            "stage": "$default",
            "timeEpoch": 1767225600000,
        },
        "isBase64Encoded": False,
    }


def test_http_is_the_application(system: Tickwork) -> None:
    job = system.enqueue("greet", {"name": "Ada"})
    path = "/cron/process-jobs"

    refused = lambda_handlers.http(http_event(path), Context())
    ticked = lambda_handlers.http(http_event(path, bearer=SECRET, query="limit=5"), Context())

    assert (refused["statusCode"], json.loads(refused["body"])) == (401, {"error": "Unauthorized"})
    assert ticked["statusCode"] == 200
    assert json.loads(ticked["body"])["jobs"] == [job.id]
    assert lambda_handlers.http(http_event("/healthz"), Context())["statusCode"] == 200


def test_http_reads_a_body_that_came_as_base64(system: Tickwork) -> None:
    """As API Gateway hands over what it takes for binary, and cookies beside the headers."""
    job = system.enqueue("greet", {"name": "Ada"})
    event = http_event("/api/jobs/process", bearer=SECRET)
    event["requestContext"]["http"]["method"] = "POST"
    event["headers"]["content-type"] = "application/octet-stream"
    event["cookies"] = ["one=1", "two=2"]
    body = json.dumps({"action": "process-batch", "limit": 3})
    event |= {"body": base64.b64encode(body.encode()).decode(), "isBase64Encoded": True}

    answer = lambda_handlers.http(event, Context())

    assert answer["statusCode"] == 200, answer
    assert json.loads(answer["body"])["jobs"] == [job.id]


def test_records_load_only_what_they_need(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "own_tasks.py").write_text(TASKS)
    tickwork = Tickwork(sqlite_url)
    tickwork.create_schema()
    tickwork.register_handler("note", lambda payload: None)
    event = {"Records": [record({"jobId": tickwork.enqueue("note", {}).id})]}
    tickwork.close()
    program = (
        "import json, sys\nfrom api.lambda_handlers import records\n"
        "answer = records(json.load(sys.stdin))\n"
        "assert answer == {'batchItemFailures': []}, answer\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
            "DATABASE_URL": sqlite_url,
            "JOBS_HANDLERS": "own_tasks",
            "AWS_LAMBDA_FUNCTION_NAME": "jobs",
        },
        input=json.dumps(event),
        capture_output=True,
        text=True,
    )
    loaded = set(done.stdout.split())

    assert "jobs.aws.consumer" in loaded, done.stderr
    assert sorted(loaded & NEEDLESS) == []


def test_a_function_that_dies_in_mid_batch(
    postgresql_database: Any, tmp_path: Path, crasher: Crasher
) -> None:
    """One job of five kills its process at every start; the others are not made to pay for it."""
    from tests.support.scenarios import EXIT_CODE, build

    log = str(tmp_path / "log")
    url = postgresql_database.url
    tickwork = build(url, log, retry_delay=0.0)
    tickwork.create_schema()
    ids = [tickwork.enqueue(kind).id for kind in ("note", "poison", "note", "note", "note")]
    event = {"Records": [record({"jobId": job_id}, f"m{n}") for n, job_id in enumerate(ids)]}
    codes = []
    for _ in range(8):
        codes.append(crasher.run("records", url=url, log=log, event=event, seconds=30.0))
        if codes[-1] == 0:
            answered = json.loads(Path(f"{log}.answer").read_text())
            if answered == {"batchItemFailures": []}:
                break
        _let_leases_run_out(tickwork)
    found = [tickwork.get(job_id) for job_id in ids]
    tickwork.close()

    assert [job.status for job in found if job] == ["completed", "failed", *["completed"] * 3]
    assert found[1] is not None
    assert "runner lost" in (found[1].error or "")
    starts = [line.split()[1] for line in Path(log).read_text().splitlines()]
    assert starts.count(ids[1]) == 3, "as many starts as it has attempts"
    assert codes.count(EXIT_CODE) == 3
    # In the second and third batch it ran last and alone, so only the first start cost others one.
    assert max(starts.count(job_id) for job_id in (ids[0], *ids[2:])) <= 2


def _let_leases_run_out(tickwork: Tickwork) -> None:
    """Leases that are over, and retries that are due, without waiting for either."""
    with tickwork.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE tickwork_jobs SET run_at = run_at - interval '1 hour', "
            "lease_until = lease_until - interval '1 hour' "
            "WHERE state IN ('pending', 'processing')"
        )
