"""Schedules in SQL: rows to read and to change, and the one transaction that fires a slot."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, func, insert, select, update

from jobs.core.codec import decode, encode
from jobs.core.job import NewJob
from jobs.core.schedule import SEEN, Schedule, slot_name
from jobs.core.store import SLOT_HELD_SECONDS
from jobs.stores.sql.tables import Tables

SLOT_SCOPE = "slot"
_KEPT = ("namespace", "tenant", "name", "source", "created_at")
_NO_LIMIT = 1 << 31


class ScheduleTable:
    """The schedules of one namespace, over a connection that the store gives."""

    def __init__(self, tables: Tables, namespace: str) -> None:
        self.table: Table = tables.schedules
        self.keys: Table = tables.keys
        self.namespace = namespace

    # -- read ----------------------------------------------------------------------------------

    def all(
        self, connection: Connection, tenant: str | None, source: str | None, limit: int
    ) -> list[Schedule]:
        c = self.table.c
        statement = select(self.table).where(c.namespace == self.namespace)
        for column, wanted in ((c.tenant, tenant), (c.source, source)):
            if wanted is not None:
                statement = statement.where(column == wanted)
        rows = connection.execute(statement.order_by(c.tenant, c.name).limit(limit))
        return [_to_schedule(row) for row in rows]

    def one(self, connection: Connection, name: str, tenant: str) -> Schedule | None:
        row = connection.execute(select(self.table).where(self._is(tenant, name))).first()
        return None if row is None else _to_schedule(row)

    def due(
        self, connection: Connection, now: datetime, kinds: Collection[str], limit: int
    ) -> list[Schedule]:
        c = self.table.c
        statement = (
            select(self.table)
            .where(c.namespace == self.namespace, c.next_at <= now, c.kind.in_(sorted(kinds)))
            .order_by(c.next_at)
            .limit(limit)
        )
        return [_to_schedule(row) for row in connection.execute(statement)]

    def next_at(self, connection: Connection) -> datetime | None:
        c = self.table.c
        earliest = select(func.min(c.next_at)).where(c.namespace == self.namespace)
        found: datetime | None = connection.execute(earliest).scalar_one()
        return found

    # -- write ---------------------------------------------------------------------------------

    def add(self, connection: Connection, schedule: Schedule) -> None:
        """Insert; the database refuses a name that is taken."""
        values = {"namespace": self.namespace, **_to_row(schedule)}
        connection.execute(insert(self.table).values(values))

    def replace(self, connection: Connection, before: Schedule, after: Schedule) -> bool:
        c = self.table.c
        unchanged = [
            c[name].is_(None) if value is None else c[name] == value
            for name, value in ((name, getattr(before, name)) for name in SEEN)
        ]
        values = {name: value for name, value in _to_row(after).items() if name not in _KEPT}
        statement = update(self.table).where(self._is(*before.key), *unchanged).values(values)
        return connection.execute(statement).rowcount == 1

    def remove(self, connection: Connection, name: str, tenant: str) -> bool:
        return connection.execute(delete(self.table).where(self._is(tenant, name))).rowcount == 1

    def fire(
        self,
        connection: Connection,
        now: datetime,
        change: tuple[Schedule, Schedule],
        jobs: Sequence[NewJob],
        insert_jobs: Callable[[Connection, Sequence[NewJob]], None],
    ) -> list[NewJob]:
        """Replace the row, hold the slots, insert their jobs; the caller's transaction decides.

        Of two that are here at once the second finds the row changed. Where that cannot be seen
        (it was removed and made anew) the key of the slot is refused, and all is rolled back.
        """
        before, after = change
        held = self._held(connection, jobs)
        fresh = [job for job in jobs if slot_name(job) not in held]
        if not self.replace(connection, before, _with_last(after, fresh)):
            return []
        if fresh:
            until = now + timedelta(seconds=SLOT_HELD_SECONDS)
            connection.execute(
                insert(self.keys),
                [
                    {**self._slot(job), "job_id": job.id, "held_until": until, "check_at": until}
                    for job in fresh
                ],
            )
            insert_jobs(connection, fresh)
        return fresh

    def _held(self, connection: Connection, jobs: Sequence[NewJob]) -> set[str]:
        if not jobs:
            return set()
        c = self.keys.c
        statement = select(c.name).where(
            c.namespace == self.namespace,
            c.scope == SLOT_SCOPE,
            c.tenant == jobs[0].tenant,
            c.name.in_([slot_name(job) for job in jobs]),
        )
        return set(connection.execute(statement).scalars())

    def _slot(self, job: NewJob) -> dict[str, Any]:
        return {
            "namespace": self.namespace,
            "scope": SLOT_SCOPE,
            "tenant": job.tenant,
            "name": slot_name(job),
        }

    def _is(self, tenant: str, name: str) -> ColumnElement[bool]:
        c = self.table.c
        return and_(c.namespace == self.namespace, c.tenant == tenant, c.name == name)


def _with_last(after: Schedule, fresh: Sequence[NewJob]) -> Schedule:
    return after.with_last_job(fresh[-1].id) if fresh else after


def _to_row(schedule: Schedule) -> dict[str, Any]:
    values = {name: getattr(schedule, name) for name in Schedule.__struct_fields__}
    values["payload"] = encode(schedule.payload, _NO_LIMIT)
    values["options"] = encode(schedule.options, _NO_LIMIT) if schedule.options else None
    return values


def _to_schedule(row: Any) -> Schedule:
    values = {name: getattr(row, name) for name in Schedule.__struct_fields__}
    values["payload"] = decode(row.payload)
    values["options"] = decode(row.options) if row.options else {}
    values["enabled"] = bool(row.enabled)
    return Schedule(**values)
