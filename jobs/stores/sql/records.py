"""Records of ticks, measures, and how deep the queues are: what a person or a watch asks for."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, exc

from jobs.core.codec import clean_text
from jobs.core.controls import holds_back
from jobs.core.measure import Bucket, Depth, Measures, TickRecord, in_buckets
from jobs.core.store import KEPT_TICKS
from jobs.stores.sql import inspect
from jobs.stores.sql.base import may_be_name
from jobs.stores.sql.claim import in_chunks
from jobs.stores.sql.controls import read_said
from jobs.stores.sql.reading import Reading
from jobs.stores.sql.ticks import TickTable


class Records(Reading):
    """The records of one store."""

    @cached_property
    def _ticks(self) -> TickTable:
        return TickTable(self.statements, self.namespace)

    def record_tick(self, record: TickRecord) -> None:
        parameters = self._parameters(**self._ticks.values(record))
        try:
            self._write(lambda c: c.execute(self._ticks.record, parameters), alone=True)
        except exc.IntegrityError:
            return  # an earlier try committed though its answer was lost

    def ticks(
        self,
        limit: int,
        *,
        before: tuple[datetime, str] | None = None,
        triggers: Collection[str] | None = None,
    ) -> builtins.list[TickRecord]:
        return self._read(lambda c: self._ticks.listed(c, limit, before, triggers))

    def last_tick(self) -> TickRecord | None:
        found = self.ticks(1)
        return found[0] if found else None

    def fold_ticks(self, limit: int, *, keep: int = KEPT_TICKS) -> int:
        folded = self._write(lambda c: self._ticks.fold(c, limit, keep))
        if folded:
            self._write(lambda c: self._ticks.compact(c, self._now(c)))
        return folded

    def measures(
        self,
        since_seconds: float,
        bucket_seconds: float,
        *,
        tenant: str | None = None,
        queue: str | None = None,
        kind: str | None = None,
    ) -> builtins.list[Bucket]:
        if tenant is not None and clean_text(tenant) != tenant:
            return []
        if not all(name is None or may_be_name(name) for name in (queue, kind)):
            return []
        parameters = self._parameters(since_seconds=since_seconds)
        measured = self._read(
            lambda c: self._ticks.measured(
                c, parameters, bucket_seconds, tenant=tenant, queue=queue, kind=kind
            )
        )
        return in_buckets(measured, bucket_seconds)

    def totals(self) -> Measures:
        return self._read(lambda c: self._ticks.totals(c, self._parameters()))

    # -- depths --------------------------------------------------------------------------------

    def depths(self, cap: int) -> builtins.list[Depth]:
        def run(connection: Connection) -> tuple[builtins.list[Any], Sequence[Any], Any]:
            lanes, beside = self._look(connection, "said")
            said = read_said(row[1] for row in beside if row[0] == "control")
            bases = sorted({inspect.base_of(lane) for lane in lanes})
            parameters = self._parameters(cap=cap)
            waiting: builtins.list[Any] = []
            for chunk in in_chunks(bases):
                statement = inspect.depths(self.statements, len(chunk))
                named = inspect.depths_parameters(chunk)
                waiting += connection.execute(statement, {**parameters, **named}).all()
            running = connection.execute(inspect.running(self.statements), parameters).all()
            return waiting, running, said.paused

        waiting, running, paused = self._read(run)
        total: dict[tuple[str, str, str], tuple[int, float]] = {}

        def add(queue: str, kind: str, state: str, count: int, oldest: float = 0.0) -> None:
            if count:
                before = total.get((queue, kind, state), (0, 0.0))
                total[queue, kind, state] = before[0] + count, max(before[1], oldest)

        instant = self.sql.read_instant
        for base, first, count, due, now in waiting:
            _, queue, kind, _ = base.split("/", 3)
            state = "paused" if holds_back(paused, queue, kind) else "pending"
            due = int(due or 0)
            oldest = (instant(now) - instant(first)).total_seconds() if due else 0.0
            add(queue, kind, state, due, max(oldest, 0.0))
            add(queue, kind, "delayed", int(count) - due)
        for queue, kind, count, stalled, first, now in running:
            stalled = int(stalled or 0)
            over = (instant(now) - instant(first)).total_seconds() if stalled else 0.0
            add(queue, kind, "processing", int(count) - stalled)
            add(queue, kind, "stalled", stalled, max(over, 0.0))
        return [Depth(*key, *total[key]) for key in sorted(total)]

    def failed_counts(self, kinds: Collection[str], cap: int) -> dict[str, int]:
        named = sorted(kind for kind in set(kinds) if may_be_name(kind))

        def run(connection: Connection) -> dict[str, int]:
            found: dict[str, int] = {}
            for chunk in in_chunks(named):
                statement = inspect.failed_counts(self.statements, len(chunk))
                kinds_named = {f"kind_{n}": kind for n, kind in enumerate(chunk)}
                rows = connection.execute(statement, self._parameters(cap=cap, **kinds_named))
                found.update({chunk[int(place)]: int(count) for place, count in rows if count})
            return found

        return self._read(run) if named else {}
