"""The stub: rows in this process's memory. No dependency, thread-safe, gone at exit."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from jobs.core.controls import holds_back
from jobs.core.errors import CapabilityError
from jobs.core.group import NewGroup
from jobs.core.job import Claimed, Job, NewJob, State
from jobs.core.keys import is_keyed
from jobs.core.limits import Head, Limits, Tally, key_label
from jobs.core.store import Capability, Settled, StoreTransaction, Touch, TouchReport, Verdict
from jobs.stores.memory.access import Access
from jobs.stores.memory.alerting import Alerting
from jobs.stores.memory.controls import Controls
from jobs.stores.memory.people import People
from jobs.stores.memory.records import Records
from jobs.stores.memory.rows import Row, is_outlived, is_stalled, to_claimed, to_job
from jobs.stores.memory.timetable import Timetable
from jobs.stores.memory.upkeep import Upkeep


class MemoryStore(People, Upkeep, Timetable, Controls, Records, Alerting, Access):
    """Rows by id under one lock; unfinished ones also by state, so that history costs nothing."""

    capabilities: frozenset[Capability] = frozenset({Capability.CONCURRENT_WRITERS})

    def create_schema(self) -> None:
        return None

    def check_schema(self) -> None:
        return None

    # -- enqueue -------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob], session: Any = None) -> list[Job]:
        self._refuse_session(session)
        with self._lock:
            return [self._add_or_find(job) for job in jobs]

    def insert_many(
        self,
        jobs: Iterable[NewJob],
        session: Any = None,
        *,
        existing: dict[str, str] | None = None,
    ) -> int:
        self._refuse_session(session)
        # All or nothing: a generator that fails half-way leaves no row.
        ready = list(jobs)
        found: dict[str, str] = {}
        with self._lock:
            for job in ready:
                holder = self._holder(job) if is_keyed(job) else None
                if holder is None:
                    self._add(job)
                else:
                    found[job.id] = holder
        if existing is not None:
            existing.update(found)
        return len(ready) - len(found)

    def _add_or_find(self, job: NewJob) -> Job:
        holder = self._holder(job) if is_keyed(job) else None
        if holder is None:
            return to_job(self._add(job))
        row = self._rows.get(holder)
        if row is not None:
            return replace(to_job(row), existing=True)
        # Its row is gone and its window runs on: nothing but its id is known.
        shown = to_job(self._row(job, self.now()))
        return replace(shown, id=holder, state=State.COMPLETED, existing=True)

    def _holder(self, job: NewJob) -> str | None:
        """The other job that has one of its names; else they are its own now."""
        if job.id in self._rows:
            return None
        holder = self._keys.take(job, self.now())
        waiting = None if holder is None else self._pending.get(holder)
        if waiting is not None and job.replaces:
            self._replace(waiting, job)
        return holder

    def _replace(self, row: Row, job: NewJob) -> None:
        now = self.now()
        if "payload" in job.replaces:
            row.new = row.new._replace(payload=job.payload, version=job.version)
        if "priority" in job.replaces:
            row.new = row.new._replace(priority=job.priority)
        if "run_at" in job.replaces:
            row.run_at = job.run_at or now + timedelta(seconds=job.delay_seconds)
            if job.debounce_max_seconds is not None:
                latest = row.created_at + timedelta(seconds=job.debounce_max_seconds)
                row.run_at = min(row.run_at, latest)
            if job.ring_after_seconds is not None:
                row.ring_at = now + timedelta(seconds=job.ring_after_seconds)

    async def ainsert(self, jobs: Sequence[NewJob], session: Any) -> list[Job]:
        return self.insert(jobs, session)

    def insert_group(
        self, group: NewGroup, jobs: Sequence[NewJob], session: Any = None
    ) -> list[NewJob]:
        self._refuse_session(session)
        with self._lock:
            self._groups.add(group, self.now())
            for job in jobs:
                self._add(job)
            return [] if jobs else self._end_groups([group.id])

    def after_commit(
        self, session: Any, tell: Callable[[list[Any]], None], items: Sequence[Any]
    ) -> None:
        self._refuse_session(session)

    # -- claim, settle, touch ------------------------------------------------------------------

    def claim(
        self,
        limit: int,
        *,
        kinds: Collection[str],
        lease_seconds: float,
        mark: int = 0,
        ids: Collection[str] | None = None,
        queues: Collection[str] | None = None,
        lanes: Sequence[str] | None = None,
        overdue_seconds: float = 0.0,
        limits: Limits | None = None,
    ) -> list[Claimed]:
        with self._lock:
            now, paused = self.now(), self._paused()
            due_by = now - timedelta(seconds=overdue_seconds)
            due = [
                row
                for row in self._candidates(ids)
                if row.run_at <= due_by
                and row.new.kind in kinds
                and (queues is None or row.new.queue in queues)
                and not holds_back(paused, row.new.queue, row.new.kind)
            ]
            if limits or any(row.new.flow for row in due):
                places = mark if mark and ids is None else None
                due = self._in_turns(due, limit, limits or Limits(), now, places)
            best = heapq.nsmallest(max(limit, 0), due, key=lambda row: row.order)
            lease_until = now + timedelta(seconds=lease_seconds)
            return [
                self._take(row, now, lease_until, place < mark) for place, row in enumerate(best)
            ]

    def _in_turns(
        self, due: list[Row], limit: int, limits: Limits, now: datetime, places: int | None
    ) -> list[Row]:
        for row in due:
            new = row.new
            if new.flow and new.kind in limits.keys:
                self._limits.label(
                    f"key/{new.kind}/{new.flow}", key_label(new.tenant, new.concurrency_key)
                )
        chosen = self._limits.choose(
            (Head(row.run_at, row.new.id, row.lane) for row in due),
            limit,
            limits,
            running=[row.lane for row in self._processing.values()],
            now=now,
            places=places,
        )
        return [self._pending[job_id] for job_id in chosen]

    def _candidates(self, ids: Collection[str] | None) -> Iterable[Row]:
        if ids is None:
            return self._pending.values()
        return [self._pending[job_id] for job_id in dict.fromkeys(ids) if job_id in self._pending]

    def _take(self, row: Row, now: datetime, lease_until: datetime, marked: bool) -> Claimed:
        row.fence += 1
        row.attempts += 1
        row.lease_until = lease_until
        row.started_at = now if marked else None
        self._move(row, State.PROCESSING)
        return to_claimed(row, now)

    def settle(self, verdicts: Sequence[Verdict], *, stalled_only: bool = False) -> frozenset[str]:
        late = set()
        with self._lock:
            now = self.now()
            for verdict in verdicts:
                row = self._held(verdict.id, verdict.fence)
                held = row is not None and not (stalled_only and not is_stalled(row, now))
                if row is None or not held or is_outlived(row, verdict, now):
                    late.add(verdict.id)
                else:
                    self._write(row, verdict, now)
        return frozenset(late)

    def settle_more(self, verdicts: Sequence[Verdict], *, stalled_only: bool = False) -> Settled:
        with self._lock:
            late = self.settle(verdicts, stalled_only=stalled_only)
            written = [verdict for verdict in verdicts if verdict.id not in late]
            inserted = [job for verdict in written for job in verdict.follow]
            for job in inserted:
                self._add(job)
            groups = {verdict.group_id for verdict in written if verdict.group_id is not None}
            inserted += self._end_groups(groups)
            return Settled(late, tuple(inserted))

    def _held(self, job_id: str, fence: int) -> Row | None:
        row = self._processing.get(job_id)
        return row if row is not None and row.fence == fence else None

    def _write(self, row: Row, verdict: Verdict, now: datetime) -> None:
        pending = verdict.state == State.PENDING
        stopped = pending and row.cancel_requested
        ends = stopped or not pending
        row.result = verdict.result
        if pending:
            row.error = verdict.error or row.error or ("cancelled" if stopped else None)
        else:
            row.error = verdict.error
        row.errors = verdict.errors or row.errors
        row.attempts -= verdict.attempts_back
        if pending and verdict.delay_seconds is not None:
            row.run_at = now + timedelta(seconds=verdict.delay_seconds)
        if verdict.ring_after_seconds is not None:
            row.ring_at = now + timedelta(seconds=verdict.ring_after_seconds)
        row.finished_at = now if ends else None
        keep = verdict.keep_seconds
        row.keep_until = now + timedelta(seconds=keep) if ends and keep is not None else None
        row.started_at = row.started_at if ends else None
        row.lease_until = None
        row.cursor = row.cursor if verdict.cursor is None else verdict.cursor
        row.continues += verdict.continue_within_seconds is not None
        if verdict.duration_ms is not None:
            row.duration_ms = verdict.duration_ms
        self._note_progress(row, verdict.progress, verdict.progress_note)
        self._move(row, State.CANCELLED if stopped else State(verdict.state))

    def touch(self, touches: Sequence[Touch], *, lease_seconds: float | None = None) -> TouchReport:
        lost, cancelled = set(), set()
        with self._lock:
            now = self.now()
            for touch in touches:
                row = self._held(touch.id, touch.fence)
                if row is None:
                    lost.add(touch.id)
                    continue
                if touch.started is not None:
                    row.started_at = now if touch.started else None
                if lease_seconds is not None:
                    row.lease_until = now + timedelta(seconds=lease_seconds)
                self._note_progress(row, touch.progress, touch.progress_note)
                row.cursor = row.cursor if touch.cursor is None else touch.cursor
                if row.cancel_requested:
                    cancelled.add(touch.id)
        return TouchReport(frozenset(lost), frozenset(cancelled))

    def _note_progress(self, row: Row, percent: float | None, note: str | None) -> None:
        if percent is not None:
            row.progress = percent
        if note is not None:
            row.progress_note = note

    def note_results(self, results: Sequence[Tally]) -> None:
        with self._lock:
            self._limits.note(results, self.now())

    def transaction(self) -> AbstractContextManager[StoreTransaction]:
        raise CapabilityError(
            "transactional handlers need a SQL store: set DATABASE_URL (sqlite:///dev.db will do)"
        )

    def writer_busy(self) -> bool:
        return False

    def close(self) -> None:
        return None
