"""What ticks do besides running jobs: look round, ring, clear away, hold the chain."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta

from jobs.core.chain import Hold
from jobs.core.controls import holds_back, open_lanes
from jobs.core.job import TERMINAL, Claimed, NewJob, State
from jobs.core.look import EVERY_SECONDS, IDLE_SECONDS, WAITING_SECONDS, Look
from jobs.core.ring import LONGEST_RING_AGAIN_SECONDS, RING_AGAIN_SECONDS
from jobs.core.store import MOST_TICKS, Ahead, Due, Standing, Unrung, ahead_of, standing_at
from jobs.stores.memory.base import MemoryRows
from jobs.stores.memory.rows import Row, is_stalled, to_claimed


class Upkeep(MemoryRows):
    """Upkeep of the rows."""

    def probe(self, *, rings: bool = False) -> Due:
        with self._lock:
            now, said = self.now(), self._said()
            lanes = sorted({row.lane for row in self._pending.values()})
            return Due(
                stalled=any(is_stalled(row, now) for row in self._processing.values()),
                outstayed=any(self._outstayed(now)),
                lanes=open_lanes(lanes, said.paused),
                unrung=rings and bool(self._unrung(now)),
                groups=self._groups.is_due(now),
                scheduled=self._schedules.is_due(now),
                said=said,
                keys=self._keys.is_due(now),
                ticks=len(self._ticks) > MOST_TICKS,
                at=now,
                alerts=self._look_at_alerts(now),
            )

    def _look_at_alerts(self, now: datetime) -> Look:
        at = self._alerts_at
        if at is None:  # not before there is a tick of a while ago to look at
            every = timedelta(seconds=EVERY_SECONDS)
            return Look(any(tick.ended_at <= now - every for tick in self._ticks[:1]))
        passed = (now - at).total_seconds()
        if passed < EVERY_SECONDS:
            return Look.NOBODY
        if self._alerts_busy or passed >= IDLE_SECONDS:
            return Look.ANY
        return Look.WAITING if passed >= WAITING_SECONDS else Look.BUSY

    def _unrung(self, now: datetime) -> list[Row]:
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

    def _ring(self, row: Row, now: datetime) -> Unrung:
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

    def _outstayed(self, now: datetime) -> Iterator[Row]:
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
                if is_stalled(row, now) and (ids is None or row.new.id in ids)
            ]
            rows.sort(key=lambda row: row.lease_until or now)
            return [to_claimed(row, now) for row in rows[:limit]]

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

    def check_groups(self, limit: int, ids: Collection[str] | None = None) -> list[NewJob]:
        with self._lock:
            if ids is not None:
                return self._end_groups(ids)
            jobs = self._groups.check_due(limit, self.now())
            for job in jobs:
                self._add(job)
            return jobs
