"""When a row is to be rung, and how often it was: for queues beside the table.

What stands here is revision 0002 for good, as 0001 does.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MYSQL = ("mysql", "mariadb")


def upgrade() -> None:
    tables = context.config.attributes["tables"]
    table = f"{tables.prefix}jobs"
    op.add_column(table, sa.Column("ring_at", _instant()), schema=tables.schema)
    op.add_column(
        table,
        sa.Column("rings", sa.Integer, nullable=False, server_default=sa.text("0")),
        schema=tables.schema,
    )
    if op.get_context().dialect.name in MYSQL:  # no partial indexes: the state leads instead
        columns, condition = ["namespace", "state", "ring_at"], None
    else:
        columns = ["namespace", "ring_at"]
        condition = sa.text("ring_at IS NOT NULL AND state = 'pending'")
    op.create_index(
        _index(table),
        table,
        columns,
        schema=tables.schema,
        postgresql_where=condition,
        sqlite_where=condition,
    )


def downgrade() -> None:
    tables = context.config.attributes["tables"]
    table = f"{tables.prefix}jobs"
    op.drop_index(_index(table), table, schema=tables.schema)
    op.drop_column(table, "rings", schema=tables.schema)
    op.drop_column(table, "ring_at", schema=tables.schema)


def _index(table: str) -> str:
    by_state = "_by_state" if op.get_context().dialect.name in MYSQL else ""
    return f"ix_{table}_unrung{by_state}"


def _instant() -> sa.String:
    """As UTC text on SQLite, which has no time type."""
    return (
        sa.String(26)
        .with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
        .with_variant(mysql.DATETIME(fsp=6), *MYSQL)
    )
