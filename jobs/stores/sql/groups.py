"""Settles with more to them: what follows a job, and the end of its group, in one transaction.

A group's row is locked before its jobs are looked at, so that of two last jobs that end at once the
second one sees both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, TextClause, bindparam, select, text

from jobs.core.group import (
    GROUP_CHECK_SECONDS,
    GROUP_KEEP_SECONDS,
    OPEN,
    Group,
    NewGroup,
    callbacks,
    state_at_end,
)
from jobs.core.job import TERMINAL, NewJob, State
from jobs.core.store import Settled, Verdict
from jobs.stores.sql.statements import Statements

Parameters = Callable[..., dict[str, Any]]


class GroupWriter:
    """The groups of one store. ``insert`` and ``settle`` are the store's own, on a connection;
    ``parameters`` adds the namespace and a frozen now."""

    def __init__(
        self,
        statements: Statements,
        parameters: Parameters,
        insert: Callable[[Connection, Sequence[NewJob]], None],
        settle: Callable[..., frozenset[str]],
    ) -> None:
        self.sql = statements.sql
        self.jobs = statements.jobs
        self.tables = statements.tables
        self.table = statements.groups
        self._parameters = parameters
        self._insert = insert
        self._settle = settle
        self._built: dict[str, TextClause] = {}

    # -- settle ------------------------------------------------------------------------------

    def settle(
        self, connection: Connection, verdicts: Sequence[Verdict], *, stalled_only: bool = False
    ) -> Settled:
        """The verdicts still in time, what follows those, and the ends of their groups."""
        locked = self._run(connection, "lock_jobs", ids=sorted(each.id for each in verdicts))
        rows = {row[0]: row[1:] for row in locked}
        held = []
        late: frozenset[str] = frozenset()
        for verdict in verdicts:
            fence, state, _ = rows.get(verdict.id, (None, None, None))
            if fence == verdict.fence and state == State.PROCESSING:
                held.append(verdict)
            elif fence != verdict.fence or not _may_be_of(verdict, state):
                late |= {verdict.id}
        if held:
            late |= self._settle(connection, held, stalled_only=stalled_only)
        written = [verdict for verdict in held if verdict.id not in late]
        inserted = [job for verdict in written for job in verdict.follow]
        self._insert(connection, inserted)
        ended = {
            verdict.group_id
            for verdict in written
            if verdict.group_id is not None and (verdict.state in TERMINAL or rows[verdict.id][2])
        }
        for group_id in sorted(ended):
            inserted += self._check(connection, group_id)
        return Settled(late, tuple(inserted))

    # -- groups ------------------------------------------------------------------------------

    def insert(
        self, connection: Connection, group: NewGroup, jobs: Sequence[NewJob]
    ) -> list[NewJob]:
        """The group and its jobs; returns what its end enqueued if it has none."""
        self._run(connection, "insert", **group._asdict(), seconds=GROUP_CHECK_SECONDS)
        self._insert(connection, jobs)
        return [] if jobs else self._check(connection, group.id)

    def check(
        self, connection: Connection, limit: int, ids: Collection[str] | None
    ) -> list[NewJob]:
        """End the groups of ``ids`` that can be; without, those that are to be looked at."""
        if ids is not None:
            return [job for each in sorted(ids) for job in self._check(connection, each)]
        due = self._run(connection, "due", limit=limit)
        inserted = []
        for group_id, state in sorted((row[0], row[1]) for row in due):
            if state != OPEN:
                self._run(connection, "forget", id=group_id)
                continue
            inserted += self._check(connection, group_id)
            # One that has just ended has another time by now.
            self._run(connection, "later", id=group_id, seconds=GROUP_CHECK_SECONDS)
        return inserted

    def of(self, connection: Connection, job_ids: Collection[str]) -> frozenset[str]:
        """The groups of those jobs."""
        rows = self._run(connection, "of_jobs", ids=sorted(job_ids))
        return frozenset(row[0] for row in rows)

    def _check(self, connection: Connection, group_id: str) -> list[NewJob]:
        rows = self._run(connection, "lock", id=group_id)
        if not rows or rows[0][-1] != OPEN or self._run(connection, "unfinished", id=group_id):
            return []
        group = NewGroup(*rows[0][:-1])
        counts = self._counts(connection, group_id)
        state = state_at_end(counts)
        self._run(connection, "end", id=group_id, state=state, seconds=GROUP_KEEP_SECONDS)
        jobs = callbacks(group, counts)
        self._insert(connection, jobs)
        return jobs

    def _counts(self, connection: Connection, group_id: str) -> dict[str, int]:
        rows = self._run(connection, "counts", id=group_id)
        return {row[0]: int(row[1]) for row in rows}

    def read(self, connection: Connection, group_id: str) -> Group | None:
        """A group with its jobs counted by state."""
        c = self.tables.groups.c
        namespace = self._parameters()["namespace"]
        columns = (c.id, c.tenant, c.name, c.state, c.created_at, c.finished_at)
        wanted = select(*columns).where(c.id == group_id, c.namespace == namespace)
        row = connection.execute(wanted).first()
        if row is None:
            return None
        created_at: datetime = row.created_at
        counts = self._counts(connection, group_id)
        return Group(row.id, row.tenant, row.name, row.state, created_at, row.finished_at, counts)

    # -- statements --------------------------------------------------------------------------

    def _run(self, connection: Connection, which: str, /, **values: Any) -> Sequence[Any]:
        statement = self._built.get(which)
        if statement is None:
            words = self._text(which)
            statement = text(words)
            if ":ids" in words:
                statement = statement.bindparams(bindparam("ids", expanding=True))
            self._built[which] = statement
        done = connection.execute(statement, self._parameters(**values))
        return done.all() if done.returns_rows else ()

    def _text(self, which: str) -> str:
        sql, jobs, groups = self.sql, self.jobs, self.table
        lock = " FOR UPDATE" if sql.concurrent_writers else ""
        skip = f"{lock} SKIP LOCKED" if lock else ""
        here = "namespace = :namespace"
        # By these words the index of a group's jobs offers itself.
        members = f"{here} AND group_id = :id AND group_id IS NOT NULL"
        seconds = sql.later(sql.number("seconds"))
        texts = {
            "lock_jobs": f"SELECT j.id, j.fence, j.state, j.cancel_requested FROM {jobs} j "
            f"{sql.by_key} WHERE j.id IN :ids AND j.namespace = :namespace ORDER BY j.id{lock}",
            "of_jobs": f"SELECT DISTINCT j.group_id FROM {jobs} j {sql.by_key} "
            "WHERE j.id IN :ids AND j.namespace = :namespace AND j.group_id IS NOT NULL",
            "insert": f"INSERT INTO {groups} (id, namespace, tenant, name, state, sealed, "
            "on_success, on_failure, on_done, created_at, check_at) VALUES (:id, :namespace, "
            f":tenant, :name, '{OPEN}', true, :on_success, :on_failure, :on_done, {sql.now}, "
            f"{seconds})",
            "due": f"SELECT id, state FROM {groups} WHERE {here} AND check_at <= {sql.now} "
            f"ORDER BY check_at LIMIT :limit{skip}",
            "lock": "SELECT id, tenant, name, on_success, on_failure, on_done, state "
            f"FROM {groups} WHERE id = :id AND {here}{lock}",
            "unfinished": f"SELECT 1 FROM {jobs} WHERE {members} "
            "AND state IN ('pending', 'processing') LIMIT 1",
            "counts": f"SELECT state, count(*) FROM {jobs} WHERE {members} GROUP BY state",
            "end": f"UPDATE {groups} SET state = :state, finished_at = {sql.now}, "
            f"check_at = {seconds} WHERE id = :id",
            "later": f"UPDATE {groups} SET check_at = {seconds} WHERE id = :id "
            f"AND state = '{OPEN}'",
            "forget": f"DELETE FROM {groups} WHERE id = :id AND state <> '{OPEN}'",
        }
        return texts[which]


def _may_be_of(verdict: Verdict, state: str | None) -> bool:
    """Whether a row that is no longer held may have been written by an earlier try of this."""
    return state == verdict.state or (verdict.state == State.PENDING and state == State.CANCELLED)
