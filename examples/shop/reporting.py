"""What is reported: the day for the owner, and an order as an invoice.

SHOP_TIMEZONE     whose days; Asia/Kolkata unless given
"""

from __future__ import annotations

import datetime as dt
import os

import sqlalchemy as sa

from jobs.handlers.datasets import Filter, register_dataset
from jobs.handlers.reports import Section, register_report

from .tables import customers, order_lines, orders, products

TIMEZONE = os.environ.get("SHOP_TIMEZONE", "Asia/Kolkata")
LOW_STOCK = 5


def declare() -> None:
    """Make the reports `daily-report` and `invoice` known, and what they are made of."""
    register_dataset(
        "shop-daily-orders",
        sa.select(orders.c.number, orders.c.status, (orders.c.total / 100.0).label("total"))
        .where(orders.c.status != "cancelled")
        .order_by(orders.c.created_at, orders.c.number),
        filters={
            "since": Filter("datetime", where=lambda at: orders.c.created_at >= _plain(at)),
            "until": Filter("datetime", where=lambda at: orders.c.created_at < _plain(at)),
        },
    )
    free = products.c.stock - products.c.reserved
    register_dataset(
        "shop-low-stock",
        sa.select(products.c.sku, products.c.name, free.label("free"))
        .where(free < LOW_STOCK)
        .order_by(products.c.sku),
    )
    register_report(
        "daily-report",
        title="The day in the shop",
        period="1d",
        timezone=TIMEZONE,
        sections=[
            Section("Orders", "shop-daily-orders", totals=["total"]),
            Section("Running low", "shop-low-stock"),
        ],
    )
    _declare_invoice()


def _declare_invoice() -> None:
    # What the law asks of an invoice in your country is to be added here.
    register_dataset(
        "shop-invoice",
        sa.select(
            orders.c.number.label("Order"),
            sa.func.date(orders.c.created_at).label("Date"),
            customers.c.name.label("Customer"),
            customers.c.email.label("E-mail"),
        )
        .select_from(orders)
        .join(customers, customers.c.id == orders.c.customer_id),
        filters={"orderId": orders.c.id},
    )
    amount = (order_lines.c.price * order_lines.c.quantity / 100.0).label("Amount")
    register_dataset(
        "shop-invoice-lines",
        sa.select(
            order_lines.c.name.label("Item"),
            order_lines.c.quantity.label("Quantity"),
            (order_lines.c.price / 100.0).label("Price"),
            amount,
        ).order_by(order_lines.c.sku),
        filters={"orderId": order_lines.c.order_id},
    )
    register_report(
        "invoice",
        title="Invoice",
        sections=[
            Section("For", "shop-invoice"),
            Section("Items, in rupees", "shop-invoice-lines", totals=["Amount"]),
        ],
    )


def _plain(at: dt.datetime) -> dt.datetime:
    """As the tables have it: UTC, without an offset."""
    return at.astimezone(dt.UTC).replace(tzinfo=None) if at.tzinfo else at


declare()
