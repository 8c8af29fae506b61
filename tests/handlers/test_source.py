# ruff: noqa: DTZ001 - many databases hold datetimes without an offset, so these tests do as well

from __future__ import annotations

import datetime as dt
import re
import time
import uuid
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobs.handlers.datasets import load_datasets
from jobs.handlers.errors import SourceError
from jobs.handlers.source import Source, open_source
from tests.handlers import shop
from tests.support.databases import Database


def all_rows(source: Source, statement: sa.Executable) -> tuple[list[str], list[tuple[Any, ...]]]:
    with source.stream(statement) as rows:
        return list(rows.columns), [tuple(row) for row in rows]


# --- on every database


@pytest.fixture
def filled(database: Database) -> Database:
    shop.build(database.url)
    return database


def test_rows_come_as_the_database_holds_them(filled: Database) -> None:
    with open_source(filled.url) as source:
        assert all_rows(source, sa.select(shop.customers).order_by("CustomerID")) == (
            ["CustomerID", "Company Name", "Region"],
            shop.CUSTOMERS,
        )
        assert all_rows(source, sa.select(shop.orders).order_by("OrderID"))[1] == shop.ORDERS
        lines = sa.select(shop.lines).order_by("OrderID", "Product #")
        assert repr(all_rows(source, lines)[1]) == repr(shop.LINES)


def test_rows_are_counted(filled: Database) -> None:
    with open_source(filled.url) as source:
        ordered = sa.select(shop.orders).where(shop.orders.c.Paid).order_by("OrderID")
        both = sa.union_all(sa.select(shop.orders.c.OrderID), sa.select(shop.lines.c.OrderID))
        text = sa.text("SELECT 1 AS one FROM (SELECT 1) x WHERE 1 = :a -- end\n").bindparams(a=1)
        broken = sa.text("SELECT nothing FROM nowhere")

        assert source.count(ordered) == 2
        assert source.count(both.order_by("OrderID").limit(5)) == 5
        assert source.count(text) == 1
        assert source.count(broken) is None


def test_nothing_can_be_written(filled: Database) -> None:
    change: sa.Executable = sa.update(shop.orders).values(Note="changed")
    if filled.name == "postgresql":  # whose cursors take nothing but a SELECT, which can also write
        change = sa.text("SELECT lo_create(0)")
    with open_source(filled.url) as source:
        with pytest.raises(sa.exc.DBAPIError, match=r"(?i)read.?only"):
            all_rows(source, change)
        assert all_rows(source, sa.select(shop.orders).order_by("OrderID"))[1] == shop.ORDERS


def test_a_statement_without_rows_is_refused(filled: Database) -> None:
    nothing = {"sqlite": "PRAGMA query_only = 1", "postgresql": "SET LOCAL work_mem = 64"}
    statement = sa.text(nothing.get(filled.name, "DO 1"))
    # PostgreSQL refuses it before we can.
    refusals = (SourceError, sa.exc.ProgrammingError)
    with open_source(filled.url) as source, pytest.raises(refusals, match=r"SELECT|syntax error"):
        all_rows(source, statement)


DIGITS = " UNION ALL ".join(f"SELECT {digit} AS i" for digit in range(10))
MILLION_ROWS = (
    f"WITH d AS ({DIGITS}) SELECT a.i AS i, 'x' AS note FROM d a, d b, d c, d e, d f, d g"
)


def give_up_after(rows: Iterable[object], number: int) -> None:
    for seen, _ in enumerate(rows, start=1):
        if seen == number:
            raise ZeroDivisionError


def test_a_reader_that_gives_up_does_not_read_the_rest(filled: Database) -> None:
    began = time.perf_counter()
    with open_source(filled.url) as source:
        with pytest.raises(ZeroDivisionError), source.stream(sa.text(MILLION_ROWS)) as rows:
            give_up_after(rows, 2500)
        gave_up = time.perf_counter() - began
        began = time.perf_counter()
        with source.stream(sa.text(MILLION_ROWS)) as rows:
            whole = sum(1 for _ in rows)
        took = time.perf_counter() - began

    assert whole == 1_000_000
    assert gave_up < took / 2


TYPED = """
[datasets.typed]
query = '''
  SELECT "OrderID" FROM "Orders"
  WHERE (:string IS NULL OR "Note" = :string) AND (:integer IS NULL OR "OrderID" = :integer)
    AND (:number IS NULL OR "OrderID" < :number) AND (:boolean IS NULL OR "Paid" = :boolean)
    AND (:date IS NULL OR "Shipped" = :date) AND (:since IS NULL OR "OrderDate" >= :since)
    AND (:uuid IS NULL OR "Note" = CAST(:uuid AS CHAR(36)))
  ORDER BY "OrderID"'''
[datasets.typed.filters]
string = "string"
integer = "integer"
number = "number"
boolean = "boolean"
date = "date"
since = "datetime"
uuid = "uuid"
"""


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({}, [1, 2, 3, 4]),
        ({"string": "-2+3"}, [3]),
        ({"string": "x' OR '1'='1"}, []),
        ({"integer": 2}, [2]),
        ({"number": 2.5}, [1, 2]),
        ({"number": 2}, [1]),
        ({"boolean": False}, [2, 4]),
        ({"date": "1997-02-01"}, [3]),
        ({"since": "1997-01-01T08:30:00"}, [2, 3, 4]),
        ({"since": "1997-01-01T08:30:00.5"}, [3, 4]),
        ({"since": "1997-01-01T10:30:00+02:00", "boolean": True}, [3]),
        ({"uuid": str(uuid.UUID(int=1))}, []),
    ],
)
def test_filters_of_a_text_query(
    filled: Database, tmp_path: Path, filters: dict[str, Any], ids: list[int]
) -> None:
    path = tmp_path / "typed.toml"
    text = TYPED
    if filled.name == "mysql":  # where a double quote is for texts
        text = re.sub(r'"(Order\w+|Note|Paid|Shipped)"', r"`\1`", text)
    path.write_text(text, "utf-8")
    statement = load_datasets(path)["typed"].statement(filters)

    with open_source(filled.url) as source:
        assert source.count(statement) == len(ids)
        assert all_rows(source, statement)[1] == [(number,) for number in ids]


def test_the_types_of_postgresql(postgresql_database: Database) -> None:
    statement = sa.text(
        "SELECT 12.30::numeric, 'NaN'::float8, '{1,2}'::int[], '{\"a\": [1, null]}'::jsonb,"
        " '\\x00ff'::bytea, '0190a5c4-7d5e-7000-8000-000000000000'::uuid, true,"
        " interval '26 hours', timestamptz '2024-05-31 12:00+02', '10.0.0.1'::inet"
    )
    with open_source(postgresql_database.url) as source:
        row = all_rows(source, statement)[1][0]

    assert str(row[0]) == "12.30"
    assert str(row[1]) == "nan"
    assert row[2:8] == (
        [1, 2],
        {"a": [1, None]},
        b"\x00\xff",
        uuid.UUID("0190a5c4-7d5e-7000-8000-000000000000"),
        True,
        dt.timedelta(hours=26),
    )
    assert row[8] == dt.datetime(2024, 5, 31, 10, tzinfo=dt.UTC)
    assert str(row[9]) == "10.0.0.1"


def test_the_types_of_mysql(mysql_database: Database) -> None:
    statement = sa.text(
        "SELECT CAST(12.30 AS DECIMAL(10,2)), x'00ff', CAST('26:00:00' AS TIME),"
        " CAST('2024-05-31 12:00:00.000005' AS DATETIME(6)), 'é🍣'"
    )
    with open_source(mysql_database.url) as source:
        row = all_rows(source, statement)[1][0]

    assert row == (
        Decimal("12.30"),
        b"\x00\xff",
        dt.timedelta(hours=26),
        dt.datetime(2024, 5, 31, 12, 0, 0, 5),
        "é🍣",
    )


def test_a_transaction_pooler_is_enough(pgbouncer_database: Database) -> None:
    shop.build(pgbouncer_database.url)
    with open_source(pgbouncer_database.url) as source:
        for _ in range(3):
            assert source.count(sa.select(shop.orders)) == 4
            assert len(all_rows(source, sa.select(shop.orders))[1]) == 4


# --- opening


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("postgres://u:p@h/d?pgbouncer=true", "postgresql+psycopg://u:p@h/d"),
        ("postgresql://u:p@h/d?sslmode=require", "postgresql+psycopg://u:p@h/d?sslmode=require"),
        ("mysql://u:p@h/d", "mysql+pymysql://u:p@h/d"),
    ],
)
def test_the_spellings_of_platforms(url: str, opened: str) -> None:
    with open_source(url) as source:
        assert source.engine.url.render_as_string(hide_password=False) == opened


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hunter2 is no url", r"EXPORT_SOURCE_URL\): .* cannot be read as a database URL"),
        ("nosuch://u:hunter2@h/d", r"EXPORT_SOURCE_URL\): .* names 'nosuch'; use SQLite, Postgre"),
        ("sqlite://", "an export reads an SQLite file, not ':memory:'"),
        (
            "sqlite:///missing/none.db",
            "there is no SQLite file 'missing/none.db'; check EXPORT_SOU",
        ),
    ],
)
def test_a_wrong_url_says_how_to_write_it(url: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        open_source(url)
    assert "hunter2" not in str(caught.value)


def test_a_file_with_an_odd_name(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c %20 é.db"
    shop.build(f"sqlite:///{path}".replace("?", "%3F").replace("#", "%23"))
    made = next(tmp_path.iterdir())
    url = sa.URL.create("sqlite", database=str(made)).render_as_string()

    with open_source(url) as source:
        assert source.count(sa.select(shop.orders)) == 4
    assert [file.name for file in tmp_path.iterdir()] == [made.name]


def test_a_file_that_someone_else_is_writing(sqlite_database: Database) -> None:
    """A reader in WAL mode sees what was committed, and disturbs nobody."""
    shop.build(sqlite_database.url)
    writer = sa.create_engine(sqlite_database.url)
    with writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = wal")
        connection.execute(sa.delete(shop.lines))
        with open_source(sqlite_database.url) as source:
            assert source.count(sa.select(shop.lines)) == 4
            connection.commit()
            assert source.count(sa.select(shop.lines)) == 0
    writer.dispose()


def test_an_engine_of_the_caller_stays_open(sqlite_database: Database) -> None:
    shop.build(sqlite_database.url)
    engine = sa.create_engine(sqlite_database.url)
    with open_source(engine) as source:
        assert len(all_rows(source, sa.select(shop.orders))[1]) == 4
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(shop.orders)) == 4
    engine.dispose()


def test_an_error_of_the_database_does_not_repeat_the_values(sqlite_database: Database) -> None:
    shop.build(sqlite_database.url)
    statement = sa.text("SELECT * FROM nowhere WHERE a = :a").bindparams(a="hunter2")
    with (
        open_source(sqlite_database.url) as source,
        pytest.raises(sa.exc.OperationalError) as caught,
        source.stream(statement),
    ):
        pass
    assert "nowhere" in str(caught.value)
    assert "hunter2" not in str(caught.value)
