"""Reading: one listing, counts by shown state, and how much is due."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, TextClause, select, text

from jobs.core.flow import PAST_FLOWS
from jobs.core.store import JobFilter
from jobs.stores.sql.statements import Statements


def listing(
    statements: Statements,
    where: JobFilter,
    limit: int,
    *,
    ids_only: bool = False,
    more: Sequence[str] = (),
) -> Select[Any]:
    """Jobs by filter, newest first; ids sort by creation. Binds :func:`listing_parameters`.

    ``more`` are conditions on ``j``.
    """
    jobs, sql = statements.tables.jobs.alias("j"), statements.sql
    c = jobs.c
    statement = select(c.id) if ids_only else select(jobs)
    statement = statement.where(text("namespace = :namespace"))
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
    if where.error is not None:
        statement = statement.where(text(sql.holds_text("error", "error")))
    if where.older_than_seconds is not None:
        by = sql.later(f"-{sql.number('older_than_seconds')}")
        statement = statement.where(text(f"coalesce(finished_at, created_at) <= {by}"))
    if where.shown is not None:
        statement = statement.where(c.state.in_([str(state) for state in where.states]))
    for condition in more:
        statement = statement.where(text(condition))
    if where.after_id is None:
        return statement.order_by(c.id.desc()).limit(limit)
    # In the order of the key, so that a walk over a long history reads each row once.
    return statement.where(c.id > where.after_id).order_by(c.id).limit(limit)


def listing_parameters(where: JobFilter) -> dict[str, Any]:
    """The parameters of :func:`listing`, beside the namespace and the present."""
    values = {"error": where.error, "older_than_seconds": where.older_than_seconds}
    return {name: value for name, value in values.items() if value is not None}


def counts(statements: Statements, *, of_tenant: bool = False) -> TextClause:
    """Rows by queue, kind and shown state (``jobs.core.job.shown_state``), but for pauses."""
    now = statements.sql.now
    tenant = " AND tenant = :tenant" if of_tenant else ""
    return text(f"""
        SELECT queue, kind, shown, count(*) FROM (
            SELECT queue, kind, CASE
                WHEN state = 'pending' AND run_at > {now} AND attempts > 0 THEN 'retrying'
                WHEN state = 'pending' AND run_at > {now} THEN 'delayed'
                WHEN state = 'processing' AND lease_until < {now} THEN 'stalled'
                ELSE state END AS shown
            FROM {statements.jobs} WHERE namespace = :namespace{tenant}) AS j
        GROUP BY queue, kind, shown
        """)


def due_count(statements: Statements, lanes: int) -> TextClause:
    """How many rows of that many lanes are due, counted up to ``:cap`` along index ranges."""
    parts = " UNION ALL ".join(
        f"SELECT 1 AS one FROM ({statements.due_in(f':lane_{n}', ':cap', 'id')}) AS lane_{n}"
        for n in range(lanes)
    )
    return text(f"SELECT count(*) FROM (SELECT one FROM ({parts}) AS due LIMIT :cap) AS c")


def base_of(lane: str) -> str:
    """The lane without its flow: ``priority/queue/kind/``."""
    return lane[: lane.rindex("/") + 1]


def depths(statements: Statements, bases: int) -> TextClause:
    """Of that many lanes, with all their flows: the first instant, how many wait and are due.

    Each reads at most ``:cap`` entries of the index of pending rows. Binds
    :func:`depths_parameters`.
    """
    jobs, now = statements.jobs, statements.sql.now
    parts = [
        f"SELECT :base_{n} AS base, min(run_at) AS first_at, count(*) AS waiting, "
        f"sum(CASE WHEN run_at <= {now} THEN 1 ELSE 0 END) AS due, {now} AS now FROM ("
        f"SELECT run_at FROM {jobs} WHERE namespace = :namespace AND state = 'pending' "
        f"AND lane >= :base_{n} AND lane < :past_{n} ORDER BY lane, run_at LIMIT :cap) AS w_{n}"
        for n in range(bases)
    ]
    return text(" UNION ALL ".join(parts))


def depths_parameters(bases: Sequence[str]) -> dict[str, str]:
    """The lanes, and what stands past their flows."""
    named = {f"base_{n}": base for n, base in enumerate(bases)}
    return {**named, **{f"past_{n}": base + PAST_FLOWS for n, base in enumerate(bases)}}


def running(statements: Statements) -> TextClause:
    """What is held, by queue and kind: how many, how many leases are over, the first lease."""
    now = statements.sql.now
    return text(
        f"SELECT queue, kind, count(*), sum(CASE WHEN lease_until < {now} THEN 1 ELSE 0 END), "
        f"min(lease_until), {now} FROM (SELECT queue, kind, lease_until FROM {statements.jobs} "
        "WHERE namespace = :namespace AND state = 'processing' ORDER BY lease_until LIMIT :cap"
        ") AS held GROUP BY queue, kind"
    )


def failed_counts(statements: Statements, kinds: int) -> TextClause:
    """How many dead letters that many kinds have, each along its range of an index."""
    parts = [
        f"SELECT {n} AS place, count(*) AS failed FROM (SELECT 1 AS one FROM {statements.jobs} "
        f"WHERE namespace = :namespace AND kind = :kind_{n} AND state = 'failed' "
        f"AND finished_at IS NOT NULL LIMIT :cap) AS f_{n}"
        for n in range(kinds)
    ]
    return text(" UNION ALL ".join(parts))


def ahead(statements: Statements, better: int, equal: int) -> TextClause:
    """How many rows come before one: the due ones of the better lanes, the earlier ones of those of
    its own priority; counted up to ``:cap`` along index ranges."""
    s = statements
    parts = [s.due_in(f":better_{n}", ":cap", "id") for n in range(better)]
    run_at = s.sql.instant("run_at")
    parts += [
        f"SELECT id FROM {s.jobs} WHERE namespace = :namespace AND state = 'pending' "
        f"AND lane = :equal_{n} AND run_at <= {run_at} AND run_at <= {s.sql.now} "
        f"AND (run_at < {run_at} OR id < :id) ORDER BY run_at, id LIMIT :cap"
        for n in range(equal)
    ]
    counted = " UNION ALL ".join(
        f"SELECT 1 AS one FROM ({part}) AS lane_{n}" for n, part in enumerate(parts)
    )
    return text(f"SELECT count(*) FROM (SELECT one FROM ({counted}) AS found LIMIT :cap) AS c")


def next_due(statements: Statements, lanes: int) -> TextClause:
    """The first instant of that many lanes, of the leases and of the schedules, and the present:
    one step down an index for each.
    """
    jobs = statements.jobs
    parts = [
        f"SELECT 'row' AS what, min(run_at) AS at FROM {jobs} "
        f"WHERE namespace = :namespace AND state = 'pending' AND lane = :lane_{n}"
        for n in range(lanes)
    ]
    parts += [
        f"SELECT 'lease' AS what, min(lease_until) AS at FROM {jobs} "
        "WHERE namespace = :namespace AND state = 'processing'",
        # One that is past has no handler here, or the tick would have fired it.
        f"SELECT 'schedule', min(next_at) FROM {statements.schedules} "
        f"WHERE namespace = :namespace AND next_at > {statements.sql.now}",
        f"SELECT 'now', {statements.sql.now}",
    ]
    return text(" UNION ALL ".join(parts))
