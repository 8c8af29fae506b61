"""Tokens of the management API, and the log of what people changed.

What stands here is revision 0005 for good, as 0001 does.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MYSQL = ("mysql", "mariadb")


def upgrade() -> None:
    tables = context.config.attributes["tables"]
    options = {"schema": tables.schema, "mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}
    tokens, audit = f"{tables.prefix}tokens", f"{tables.prefix}audit"
    op.create_table(
        tokens,
        sa.Column("id", _ascii(36), primary_key=True),
        sa.Column("namespace", _ascii(100), nullable=False),
        sa.Column("name", _exact(200), nullable=False),
        sa.Column("role", _ascii(20), nullable=False),
        sa.Column("tenant", _exact(100)),
        sa.Column("digest", _ascii(64), nullable=False),
        sa.Column("created_at", _instant(), nullable=False),
        sa.Column("created_by", _exact(200)),
        sa.Column("expires_at", _instant()),
        sa.Column("last_used_at", _instant()),
        sa.Column("revoked_at", _instant()),
        sa.Column("revoked_by", _exact(200)),
        **options,
    )
    op.create_index(
        f"ix_{tokens}_digest", tokens, ["namespace", "digest"], unique=True, schema=tables.schema
    )
    op.create_table(
        audit,
        sa.Column("id", _ascii(36), primary_key=True),
        sa.Column("namespace", _ascii(100), nullable=False),
        sa.Column("changed_at", _instant(), nullable=False),
        sa.Column("changed_by", _exact(200), nullable=False),
        sa.Column("action", _ascii(100), nullable=False),
        sa.Column("subject", _exact(500), nullable=False),
        sa.Column("tenant", _exact(100)),
        sa.Column("concerned", sa.Integer, nullable=False),
        sa.Column("reason", _exact(500)),
        **options,
    )
    for name, columns in (("changed", ["changed_at"]), ("tenant", ["tenant", "id"])):
        op.create_index(f"ix_{audit}_{name}", audit, ["namespace", *columns], schema=tables.schema)


def downgrade() -> None:
    tables = context.config.attributes["tables"]
    for name in ("audit", "tokens"):
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


def _instant() -> sa.String:
    """As UTC text on SQLite, which has no time type."""
    return (
        sa.String(26)
        .with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
        .with_variant(mysql.DATETIME(fsp=6), *MYSQL)
    )
