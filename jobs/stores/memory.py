"""The stub: rows in this process's memory. No dependency, thread-safe, gone at exit."""

from __future__ import annotations

import builtins
import heapq
import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from jobs.core.chain import Hold
from jobs.core.clock import Clock, SystemClock
from jobs.core.codec import decode
from jobs.core.controls import Control, Said, changed_settings, holds_back, open_lanes
from jobs.core.errors import CapabilityError
from jobs.core.group import Group, NewGroup
from jobs.core.job import TERMINAL, Claimed, Job, NewJob, State, shown_state
from jobs.core.keys import alias_key, is_keyed
from jobs.core.limits import Head, Limits, LimitStatus, LimitUse, Tally, key_label
from jobs.core.ring import LONGEST_RING_AGAIN_SECONDS, RING_AGAIN_SECONDS
from jobs.core.schedule import Schedule, read_slot
from jobs.core.store import (
    CANCELLED_KEEP_SECONDS,
    Ahead,
    CancelReport,
    Capability,
    Due,
    JobFilter,
    Revival,
    Settled,
    Standing,
    StoreTransaction,
    Touch,
    TouchReport,
    Unrung,
    Verdict,
    ahead_of,
    standing_at,
)
from jobs.stores.memory_groups import MemoryGroups
from jobs.stores.memory_keys import MemoryKeys
from jobs.stores.memory_limits import MemoryLimits
from jobs.stores.memory_schedules import MemorySchedules


@dataclass(slots=True)
class _Row:
    new: NewJob
    created_at: datetime
    run_at: datetime
    expires_at: datetime | None
    state: State = State.PENDING
    result: str | None = None
    error: str | None = None
    errors: str | None = None
    attempts: int = 0
    fence: int = 0
    cancel_requested: bool = False
    progress: float = 0.0
    progress_note: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    lease_until: datetime | None = None
    keep_until: datetime | None = None
    duration_ms: float | None = None
    cursor: str | None = None
    continues: int = 0
    ring_at: datetime | None = None
    rings: int = 0

    @property
    def lane(self) -> str:
        return f"{self.new.priority}/{self.new.queue}/{self.new.kind}/{self.new.flow}"

    @property
    def order(self) -> tuple[int, datetime, str]:
        return (self.new.priority, self.run_at, self.new.id)


@dataclass(slots=True)
class _Chain:
    holder: str | None = None
    until: datetime | None = None
    wanted: bool = False
    window_at: datetime | None = None
    ticks: int = 0


class MemoryStore:
    """Rows by id under one lock; unfinished ones also by state, so that history costs nothing."""

    capabilities: frozenset[Capability] = frozenset({Capability.CONCURRENT_WRITERS})

    def __init__(self, *, namespace: str = "", clock: Clock | None = None) -> None:
        self.namespace = namespace
        self.clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._rows: dict[str, _Row] = {}
        self._pending: dict[str, _Row] = {}
        self._processing: dict[str, _Row] = {}
        self._groups = MemoryGroups(self._state_of)
        self._chain = _Chain()
        self._schedules = MemorySchedules()
        self._controls: dict[str, Control] = {}
        self._keys = MemoryKeys(self._state_of)
        self._limits = MemoryLimits()

    def create_schema(self) -> None:
        return None

    def check_schema(self) -> None:
        return None

    def now(self) -> datetime:
        return self.clock.now()

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
            return _to_job(self._add(job))
        row = self._rows.get(holder)
        if row is not None:
            return replace(_to_job(row), existing=True)
        # Its row is gone and its window runs on: nothing but its id is known.
        shown = _to_job(self._row(job, self.now()))
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

    def _replace(self, row: _Row, job: NewJob) -> None:
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

    def _state_of(self, job_id: str) -> State | None:
        row = self._rows.get(job_id)
        return None if row is None else row.state

    async def ainsert(self, jobs: Sequence[NewJob], session: Any) -> list[Job]:
        return self.insert(jobs, session)

    def _add(self, job: NewJob) -> _Row:
        if job.id in self._rows:
            return self._rows[job.id]  # sent twice: what became of it stands
        row = self._rows[job.id] = self._pending[job.id] = self._row(job, self.now())
        if job.group_id is not None:
            self._groups.join(job.group_id, job.id)
        return row

    def _row(self, job: NewJob, now: datetime) -> _Row:
        expires, ring = job.expires_in_seconds, job.ring_after_seconds
        return _Row(
            job,
            created_at=now,
            run_at=job.run_at or now + timedelta(seconds=job.delay_seconds),
            expires_at=None if expires is None else now + timedelta(seconds=expires),
            ring_at=None if ring is None else now + timedelta(seconds=ring),
        )

    def _refuse_session(self, session: Any) -> None:
        if session is not None:
            raise CapabilityError(
                "session= needs a SQL store: the in-memory stub has no transactions to join; "
                "set DATABASE_URL (sqlite:///dev.db will do)"
            )

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
        self, due: list[_Row], limit: int, limits: Limits, now: datetime, places: int | None
    ) -> list[_Row]:
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

    def _candidates(self, ids: Collection[str] | None) -> Iterable[_Row]:
        if ids is None:
            return self._pending.values()
        return [self._pending[job_id] for job_id in dict.fromkeys(ids) if job_id in self._pending]

    def _take(self, row: _Row, now: datetime, lease_until: datetime, marked: bool) -> Claimed:
        row.fence += 1
        row.attempts += 1
        row.lease_until = lease_until
        row.started_at = now if marked else None
        self._move(row, State.PROCESSING)
        return _to_claimed(row, now)

    def _move(self, row: _Row, state: State) -> None:
        self._pending.pop(row.new.id, None)
        self._processing.pop(row.new.id, None)
        row.state = state
        if state == State.PENDING:
            self._pending[row.new.id] = row
        elif state == State.PROCESSING:
            self._processing[row.new.id] = row

    def settle(self, verdicts: Sequence[Verdict], *, stalled_only: bool = False) -> frozenset[str]:
        late = set()
        with self._lock:
            now = self.now()
            for verdict in verdicts:
                row = self._held(verdict.id, verdict.fence)
                held = row is not None and not (stalled_only and not _is_stalled(row, now))
                if row is None or not held or _is_outlived(row, verdict, now):
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

    def _end_groups(self, ids: Collection[str]) -> list[NewJob]:
        jobs = self._groups.check_all(ids, self.now())
        for job in jobs:
            self._add(job)
        return jobs

    def _held(self, job_id: str, fence: int) -> _Row | None:
        row = self._processing.get(job_id)
        return row if row is not None and row.fence == fence else None

    def _write(self, row: _Row, verdict: Verdict, now: datetime) -> None:
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

    def _note_progress(self, row: _Row, percent: float | None, note: str | None) -> None:
        if percent is not None:
            row.progress = percent
        if note is not None:
            row.progress_note = note

    def note_results(self, results: Sequence[Tally]) -> None:
        with self._lock:
            self._limits.note(results, self.now())

    def limits_now(self, limits: Limits) -> list[LimitStatus]:
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

    def transaction(self) -> AbstractContextManager[StoreTransaction]:
        raise CapabilityError(
            "transactional handlers need a SQL store: set DATABASE_URL (sqlite:///dev.db will do)"
        )

    def writer_busy(self) -> bool:
        return False

    # -- upkeep --------------------------------------------------------------------------------

    def probe(self, *, rings: bool = False) -> Due:
        with self._lock:
            now, said = self.now(), self._said()
            lanes = sorted({row.lane for row in self._pending.values()})
            return Due(
                stalled=any(_is_stalled(row, now) for row in self._processing.values()),
                outstayed=any(self._outstayed(now)),
                lanes=open_lanes(lanes, said.paused),
                unrung=rings and bool(self._unrung(now)),
                groups=self._groups.is_due(now),
                scheduled=self._schedules.is_due(now),
                said=said,
                keys=self._keys.is_due(now),
            )

    def _unrung(self, now: datetime) -> list[_Row]:
        waiting = [row for row in self._pending.values() if row.ring_at and row.ring_at <= now]
        return sorted(waiting, key=lambda row: row.ring_at or now)

    def next_due(self, kinds: Collection[str], lanes: Sequence[str] | None = None) -> Ahead:
        with self._lock:
            waiting = [row for row in self._pending.values() if row.new.kind in kinds]
            rows = [row.run_at for row in waiting if lanes is None or row.lane in lanes]
            leases = [row.lease_until for row in self._processing.values() if row.lease_until]
            now = self.now()
            return ahead_of(rows, [*leases, *self._schedules.after(now)], now)

    def hold_chain(self, chain_id: str, *, seconds: float, per_hour: int) -> Hold:
        with self._lock:
            chain, now = self._chain, self.now()
            if chain.holder not in (None, chain_id) and chain.until and chain.until >= now:
                chain.wanted = True
                return Hold.HELD
            if chain.window_at is None or chain.window_at <= now - timedelta(hours=1):
                chain.window_at, chain.ticks = now, 0
            if chain.ticks >= per_hour:
                return Hold.SPENT
            chain.ticks += 1
            chain.holder, chain.wanted = chain_id, False
            chain.until = now + timedelta(seconds=seconds)
            return Hold.GRANTED

    def free_chain(self, chain_id: str) -> bool:
        with self._lock:
            chain = self._chain
            if chain.holder != chain_id or chain.until is None or chain.until < self.now():
                return True
            if chain.wanted:
                return False
            chain.holder = chain.until = None
            return True

    def take_rings(self, limit: int) -> list[Unrung]:
        with self._lock:
            now = self.now()
            return [self._ring(row, now) for row in self._unrung(now)[:limit]]

    def _ring(self, row: _Row, now: datetime) -> Unrung:
        again = min(RING_AGAIN_SECONDS * 2**row.rings, LONGEST_RING_AGAIN_SECONDS)
        due = max(row.run_at, now)
        row.rings += 1
        row.ring_at = due + timedelta(seconds=again)
        delay_seconds = (due - now).total_seconds()
        new = row.new
        key = new.concurrency_key
        return Unrung(new.id, new.kind, new.tenant, row.rings, delay_seconds, key)

    def ring_again(self, ids: Collection[str]) -> None:
        with self._lock:
            for job_id in self._pending.keys() & set(ids):
                self._pending[job_id].ring_at = self.now()

    def _outstayed(self, now: datetime) -> Iterator[_Row]:
        for row in self._rows.values():
            kept = self._groups.is_open(row.new.group_id)
            past = row.keep_until is not None and row.keep_until <= now
            if row.state in TERMINAL and past and not kept:
                yield row

    def stalled(self, limit: int, ids: Collection[str] | None = None) -> list[Claimed]:
        with self._lock:
            now = self.now()
            rows = [
                row
                for row in self._processing.values()
                if _is_stalled(row, now) and (ids is None or row.new.id in ids)
            ]
            rows.sort(key=lambda row: row.lease_until or now)
            return [_to_claimed(row, now) for row in rows[:limit]]

    def standing(self, ids: Collection[str]) -> dict[str, Standing]:
        with self._lock:
            now, paused = self.now(), self._paused()
            rows = [self._rows[job_id] for job_id in set(ids) if job_id in self._rows]
            return {
                row.new.id: standing_at(
                    row.new.id,
                    row.new.kind,
                    row.new.queue,
                    row.state,
                    row.run_at,
                    row.lease_until,
                    now,
                    paused=holds_back(paused, row.new.queue, row.new.kind),
                )
                for row in rows
            }

    def purge(self, limit: int) -> int:
        with self._lock:
            rows = sorted(self._outstayed(self.now()), key=lambda row: str(row.keep_until))
            return self._delete(rows[:limit])

    def purge_keys(self, limit: int) -> int:
        with self._lock:
            return self._keys.sweep(self.now(), limit)

    def trim(self, kind: str, state: State, keep: int, limit: int) -> int:
        with self._lock:
            rows = [
                row
                for row in self._rows.values()
                if row.new.kind == kind
                and row.state == state
                and row.finished_at is not None
                and not self._groups.is_open(row.new.group_id)
            ]
            rows.sort(key=lambda row: (str(row.finished_at), row.new.id), reverse=True)
            return self._delete(rows[keep : keep + limit])

    def _delete(self, rows: Sequence[_Row]) -> int:
        for row in rows:
            del self._rows[row.new.id]
            self._pending.pop(row.new.id, None)
        return len(rows)

    # -- schedules -----------------------------------------------------------------------------

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

    def insert_group(
        self, group: NewGroup, jobs: Sequence[NewJob], session: Any = None
    ) -> list[NewJob]:
        self._refuse_session(session)
        with self._lock:
            self._groups.add(group, self.now())
            for job in jobs:
                self._add(job)
            return [] if jobs else self._end_groups([group.id])

    def check_groups(self, limit: int, ids: Collection[str] | None = None) -> list[NewJob]:
        with self._lock:
            if ids is not None:
                return self._end_groups(ids)
            jobs = self._groups.check_due(limit, self.now())
            for job in jobs:
                self._add(job)
            return jobs

    def group(self, group_id: str) -> Group | None:
        with self._lock:
            return self._groups.read(group_id)

    def get(self, job_id: str) -> Job | None:
        with self._lock:
            row = self._rows.get(job_id)
            return None if row is None else _to_job(row)

    def id_of(self, alias: str, tenant: str) -> str | None:
        with self._lock:
            return self._keys.id_of(alias_key(tenant, alias))

    def list(self, where: JobFilter, limit: int) -> list[Job]:
        with self._lock:
            return [_to_job(row) for row in self._found(where)[:limit]]

    def _found(self, where: JobFilter) -> builtins.list[_Row]:
        now = self.now()
        found = [row for row in self._rows.values() if _matches(row, where, now)]
        found.sort(key=lambda row: row.new.id, reverse=where.after_id is None)
        return found

    def counts(self) -> dict[tuple[str, str, str], int]:
        with self._lock:
            now, paused = self.now(), self._paused()
            return dict(
                Counter(
                    (
                        row.new.queue,
                        row.new.kind,
                        shown_state(
                            row.state,
                            attempts=row.attempts,
                            run_at=row.run_at,
                            lease_until=row.lease_until,
                            now=now,
                            paused=holds_back(paused, row.new.queue, row.new.kind),
                        ),
                    )
                    for row in self._rows.values()
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
            return CancelReport(_to_job(row), accepted)

    def clear(self) -> int:
        with self._lock:
            total = len(self._rows)
            self._limits.clear()
            for rows in (self._rows, self._pending, self._processing):
                rows.clear()
            self._groups.clear()
            self._keys.clear()
            return total

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

    def _ended_by(self, row: _Row, by: datetime) -> bool:
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
        row.run_at = run_at or now + timedelta(seconds=revival.delay_seconds)
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
            return [_to_claimed(row, now) for *_, row in sorted(started)[:limit]]

    # -- controls ------------------------------------------------------------------------------

    def pause(self, subject: str, *, by: str | None, because: str | None) -> None:
        with self._lock:
            now, control = self.now(), self._control(subject)
            self._controls[subject] = control._replace(
                paused_at=control.paused_at or now,
                paused_by=by,
                paused_because=because,
                changed_at=now,
                changed_by=by,
            )

    def resume(self, subject: str, *, by: str | None) -> bool:
        with self._lock:
            control = self._controls.get(subject)
            if control is None or control.paused_at is None:
                return False
            self._controls[subject] = control._replace(
                paused_at=None,
                paused_by=None,
                paused_because=None,
                changed_at=self.now(),
                changed_by=by,
            )
            return True

    def set_settings(
        self, subject: str, changes: Mapping[str, Any], *, by: str | None
    ) -> dict[str, Any]:
        with self._lock:
            control = self._control(subject)
            settings, text = changed_settings(control.settings, changes)
            self._controls[subject] = control._replace(
                settings=text, changed_at=self.now(), changed_by=by
            )
            return settings

    def _control(self, subject: str) -> Control:
        bare = Control(subject, None, None, None, None, self.now(), None)
        return self._controls.get(subject, bare)

    def controls(self) -> builtins.list[Control]:
        with self._lock:
            return [control for _, control in sorted(self._controls.items())]

    def paused(self) -> frozenset[str]:
        with self._lock:
            return self._paused()

    def _paused(self) -> frozenset[str]:
        return frozenset(each.subject for each in self._controls.values() if each.is_paused)

    def _said(self) -> Said:
        settings = {
            subject: control.settings
            for subject, control in self._controls.items()
            if control.settings is not None
        }
        return Said(self._paused(), settings)

    def close(self) -> None:
        return None


def _is_outlived(row: _Row, verdict: Verdict, now: datetime) -> bool:
    """Whether the row is too old to be put off once more."""
    within = verdict.continue_within_seconds
    return within is not None and row.created_at <= now - timedelta(seconds=within)


def _is_stalled(row: _Row, now: datetime) -> bool:
    return row.lease_until is not None and row.lease_until < now


def _matches(row: _Row, where: JobFilter, now: datetime) -> bool:
    if where.error is not None and where.error not in (row.error or ""):
        return False
    if where.older_than_seconds is not None:
        by = now - timedelta(seconds=where.older_than_seconds)
        if (row.finished_at or row.created_at) > by:
            return False
    if where.after_id is not None and row.new.id <= where.after_id:
        return False
    return all(
        wanted is None or actual == wanted
        for wanted, actual in (
            (where.state, row.state),
            (where.kind, row.new.kind),
            (where.queue, row.new.queue),
            (where.tenant, row.new.tenant),
        )
    ) and (where.before_id is None or row.new.id < where.before_id)


def _to_claimed(row: _Row, now: datetime) -> Claimed:
    new = row.new
    return Claimed(
        id=new.id,
        kind=new.kind,
        queue=new.queue,
        payload=new.payload,
        priority=new.priority,
        attempt=row.attempts,
        max_attempts=new.max_attempts,
        fence=row.fence,
        timeout_seconds=new.timeout_seconds,
        backoff=new.backoff,
        tenant=new.tenant,
        run_at=row.run_at,
        errors=row.errors,
        marked=row.started_at is not None,
        # A job that snoozed has its attempt back, but it did start: it has run for some time.
        expired=row.expires_at is not None
        and row.expires_at <= now
        and row.attempts == 1
        and row.duration_ms is None,
        cancel_requested=row.cancel_requested,
        concurrency_key=new.concurrency_key,
        group_id=new.group_id,
        chain=new.chain,
        cursor=row.cursor,
        continues=row.continues,
        version=new.version,
    )


def _to_job(row: _Row) -> Job:
    new = row.new
    return Job(
        id=new.id,
        kind=new.kind,
        queue=new.queue,
        tenant=new.tenant,
        state=row.state,
        priority=new.priority,
        payload=decode(new.payload),
        result=None if row.result is None else decode(row.result),
        error=row.error,
        errors=json.loads(row.errors) if row.errors else [],
        attempts=row.attempts,
        max_attempts=new.max_attempts,
        fence=row.fence,
        progress=row.progress,
        progress_note=row.progress_note,
        timeout_seconds=new.timeout_seconds,
        backoff=new.backoff,
        created_at=row.created_at,
        run_at=row.run_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        lease_until=row.lease_until,
        expires_at=row.expires_at,
        cancel_requested=row.cancel_requested,
        duration_ms=row.duration_ms,
        keep_until=row.keep_until,
        concurrency_key=new.concurrency_key,
        dedupe_key=new.dedupe_key,
        alias=new.alias,
        group_id=new.group_id,
        parent_id=new.parent_id,
        schedule=new.schedule,
        slot=read_slot(new.slot),
        chain=json.loads(new.chain) if new.chain else [],
        cursor=None if row.cursor is None else decode(row.cursor),
        continues=row.continues,
        version=new.version,
    )
