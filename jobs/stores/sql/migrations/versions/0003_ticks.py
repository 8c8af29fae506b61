"""Records of ticks, and measures of those that are gone.

What stands here is revision 0003 for good, as 0001 does.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MYSQL = ("mysql", "mariadb")


def upgrade() -> None:
    tables = context.config.attributes["tables"]
    ticks, measures = f"{tables.prefix}ticks", f"{tables.prefix}measures"
    options = {"schema": tables.schema, "mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}
    op.create_table(
        ticks,
        sa.Column("id", _ascii(36), primary_key=True),
        sa.Column("namespace", _ascii(100), nullable=False),
        sa.Column("ended_at", _instant(), nullable=False),
        sa.Column("duration_ms", sa.Double, nullable=False),
        sa.Column("woken_by", _ascii(10), nullable=False),
        sa.Column("runner", _ascii(60), nullable=False),
        sa.Column("ticks", sa.Integer, nullable=False),
        sa.Column("claim_limit", sa.Integer, nullable=False),
        sa.Column("claimed", sa.Integer, nullable=False),
        sa.Column("processed", sa.Integer, nullable=False),
        sa.Column("succeeded", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("retried", sa.Integer, nullable=False),
        sa.Column("released", sa.Integer, nullable=False),
        sa.Column("reclaimed", sa.Integer, nullable=False),
        sa.Column("remaining", sa.Integer, nullable=False),
        sa.Column("more", sa.Boolean, nullable=False),
        sa.Column("error", _exact(500)),
        sa.Column("measures", _long()),
        **options,
    )
    op.create_index(f"ix_{ticks}_ended", ticks, ["namespace", "ended_at"], schema=tables.schema)
    op.create_table(
        measures,
        sa.Column("id", _ascii(36), primary_key=True),
        sa.Column("namespace", _ascii(100), nullable=False),
        sa.Column("span_seconds", sa.Integer, nullable=False),
        sa.Column("starts_at", _instant(), nullable=False),
        sa.Column("tenant", _exact(100), nullable=False),
        sa.Column("queue", _ascii(100), nullable=False),
        sa.Column("kind", _ascii(100), nullable=False),
        sa.Column("measure", _long(), nullable=False),
        **options,
    )
    op.create_index(
        f"ix_{measures}_span",
        measures,
        ["namespace", "span_seconds", "starts_at"],
        schema=tables.schema,
    )


def downgrade() -> None:
    tables = context.config.attributes["tables"]
    for name in ("measures", "ticks"):
        op.drop_table(f"{tables.prefix}{name}", schema=tables.schema)


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


def _long() -> sa.Text:
    return sa.Text().with_variant(
        mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), *MYSQL
    )


def _instant() -> sa.String:
    """As UTC text on SQLite, which has no time type."""
    return (
        sa.String(26)
        .with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
        .with_variant(mysql.DATETIME(fsp=6), *MYSQL)
    )
