from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
import logging
import re
import signal
import subprocess
import sys
import tomllib
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from jobs.handlers.blob import DirectoryStore
from jobs.handlers.datasets import Catalogue, Dataset, catalogue
from jobs.handlers.errors import (
    DatasetError,
    FormatError,
    MailDelayed,
    MailRefused,
    PermanentError,
    SourceError,
)
from jobs.handlers.exporting import (
    ExportRequest,
    ExportResult,
    export_statement,
    run_export,
)
from jobs.handlers.mail.message import Mail
from jobs.handlers.source import open_source
from jobs.handlers.watching import Watch
from tests.handlers import shop
from tests.handlers.shop import Settings, content, files_in, read_csv, settings_in
from tests.support.databases import Database

JOB = "0190a5c4-7d5e-7000-8000-000000000001"

DATASETS = """
[datasets.customers]
query = 'SELECT * FROM "Customers" ORDER BY "CustomerID"'

[datasets.orders]
query = '''
  SELECT o.*, c."Company Name", d."Product #", d."UnitPrice", d."Quantity"
  FROM "Orders" o
  LEFT JOIN "Customers" c ON c."CustomerID" = o."CustomerID"
  JOIN "Order Details" d ON d."OrderID" = o."OrderID"
  WHERE (:customer IS NULL OR o."CustomerID" = :customer)
    AND (:since IS NULL OR o."OrderDate" >= :since)
    AND (:lowest IS NULL OR o."OrderID" >= :lowest)
  ORDER BY o."OrderID", d."Product #"'''
[datasets.orders.filters]
customer = "string"
since = "date"
lowest = "integer"

[datasets.numbers]
query = '''
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows)
  SELECT i, 'Zażółć "gęślą", jaźń' AS note FROM n'''
[datasets.numbers.filters]
rows = { type = "integer", required = true }

[datasets.uncounted]
count = false
query = '''
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000) SELECT i FROM n'''
"""


@pytest.fixture
def settings(
    tmp_path: Path, bare_sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    monkeypatch.setattr(catalogue._catalogue, "_datasets", {})
    shop.build(bare_sqlite_database.url)
    (tmp_path / "datasets.toml").write_text(DATASETS, "utf-8")
    return settings_in(tmp_path, bare_sqlite_database.url)


def letters(settings: Settings) -> list[EmailMessage]:
    assert settings.smtp_url is not None
    return [
        message_from_bytes(path.read_bytes(), policy=modern)
        for path in sorted(Path(settings.smtp_url).glob("*.eml"))
    ]


# --- the file equals the database


def as_text(value: Any) -> str:
    return "" if value is None else str(value)


def test_a_csv_equals_what_sqlite_holds(settings: Settings) -> None:
    """Row for row against the driver itself: quoted names, and all that needs quoting."""
    assert settings.database_url is not None
    with sa.create_engine(settings.database_url).connect() as connection:
        for name in ("customers", "orders"):
            query = re.sub(r"\(:\w+ IS NULL OR [^)]*\)", "1 = 1", _query(name))
            cursor = connection.exec_driver_sql(query)
            held = [list(cursor.keys()), *([as_text(v) for v in row] for row in cursor)]
            result = run_export(ExportRequest(name), settings=settings, job_id=JOB)

            assert read_csv(content(result.file_url)) == held
            assert result.total_rows == len(held) - 1 > 0
    connection.engine.dispose()


def _query(name: str) -> str:
    return str(tomllib.loads(DATASETS)["datasets"][name]["query"])


@pytest.mark.parametrize("file_format", ["csv", "json", "jsonl"])
def test_every_format_on_every_database(
    database: Database, tmp_path: Path, file_format: Any
) -> None:
    shop.build(database.url)
    catalogue = Catalogue()
    for table in (shop.customers, shop.orders, shop.lines):
        name = table.name.replace(" ", "-")
        catalogue.register(name, sa.select(table).order_by(*table.primary_key))
    settings = settings_in(tmp_path, database.url)
    settings.export_datasets = None

    tables: dict[str, list[Any]] = {
        "Customers": shop.CUSTOMERS,
        "Orders": shop.ORDERS,
        "Order-Details": shop.LINES,
    }
    for name, rows in tables.items():
        result = run_export(
            ExportRequest(name, format=file_format),
            settings=settings,
            job_id=JOB,
            find=catalogue.find,
        )
        raw = content(result.file_url)

        assert (result.bytes, result.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
        assert result.file_url.endswith(f"/exports/{name}/{JOB}.{file_format}")
        if file_format == "csv":
            assert read_csv(raw)[1:] == [[csv_like(value) for value in row] for row in rows]
        else:
            lines = [line for line in raw.decode().split("\n")[:-1] if file_format == "jsonl"]
            objects = [json.loads(line) for line in lines] or json.loads(raw)
            expected = [[shop.json_like(value) for value in row] for row in rows]
            assert [list(found.values()) for found in objects] == expected


def csv_like(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, dt.date) else as_text(value)


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({}, ["1", "1", "3", "4"]),
        ({"customer": "ALFKI"}, ["1", "1"]),
        ({"since": "1997-01-01"}, ["3", "4"]),
        ({"since": "1997-01-01", "customer": "LINES", "lowest": 2}, ["3"]),
        ({"customer": None}, ["1", "1", "3", "4"]),
        ({"customer": "ALFKI' OR '1'='1"}, []),
        ({"customer": '\'; DROP TABLE "Orders"; --'}, []),
    ],
)
def test_filters_are_applied(settings: Settings, filters: dict[str, Any], ids: list[str]) -> None:
    for _ in range(2):  # the second finds everything still there
        result = run_export(ExportRequest("orders", filters=filters), settings=settings, job_id=JOB)
        rows = read_csv(content(result.file_url))
        assert [row[0] for row in rows[1:]] == ids
        assert rows[0][:2] == ["OrderID", "CustomerID"]


# --- mistakes leave no file


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (
            ExportRequest("nothing"),
            DatasetError,
            "there is no dataset 'nothing'; the datasets: cus",
        ),
        (ExportRequest("../x"), DatasetError, "there is no dataset '../x'"),
        (
            ExportRequest("orders", filters={"city": 1}),
            DatasetError,
            "its filters: customer, since",
        ),
        (
            ExportRequest("orders", filters={"lowest": "1 OR 1=1"}),
            DatasetError,
            "'lowest' of dataset 'orders' expects a whole number such as 42, not '1 OR 1=1'",
        ),
        (
            ExportRequest("orders", filters={"1=1) --": "x"}),
            DatasetError,
            "has no filter '1=1. --'",
        ),
        (ExportRequest("numbers"), DatasetError, "needs the filter 'rows'"),
        (ExportRequest("orders", filters=cast("Any", ["x"])), DatasetError, "must be an object"),
        (ExportRequest("orders", format=cast("Any", "xlsx")), FormatError, "csv, json, jsonl"),
        (ExportRequest("orders", notify_email="x"), MailRefused, "the notify_email 'x' is not one"),
        (ExportRequest("orders", notify_email="a@b.c\nBcc: d@e.f"), MailRefused, "line break"),
    ],
)
def test_a_wrong_request_leaves_no_file(
    settings: Settings, tmp_path: Path, request_: ExportRequest, error: type, message: str
) -> None:
    before = files_in(tmp_path)
    with pytest.raises(error, match=message) as caught:
        run_export(request_, settings=settings, job_id=JOB)
    assert isinstance(caught.value, PermanentError)
    assert files_in(tmp_path) == before


def test_a_wrong_configuration_leaves_no_file(settings: Settings, tmp_path: Path) -> None:
    before = files_in(tmp_path)
    settings.database_url = None
    with pytest.raises(SourceError, match="no database to export from; set EXPORT_SOURCE_URL"):
        run_export(ExportRequest("orders"), settings=settings, job_id=JOB)

    (tmp_path / "datasets.toml").write_text("[datasets.orders")
    before = files_in(tmp_path)
    with pytest.raises(DatasetError, match="is not valid TOML"):
        run_export(ExportRequest("orders"), settings=settings, job_id=JOB)
    assert files_in(tmp_path) == before


def test_an_error_of_the_database_leaves_no_file(settings: Settings, tmp_path: Path) -> None:
    catalogue = Catalogue()
    catalogue.register("gone", sa.select(sa.table("gone", sa.column("id"))))
    settings.export_datasets = None
    before = files_in(tmp_path)
    with pytest.raises(sa.exc.OperationalError, match="no such table: gone"):
        run_export(ExportRequest("gone"), settings=settings, job_id=JOB, find=catalogue.find)
    assert files_in(tmp_path) == before


def test_an_error_in_the_middle_of_the_rows_leaves_no_file(
    settings: Settings, tmp_path: Path
) -> None:
    query = sa.text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000)"
        " SELECT i, CASE WHEN i > 5000 THEN abs(-9223372036854775807 - 1) END AS x FROM n\n"
    )
    before = files_in(tmp_path)
    with pytest.raises(sa.exc.OperationalError, match="integer overflow"):
        run_export(
            ExportRequest("breaks"),
            settings=settings,
            job_id=JOB,
            find=lambda name, _: Dataset(name, query),
        )
    assert files_in(tmp_path) == before


def test_the_source_may_be_another_database(settings: Settings) -> None:
    settings.export_source_url = settings.database_url
    settings.database_url = "postgresql://nobody@127.0.0.1:1/none"

    assert run_export(ExportRequest("orders"), settings=settings, job_id=JOB).total_rows == 4


# --- going on and giving up


def test_progress_is_a_percentage_of_the_rows(settings: Settings) -> None:
    reports: list[tuple[float, str]] = []
    run_export(
        ExportRequest("numbers", filters={"rows": 250_000}),
        settings=settings,
        job_id=JOB,
        watch=Watch(progress=lambda percent, note: reports.append((percent, note))),
    )
    percents = [percent for percent, _ in reports]
    notes = [note for _, note in reports]

    assert percents == sorted(percents)
    assert (percents[0], notes[0]) == (0, "0 of 250,000 rows")
    assert percents[notes.index("100,000 of 250,000 rows")] == 38
    assert (percents[-2], notes[-2]) == (95, "250,000 rows, storing")
    assert percents[-1] == 100
    assert re.fullmatch(r"250,000 rows, [\d,]+ bytes", notes[-1])
    assert 90 < len(reports) <= 100


def test_progress_without_a_count(settings: Settings) -> None:
    reports: list[tuple[float, str]] = []
    run_export(
        ExportRequest("uncounted"),
        settings=settings,
        job_id=JOB,
        watch=Watch(progress=lambda percent, note: reports.append((percent, note))),
    )

    assert reports[:3] == [(0, "writing"), (0, "10,000 rows"), (0, "20,000 rows")]
    assert reports[3] == (95, "25,000 rows, storing")


class CancelledHere(Exception):
    pass


class Checkpoint:
    """Counts the calls and raises at the last one allowed."""

    def __init__(self, last: int | None = None) -> None:
        self.last = last
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self.last:
            raise CancelledHere


NUMBERS = ExportRequest("numbers", filters={"rows": 1000})


@pytest.mark.parametrize("last", [1, 2, 7, 11, 12])
def test_a_checkpoint_can_end_it_at_any_time(settings: Settings, tmp_path: Path, last: int) -> None:
    checkpoint = Checkpoint(last)
    before = files_in(tmp_path)
    with pytest.raises(CancelledHere):
        run_export(
            NUMBERS,
            settings=settings,
            job_id=JOB,
            watch=Watch(
                checkpoint=checkpoint, monotonic=itertools.count().__next__
            ),  # a second for every look at it
        )
    assert checkpoint.calls == last
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("seconds_per_look", "calls"), [(0, 2), (0.09, 2), (0.25, 4), (1, 12), (100, 12)]
)
def test_checkpoints_come_by_time_and_not_by_rows(
    settings: Settings, seconds_per_look: float, calls: int
) -> None:
    checkpoint = Checkpoint()
    run_export(
        NUMBERS,
        settings=settings,
        job_id=JOB,
        watch=Watch(
            checkpoint=checkpoint,
            monotonic=itertools.count(step=cast("int", seconds_per_look)).__next__,
        ),
    )
    assert checkpoint.calls == calls


def test_a_cancelled_export_is_not_mailed(settings: Settings, tmp_path: Path) -> None:
    """Its file stands by then; the mail would be the one effect that cannot be taken back."""
    # The first is before the first row, the second before the file is stored.
    with pytest.raises(CancelledHere):
        run_export(
            ExportRequest("orders", notify_email="ann@example.com"),
            settings=settings,
            job_id=JOB,
            watch=Watch(checkpoint=Checkpoint(3)),
        )
    assert f"blobs/exports/orders/{JOB}.csv" in files_in(tmp_path)
    assert letters(settings) == []


KILLED_HALF_WAY = """
import os, signal, sys
from pathlib import Path
from jobs.handlers.watching import Watch
from jobs.handlers.exporting import ExportRequest, run_export
from tests.handlers.shop import settings_in

folder, url, job = sys.argv[1:]
def progress(percent, note):
    if percent >= 50:
        print(note, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

request = ExportRequest("numbers", filters={"rows": 20000})
watch = Watch(progress=progress)
run_export(request, settings=settings_in(Path(folder), url), job_id=job, watch=watch)
"""


def test_a_process_killed_half_way_leaves_nothing_and_can_be_repeated(
    settings: Settings, tmp_path: Path
) -> None:
    assert settings.database_url is not None
    before = files_in(tmp_path)
    command = [sys.executable, "-c", KILLED_HALF_WAY, str(tmp_path), settings.database_url, JOB]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    killed = subprocess.run(
        command, capture_output=True, text=True, env={"TMPDIR": str(temporary), "PYTHONPATH": "."}
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stdout == "10,600 of 20,000 rows\n"
    assert files_in(tmp_path) == before  # not even a temporary file

    request = ExportRequest("numbers", filters={"rows": 20_000})
    results = [run_export(request, settings=settings, job_id=JOB) for _ in range(2)]
    assert results[0] == results[1]
    assert len(read_csv(content(results[0].file_url))) == 20_001
    assert files_in(tmp_path / "blobs") == [f"exports/numbers/{JOB}.csv"]


# --- memory

PEAK = """
import sys
from pathlib import Path
from jobs.handlers.datasets import Dataset
from jobs.handlers.exporting import ExportRequest, run_export
from tests.handlers.shop import settings_in
import sqlalchemy as sa

folder, url, small, large, file_format = sys.argv[1:]

def peak_kb():
    # Not getrusage, whose maximum begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])

def export(query):
    settings = settings_in(Path(folder), url)
    dataset = Dataset("rows", sa.text(query), count=False)
    request = ExportRequest("rows", format=file_format)
    return run_export(request, settings=settings, job_id="1", find=lambda name, _: dataset)

export(small)
before = peak_kb()
result = export(large)
print(result.total_rows, result.bytes, peak_kb() - before)
"""


def digits(count: int) -> str:
    digit = " UNION ALL ".join(f"SELECT {number} AS i" for number in range(10))
    tables = [f"d d{number}" for number in range(count)]
    number = " + ".join(f"d{place}.i * {10**place}" for place in range(count))
    return (
        f"WITH d AS ({digit}) SELECT {number} AS id, 12.5 AS price, NULL AS region,"
        f" 'Zażółć \"gęślą\", jaźń 🍣 and some more text to make it a row' AS note"
        f" FROM {', '.join(tables)}"
    )


def memory_grows_by(database: Database, folder: Path, power: int, file_format: str) -> int:
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    shop.build(database.url)
    done = subprocess.run(
        [
            *(sys.executable, "-c", PEAK, str(folder), database.url),
            *(digits(3), digits(power), file_format),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    total_rows, size, grown_kb = map(int, done.stdout.split())
    assert total_rows == 10**power
    assert size > 80 * total_rows
    return grown_kb


# A hundred thousand rows are 9 MB of text and ten times as much as Python objects.
ROOM_KB = 4 * 1024


def test_memory_does_not_grow_with_the_rows(database: Database, tmp_path: Path) -> None:
    assert memory_grows_by(database, tmp_path, 5, "csv") < ROOM_KB


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["csv", "json", "jsonl"])
def test_a_million_rows_in_the_same_memory(
    database: Database, tmp_path: Path, file_format: str
) -> None:
    assert memory_grows_by(database, tmp_path, 6, file_format) < ROOM_KB


# --- formulas and mails


def test_the_mail_has_the_link_and_the_file_is_safe(settings: Settings) -> None:
    request = ExportRequest("customers", notify_email="Ann <ann@example.com>")
    result = run_export(request, settings=settings, job_id=JOB)
    [letter] = letters(settings)
    text = letter.get_content()
    rows = {row[0]: row[1:] for row in read_csv(content(result.file_url))}

    assert result.as_dict()["email"] == "sent"
    assert letter["To"] == "Ann <ann@example.com>"
    assert letter["From"] == "Shop <shop@example.com>"
    assert letter["Subject"] == "Your export of customers is ready"
    assert result.file_url in text
    assert result.sha256 in text
    assert f"Rows: {len(shop.CUSTOMERS)}" in text
    assert rows["FORMU"] == ['\'=HYPERLINK("http://evil.example","click")', "'+1"]
    assert rows["ZAJAZ"] == ["Zażółć gęślą jaźń", "'@home"]


def test_one_mail_for_all_attempts(settings: Settings) -> None:
    request = ExportRequest("customers", notify_email="ann@example.com")
    for _ in range(2):
        run_export(request, settings=settings, job_id=JOB)
    run_export(request, settings=settings, job_id="another")

    assert len({letter["Message-ID"] for letter in letters(settings)}) == 2
    assert len(letters(settings)) == 2


@pytest.mark.parametrize(
    ("safe", "email", "expected"),
    [
        (None, None, "+1"),
        (None, "ann@example.com", "'+1"),
        (True, None, "'+1"),
        (False, "ann@example.com", "+1"),
    ],
)
def test_formulas_are_defused_when_mailed_unless_it_is_said(
    settings: Settings, safe: bool | None, email: str | None, expected: str
) -> None:
    request = ExportRequest("customers", notify_email=email, spreadsheet_safe=safe)
    result = run_export(request, settings=settings, job_id=JOB)
    rows = {row[0]: row[1:] for row in read_csv(content(result.file_url))}

    assert rows["FORMU"][1] == expected
    for letter in letters(settings):
        assert ("apostrophe" in letter.get_content()) is expected.startswith("'")


def test_an_export_without_a_mail_says_nothing_of_one(settings: Settings) -> None:
    result = run_export(ExportRequest("customers"), settings=settings, job_id=JOB)

    assert set(result.as_dict()) == {"file_url", "total_rows", "bytes", "sha256"}
    json.dumps(result.as_dict(), allow_nan=False)
    assert letters(settings) == []


@pytest.mark.parametrize("error", [MailDelayed("the server is away"), MailRefused("never")])
def test_a_mail_that_fails_does_not_fail_the_export(
    settings: Settings, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def send(_: Mail) -> None:
        raise error

    request = ExportRequest("customers", notify_email="ann@example.com")
    with caplog.at_level(logging.WARNING):
        result = run_export(request, settings=settings, job_id=JOB, send=send)

    assert result.email == f"failed: {error}"
    assert len(read_csv(content(result.file_url))) == len(shop.CUSTOMERS) + 1
    assert [record.getMessage() for record in caplog.records] == [
        f"export {JOB} stands, but its mail was not sent: {error}"
    ]


def test_a_caller_can_send_the_mail_itself(settings: Settings) -> None:
    sent: list[Mail] = []
    request = ExportRequest("customers", notify_email="ann@example.com")
    run_export(request, settings=settings, job_id=JOB, send=sent.append)

    assert [mail.idempotency_key for mail in sent] == [f"export:{JOB}"]
    assert letters(settings) == []


# --- the parts alone, as other handlers use them


def test_a_statement_of_ones_own(settings: Settings, tmp_path: Path) -> None:
    assert settings.database_url is not None
    paid = sa.select(shop.orders.c.OrderID, shop.orders.c.Note).where(shop.orders.c.Paid)
    with open_source(settings.database_url) as source:
        stored = export_statement(
            paid.order_by("OrderID"),
            source=source,
            blobs=DirectoryStore(tmp_path / "mine", public_url="https://shop.example/files"),
            key="store-1/paid.csv",
            spreadsheet_safe=True,
        )

    assert stored.file_url == stored.link == "https://shop.example/files/store-1/paid.csv"
    assert (tmp_path / "mine/store-1/paid.csv").read_bytes() == b"OrderID,Note\r\n1,\r\n3,'-2+3\r\n"
    assert stored.total_rows == 2


def test_the_result_is_what_the_callers_rely_on() -> None:
    result = ExportResult("file:///x", 1, 2, "abc")

    assert result.as_dict() == {
        "file_url": "file:///x",
        "total_rows": 1,
        "bytes": 2,
        "sha256": "abc",
    }
