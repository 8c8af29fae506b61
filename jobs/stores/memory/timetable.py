"""The schedules, under the store's lock."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from jobs.core.job import NewJob
from jobs.core.schedule import Schedule
from jobs.stores.memory.base import MemoryRows


class Timetable(MemoryRows):
    """Schedules: what becomes of them is in :mod:`jobs.stores.memory.schedules`."""

    def schedules(
        self, tenant: str | None = None, *, source: str | None = None, limit: int = 10_000
    ) -> list[Schedule]:
        with self._lock:
            return self._schedules.all(tenant, source, limit)

    def get_schedule(self, name: str, tenant: str = "") -> Schedule | None:
        with self._lock:
            return self._schedules.one(name, tenant)

    def add_schedule(self, schedule: Schedule) -> bool:
        with self._lock:
            return self._schedules.add(schedule)

    def replace_schedule(self, before: Schedule, after: Schedule) -> bool:
        with self._lock:
            return self._schedules.replace(before, after)

    def remove_schedule(self, name: str, tenant: str = "") -> bool:
        with self._lock:
            return self._schedules.remove(name, tenant)

    def due_schedules(self, kinds: Collection[str], limit: int) -> tuple[datetime, list[Schedule]]:
        with self._lock:
            now = self.now()
            return now, self._schedules.due(now, kinds, limit)

    def fire_schedule(
        self, before: Schedule, after: Schedule, jobs: Sequence[NewJob]
    ) -> list[NewJob]:
        with self._lock:
            fresh = self._schedules.fire(self.now(), before, after, jobs)
            for job in fresh:
                self._add(job)
            return fresh

    def next_schedule_at(self) -> datetime | None:
        with self._lock:
            return self._schedules.next_at()
