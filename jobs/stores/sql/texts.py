"""What the statements of every step are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import TextClause, text

from jobs.core.controls import EVERYTHING
from jobs.stores.sql.dialects import DialectSql
from jobs.stores.sql.tables import Tables

# Every pending row of this lane that is due, oldest first: one bounded range of the index.
DUE = "namespace = :namespace AND state = 'pending'"
# In these words, so that the partial index offers itself.
RINGING = f"{DUE} AND ring_at IS NOT NULL AND ring_at"


class Texts:
    """The names of tables, and the conditions and columns that many statements read."""

    def __init__(self, sql: DialectSql, tables: Tables, *, overdue: bool = False) -> None:
        self.sql = sql
        self.due_by = sql.later(f"-{sql.number('overdue_seconds')}") if overdue else sql.now
        self.tables = tables
        self.jobs = tables.name_of("jobs")
        self.held_index = f"ix_{tables.prefix}jobs_held"
        self.waiting_index = f"ix_{tables.prefix}jobs_waiting"
        self.groups = tables.name_of("groups")
        self.schedules = tables.name_of("schedules")
        self.controls = tables.name_of("controls")
        self.keys = tables.name_of("keys")
        self.limits = tables.name_of("limits")
        self.takings = tables.name_of("takings")
        self.ticks = tables.name_of("ticks")
        self.measures = tables.name_of("measures")
        self.alerts = tables.name_of("alerts")
        self._built: dict[Any, TextClause] = {}

    def _once(self, key: Any, build: Callable[[], str]) -> TextClause:
        statement = self._built.get(key)
        if statement is None:
            statement = self._built[key] = text(build())
        return statement

    @property
    def _dual(self) -> str:
        return " FROM DUAL" if self.sql.name == "mysql" else ""

    def let_go(self, row: str = "") -> str:
        """A condition on rows of jobs: no group that is still open counts on them."""
        group_id = f"{row or self.jobs}.group_id"
        return (
            f"({group_id} IS NULL OR NOT EXISTS (SELECT 1 FROM {self.groups} g "
            f"WHERE g.id = {group_id} AND g.state = 'open'))"
        )

    @property
    def not_paused(self) -> str:
        """A condition on ``j`` for rows found by their ids; lanes are known before."""
        queue = self.sql.joined("'queue/'", "j.queue")
        kind = self.sql.joined("'kind/'", "j.kind")
        return (
            f"NOT EXISTS (SELECT 1 FROM {self.controls} c WHERE c.namespace = :namespace "
            f"AND c.paused_at IS NOT NULL AND c.subject IN ('{EVERYTHING}', {queue}, {kind}))"
        )

    @property
    def claimed_columns(self) -> str:
        """What :func:`jobs.stores.sql.rows.read_claimed` reads, in its order."""
        columns = (
            "j.id, j.kind, j.queue, j.payload, j.priority, j.attempts, j.max_attempts, j.fence, "
            "j.timeout_seconds, j.backoff, j.tenant, j.run_at, j.errors, "
        )
        rare = "j.concurrency_key, j.group_id, j.chain, j.cursor, j.continues, j.version, j.trace"
        match self.sql.name:
            case "postgresql":
                # Just what a Claimed holds, so that a row becomes one as it is. Attempts were
                # raised by the claim; a job that snoozed has its attempt back, but it did start.
                return (
                    f"{columns}j.started_at IS NOT NULL, coalesce(j.expires_at <= {self.sql.now} "
                    "AND j.attempts = 1 AND j.duration_ms IS NULL, false), j.cancel_requested, "
                    f"{rare}"
                )
            case "sqlite":
                # Its RETURNING knows the updated table only, and not by its alias; and expressions
                # over columns came out wrong there beside a generated column (seen with 3.40).
                columns, rare = columns.replace("j.", ""), rare.replace("j.", "")
                return f"{columns}duration_ms, expires_at, {self.sql.now} AS now, {rare}"
        # The comparison made here: an instant costs the driver time to read, row by row.
        expired = f"coalesce(j.expires_at <= {self.sql.now}, false) AS expired"
        return f"{columns}j.duration_ms, {expired}, NULL AS now, {rare}"
