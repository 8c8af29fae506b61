"""Reading: one listing, counts by shown state, and how much is due."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, TextClause, select, text

from jobs.core.store import JobFilter
from jobs.stores.sql.statements import Statements
from jobs.stores.sql.tables import Tables


def listing(tables: Tables, namespace: str, where: JobFilter, limit: int) -> Select[Any]:
    """Jobs by filter, newest first; ids sort by creation."""
    c = tables.jobs.c
    statement = select(tables.jobs).where(c.namespace == namespace)
    for column, wanted in (
        (c.state, None if where.state is None else str(where.state)),
        (c.kind, where.kind),
        (c.queue, where.queue),
        (c.tenant, where.tenant),
    ):
        if wanted is not None:
            statement = statement.where(column == wanted)
    if where.before_id is not None:
        statement = statement.where(c.id < where.before_id)
    return statement.order_by(c.id.desc()).limit(limit)


def counts(statements: Statements) -> TextClause:
    """Rows by queue, kind and shown state, as ``jobs.core.job.shown_state`` computes it."""
    now = statements.sql.now
    return text(f"""
        SELECT queue, kind, shown, count(*) FROM (
            SELECT queue, kind, CASE
                WHEN state = 'pending' AND run_at > {now} AND attempts > 0 THEN 'retrying'
                WHEN state = 'pending' AND run_at > {now} THEN 'delayed'
                WHEN state = 'processing' AND lease_until < {now} THEN 'stalled'
                ELSE state END AS shown
            FROM {statements.jobs} WHERE namespace = :namespace) AS j
        GROUP BY queue, kind, shown
        """)


def due_count(statements: Statements, lanes: int) -> TextClause:
    """How many rows of that many lanes are due, counted up to ``:cap`` along index ranges."""
    parts = " UNION ALL ".join(
        f"SELECT 1 AS one FROM ({statements.due_in(f':lane_{n}', ':cap', 'id')}) AS lane_{n}"
        for n in range(lanes)
    )
    return text(f"SELECT count(*) FROM (SELECT one FROM ({parts}) AS due LIMIT :cap) AS c")
