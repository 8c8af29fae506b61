"""Upkeep: what a tick looks after beside the claim, and its schedules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, TextClause, exc

from jobs.core.chain import Hold
from jobs.core.codec import clean_text
from jobs.core.job import Claimed, NewJob, State
from jobs.core.look import Look
from jobs.core.schedule import Schedule
from jobs.core.store import Due, Unrung
from jobs.stores.sql.base import may_be_name
from jobs.stores.sql.chains import ChainRow
from jobs.stores.sql.controls import live_lanes
from jobs.stores.sql.enqueueing import Enqueueing
from jobs.stores.sql.rings import RingTaker
from jobs.stores.sql.rows import read_stalled
from jobs.stores.sql.schedules import ScheduleTable


class Upkeep(Enqueueing):
    """Lost rows, rows past their keeping, rings, chains and schedules."""

    @cached_property
    def _chain(self) -> ChainRow:
        return ChainRow(self.statements)

    @cached_property
    def _ring_taker(self) -> RingTaker:
        return RingTaker(self.statements)

    @cached_property
    def _schedules(self) -> ScheduleTable:
        return ScheduleTable(self.tables, self.namespace)

    def probe(self, *, rings: bool = False) -> Due:
        beside = "upkeep and rings" if rings else "upkeep"
        live, others = self._read(lambda connection: self._look(connection, beside))
        what = {row[0]: row[1] for row in others if row[0] != "control"}
        lanes, said = live_lanes(live, others)
        return Due(
            stalled="stalled" in what,
            outstayed="outstayed" in what,
            lanes=lanes,
            unrung="unrung" in what,
            groups="groups" in what,
            scheduled="scheduled" in what,
            said=said,
            keys="keys" in what,
            ticks="ticks" in what,
            at=datetime.fromisoformat(what["now"]).replace(tzinfo=UTC),
            alerts=Look(int(what.get("alerts") or 0)),
        )

    def stalled(self, limit: int, ids: Collection[str] | None = None) -> list[Claimed]:
        statement, parameters = self.statements.stalled, self._parameters(limit=limit)
        if ids is not None:
            named = sorted(filter(may_be_name, set(ids)))
            if not named:
                return []
            statement, parameters = self.statements.stalled_of, {**parameters, "ids": named}
        rows = self._read(lambda connection: connection.execute(statement, parameters).all())
        return [read_stalled(row, self.sql) for row in rows]

    # -- chains and rings ----------------------------------------------------------------------

    def hold_chain(self, chain_id: str, *, seconds: float, per_hour: int) -> Hold:
        parameters = self._parameters(chain=chain_id, hold_seconds=seconds, per_hour=per_hour)
        return self._chain.hold(self._write_alone, parameters)

    def free_chain(self, chain_id: str) -> bool:
        return self._chain.free(self._write_alone, self._parameters(chain=chain_id))

    def _write_alone(self, run: Callable[[Connection], Any]) -> Any:
        return self._write(run, alone=True)

    def take_rings(self, limit: int) -> list[Unrung]:
        # On MySQL it locks rows and then takes them, which needs a transaction around both.
        alone = self.sql.name != "mysql"
        return self._write(
            lambda connection: self._ring_taker.take(connection, self._parameters(limit=limit)),
            alone=alone,
        )

    def ring_again(self, ids: Collection[str]) -> None:
        if ids:
            self._count(self.statements.ring_again, ids=sorted(ids))

    # -- rows past their keeping ---------------------------------------------------------------

    def purge(self, limit: int) -> int:
        if self.sql.deletes_by_key:
            return self._delete_found(self.statements.outstayed, limit=limit)
        return self._count(self.statements.purge, limit=limit)

    def purge_keys(self, limit: int) -> int:
        parameters = self._parameters(limit=limit)
        return self._write(lambda connection: self._keys.sweep(connection, parameters))

    def trim(self, kind: str, state: State, keep: int, limit: int) -> int:
        bounds = {"kind": kind, "state": str(state), "keep": keep, "limit": limit}
        if self.sql.deletes_by_key:
            return self._delete_found(self.statements.surplus, **bounds)
        return self._count(self.statements.trim, **bounds)

    def _delete_found(self, find: TextClause, **parameters: Any) -> int:
        def run(connection: Connection) -> int:
            ids = list(connection.execute(find, self._parameters(**parameters)).scalars())
            if not ids:
                return 0
            return connection.execute(self.statements.delete_by_key, {"ids": sorted(ids)}).rowcount

        return self._write(run)

    # -- schedules -----------------------------------------------------------------------------

    def schedules(
        self, tenant: str | None = None, *, source: str | None = None, limit: int = 10_000
    ) -> list[Schedule]:
        if tenant is not None and clean_text(tenant) != tenant:
            return []
        return self._read(lambda c: self._schedules.all(c, tenant, source, limit))

    def get_schedule(self, name: str, tenant: str = "") -> Schedule | None:
        if not may_be_name(name) or clean_text(tenant) != tenant:
            return None
        return self._read(lambda c: self._schedules.one(c, name, tenant))

    def add_schedule(self, schedule: Schedule) -> bool:
        try:
            self._write(lambda c: self._schedules.add(c, schedule), alone=True)
        except exc.IntegrityError:
            return False
        return True

    def replace_schedule(self, before: Schedule, after: Schedule) -> bool:
        return self._write(lambda c: self._schedules.replace(c, before, after), alone=True)

    def remove_schedule(self, name: str, tenant: str = "") -> bool:
        if not may_be_name(name) or clean_text(tenant) != tenant:
            return False
        return self._write(lambda c: self._schedules.remove(c, name, tenant), alone=True)

    def due_schedules(self, kinds: Collection[str], limit: int) -> tuple[datetime, list[Schedule]]:
        def run(connection: Connection) -> tuple[datetime, list[Schedule]]:
            now = self._now(connection)
            return now, self._schedules.due(connection, now, kinds, limit)

        return self._read(run)

    def fire_schedule(
        self, before: Schedule, after: Schedule, jobs: Sequence[NewJob]
    ) -> list[NewJob]:
        change = (before, after)
        try:
            return self._write(
                lambda c: self._schedules.fire(c, self._now(c), change, jobs, self._insert)
            )
        except exc.IntegrityError:
            return []  # another tick has just had the slot

    def next_schedule_at(self) -> datetime | None:
        return self._read(self._schedules.next_at)
