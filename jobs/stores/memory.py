"""The stub: rows in this process's memory. No dependency, thread-safe, gone at exit."""

from __future__ import annotations

import heapq
import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from jobs.core.chain import Hold
from jobs.core.clock import Clock, SystemClock
from jobs.core.codec import decode
from jobs.core.errors import CapabilityError
from jobs.core.job import TERMINAL, Claimed, Job, NewJob, State, shown_state
from jobs.core.ring import LONGEST_RING_AGAIN_SECONDS, RING_AGAIN_SECONDS
from jobs.core.store import (
    CANCELLED_KEEP_SECONDS,
    CancelReport,
    Capability,
    Due,
    JobFilter,
    Standing,
    StoreTransaction,
    Touch,
    TouchReport,
    Unrung,
    Verdict,
    standing_at,
)


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
        self._chain = _Chain()

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
            return [_to_job(self._add(job)) for job in jobs]

    def insert_many(self, jobs: Iterable[NewJob], session: Any = None) -> int:
        self._refuse_session(session)
        # All or nothing: a generator that fails half-way leaves no row.
        ready = list(jobs)
        with self._lock:
            for job in ready:
                self._add(job)
        return len(ready)

    async def ainsert(self, jobs: Sequence[NewJob], session: Any) -> list[Job]:
        return self.insert(jobs, session)

    def _add(self, job: NewJob) -> _Row:
        if job.id in self._rows:
            return self._rows[job.id]  # sent twice: what became of it stands
        now = self.now()
        expires, ring = job.expires_in_seconds, job.ring_after_seconds
        row = _Row(
            job,
            created_at=now,
            run_at=job.run_at or now + timedelta(seconds=job.delay_seconds),
            expires_at=None if expires is None else now + timedelta(seconds=expires),
            ring_at=None if ring is None else now + timedelta(seconds=ring),
        )
        self._rows[job.id] = self._pending[job.id] = row
        return row

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
    ) -> list[Claimed]:
        with self._lock:
            now = self.now()
            due_by = now - timedelta(seconds=overdue_seconds)
            due = (
                row
                for row in self._candidates(ids)
                if row.run_at <= due_by
                and row.new.kind in kinds
                and (queues is None or row.new.queue in queues)
            )
            best = heapq.nsmallest(max(limit, 0), due, key=lambda row: row.order)
            lease_until = now + timedelta(seconds=lease_seconds)
            return [
                self._take(row, now, lease_until, place < mark) for place, row in enumerate(best)
            ]

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
                if row is None or (stalled_only and not _is_stalled(row, now)):
                    late.add(verdict.id)
                else:
                    self._write(row, verdict, now)
        return frozenset(late)

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
                if row.cancel_requested:
                    cancelled.add(touch.id)
        return TouchReport(frozenset(lost), frozenset(cancelled))

    def _note_progress(self, row: _Row, percent: float | None, note: str | None) -> None:
        if percent is not None:
            row.progress = percent
        if note is not None:
            row.progress_note = note

    def transaction(self) -> AbstractContextManager[StoreTransaction]:
        raise CapabilityError(
            "transactional handlers need a SQL store: set DATABASE_URL (sqlite:///dev.db will do)"
        )

    def writer_busy(self) -> bool:
        return False

    # -- upkeep --------------------------------------------------------------------------------

    def probe(self, *, rings: bool = False) -> Due:
        with self._lock:
            now = self.now()
            return Due(
                stalled=any(_is_stalled(row, now) for row in self._processing.values()),
                outstayed=any(self._outstayed(now)),
                lanes=tuple(sorted({row.lane for row in self._pending.values()})),
                unrung=rings and bool(self._unrung(now)),
            )

    def _unrung(self, now: datetime) -> list[_Row]:
        waiting = [row for row in self._pending.values() if row.ring_at and row.ring_at <= now]
        return sorted(waiting, key=lambda row: row.ring_at or now)

    def next_due(self, kinds: Collection[str]) -> datetime | None:
        with self._lock:
            waiting = [row.run_at for row in self._pending.values() if row.new.kind in kinds]
            leases = [row.lease_until for row in self._processing.values() if row.lease_until]
            return min([*waiting, *leases], default=None)

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
            if row.state in TERMINAL and row.keep_until is not None and row.keep_until <= now:
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
            now = self.now()
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
                )
                for row in rows
            }

    def purge(self, limit: int) -> int:
        with self._lock:
            rows = sorted(self._outstayed(self.now()), key=lambda row: str(row.keep_until))
            return self._delete(rows[:limit])

    def trim(self, kind: str, state: State, keep: int, limit: int) -> int:
        with self._lock:
            rows = [
                row
                for row in self._rows.values()
                if row.new.kind == kind and row.state == state and row.finished_at is not None
            ]
            rows.sort(key=lambda row: (str(row.finished_at), row.new.id), reverse=True)
            return self._delete(rows[keep : keep + limit])

    def _delete(self, rows: Sequence[_Row]) -> int:
        for row in rows:
            del self._rows[row.new.id]
        return len(rows)

    # -- look ----------------------------------------------------------------------------------

    def due_count(
        self,
        kinds: Collection[str],
        cap: int,
        lanes: Sequence[str] | None = None,
        *,
        overdue_seconds: float = 0.0,
    ) -> int:
        with self._lock:
            by = self.now() - timedelta(seconds=overdue_seconds)
            due = sum(
                1 for row in self._pending.values() if row.run_at <= by and row.new.kind in kinds
            )
            return min(due, cap)

    def get(self, job_id: str) -> Job | None:
        with self._lock:
            row = self._rows.get(job_id)
            return None if row is None else _to_job(row)

    def list(self, where: JobFilter, limit: int) -> list[Job]:
        with self._lock:
            found = [row for row in self._rows.values() if _matches(row, where)]
            found.sort(key=lambda row: row.new.id, reverse=True)
            return [_to_job(row) for row in found[:limit]]

    def counts(self) -> dict[tuple[str, str, str], int]:
        with self._lock:
            now = self.now()
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
            for rows in (self._rows, self._pending, self._processing):
                rows.clear()
            return total

    def close(self) -> None:
        return None


def _is_stalled(row: _Row, now: datetime) -> bool:
    return row.lease_until is not None and row.lease_until < now


def _matches(row: _Row, where: JobFilter) -> bool:
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
        chain=json.loads(new.chain) if new.chain else [],
        cursor=None if row.cursor is None else decode(row.cursor),
        continues=row.continues,
        version=new.version,
    )
