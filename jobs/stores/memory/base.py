"""What every step of the stub needs: its rows under one lock, and how they move."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from jobs.core.access import Change, Token
from jobs.core.alerts import Alert
from jobs.core.clock import Clock, SystemClock
from jobs.core.controls import Control, Said
from jobs.core.errors import CapabilityError
from jobs.core.job import NewJob, State
from jobs.core.measure import Key, Measure, Measures, TickRecord
from jobs.stores.memory.groups import MemoryGroups
from jobs.stores.memory.keys import MemoryKeys
from jobs.stores.memory.limits import MemoryLimits
from jobs.stores.memory.rows import Row
from jobs.stores.memory.schedules import MemorySchedules


@dataclass(slots=True)
class Chain:
    """Who holds the chain of ticks, until when, and how many it began in the hour's window."""

    holder: str | None = None
    until: datetime | None = None
    wanted: bool = False
    window_at: datetime | None = None
    ticks: int = 0


class MemoryRows:
    """Rows by id, unfinished ones also by state. Whoever calls what is private holds the lock."""

    def __init__(self, *, namespace: str = "", clock: Clock | None = None) -> None:
        self.namespace = namespace
        self.clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._rows: dict[str, Row] = {}
        self._pending: dict[str, Row] = {}
        self._processing: dict[str, Row] = {}
        self._groups = MemoryGroups(self._state_of)
        self._chain = Chain()
        self._schedules = MemorySchedules()
        self._controls: dict[str, Control] = {}
        self._keys = MemoryKeys(self._state_of)
        self._limits = MemoryLimits()
        self._tokens: dict[str, Token] = {}
        self._digests: dict[str, str] = {}
        self._changes: dict[str, Change] = {}
        self._ticks: list[TickRecord] = []
        self._minutes: dict[tuple[datetime, Key], Measure] = {}
        self._hours: dict[tuple[datetime, Key], Measure] = {}
        self._totals: Measures = {}
        self._alerts: dict[tuple[str, str], Alert] = {}
        self._alerts_at: datetime | None = None
        self._alerts_busy = False

    def now(self) -> datetime:
        return self.clock.now()

    def _state_of(self, job_id: str) -> State | None:
        row = self._rows.get(job_id)
        return None if row is None else row.state

    def _add(self, job: NewJob) -> Row:
        if job.id in self._rows:
            return self._rows[job.id]  # sent twice: what became of it stands
        row = self._rows[job.id] = self._pending[job.id] = self._row(job, self.now())
        if job.group_id is not None:
            self._groups.join(job.group_id, job.id)
        return row

    def _row(self, job: NewJob, now: datetime) -> Row:
        expires, ring = job.expires_in_seconds, job.ring_after_seconds
        return Row(
            job,
            created_at=now,
            run_at=job.run_at or now + timedelta(seconds=job.delay_seconds),
            expires_at=None if expires is None else now + timedelta(seconds=expires),
            ring_at=None if ring is None else now + timedelta(seconds=ring),
        )

    def _move(self, row: Row, state: State) -> None:
        self._pending.pop(row.new.id, None)
        self._processing.pop(row.new.id, None)
        row.state = state
        if state == State.PENDING:
            self._pending[row.new.id] = row
        elif state == State.PROCESSING:
            self._processing[row.new.id] = row

    def _delete(self, rows: Sequence[Row]) -> int:
        for row in rows:
            del self._rows[row.new.id]
            self._pending.pop(row.new.id, None)
        return len(rows)

    def _end_groups(self, ids: Collection[str]) -> list[NewJob]:
        jobs = self._groups.check_all(ids, self.now())
        for job in jobs:
            self._add(job)
        return jobs

    def _paused(self) -> frozenset[str]:
        return frozenset(each.subject for each in self._controls.values() if each.is_paused)

    def _said(self) -> Said:
        settings = {
            subject: control.settings
            for subject, control in self._controls.items()
            if control.settings is not None
        }
        return Said(self._paused(), settings)

    def _refuse_session(self, session: Any) -> None:
        if session is not None:
            raise CapabilityError(
                "session= needs a SQL store: the in-memory stub has no transactions to join; "
                "set DATABASE_URL (sqlite:///dev.db will do)"
            )
