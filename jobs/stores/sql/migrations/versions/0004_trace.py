"""The trace that a job's enqueue belongs to, which its runs join.

What stands here is revision 0004 for good, as 0001 does.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MYSQL = ("mysql", "mariadb")


def upgrade() -> None:
    tables = context.config.attributes["tables"]
    trace = (
        sa.String(55)
        .with_variant(sa.String(55, collation="C"), "postgresql")
        .with_variant(mysql.VARCHAR(55, charset="ascii", collation="ascii_bin"), *MYSQL)
    )
    op.add_column(f"{tables.prefix}jobs", sa.Column("trace", trace), schema=tables.schema)


def downgrade() -> None:
    tables = context.config.attributes["tables"]
    op.drop_column(f"{tables.prefix}jobs", "trace", schema=tables.schema)
