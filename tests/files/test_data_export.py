"""The kind `data-export`: several datasets in one file, by the real loop."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from moto.server import ThreadedMotoServer

from jobs import PayloadError, State, Tickwork
from jobs.core.clock import ManualClock
from jobs.handlers.archiving import FileFormat, Part, write_parts
from jobs.handlers.data_export import queue_data_export
from jobs.handlers.source import open_source
from jobs.handlers.watching import Watch
from tests.files.conftest import SECRET, Open, run
from tests.files.sales import CUSTOMERS, rows
from tests.handlers.shop import content, files_in, read_csv
from tests.support.databases import Database


def of(org: str) -> list[dict[str, object]]:
    return [row for row in rows() if row["org"] == org]


def unzip(file_url: str) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content(file_url))) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_several_entities_are_one_zip(database: Database, open_system: Open) -> None:
    """On each database in turn; each tenant gets its own rows."""
    tickwork = open_system(database)
    for org in ("org-1", "org-2"):
        job = queue_data_export(
            entities=["sales", "countries"], organization_id=org, tickwork=tickwork
        )
        job = run(tickwork, job)
        assert job.state == State.COMPLETED, job.error
        result: Any = job.result
        parts = unzip(result["file_url"])

        assert list(parts) == ["sales.csv", "countries.csv"]
        found = list(csv.DictReader(io.StringIO(parts["sales.csv"].decode(), newline="")))
        assert [int(row["id"]) for row in found] == [row["id"] for row in of(org)]
        assert {row["org"] for row in found} == {org}
        assert {row["customer"] for row in found} <= set(CUSTOMERS)
        assert read_csv(parts["countries.csv"]) == [
            ["code", "name"],
            ["DE", "Germany"],
            ["IN", "India"],
        ]
        assert result["entities"] == {"sales": 240, "countries": 2}
        assert result["total_rows"] == 242
        whole = content(result["file_url"])
        assert result["bytes"] == len(whole)
        assert result["sha256"] == hashlib.sha256(whole).hexdigest()
        assert job.progress == 100
        assert (job.tenant, job.queue, job.max_attempts) == (org, "data-exports", 2)


@pytest.mark.parametrize("file_format", ["csv", "json", "jsonl", "parquet"])
def test_one_entity_is_a_plain_file(tickwork: Tickwork, tmp_path: Path, file_format: str) -> None:
    job = queue_data_export(
        entities=["sales"],
        format=file_format,
        filters={"sales": {"since": "2024-01-01", "until": "2024-01-03"}},
        organization_id="org-1",
        tickwork=tickwork,
    )
    result: Any = run(tickwork, job).result
    raw = content(result["file_url"])

    assert files_in(tmp_path / "blobs") == [f"data-exports/{job.id}/sales.{file_format}"]
    found = {
        "csv": lambda: list(csv.DictReader(io.StringIO(raw.decode(), newline=""))),
        "json": lambda: json.loads(raw),
        "jsonl": lambda: [json.loads(line) for line in raw.decode().splitlines()],
        "parquet": lambda: pq.read_table(io.BytesIO(raw)).to_pylist(),
    }[file_format]()
    assert [int(row["id"]) for row in found] == [row["id"] for row in of("org-1")[:4]]
    assert [row["customer"] for row in found] == [row["customer"] for row in of("org-1")[:4]]


@pytest.mark.parametrize("counted", [True, False])
def test_the_progress_goes_over_entities_and_rows(tickwork: Tickwork, counted: bool) -> None:
    told: list[tuple[float, str]] = []
    query = sa.text("SELECT * FROM sales ORDER BY id")
    parts = [Part("first", query, counted), Part("second", query, counted)]
    source = open_source(str(tickwork.settings.database_url))
    with source, tempfile.TemporaryFile() as file:
        watch = Watch(lambda percent, note: told.append((percent, note)))
        write_parts(file, parts, source, FileFormat(), watch)

    assert told == sorted(told, key=lambda each: each[0])
    assert (0, "first (1 of 2): writing") in told
    assert (47, "second (2 of 2): writing") in told
    if counted:
        assert (87, "second (2 of 2): 400 of 480 rows") in told


def test_a_mail_brings_the_signed_link(
    sqlite_database: Database, open_system: Open, tmp_path: Path
) -> None:
    tickwork = open_system(sqlite_database, secret_key=SECRET, kick_url="https://shop.example.com")
    job = queue_data_export(
        entities=["sales"],
        organization_id="org-2",
        notify_email="ann@example.com",
        tickwork=tickwork,
    )
    result: Any = run(tickwork, job).result
    (letter,) = (tmp_path / "outbox").glob("*.eml")

    assert result["email"] == "sent"
    assert result["download_url"].startswith(
        f"https://shop.example.com/files/data-exports/{job.id}/sales.csv?expires="
    )
    assert result["expires_at"].endswith("+00:00")
    text = letter.read_text().replace("=\n", "").replace("=3D", "=")
    assert result["download_url"] in text
    # What is mailed is opened in spreadsheets.
    assert "'=cmd|" in content(result["file_url"]).decode()


@pytest.mark.parametrize(
    ("payload", "options", "reason"),
    [
        ({"entities": ["nothing"]}, {}, "there is no dataset 'nothing'"),
        ({"entities": ["sales"]}, {}, "is kept by tenant, and this job has none"),
        (
            {"entities": ["sales"], "organizationId": "org-2"},
            {"tenant": "org-1"},
            "organizationId is 'org-2', but the job's tenant is 'org-1'",
        ),
        ({"entities": ["sales"], "organizationId": "org-2"}, {}, "enqueue it with tenant='org-2'"),
        (
            {"entities": ["sales"], "filters": {"sales": {"org": "org-2"}}},
            {"tenant": "org-1"},
            "filter 'org' of dataset 'sales' is the job's tenant: leave it out",
        ),
        ({"entities": ["everything"]}, {"tenant": "org-1"}, "does not say whose its rows are"),
        ({"entities": ["countries"], "notifyEmail": "nobody"}, {}, "is not one mail address"),
    ],
)
def test_a_mistake_is_a_dead_letter_at_once(
    tickwork: Tickwork,
    tmp_path: Path,
    payload: dict[str, Any],
    options: dict[str, Any],
    reason: str,
) -> None:
    job = run(tickwork, tickwork.enqueue("data-export", payload, **options))

    assert (job.state, job.attempts) == (State.FAILED, 1)
    assert reason in str(job.error)
    assert not (tmp_path / "blobs").exists()


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"entities": []},
        {"entities": ["sales", "sales"]},
        {"entities": ["sales"], "format": "xlsx"},
        {"entities": ["sales"], "filters": {"countries": {}}},
    ],
)
def test_a_payload_of_the_wrong_shape_is_refused(
    tickwork: Tickwork, payload: dict[str, Any]
) -> None:
    with pytest.raises(PayloadError):
        tickwork.enqueue("data-export", payload)


def test_what_nobody_says_the_tenant_of_is_for_jobs_of_nobody(tickwork: Tickwork) -> None:
    job = run(tickwork, tickwork.enqueue("data-export", {"entities": ["everything"]}))

    assert job.state == State.COMPLETED, job.error
    assert job.result["total_rows"] == len(rows())


# --- what goes wrong


def test_an_entity_that_breaks_leaves_no_file(tickwork: Tickwork, tmp_path: Path) -> None:
    payload = {"entities": ["sales", "broken"]}
    job = run(tickwork, tickwork.enqueue("data-export", payload, tenant="org-1", backoff=0))

    assert (job.state, job.attempts) == (State.PENDING, 1)
    assert "nowhere" in str(job.errors[0])
    assert files_in(tmp_path) == ["datasets.toml", *_databases(tmp_path)]


def _databases(folder: Path) -> list[str]:
    return [name for name in files_in(folder) if ".db" in name]


def test_a_store_that_refuses_is_told_of(
    sqlite_database: Database, open_system: Open, tmp_path: Path
) -> None:
    (tmp_path / "a-file").write_text("here")
    tickwork = open_system(sqlite_database, blob_url=str(tmp_path / "a-file"))
    job = run(tickwork, tickwork.enqueue("data-export", {"entities": ["countries"]}))

    assert (job.state, job.attempts) == (State.FAILED, 1)
    assert "set BLOB_URL to a directory that can be written" in str(job.error)


DIES_AFTER_STORING = """
import json, os, sys
from datetime import UTC, datetime
from jobs import Tickwork
from jobs.core.clock import ManualClock
from jobs.handlers import data_export
url, options = sys.argv[1], json.loads(sys.argv[2])
clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
system = Tickwork(url, handlers=["jobs.handlers.data_export"], clock=clock, **options)
deliver = data_export.deliver
def die(*given):
    deliver(*given)
    os._exit(9)
data_export.deliver = die
system.tick()
"""


def test_a_runner_that_dies_after_storing_leaves_one_file(
    sqlite_database: Database, open_system: Open, tmp_path: Path
) -> None:
    """Between upload and settling: the retry writes the same key."""
    clock = ManualClock()
    tickwork = open_system(sqlite_database, clock=clock)
    job = queue_data_export(entities=["sales"], organization_id="org-1", tickwork=tickwork)
    names = ("export_datasets", "blob_url", "smtp_url", "tick_limit", "time_budget")
    options = {name: getattr(tickwork.settings, name) for name in names}
    command = [sys.executable, "-c", DIES_AFTER_STORING, sqlite_database.url, json.dumps(options)]
    died = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    stored = files_in(tmp_path / "blobs")

    assert died.returncode == 9, died.stderr
    assert stored == [f"data-exports/{job.id}/sales.csv"]
    lost = tickwork.get(job.id)
    assert lost is not None
    assert lost.state == State.PROCESSING

    clock.advance(3600)
    tickwork.tick()
    clock.advance(3600)
    done = run(tickwork, job)
    assert (done.state, done.attempts) == (State.COMPLETED, 2), done.error
    assert files_in(tmp_path / "blobs") == stored


# --- S3


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_in_s3_the_link_is_presigned(
    sqlite_database: Database, open_system: Open, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    boto3.client("s3", endpoint_url=s3).create_bucket(
        Bucket="exports", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    tickwork = open_system(sqlite_database, blob_url=f"s3://exports/files?endpoint_url={s3}")
    job = queue_data_export(
        entities=["sales", "countries"],
        format="parquet",
        organization_id="org-2",
        tickwork=tickwork,
    )
    done = run(tickwork, job)
    assert done.state == State.COMPLETED, done.error
    result: Any = done.result

    assert result["file_url"] == f"s3://exports/files/data-exports/{job.id}/export.zip"
    assert "X-Amz-Signature=" in result["download_url"]
    with urllib.request.urlopen(result["download_url"], timeout=10) as answer:  # noqa: S310
        raw = answer.read()
    assert hashlib.sha256(raw).hexdigest() == result["sha256"]
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        table = pq.read_table(io.BytesIO(archive.read("sales.parquet")))
    assert set(table.column("org").to_pylist()) == {"org-2"}


# --- a million rows


MILLION = """
import json, resource, sys
from pathlib import Path
from jobs.handlers.archiving import FileFormat, Part, write_parts
from jobs.handlers.source import open_source
from jobs.handlers.watching import Watch
import sqlalchemy as sa
url, rows, file_format, target = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
query = sa.text('''
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows)
  SELECT i, 'Zażółć "gęślą", jaźń ' || i AS note, i * 0.5 AS amount FROM n
''').bindparams(rows=rows)
told = []
with open_source(url) as source, open(target, "w+b") as file:
    watch = Watch(lambda percent, note: told.append(percent))
    parts = [Part("first", query), Part("second", query)]
    archive = write_parts(file, parts, source, FileFormat(file_format), watch)
peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([archive.total_rows, peak_kb, len(told)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_a_million_rows_in_constant_memory(
    sqlite_database: Database, tmp_path: Path, file_format: str
) -> None:
    Path(sqlite_database.url.removeprefix("sqlite:///")).touch()
    peaks = {}
    for each in (25_000, 500_000):
        target = tmp_path / f"{each}.zip"
        command = [sys.executable, "-c", MILLION, sqlite_database.url, str(each), file_format]
        told = subprocess.run([*command, str(target)], capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        total, peaks[each], reports = json.loads(told.stdout)
        assert total == 2 * each
        assert reports >= 50
        with zipfile.ZipFile(target) as archive:
            assert archive.testzip() is None
    # A million rows are over 50 MB as text.
    assert peaks[500_000] - peaks[25_000] < 12_000, peaks
