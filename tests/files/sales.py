"""Sales of two tenants over some weeks, on any database, and the datasets that show them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import sqlalchemy as sa

metadata = sa.MetaData()

sales = sa.Table(
    "sales",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("org", sa.String(20), nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("customer", sa.String(80), nullable=False),
    sa.Column("amount", sa.Numeric(10, 2), nullable=False),
    sa.Column("note", sa.Text),
)

FIRST_DAY = dt.date(2024, 1, 1)
DAYS = 120
CUSTOMERS = ("Łódź & Söhne", "राम स्टोर्स", "متجر النور", "=cmd|' /C calc'!A0")

DATASETS = """
[datasets.sales]
query = '''
  SELECT id, org, day, customer, amount, note FROM sales
  WHERE org = :org AND (:since IS NULL OR day >= :since) AND (:until IS NULL OR day < :until)
    AND (:customer IS NULL OR customer = :customer)
  ORDER BY id'''
tenant = "org"
filters = { org = "string", since = "date", until = "date", customer = "string" }

[datasets.by-day]
query = '''
  SELECT day, SUM(amount) AS amount, COUNT(*) AS sales FROM sales
  WHERE org = :org AND day >= :since AND day < :until GROUP BY day ORDER BY day'''
tenant = "org"
filters = { org = "string", since = "date", until = "date" }

[datasets.countries]
query = "SELECT 'DE' AS code, 'Germany' AS name UNION ALL SELECT 'IN', 'India'"
tenant = "*"

[datasets.everything]
query = "SELECT * FROM sales ORDER BY id"

[datasets.broken]
query = "SELECT * FROM nowhere"
tenant = "*"
"""


def rows() -> list[dict[str, object]]:
    """Two sales a day of each tenant."""
    found: list[dict[str, object]] = []
    for number in range(DAYS * 4):
        day, which = divmod(number, 4)
        found.append(
            {
                "id": number + 1,
                "org": ("org-1", "org-2")[which % 2],
                "day": FIRST_DAY + dt.timedelta(days=day),
                "customer": CUSTOMERS[number % len(CUSTOMERS)],
                "amount": Decimal(10 + day % 7 + which) + Decimal("0.50"),
                "note": None if which else "two\r\nlines",
            }
        )
    return found


def build(url: str) -> None:
    """Make the table and fill it."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(sa.insert(sales), rows())
    engine.dispose()
