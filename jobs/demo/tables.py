"""The tables of the shop, as a team with a database of its own would have them.

Columns are named as in the shop's schema (`createdAt`); Python reads them in its own spelling
(`export_jobs.c.created_at`). Times are UTC, without an offset.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

metadata = sa.MetaData()

EXPORT_TYPES = ("orders", "customers", "products")
EXPORT_STATUSES = ("pending", "processing", "completed", "failed")
ORDER_STATUSES = ("pending", "paid", "shipped", "delivered", "cancelled", "refunded")

# MySQL rounds a DATETIME to whole seconds unless told not to.
Instant = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
Uuid = sa.String(36)
# Shops sell to people in every script; MySQL's older default does not hold them.
CHARSET = "utf8mb4"


def _owner(key: str, target: str, type_: sa.types.TypeEngine[str] = Uuid) -> sa.Column[str]:
    """A reference to the row that this one belongs to, and with which it goes."""
    name = key.split("_")[0] + "Id"
    return sa.Column(
        name, type_, sa.ForeignKey(target, ondelete="CASCADE"), key=key, nullable=False
    )


stores = sa.Table(
    "stores",
    metadata,
    sa.Column("id", Uuid, primary_key=True),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    mysql_charset=CHARSET,
)

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", Uuid, primary_key=True),
    _owner("store_id", "stores.id"),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("email", sa.String(254), nullable=False),
    mysql_charset=CHARSET,
)

customers = sa.Table(
    "customers",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    _owner("store_id", "stores.id"),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("email", sa.String(254), nullable=False),
    sa.Column("country", sa.String(2), nullable=False),
    sa.Column("phone", sa.String(32)),
    sa.Column("createdAt", Instant, key="created_at", nullable=False),
    mysql_charset=CHARSET,
)

products = sa.Table(
    "products",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    _owner("store_id", "stores.id"),
    sa.Column("sku", sa.String(32), nullable=False),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("price", sa.Numeric(12, 2), nullable=False),
    sa.Column("stock", sa.Integer, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    mysql_charset=CHARSET,
)

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    _owner("store_id", "stores.id"),
    sa.Column("customerId", sa.ForeignKey(customers.c.id), key="customer_id"),
    sa.Column("number", sa.String(20), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("total", sa.Numeric(12, 2), nullable=False),
    sa.Column("note", sa.Text),
    sa.Column("createdAt", Instant, key="created_at", nullable=False),
    sa.Index("ix_orders_store_created", "store_id", "created_at"),
    mysql_charset=CHARSET,
)

order_items = sa.Table(
    "order_items",
    metadata,
    sa.Column(
        "orderId",
        sa.ForeignKey(orders.c.id, ondelete="CASCADE"),
        key="order_id",
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("line", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("productId", sa.ForeignKey(products.c.id), key="product_id", nullable=False),
    sa.Column("quantity", sa.Integer, nullable=False),
    sa.Column("price", sa.Numeric(12, 2), nullable=False),
    mysql_charset=CHARSET,
)

export_jobs = sa.Table(
    "export_jobs",
    metadata,
    sa.Column("id", Uuid, primary_key=True),
    _owner("store_id", "stores.id"),
    _owner("user_id", "users.id"),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("filters", sa.Text, nullable=False),
    sa.Column("totalRows", sa.Integer, key="total_rows", nullable=False),
    sa.Column("fileUrl", sa.Text, key="file_url"),
    sa.Column("error", sa.Text),
    sa.Column("createdAt", Instant, key="created_at", nullable=False),
    sa.Column("startedAt", Instant, key="started_at"),
    sa.Column("completedAt", Instant, key="completed_at"),
    sa.Index("ix_export_jobs_store", "store_id", "status", "created_at"),
    sa.Index("ix_export_jobs_user", "user_id", "created_at"),
    mysql_charset=CHARSET,
)

notifications = sa.Table(
    "notifications",
    metadata,
    sa.Column("id", Uuid, primary_key=True),
    _owner("user_id", "users.id"),
    sa.Column("type", sa.String(40), nullable=False),
    sa.Column("title", sa.String(200), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("link", sa.Text),
    sa.Column("readAt", Instant, key="read_at"),
    sa.Column("createdAt", Instant, key="created_at", nullable=False),
    mysql_charset=CHARSET,
)
