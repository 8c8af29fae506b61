"""What people look at, and what they do to rows that are there."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import islice

from jobs.core.controls import holds_back
from jobs.core.group import Group
from jobs.core.job import TERMINAL, Claimed, Job, State
from jobs.core.keys import alias_key
from jobs.core.limits import Limits, LimitStatus, LimitUse
from jobs.core.store import (
    CANCELLED_KEEP_SECONDS,
    Board,
    CancelReport,
    Failure,
    JobFilter,
    QueueCount,
    Revival,
    Survey,
    indexed_part,
    needs_looking,
)
from jobs.stores.memory.base import MemoryRows
from jobs.stores.memory.rows import Row, matches, shown_of, to_claimed, to_job

ERROR_CHARS = 500


class People(MemoryRows):
    """Looking and steering."""

    # -- look ----------------------------------------------------------------------------------

    def ahead(self, job: Job, kinds: Collection[str], cap: int) -> int:
        with self._lock:
            now, paused = self.now(), self._paused()
            own = (job.priority, job.run_at, job.id)
            better = (
                row
                for row in self._pending.values()
                if row.order < own
                and row.run_at <= now
                and row.new.kind in kinds
                and not holds_back(paused, row.new.queue, row.new.kind)
            )
            return sum(1 for _ in islice(better, cap))

    def due_count(
        self,
        kinds: Collection[str],
        cap: int,
        lanes: Sequence[str] | None = None,
        *,
        overdue_seconds: float = 0.0,
    ) -> int:
        with self._lock:
            by, paused = self.now() - timedelta(seconds=overdue_seconds), self._paused()
            due = sum(
                1
                for row in self._pending.values()
                if row.run_at <= by
                and row.new.kind in kinds
                and not holds_back(paused, row.new.queue, row.new.kind)
            )
            return min(due, cap)

    def group(self, group_id: str) -> Group | None:
        with self._lock:
            return self._groups.read(group_id)

    def groups_of(self, ids: Collection[str]) -> frozenset[str]:
        with self._lock:
            rows = (self._rows.get(job_id) for job_id in ids)
            found = {None if row is None else row.new.group_id for row in rows}
            return frozenset(group_id for group_id in found if group_id is not None)

    def get(self, job_id: str) -> Job | None:
        with self._lock:
            row = self._rows.get(job_id)
            return None if row is None else to_job(row)

    def id_of(self, alias: str, tenant: str) -> str | None:
        with self._lock:
            return self._keys.id_of(alias_key(tenant, alias))

    def list(self, where: JobFilter, limit: int) -> list[Job]:
        with self._lock:
            return [to_job(row) for row in self._found(where)[:limit]]

    def _found(self, where: JobFilter) -> builtins.list[Row]:
        return self._chosen(where)[0]

    def _chosen(self, where: JobFilter) -> tuple[builtins.list[Row], str | None]:
        """The rows, and the id where the window ended, if it did."""
        now, paused = self.now(), self._paused()
        if where.window is None or not needs_looking(where):
            rows = [row for row in self._rows.values() if matches(row, where, now, paused)]
            rows.sort(key=lambda row: row.new.id, reverse=where.after_id is None)
            return rows, None
        indexed = {state: indexed_part(where, state) for state in where.states}
        rows = [
            row
            for row in self._rows.values()
            if row.state in indexed and matches(row, indexed[row.state], now)
        ]
        rows.sort(key=lambda row: row.new.id, reverse=where.after_id is None)
        seen = rows[: where.window]
        until = seen[-1].new.id if seen and len(seen) >= where.window else None
        return [row for row in seen if matches(row, where, now, paused)], until

    def survey(self, where: JobFilter, cap: int) -> Survey:
        with self._lock:
            if where.window is None:
                where = where._replace(window=cap)
            found, until = self._chosen(where)
            return Survey(min(len(found), cap), len(found) > cap, until)

    def failures(self, limit: int, tenant: str | None = None) -> builtins.list[Failure]:
        with self._lock:
            failed = self._found(JobFilter(state=State.FAILED, tenant=tenant))
            return [
                Failure(
                    *(row.new.id, row.new.kind, row.new.queue, row.new.tenant),
                    *(row.attempts, row.finished_at, (row.error or "")[:ERROR_CHARS]),
                )
                for row in failed[:limit]
            ]

    def board(self, cap: int, tenant: str | None = None, *, completed: bool = False) -> Board:
        with self._lock:
            now, paused = self.now(), self._paused()
            rows = [
                (row, shown_of(row, now, paused))
                for row in self._rows.values()
                if (completed or row.state is not State.COMPLETED)
                and tenant in (None, row.new.tenant)
            ]
            counted = Counter((row.new.queue, shown) for row, shown in rows)
            oldest: dict[tuple[str, str], datetime] = {}
            for row, shown in rows:
                if shown in ("pending", "paused"):
                    key = row.new.queue, shown
                    oldest[key] = min(row.run_at, oldest.get(key, row.run_at))
            counts = tuple(
                QueueCount(*key, min(count, cap), count > cap, oldest.get(key))
                for key, count in sorted(counted.items())
            )
            return Board(now, counts, paused)

    def counts(self, tenant: str | None = None) -> dict[tuple[str, str, str], int]:
        with self._lock:
            now, paused = self.now(), self._paused()
            return dict(
                Counter(
                    (
                        row.new.queue,
                        row.new.kind,
                        shown_of(row, now, paused),
                    )
                    for row in self._rows.values()
                    if tenant in (None, row.new.tenant)
                )
            )

    def cancel(self, job_id: str) -> CancelReport | None:
        with self._lock:
            row = self._rows.get(job_id)
            if row is None:
                return None
            accepted = row.state not in TERMINAL
            if row.state == State.PROCESSING and row.started_at is not None:
                row.cancel_requested = True
            elif accepted:
                now = self.now()
                row.error, row.finished_at, row.lease_until = "cancelled", now, None
                row.keep_until = now + timedelta(seconds=CANCELLED_KEEP_SECONDS)
                self._move(row, State.CANCELLED)
            return CancelReport(to_job(row), accepted)

    def discard(self, job: Job, error: str, errors: str, keep_seconds: float | None) -> bool:
        with self._lock:
            row = self._pending.get(job.id)
            if row is None or row.fence != job.fence:
                return False
            row.error, row.errors, row.finished_at = error, errors, self.now()
            if keep_seconds is not None:
                row.keep_until = row.finished_at + timedelta(seconds=keep_seconds)
            self._move(row, State.FAILED)
            return True

    def clear(self) -> int:
        with self._lock:
            total = len(self._rows)
            self._limits.clear()
            for rows in (self._rows, self._pending, self._processing):
                rows.clear()
            self._groups.clear()
            self._keys.clear()
            return total

    def limits_now(self, limits: Limits) -> builtins.list[LimitStatus]:
        with self._lock:
            running = [row.lane for row in self._processing.values()]
            return self._limits.statuses(limits, running, self.now())

    def limits_of(self, lane: str, limits: Limits) -> builtins.list[LimitUse]:
        with self._lock:
            running = [row.lane for row in self._processing.values()]
            return self._limits.uses(lane, limits, running, self.now())

    def reset_breaker(self, name: str) -> bool:
        with self._lock:
            return self._limits.states.pop(name, None) is not None

    # -- what people do to many rows -----------------------------------------------------------

    def find(self, where: JobFilter, limit: int) -> builtins.list[str]:
        with self._lock:
            return [row.new.id for row in self._found(where)[:limit]]

    def cancel_many(self, ids: Collection[str]) -> int:
        with self._lock:
            live = [job_id for job_id in ids if self._is_live(job_id)]
            for job_id in live:
                self.cancel(job_id)
            return len(live)

    def _is_live(self, job_id: str) -> bool:
        return job_id in self._pending or job_id in self._processing

    def remove(
        self,
        ids: Collection[str],
        states: Collection[State],
        *,
        ended_for_seconds: float | None = None,
    ) -> int:
        with self._lock:
            by = None
            if ended_for_seconds is not None:
                by = self.now() - timedelta(seconds=ended_for_seconds)
            rows = [
                row
                for job_id in set(ids)
                if (row := self._rows.get(job_id)) is not None
                and row.state in states
                and row.state is not State.PROCESSING
                and (by is None or self._ended_by(row, by))
            ]
            return self._delete(rows)

    def _ended_by(self, row: Row, by: datetime) -> bool:
        ended = row.finished_at is not None and row.finished_at <= by
        return ended and not self._groups.is_open(row.new.group_id)

    def revive(
        self,
        revivals: Sequence[Revival],
        *,
        run_at: datetime | None = None,
        refused: dict[str, str] | None = None,
    ) -> int:
        refused = {} if refused is None else refused
        with self._lock:
            return sum(self._revive(revival, run_at, refused) for revival in revivals)

    def _revive(self, revival: Revival, run_at: datetime | None, refused: dict[str, str]) -> bool:
        job, now = revival.job, self.now()
        row = self._rows.get(job.id)
        if row is None or (row.state, row.fence) != (job.state, job.fence):
            return False
        if row.state is State.PROCESSING:
            return False
        if row.state in TERMINAL:
            holder = self._keys.retake(job, now)
            if holder is not None:
                refused[job.id] = holder
                return False
            row.attempts, row.result, row.finished_at, row.keep_until = 0, None, None, None
            row.started_at = row.expires_at = row.progress_note = row.duration_ms = None
            row.progress, row.cancel_requested, row.continues = 0.0, False, 0
        due_at = now + timedelta(seconds=revival.delay_seconds)
        if job.state is State.PENDING:  # only brought forward: one that is due keeps its place
            due_at = min(row.run_at, due_at)
        row.run_at = run_at or due_at
        row.errors = revival.errors or row.errors
        if revival.max_attempts is not None:
            row.new = row.new._replace(max_attempts=revival.max_attempts)
        if revival.ring_after_seconds is not None:
            row.ring_at = now + timedelta(seconds=revival.ring_after_seconds)
        self._move(row, State.PENDING)
        return True

    def stuck(self, running_for_seconds: float, limit: int) -> builtins.list[Claimed]:
        with self._lock:
            now = self.now()
            by = now - timedelta(seconds=running_for_seconds)
            started = [
                (row.started_at, row.new.id, row)
                for row in self._processing.values()
                if row.started_at is not None and row.started_at <= by
            ]
            return [to_claimed(row, now) for *_, row in sorted(started)[:limit]]
