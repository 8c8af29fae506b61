"""The tables of the first release: jobs, and what steers them.

What stands here is revision 0001 for good: it says everything itself and takes nothing but the
names from today's code, so that later code cannot change what this step once made.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MYSQL = ("mysql", "mariadb")


def upgrade() -> None:
    tables = context.config.attributes["tables"]
    dialect = op.get_context().dialect.name
    table = f"{tables.prefix}jobs"
    op.create_table(
        table,
        sa.Column("id", _ascii(36), primary_key=True),
        sa.Column("namespace", _ascii(100), nullable=False),
        sa.Column("tenant", _exact(100), nullable=False),
        sa.Column("queue", _ascii(100), nullable=False),
        sa.Column("kind", _ascii(100), nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("lane", _ascii(230), sa.Computed(_lane(dialect), persisted=True)),
        sa.Column("state", _ascii(12), nullable=False),
        sa.Column("payload", _long(), nullable=False),
        sa.Column("result", _long()),
        sa.Column("error", _long()),
        sa.Column("errors", _long()),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("progress", sa.Double, nullable=False, server_default=sa.text("0")),
        sa.Column("progress_note", _exact(500)),
        sa.Column("timeout_seconds", sa.Double),
        sa.Column("backoff", _long()),
        sa.Column("run_at", _instant(), nullable=False),
        sa.Column("created_at", _instant(), nullable=False),
        sa.Column("started_at", _instant()),
        sa.Column("finished_at", _instant()),
        sa.Column("lease_until", _instant()),
        sa.Column("expires_at", _instant()),
        sa.Column("keep_until", _instant()),
        sa.Column("duration_ms", sa.Double),
        sa.Column("flow", _ascii(24), nullable=False, server_default=""),
        sa.Column("concurrency_key", _exact(200)),
        sa.Column("dedupe_key", _exact(200)),
        sa.Column("alias", _exact(200)),
        sa.Column("group_id", _ascii(36)),
        sa.Column("parent_id", _ascii(36)),
        sa.Column("schedule", _ascii(100)),
        sa.Column("slot", _ascii(20)),
        sa.Column("chain", _long()),
        sa.Column("cursor", _long()),
        sa.Column("continues", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("version", sa.Integer, nullable=False, server_default=sa.text("1")),
        schema=tables.schema,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        postgresql_with={"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.02},
    )
    waiting, held = ["lane", "run_at", "id"], ["lease_until"]
    if dialect in MYSQL:  # no partial indexes: the state leads instead
        _index(table, tables.schema, "pending_by_state", ["state", *waiting])
        _index(table, tables.schema, "held_by_state", ["state", *held])
    else:
        _index(table, tables.schema, "pending", waiting, "state = 'pending'")
        _index(table, tables.schema, "held", held, "state = 'processing'")
    _index(table, tables.schema, "kept", ["keep_until"], "keep_until IS NOT NULL")
    _index(
        table,
        tables.schema,
        "finished",
        ["kind", "state", "finished_at"],
        "finished_at IS NOT NULL",
    )
    _index(table, tables.schema, "group", ["group_id", "state"], "group_id IS NOT NULL")
    for name, described in _steering().items():
        op.create_table(
            f"{tables.prefix}{name}",
            *described,
            schema=tables.schema,
            mysql_engine="InnoDB",
            mysql_charset="utf8mb4",
        )
    for name, index, columns in (
        ("keys", "check", ["namespace", "check_at"]),
        ("limits", "used", ["namespace", "used_at"]),
        ("schedules", "next", ["namespace", "next_at"]),
        ("groups", "check", ["namespace", "check_at"]),
    ):
        full = f"{tables.prefix}{name}"
        op.create_index(f"ix_{full}_{index}", full, columns, schema=tables.schema)


def downgrade() -> None:
    tables = context.config.attributes["tables"]
    for name in (*_steering(), "jobs"):
        op.drop_table(f"{tables.prefix}{name}", schema=tables.schema)


def _steering() -> dict[str, list[sa.Column[Any]]]:
    return {
        "keys": [
            sa.Column("namespace", _ascii(100), primary_key=True),
            sa.Column("scope", _ascii(110), primary_key=True),
            sa.Column("tenant", _exact(100), primary_key=True),
            sa.Column("name", _exact(200), primary_key=True),
            sa.Column("job_id", _ascii(36), nullable=False),
            sa.Column("held_until", _instant(), nullable=False),
            sa.Column("check_at", _instant()),
        ],
        "controls": [
            sa.Column("namespace", _ascii(100), primary_key=True),
            sa.Column("subject", _ascii(110), primary_key=True),
            sa.Column("paused_at", _instant()),
            sa.Column("paused_by", _exact(200)),
            sa.Column("paused_because", _exact(500)),
            sa.Column("settings", _long()),
            sa.Column("changed_at", _instant(), nullable=False),
            sa.Column("changed_by", _exact(200)),
        ],
        "limits": [
            sa.Column("namespace", _ascii(100), primary_key=True),
            sa.Column("name", _ascii(230), primary_key=True),
            sa.Column("label", _exact(400)),
            sa.Column("used_at", _instant(), nullable=False),
            sa.Column("window_at", _instant()),
            sa.Column("successes", sa.Integer, nullable=False, server_default=sa.text("0")),
            sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
            sa.Column("opened_at", _instant()),
            sa.Column("open_until", _instant()),
        ],
        "takings": [
            sa.Column("namespace", _ascii(100), primary_key=True),
            sa.Column("name", _ascii(230), primary_key=True),
            sa.Column("taken_at", _instant(), primary_key=True),
            sa.Column("id", _ascii(36), primary_key=True),
            sa.Column("taken", sa.Integer, nullable=False),
        ],
        "schedules": [
            sa.Column("namespace", _ascii(100), primary_key=True),
            sa.Column("tenant", _exact(100), primary_key=True),
            sa.Column("name", _ascii(100), primary_key=True),
            sa.Column("kind", _ascii(100), nullable=False),
            sa.Column("payload", _long(), nullable=False),
            sa.Column("options", _long()),
            sa.Column("rule", _exact(200), nullable=False),
            sa.Column("timezone", _ascii(100), nullable=False),
            sa.Column("jitter_seconds", sa.Double, nullable=False, server_default=sa.text("0")),
            sa.Column("missed", _ascii(20), nullable=False),
            sa.Column("source", _ascii(10), nullable=False),
            sa.Column("enabled", sa.Boolean, nullable=False),
            sa.Column("next_at", _instant()),
            sa.Column("last_at", _instant()),
            sa.Column("last_job_id", _ascii(36)),
            sa.Column("created_at", _instant(), nullable=False),
            sa.Column("changed_at", _instant(), nullable=False),
            sa.Column("changed_by", _exact(200)),
        ],
        "groups": [
            sa.Column("id", _ascii(36), primary_key=True),
            sa.Column("namespace", _ascii(100), nullable=False),
            sa.Column("tenant", _exact(100), nullable=False),
            sa.Column("name", _exact(200)),
            sa.Column("state", _ascii(12), nullable=False),
            sa.Column("sealed", sa.Boolean, nullable=False),
            sa.Column("on_success", _long()),
            sa.Column("on_failure", _long()),
            sa.Column("on_done", _long()),
            sa.Column("created_at", _instant(), nullable=False),
            sa.Column("finished_at", _instant()),
            sa.Column("check_at", _instant()),
        ],
    }


def _index(
    table: str, schema: str | None, name: str, columns: list[str], condition: str | None = None
) -> None:
    where = None if condition is None else sa.text(condition)
    op.create_index(
        f"ix_{table}_{name}",
        table,
        ["namespace", *columns],
        schema=schema,
        postgresql_where=where,
        sqlite_where=where,
    )


def _lane(dialect: str) -> str:
    if dialect in MYSQL:
        return "CONCAT(priority, '/', queue, '/', kind, '/', flow)"
    return "CAST(priority AS TEXT) || '/' || queue || '/' || kind || '/' || flow"


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
