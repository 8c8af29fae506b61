"""The stub's schedules; whoever holds the store's lock may ask."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from jobs.core.job import NewJob
from jobs.core.schedule import Schedule, slot_name
from jobs.core.store import SLOT_HELD_SECONDS


class MemorySchedules:
    """Rows by tenant and name, and the slots that have had their job."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Schedule] = {}
        self._held: dict[tuple[str, str], datetime] = {}

    def all(self, tenant: str | None, source: str | None, limit: int) -> list[Schedule]:
        found = (
            row
            for _, row in sorted(self._rows.items())
            if (tenant is None or row.tenant == tenant) and (source is None or row.source == source)
        )
        return [row for row, _ in zip(found, range(limit), strict=False)]

    def one(self, name: str, tenant: str) -> Schedule | None:
        return self._rows.get((tenant, name))

    def is_due(self, now: datetime) -> bool:
        return any(row.next_at is not None and row.next_at <= now for row in self._rows.values())

    def after(self, now: datetime) -> list[datetime]:
        return [row.next_at for row in self._rows.values() if row.next_at and row.next_at > now]

    def due(self, now: datetime, kinds: Collection[str], limit: int) -> list[Schedule]:
        found = [
            (row.next_at, row)
            for row in self._rows.values()
            if row.next_at is not None and row.next_at <= now and row.kind in kinds
        ]
        found.sort(key=lambda each: each[0])
        return [row for _, row in found[:limit]]

    def next_at(self) -> datetime | None:
        return min((row.next_at for row in self._rows.values() if row.next_at), default=None)

    def add(self, schedule: Schedule) -> bool:
        if schedule.key in self._rows:
            return False
        self._rows[schedule.key] = schedule
        return True

    def replace(self, before: Schedule, after: Schedule) -> bool:
        present = self._rows.get(before.key)
        if present is None or not present.is_as_seen(before):
            return False
        self._rows[before.key] = replace(after, source=before.source, created_at=before.created_at)
        return True

    def remove(self, name: str, tenant: str) -> bool:
        return self._rows.pop((tenant, name), None) is not None

    def fire(
        self, now: datetime, before: Schedule, after: Schedule, jobs: Sequence[NewJob]
    ) -> list[NewJob]:
        """The jobs that are to be inserted; their slots are held from here on."""
        self._held = {slot: until for slot, until in self._held.items() if until > now}
        fresh = [job for job in jobs if (job.tenant, slot_name(job)) not in self._held]
        if not self.replace(before, after.with_last_job(fresh[-1].id) if fresh else after):
            return []
        until = now + timedelta(seconds=SLOT_HELD_SECONDS)
        self._held.update(((job.tenant, slot_name(job)), until) for job in fresh)
        return fresh
