"""Reading: rows as they stand, what is due, ahead and next, and how limits stand."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, TextClause, select

from jobs.core.codec import clean_text
from jobs.core.controls import Control, holds_back
from jobs.core.job import Job, State
from jobs.core.keys import alias_key, may_be_key
from jobs.core.limits import Limits, LimitStatus, LimitUse
from jobs.core.store import Ahead, JobFilter, Standing, ahead_of, standing_at
from jobs.stores.sql import inspect
from jobs.stores.sql.base import StoreBase, may_be_name
from jobs.stores.sql.claim import in_chunks, numbered, wanted_lanes
from jobs.stores.sql.rows import to_job

if TYPE_CHECKING:
    from jobs.stores.sql.browse import Browse


class Reading(StoreBase):
    """Looks and changes nothing."""

    @cached_property
    def _next_dues(self) -> dict[int, TextClause]:
        return {}

    @cached_property
    def _due_counts(self) -> dict[tuple[int, bool], TextClause]:
        return {}

    # -- what is due ---------------------------------------------------------------------------

    def next_due(self, kinds: Collection[str], lanes: Sequence[str] | None = None) -> Ahead:
        def run(connection: Connection) -> Sequence[Any]:
            live = lanes if lanes is not None else self._lanes(connection)
            wanted = wanted_lanes(live, kinds, None)
            statement = self._next_dues.get(len(wanted))
            if statement is None:
                statement = inspect.next_due(self.statements, len(wanted))
                self._next_dues[len(wanted)] = statement
            parameters = self._parameters(**numbered("lane", wanted))
            return connection.execute(statement, parameters).all()

        found = [(what, at) for what, at in self._read(run) if at is not None]
        instants = [(what, self.sql.read_instant(at)) for what, at in found]
        (now,) = (at for what, at in instants if what == "now")
        rows = [at for what, at in instants if what == "row"]
        others = [at for what, at in instants if what in ("lease", "schedule")]
        return ahead_of(rows, others, now)

    def due_count(
        self,
        kinds: Collection[str],
        cap: int,
        lanes: Sequence[str] | None = None,
        *,
        overdue_seconds: float = 0.0,
    ) -> int:
        def run(connection: Connection) -> int:
            live = lanes if lanes is not None else self._lanes(connection)
            wanted = wanted_lanes(live, kinds, None)
            total = 0
            for chunk in in_chunks(wanted):
                if total < cap:
                    total += self._due_in(connection, chunk, cap - total, overdue_seconds)
            return total

        return self._read(run)

    def _due_in(
        self, connection: Connection, lanes: Sequence[str], cap: int, overdue_seconds: float
    ) -> int:
        key = (len(lanes), bool(overdue_seconds))
        statement = self._due_counts.get(key)
        if statement is None:
            texts = self._overdue_statements if overdue_seconds else self.statements
            statement = self._due_counts[key] = inspect.due_count(texts, len(lanes))
        parameters = self._parameters(cap=cap, **numbered("lane", lanes))
        if overdue_seconds:
            parameters["overdue_seconds"] = overdue_seconds
        return int(connection.execute(statement, parameters).scalar_one())

    def ahead(self, job: Job, kinds: Collection[str], cap: int) -> int:
        def run(connection: Connection) -> int:
            lanes = wanted_lanes(self._lanes(connection), kinds, None)
            better = [lane for lane in lanes if int(lane.partition("/")[0]) < job.priority]
            equal = [lane for lane in lanes if int(lane.partition("/")[0]) == job.priority]
            if not better and not equal:
                return 0
            statement = inspect.ahead(self.statements, len(better), len(equal))
            parameters = self._parameters(cap=cap, id=job.id)
            parameters["run_at"] = self.sql.bind_instant(job.run_at)
            parameters |= {**numbered("better", better), **numbered("equal", equal)}
            return int(connection.execute(statement, parameters).scalar_one())

        return self._read(run)

    # -- rows ----------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        if not may_be_name(job_id):
            return None
        return self._read(lambda connection: self._get(connection, job_id))

    def _get(self, connection: Connection, job_id: str) -> Job | None:
        jobs = self.tables.jobs
        statement = select(jobs).where(jobs.c.id == job_id, jobs.c.namespace == self.namespace)
        row = connection.execute(statement).first()
        return None if row is None else to_job(row)

    def id_of(self, alias: str, tenant: str) -> str | None:
        if not may_be_key(alias) or clean_text(tenant) != tenant:
            return None
        key = alias_key(tenant, alias)
        return self._read(lambda connection: self._keys.id_of(connection, key, self._parameters()))

    def standing(self, ids: Collection[str]) -> dict[str, Standing]:
        named = sorted(filter(may_be_name, set(ids)))
        if not named:
            return {}
        parameters = self._parameters(ids=named)
        rows = self._read(
            lambda connection: connection.execute(self.statements.standing, parameters).all()
        )
        instant = self.sql.read_instant
        return {
            row[0]: standing_at(
                row[0],
                row[1],
                row[2],
                row[3],
                instant(row[4]),
                None if row[5] is None else instant(row[5]),
                instant(row[6]),
                paused=bool(row[7]),
            )
            for row in rows
        }

    # -- limits and controls -------------------------------------------------------------------

    def limits_now(self, limits: Limits) -> list[LimitStatus]:
        return self._read(lambda c: self._turns.statuses(c, limits, self._parameters()))

    def limits_of(self, lane: str, limits: Limits) -> list[LimitUse]:
        return self._read(lambda c: self._turns.uses(c, lane, limits, self._parameters()))

    def controls(self) -> list[Control]:
        return self._read(lambda connection: self._controls.listed(connection, self.namespace))

    def paused(self) -> frozenset[str]:
        said = self._read(lambda connection: self._controls.said(connection, self._parameters()))
        return said.paused

    @cached_property
    def _browse(self) -> Browse:
        from jobs.stores.sql.browse import Browse  # late: people look, ticks do not

        return Browse(self.statements)

    # -- lists and counts ----------------------------------------------------------------------

    def list(self, where: JobFilter, limit: int) -> list[Job]:
        return [to_job(row) for row in self._listed(where, limit, ids_only=False)]

    def find(self, where: JobFilter, limit: int) -> builtins.list[str]:
        return [row.id for row in self._listed(where, limit, ids_only=True)]

    def _listed(self, where: JobFilter, limit: int, *, ids_only: bool) -> Sequence[Any]:
        if not may_be_filter(where):
            return []
        more, values = self._browse.conditions(where)
        statement = inspect.listing(self.statements, where, limit, ids_only=ids_only, more=more)
        parameters = self._parameters(**inspect.listing_parameters(where), **values)
        return self._read(lambda connection: connection.execute(statement, parameters).all())

    def counts(self, tenant: str | None = None) -> dict[tuple[str, str, str], int]:
        if tenant is not None and clean_text(tenant) != tenant:
            return {}
        statement = inspect.counts(self.statements, of_tenant=tenant is not None)
        parameters = self._parameters(**({} if tenant is None else {"tenant": tenant}))

        def run(connection: Connection) -> tuple[Sequence[Any], frozenset[str]]:
            rows = connection.execute(statement, parameters).all()
            return rows, self._controls.said(connection, parameters).paused

        rows, paused = self._read(run)
        counted: Counter[tuple[str, str, str]] = Counter()
        for queue, kind, shown, count in rows:
            if shown == State.PENDING and holds_back(paused, queue, kind):
                shown = "paused"
            counted[queue, kind, shown] += int(count)
        return dict(counted)


def may_be_filter(where: JobFilter) -> bool:
    """Whether the database can be asked this at all: what it would refuse finds nothing."""
    names = (where.kind, where.queue, where.before_id, where.after_id or None, where.parent_id)
    texts = (where.tenant, where.error, where.text)
    return all(name is None or may_be_name(name) for name in names) and all(
        text is None or clean_text(text) == text for text in texts
    )
