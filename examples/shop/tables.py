"""The tables of the shop. Amounts are in paise; times are UTC, without an offset."""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa

from jobs import Tickwork

metadata = sa.MetaData()
CURRENCY = "INR"


def new_id() -> str:
    return str(uuid.uuid4())


def utc(tickwork: Tickwork) -> dt.datetime:
    """Now, as the tables have it."""
    return tickwork.clock.now().astimezone(dt.UTC).replace(tzinfo=None)


customers = sa.Table(
    "shop_customers",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True, default=new_id),
    sa.Column("email", sa.String(254), nullable=False, unique=True),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("password_hash", sa.String(200), nullable=False),
)

password_resets = sa.Table(
    "shop_password_resets",
    metadata,
    # The token itself is in the mail and nowhere else.
    sa.Column("token_sha256", sa.String(64), primary_key=True),
    sa.Column("customer_id", sa.ForeignKey(customers.c.id), nullable=False),
    sa.Column("expires_at", sa.DateTime, nullable=False),
    sa.Column("used", sa.Boolean, nullable=False, default=False),
)

products = sa.Table(
    "shop_products",
    metadata,
    sa.Column("sku", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("price", sa.Integer, nullable=False),
    sa.Column("stock", sa.Integer, nullable=False),  # what lies in the warehouse
    sa.Column("reserved", sa.Integer, nullable=False, default=0),  # of it, for orders
)

orders = sa.Table(
    "shop_orders",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("number", sa.String(20), nullable=False, unique=True),
    sa.Column("customer_id", sa.ForeignKey(customers.c.id), nullable=False, index=True),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("status", sa.String(16), nullable=False, default="pending"),
    sa.Column("because", sa.String(200)),  # of a cancelled one
    # `reserved`, then once and for all `released` or `taken`: nothing is given back twice.
    sa.Column("stock", sa.String(16), nullable=False, default="reserved"),
    sa.Column("payment_id", sa.String(120)),  # the payment that it goes by
    sa.Column("invoice_url", sa.Text),
    sa.Column("erp_id", sa.String(80)),
    sa.Column("created_at", sa.DateTime, nullable=False),
)

order_lines = sa.Table(
    "shop_order_lines",
    metadata,
    sa.Column("order_id", sa.ForeignKey(orders.c.id), primary_key=True),
    sa.Column("sku", sa.ForeignKey(products.c.sku), primary_key=True),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("price", sa.Integer, nullable=False),
    sa.Column("quantity", sa.Integer, nullable=False),
)

payments = sa.Table(
    "shop_payments",
    metadata,
    sa.Column("id", sa.String(120), primary_key=True),  # as the provider calls it
    sa.Column("provider", sa.String(16), nullable=False),
    sa.Column("order_id", sa.ForeignKey(orders.c.id), nullable=False, index=True),
    sa.Column("amount", sa.Integer, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("heard_at", sa.DateTime, nullable=False),
)

reviews = sa.Table(
    "shop_reviews",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True, default=new_id),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("order_id", sa.ForeignKey(orders.c.id), nullable=False),
    sa.Column("because", sa.Text, nullable=False),
    sa.Column("decision", sa.String(10)),
    sa.UniqueConstraint("kind", "order_id"),
)
