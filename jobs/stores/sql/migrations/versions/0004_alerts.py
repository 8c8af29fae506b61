"""Alerts, and the trace that a job's enqueue belongs to, which its runs join.

What stands here is revision 0004 for good, as 0001 does.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MYSQL = ("mysql", "mariadb")


def upgrade() -> None:
    tables = context.config.attributes["tables"]
    op.add_column(f"{tables.prefix}jobs", sa.Column("trace", _ascii(55)), schema=tables.schema)
    op.create_table(
        f"{tables.prefix}alerts",
        sa.Column("namespace", _ascii(100), primary_key=True),
        sa.Column("name", _ascii(100), primary_key=True),
        sa.Column("subject", _ascii(100), primary_key=True),
        sa.Column("level", _ascii(10), nullable=False),
        sa.Column("since", _instant(), nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("detail", _exact(300)),
        sa.Column("heading", _ascii(10), nullable=False),
        sa.Column("streak", sa.Integer, nullable=False),
        sa.Column("changes", sa.Integer, nullable=False),
        sa.Column("acknowledged_by", _exact(100)),
        sa.Column("acknowledged_at", _instant()),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("checked_at", _instant()),
        schema=tables.schema,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
    )


def downgrade() -> None:
    tables = context.config.attributes["tables"]
    op.drop_table(f"{tables.prefix}alerts", schema=tables.schema)
    op.drop_column(f"{tables.prefix}jobs", "trace", schema=tables.schema)


def _ascii(length: int) -> sa.String:
    return (
        sa.String(length)
        .with_variant(sa.String(length, collation="C"), "postgresql")
        .with_variant(mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), *MYSQL)
    )


def _exact(length: int) -> sa.String:
    return sa.String(length).with_variant(
        mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), *MYSQL
    )


def _instant() -> sa.String:
    """As UTC text on SQLite, which has no time type."""
    return (
        sa.String(26)
        .with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
        .with_variant(mysql.DATETIME(fsp=6), *MYSQL)
    )
