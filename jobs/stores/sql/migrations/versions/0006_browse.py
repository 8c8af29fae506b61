"""Indexes for people who look for jobs: by state, kind, queue and tenant, in the order of ids.

What stands here is revision 0006 for good, as 0001 does.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = {
    "by_state": ["namespace", "state", "id"],
    "by_kind": ["namespace", "kind", "state", "id"],
    "by_queue": ["namespace", "queue", "state", "id"],
    "by_tenant": ["namespace", "tenant", "state", "id"],
}


def upgrade() -> None:
    tables = context.config.attributes["tables"]
    table = f"{tables.prefix}jobs"
    for name, columns in COLUMNS.items():
        # Most deployments have no tenants, and then nothing to keep in order.
        condition = sa.text("tenant <> ''") if name == "by_tenant" else None
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
    for name in reversed(COLUMNS):
        op.drop_index(f"ix_{table}_{name}", table, schema=tables.schema)
