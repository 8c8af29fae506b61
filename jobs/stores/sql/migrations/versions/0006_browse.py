"""Indexes for people who look for jobs: what waits, and by state, kind, queue and tenant.

What stands here is revision 0006 for good, as 0001 does.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MYSQL = ("mysql", "mariadb")

# Name, columns, and of which rows: without partial indexes (MySQL) of all.
ENDED = "state <> 'pending' AND state <> 'processing'"
INDEXES = (
    ("waiting", ["namespace", "id"], "state = 'pending'"),
    ("by_state", ["namespace", "state", "id"], ENDED),
    ("by_kind", ["namespace", "kind", "state", "id"], ENDED),
    ("by_queue", ["namespace", "queue", "state", "id"], ENDED),
    # Most deployments have no tenants, and then nothing to keep in order.
    ("by_tenant", ["namespace", "tenant", "state", "id"], "tenant <> ''"),
)


def upgrade() -> None:
    tables = context.config.attributes["tables"]
    table = f"{tables.prefix}jobs"
    for name, columns, rows in _indexes():
        condition = sa.text(rows)
        op.create_index(
            f"ix_{table}_{name}",
            table,
            columns,
            schema=tables.schema,
            postgresql_where=condition,
            sqlite_where=condition,
        )


def downgrade() -> None:
    tables = context.config.attributes["tables"]
    table = f"{tables.prefix}jobs"
    for name, _, _ in reversed(_indexes()):
        op.drop_index(f"ix_{table}_{name}", table, schema=tables.schema)


def _indexes() -> tuple[tuple[str, list[str], str], ...]:
    # MySQL's index by state has what waits.
    return INDEXES[1:] if op.get_context().dialect.name in MYSQL else INDEXES
