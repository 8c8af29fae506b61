"""The kind `export`, run by the real loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import PayloadError, State, Tickwork
from jobs.handlers.datasets import catalogue
from jobs.handlers.export import ExportRequest, export
from tests.handlers import shop
from tests.handlers.shop import content, files_in, read_csv, settings_in
from tests.support.databases import Database

DATASETS = """
[datasets.customers]
query = "SELECT * FROM Customers ORDER BY CustomerID"
[datasets.orders]
query = "SELECT * FROM Orders WHERE OrderID >= :lowest"
filters = { lowest = { type = "integer", default = 0 } }
[datasets.broken]
query = "SELECT * FROM Nowhere"
[datasets.endless]
count = false
query = '''
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000000)
  SELECT i FROM n'''
"""


@pytest.fixture
def tickwork(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tickwork]:
    monkeypatch.setattr(catalogue._catalogue, "_datasets", {})
    shop.build(sqlite_database.url)
    (tmp_path / "datasets.toml").write_text(DATASETS, "utf-8")
    settings = settings_in(tmp_path, sqlite_database.url)
    system = Tickwork(
        sqlite_database.url,
        handlers=["jobs.handlers.export"],
        export_datasets=settings.export_datasets,
        blob_url=settings.blob_url,
        smtp_url=settings.smtp_url,
        email_from=settings.email_from,
        # An export may take longer than a tick; the first one of a tick runs all the same.
        tick_limit=900,
        time_budget=800,
    )
    system.create_schema()
    yield system
    system.close()


def run(tickwork: Tickwork, payload: object, **options: Any) -> Any:
    job = tickwork.enqueue("export", payload, **options)
    tickwork.tick()
    return tickwork.get(job.id)


def test_an_export_from_enqueue_to_the_file(tickwork: Tickwork, tmp_path: Path) -> None:
    job = run(tickwork, {"dataset": "customers", "notify_email": "ann@example.com"})

    assert job.state == State.COMPLETED, job.error
    assert (job.queue, job.attempts, job.progress) == ("exports", 1, 100)
    assert set(job.result) == {"file_url", "total_rows", "bytes", "sha256", "email"}
    assert job.result["email"] == "sent"
    assert files_in(tmp_path / "blobs") == [f"exports/customers/{job.id}.csv"]
    rows = read_csv(content(job.result["file_url"]))
    assert [row[0] for row in rows[1:]] == [row[0] for row in shop.CUSTOMERS]
    assert len(files_in(tmp_path / "outbox")) == 1


@pytest.mark.parametrize("payload", [ExportRequest("orders"), {"dataset": "orders"}])
def test_both_ways_to_write_the_payload(tickwork: Tickwork, payload: object) -> None:
    job = run(tickwork, payload)

    assert job.result["total_rows"] == len(shop.ORDERS)
    assert "email" not in job.result


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"dataset": "nothing"}, "there is no dataset 'nothing'; the datasets: broken, customers"),
        ({"dataset": "orders", "filters": {"x": 1}}, "no filter 'x'; its filters: lowest"),
        ({"dataset": "orders", "filters": {"lowest": "1 OR 1=1"}}, "expects a whole number such"),
        ({"dataset": "orders", "notify_email": "nobody"}, "is not one mail address"),
    ],
)
def test_a_mistake_is_a_dead_letter_at_once(
    tickwork: Tickwork, tmp_path: Path, payload: dict[str, Any], reason: str
) -> None:
    job = run(tickwork, payload)

    assert (job.state, job.attempts, job.max_attempts) == (State.FAILED, 1, 2)
    assert reason in job.error
    assert not (tmp_path / "blobs").exists()


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"dataset": 1},
        {"dataset": "orders", "format": "xlsx"},
        {"dataset": "orders", "filters": []},
        {"dataset": "orders", "spreadsheet_safe": "yes"},
    ],
)
def test_a_payload_of_the_wrong_shape_is_refused_when_enqueued(
    tickwork: Tickwork, payload: dict[str, Any]
) -> None:
    with pytest.raises(PayloadError):
        tickwork.enqueue("export", payload)
    assert tickwork.list() == []


def test_an_error_of_the_database_is_tried_again(
    tickwork: Tickwork, sqlite_database: Database, tmp_path: Path
) -> None:
    job = tickwork.enqueue("export", {"dataset": "broken"}, backoff=0)
    assert tickwork.tick().retried == 1
    assert not (tmp_path / "blobs").exists()

    with sqlite3.connect(sqlite_database.url.removeprefix("sqlite:///")) as connection:
        connection.execute("CREATE TABLE Nowhere (id)")
    connection.close()
    tickwork.tick()
    done = tickwork.get(job.id)

    assert done is not None
    assert (done.state, done.attempts) == (State.COMPLETED, 2)
    assert "no such table: Nowhere" in str(done.errors[0])


def test_cancelling_a_running_export_leaves_no_file(tickwork: Tickwork, tmp_path: Path) -> None:
    job = tickwork.enqueue("export", {"dataset": "endless"})
    # Cancelled at its first report, so while it certainly runs.
    tickwork.on("progress", lambda event: _cancel_once(tickwork, job.id))
    tickwork.tick()
    ended = tickwork.get(job.id)

    assert ended is not None
    assert (ended.state, ended.attempts) == (State.CANCELLED, 1)
    assert ended.error == "cancelled while running"
    assert files_in(tmp_path / "blobs") == []


def _cancel_once(tickwork: Tickwork, job_id: str) -> None:
    job = tickwork.get(job_id)
    if job is not None and job.state == State.PROCESSING and not job.cancel_requested:
        tickwork.cancel(job_id)


def test_the_function_can_still_be_called() -> None:
    assert export.kind == "export"
    assert (export.queue, export.max_attempts, export.timeout) == ("exports", 2, 600)
    assert export.payload_type is ExportRequest
    assert callable(export)
