"""A small shop with everything that makes exports go wrong, on any database."""

# ruff: noqa: DTZ001 - many databases hold datetimes without an offset, so these tests do as well

from __future__ import annotations

import csv
import datetime as dt
import io
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa

metadata = sa.MetaData()

customers = sa.Table(
    "Customers",
    metadata,
    sa.Column("CustomerID", sa.String(5), primary_key=True),
    sa.Column("Company Name", sa.String(80), nullable=False),
    sa.Column("Region", sa.String(20)),
)
orders = sa.Table(
    "Orders",
    metadata,
    sa.Column("OrderID", sa.Integer, primary_key=True),
    sa.Column("CustomerID", sa.ForeignKey(customers.c.CustomerID)),
    sa.Column("OrderDate", sa.DateTime, nullable=False),
    sa.Column("Shipped", sa.Date),
    sa.Column("Paid", sa.Boolean, nullable=False),
    sa.Column("Note", sa.Text),
)
lines = sa.Table(
    "Order Details",
    metadata,
    sa.Column("OrderID", sa.ForeignKey(orders.c.OrderID), primary_key=True),
    sa.Column("Product #", sa.Integer, primary_key=True),
    sa.Column("UnitPrice", sa.Numeric(10, 4), nullable=False),
    sa.Column("Quantity", sa.Integer, nullable=False),
)

CUSTOMERS: list[tuple[str, str, str | None]] = [
    ("ALFKI", "Alfreds Futterkiste", None),
    ("BLAUS", "Blauer See, Delikatessen", ""),
    ("CACTU", 'Cactus "Comidas" para llevar', "BA"),
    ("FORMU", '=HYPERLINK("http://evil.example","click")', "+1"),
    ("JAPAN", "東京商店 🍣", "関東"),
    ("LINES", "Two\r\nlines\nand a\rhalf", " padded "),
    ("SLASH", "back\\slash; semicolon\ttab", "NULL"),
    ("ZAJAZ", "Zażółć gęślą jaźń", "@home"),
]
ORDERS: list[tuple[int, str | None, dt.datetime, dt.date | None, bool, str | None]] = [
    (1, "ALFKI", dt.datetime(1996, 7, 4), dt.date(1996, 7, 16), True, None),
    (2, "JAPAN", dt.datetime(1997, 1, 1, 8, 30), None, False, ""),
    (3, "LINES", dt.datetime(1997, 1, 1, 8, 30, 1), dt.date(1997, 2, 1), True, "-2+3"),
    (4, None, dt.datetime(1998, 5, 6, 23, 59, 59), None, False, "'quoted', \"both\""),
]
LINES: list[tuple[int, int, Decimal, int]] = [
    (1, 11, Decimal("14.0000"), 12),
    (1, 42, Decimal("-9.8000"), 10),
    (3, 11, Decimal("0.1000"), 3),
    (4, 72, Decimal("123456.7891"), 1),
]


def build(url: str) -> None:
    """Make the tables and fill them."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        metadata.create_all(connection)
        for table, rows in ((customers, CUSTOMERS), (orders, ORDERS), (lines, LINES)):
            names = [column.name for column in table.columns]
            connection.execute(
                sa.insert(table), [dict(zip(names, row, strict=True)) for row in rows]
            )
    engine.dispose()


@dataclass
class Settings:
    """What the batteries ask of the project's settings."""

    database_url: str | None = None
    export_source_url: str | None = None
    export_datasets: str | None = None
    blob_url: str | None = None
    smtp_url: str | None = None
    email_from: str | None = None
    resend_api_key: str | None = None
    resend_api_url: str | None = None
    is_development: bool = False
    secret_key: str | None = None
    kick_url: str | None = None
    report_fonts: tuple[str, ...] = ()


def settings_in(folder: Path, database_url: str) -> Settings:
    """Settings that keep everything in one folder."""
    return Settings(
        database_url=database_url,
        export_datasets=str(folder / "datasets.toml"),
        blob_url=str(folder / "blobs"),
        smtp_url=str(folder / "outbox"),
        email_from="Shop <shop@example.com>",
    )


def files_in(folder: Path) -> list[str]:
    """Every file below a folder, by its path in it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def content(file_url: str) -> bytes:
    """The content of a `file:` URL."""
    return Path(unquote(urlsplit(file_url).path)).read_bytes()


def read_csv(raw: bytes) -> list[list[str]]:
    """Read a CSV the way a stranger would."""
    return list(csv.reader(io.StringIO(raw.decode("utf-8"), newline=""), strict=True))


def json_like(value: Any) -> Any:
    """What a value becomes in JSON, for the types of this shop."""
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, dt.date) else value
