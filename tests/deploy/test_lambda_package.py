"""`make package-lambda`: what is in the zip, and that its functions run from it alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from jobs import State, Tickwork
from tests.support import lambda_runtime, sqs
from tests.support.databases import Database

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "lambda_package.py"
SECRET = "correct-horse-battery-staple"
OWN_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
TASKS = """
from flask import Blueprint
from jobs import Retry, Tickwork

tickwork = Tickwork.from_env()
blueprint = Blueprint("shop", __name__)


@tickwork.handler("fetch", max_attempts=3)
def fetch(payload: dict) -> None:
    raise Retry(after=600)


@tickwork.handler("greet", max_attempts=1)
def greet(payload: dict) -> dict:
    import idna
    return {"greeting": f"hello {payload['name']}", "from": __file__, "idna": idna.__file__}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="a Lambda package holds Linux wheels"),
]


def build(
    *arguments: str | Path, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JOBS_")}
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        env={**clean, **(environ or {})},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's project: a package with handlers, and what lies about in a project."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "tasks.py").write_text(TASKS)
    for stray in (".env", "shop/.env", "shop/shop.db", "shop/shop.db-wal", "stray.py"):
        (folder / stray).write_text("hush-hush")
    (folder / "datasets.toml").write_text("[datasets]\n")
    (folder / "requirements.txt").write_text("idna>=3\n")
    return folder


def build_shop(shop: Path, output: Path) -> Path:
    done = build(
        *("--python", OWN_PYTHON, "--source", shop, "--handlers", "shop.tasks"),
        *("--requirements", shop / "requirements.txt", "--include", "datasets.toml"),
        *("--output", output),
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\S+lambda\.zip: [\d.]+ MB, [\d.]+ MB unpacked, for .*\n", done.stdout)
    return output


@pytest.fixture(scope="module")
def package(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shop(shop, tmp_path_factory.mktemp("package") / "lambda.zip")


@pytest.fixture(scope="module")
def names(package: Path) -> set[str]:
    with zipfile.ZipFile(package) as opened:
        return set(opened.namelist())


def test_it_holds_what_the_functions_need(names: set[str]) -> None:
    assert {
        *("api/lambda_handlers.py", "jobs/aws/consumer.py", "jobs/ssm.py", "shop/tasks.py"),
        *("jobs/stores/sql/migrations/versions/0001_jobs.py", "datasets.toml"),
        *("flask/__init__.py", "sqlalchemy/__init__.py", "psycopg/__init__.py"),
        *("psycopg_binary/__init__.py", "pymysql/__init__.py", "apig_wsgi/__init__.py"),
        "idna/__init__.py",
    } <= names


def test_it_holds_nothing_else(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}

    # boto3 is the runtime's own; the rest belongs to this project, not to its functions.
    assert not tops & {"boto3", "botocore", "tests", "docs", "benchmarks", "deploy", "bin", ".venv"}
    assert {name for name in names if name.startswith("api/") and name.endswith(".py")} == {
        "api/lambda_handlers.py"
    }
    stray = re.compile(r"(^|/)(\.|stray|pip/|[^/]*\.(db|db-wal|pyo)$|direct_url\.json$)")
    assert [name for name in names if stray.search(name)] == []


def test_no_file_tells_of_this_machine_or_its_secrets(package: Path, shop: Path) -> None:
    with zipfile.ZipFile(package) as opened:
        for name in opened.namelist():
            content = opened.read(name)
            assert b"hush-hush" not in content, name
            assert str(shop).encode() not in content, name
            assert not (name.startswith("jobs/") and str(ROOT).encode() in content), name


def test_it_fits_and_is_small(package: Path) -> None:
    with zipfile.ZipFile(package) as opened:
        assert sum(entry.file_size for entry in opened.infolist()) < 80e6
    assert package.stat().st_size < 50e6


def test_its_bytecode_is_never_checked_against_the_source(package: Path) -> None:
    """By PEP 552: the second word of a .pyc is 1 where neither time nor hash is looked at."""
    with zipfile.ZipFile(package) as opened:
        compiled = [name for name in opened.namelist() if name.endswith(".pyc")]
        heads = {opened.read(name)[4:8] for name in compiled}

    assert heads == {b"\x01\x00\x00\x00"}
    tag = sys.implementation.cache_tag
    for module in ("jobs/system.py", "shop/tasks.py", "sqlalchemy/engine/base.py"):
        folder, _, file = module.rpartition("/")
        assert f"{folder}/__pycache__/{file.removesuffix('.py')}.{tag}.pyc" in compiled


def test_the_same_source_makes_the_same_file(package: Path, shop: Path, tmp_path: Path) -> None:
    """So a deployment that changes nothing is none."""
    assert build_shop(shop, tmp_path / "lambda.zip").read_bytes() == package.read_bytes()


@pytest.mark.parametrize(("architecture", "machine"), [("x86_64", 62), ("arm64", 183)])
def test_its_binaries_are_for_lambda_s_platform(
    architecture: str, machine: int, tmp_path: Path
) -> None:
    output = tmp_path / "lambda.zip"
    done = build(
        *("--python", "3.12", "--architecture", architecture, "--no-bytecode"),
        *("--output", output),
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(output) as opened:
        libraries = [name for name in opened.namelist() if re.search(r"\.so(\.|$)", name)]
        # The field e_machine of an ELF header.
        machines = {int.from_bytes(opened.read(name)[18:20], "little") for name in libraries}
        assert not any(name.endswith(".pyc") for name in opened.namelist())

    assert machines == {machine}
    tagged = {found[0] for name in libraries if (found := re.search(r"cpython-\d+", name))}
    assert tagged == {"cpython-312"}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--handlers", "nosuch.tasks"], "JOBS_HANDLERS names 'nosuch'"),
        (["--include", "gone.toml"], "--include: there is no gone.toml"),
        (["--include", "../etc"], "--include: there is no ../etc"),
        (["--requirements", "gone.txt"], "--requirements: there is no file gone.txt"),
        (["--python", "3.10"], "could not be installed: uv says why"),
    ],
)
def test_a_mistake_is_named_and_leaves_no_file(
    arguments: list[str], problem: str, tmp_path: Path
) -> None:
    output = tmp_path / "lambda.zip"
    done = build(*arguments, "--output", output)

    assert done.returncode == 1
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
    assert not output.exists()


# The functions, from the unpacked zip, by Lambda's own runtime client.


@dataclass(frozen=True)
class Place:
    """What stands on Lambda: the unpacked package, and what the runtime's image brings."""

    task: Path
    runtime: Path


@pytest.fixture(scope="module")
def place(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    task, runtime = tmp_path_factory.mktemp("task"), tmp_path_factory.mktemp("runtime")
    with zipfile.ZipFile(package) as opened:
        opened.extractall(task)
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", runtime]
    done = subprocess.run(
        [*install, "--python", sys.executable, "boto3", "awslambdaric"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return Place(task, runtime)


@pytest.fixture(scope="module")
def aws_server() -> Iterator[str]:
    with sqs.server() as url:
        yield url


@pytest.fixture
def queue(aws_server: str) -> Iterator[sqs.Queue]:
    client = sqs.client_of(aws_server)
    yield sqs.make_queue(client, visibility_seconds=30)
    client.close()


@pytest.fixture
def environ(
    aws_server: str, queue: sqs.Queue, postgresql_database: Database
) -> Iterator[dict[str, str]]:
    """The variables of serverless.yml's functions, with parameters and a queue behind them."""
    credentials = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": sqs.REGION,
    }
    session = boto3.session.Session("testing", "testing", region_name=sqs.REGION)
    ssm = session.client("ssm", endpoint_url=aws_server)
    for name, value in (("database-url", postgresql_database.url), ("cron-secret", SECRET)):
        ssm.put_parameter(Name=f"/tickwork/dev/{name}", Value=value, Type="SecureString")
    yield {
        **credentials,
        "AWS_ENDPOINT_URL": aws_server,
        "JOBS_BACKEND": "sqs",
        "SQS_QUEUE_URL": queue.url,
        "JOBS_HANDLERS": "shop.tasks",
        "DATABASE_URL": "ssm:/tickwork/dev/database-url",
        "CRON_SECRET": "ssm:/tickwork/dev/cron-secret",
        "JOBS_TICK_LIMIT": "60",
    }
    ssm.close()
    reset = urllib.request.Request(f"{aws_server}/moto-api/reset", method="POST")  # noqa: S310
    urllib.request.urlopen(reset).close()  # noqa: S310 - loopback


@contextmanager
def function(
    name: str, place: Place, environ: dict[str, str], folder: Path
) -> Iterator[lambda_runtime.Function]:
    """One of the package's functions, running."""
    handler = f"api/lambda_handlers.{name}"
    log_file = folder / "log"
    with lambda_runtime.running(
        place.task, place.runtime, handler, environ, log_file=log_file
    ) as started:
        yield started


@pytest.fixture
def producer(postgresql_database: Database) -> Iterator[Tickwork]:
    """Some other process with the same database."""
    tickwork = Tickwork(postgresql_database.url)
    tickwork.create_schema()
    for kind, attempts in (("greet", 1), ("fetch", 3)):
        tickwork.register_handler(kind, lambda payload: None, max_attempts=attempts)
    yield tickwork
    tickwork.close()


def test_records_runs_the_jobs_that_messages_name(
    place: Place, environ: dict[str, str], producer: Tickwork, tmp_path: Path
) -> None:
    ids = [producer.enqueue("greet", {"name": name}).id for name in ("Ada", "Grace")]
    with function("records", place, environ, tmp_path) as records:
        event = {
            "Records": [sqs.record({"jobId": job_id}, f"m{n}") for n, job_id in enumerate(ids)]
        }
        event["Records"].append(sqs.record("no JSON", "m9"))

        assert records.invoke(event) == {"batchItemFailures": [{"itemIdentifier": "m9"}]}
        assert records.invoke(event) == {"batchItemFailures": [{"itemIdentifier": "m9"}]}
        log = records.log

    for name, job_id in zip(("Ada", "Grace"), ids, strict=True):
        job = producer.get(job_id)
        assert (job.state, job.attempts) == (State.COMPLETED, 1)
        assert job.result == {
            "greeting": f"hello {name}",
            "from": str(place.task / "shop" / "tasks.py"),
            "idna": str(place.task / "idna" / "__init__.py"),
        }
    assert SECRET not in log
    assert environ["DATABASE_URL"].startswith("ssm:")
    assert producer.settings.database_url not in log


def test_from_an_enqueue_by_the_queue_to_the_end(
    place: Place,
    environ: dict[str, str],
    producer: Tickwork,
    queue: sqs.Queue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rung, received, run; what is to be tried again is hidden, by the boto3 of the runtime."""
    for name in environ.keys() - {"DATABASE_URL", "CRON_SECRET", "JOBS_HANDLERS"}:
        monkeypatch.setenv(name, environ[name])
    ringing = Tickwork(producer.settings.database_url, backend="sqs", sqs_queue_url=queue.url)
    greeting, fetching = (ringing.enqueue(kind, {"name": "Ada"}) for kind in ("greet", "fetch"))
    ringing.close()
    event = queue.event()
    with function("records", place, environ, tmp_path) as records:
        answer = records.invoke(event)

    assert [json.loads(each["body"])["kind"] for each in event["Records"]] == ["greet", "fetch"]
    fetch = event["Records"][1]["messageId"]
    assert answer == {"batchItemFailures": [{"itemIdentifier": fetch}]}
    assert producer.get(greeting.id).state == State.COMPLETED
    retried = producer.get(fetching.id)
    assert (retried.state, retried.attempts) == (State.PENDING, 1)
    # The queue's own visibility is 30 s; the job's next attempt is due in 600.
    queue.take_off(event, answer)
    clock = sqs.QueueClock(monkeypatch)
    clock.advance(500)
    assert queue.count() == (0, 1)
    clock.advance(200)
    assert queue.count() == (1, 0)


def test_tick_runs_what_is_due(
    place: Place,
    environ: dict[str, str],
    producer: Tickwork,
    tmp_path: Path,
) -> None:
    job = producer.enqueue("greet", {"name": "Ada"})
    environ = {**environ, "JOBS_BACKEND": "sql"}  # with SQS, ticks leave fresh rows to it
    event = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
    with function("tick", place, environ, tmp_path) as tick:
        answer = tick.invoke(event)

    assert (answer["processed"], answer["succeeded"], answer["jobs"]) == (1, 1, [job.id])
    assert producer.get(job.id).result["greeting"] == "hello Ada"


def test_http_serves_the_application(
    place: Place, environ: dict[str, str], producer: Tickwork, tmp_path: Path
) -> None:
    with function("http", place, environ, tmp_path) as http:
        healthy = http.invoke(http_request("/healthz"))
        stranger = http.invoke(http_request("/cron/process-jobs"))
        cron = http.invoke(http_request("/cron/process-jobs", bearer=SECRET))

    assert json.loads(healthy["body"]) == {"status": "ok"}
    assert (healthy["statusCode"], stranger["statusCode"]) == (200, 401)
    assert json.loads(cron["body"])["processed"] == 0


def http_request(path: str, bearer: str | None = None) -> dict[str, Any]:
    """A request as an HTTP API sends it, payload format 2.0."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "host": "api.example",
            "x-forwarded-proto": "https",
            **({"authorization": f"Bearer {bearer}"} if bearer else {}),
        },
        "requestContext": {
            "http": {"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"}
        },
        "isBase64Encoded": False,
    }


def test_a_parameter_that_is_missing_stops_the_function_by_name(
    place: Place, environ: dict[str, str], tmp_path: Path
) -> None:
    environ = {**environ, "CRON_SECRET": "ssm:/tickwork/dev/cron-sekret"}
    with (
        function("tick", place, environ, tmp_path) as tick,
        pytest.raises(
            lambda_runtime.FunctionFailed, match="CRON_SECRET: there is no SSM parameter"
        ),
    ):
        tick.invoke({})
