"""Records of ticks and measures, under the store's lock."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta

from msgspec.structs import replace

from jobs.core.codec import clean_text
from jobs.core.controls import holds_back
from jobs.core.job import State
from jobs.core.measure import (
    ERROR_CHARS,
    REGULAR,
    Bucket,
    Depth,
    Key,
    Measure,
    Measures,
    TickRecord,
    add_up,
    bucket_start,
    in_buckets,
)
from jobs.core.store import (
    HOURS_KEPT_SECONDS,
    KEPT_REGULAR,
    KEPT_TICKS,
    MINUTES_KEPT_SECONDS,
    Glance,
)
from jobs.stores.memory.base import MemoryRows
from jobs.stores.memory.rows import is_stalled

MINUTE, HOUR = 60.0, 3600.0


class Records(MemoryRows):
    """As the SQL store keeps them: records, minutes, hours and totals."""

    def record_tick(self, record: TickRecord) -> None:
        with self._lock:
            if any(each.id == record.id for each in self._ticks):
                return
            said = record.error
            error = None if said is None else clean_text(said)[:ERROR_CHARS]
            self._ticks.append(replace(record, ended_at=self.now(), error=error))

    def ticks(
        self,
        limit: int,
        *,
        before: tuple[datetime, str] | None = None,
        triggers: Collection[str] | None = None,
    ) -> builtins.list[TickRecord]:
        with self._lock:
            found = [
                each
                for each in self._ticks
                if (before is None or (each.ended_at, each.id) < before)
                and (triggers is None or each.trigger in triggers)
            ]
        found.sort(key=lambda each: (each.ended_at, each.id), reverse=True)
        return found[:limit]

    def last_tick(self) -> TickRecord | None:
        found = self.ticks(1)
        return found[0] if found else None

    def fold_ticks(self, limit: int, *, keep: int = KEPT_TICKS) -> int:
        with self._lock:
            newest = self.ticks(len(self._ticks))
            stay = {each.id for each in newest[:keep]}
            regular = [each.id for each in newest if each.trigger in REGULAR]
            stay.update(regular[:KEPT_REGULAR])
            old = [each for each in reversed(newest) if each.id not in stay][:limit]
            gone = {each.id for each in old}
            self._ticks = [each for each in self._ticks if each.id not in gone]
            for record in old:
                self._fold(record)
            self._compact()
            return len(old)

    def _fold(self, record: TickRecord) -> None:
        at = bucket_start(record.ended_at, MINUTE)
        for key, measure in (record.measures or {}).items():
            self._minutes.setdefault((at, key), Measure()).add(measure)
        for key, measure in _for_ever(record):
            self._totals.setdefault(key, Measure()).add(measure)

    def _compact(self) -> None:
        by = self.now() - timedelta(seconds=MINUTES_KEPT_SECONDS)
        for at, key in [place for place in self._minutes if place[0] < by]:
            measure = self._minutes.pop((at, key))
            self._hours.setdefault((bucket_start(at, HOUR), key), Measure()).add(measure)
        gone = self.now() - timedelta(seconds=HOURS_KEPT_SECONDS)
        self._hours = {place: each for place, each in self._hours.items() if place[0] >= gone}

    def measures(
        self,
        since_seconds: float,
        bucket_seconds: float,
        *,
        tenant: str | None = None,
        queue: str | None = None,
        kind: str | None = None,
    ) -> builtins.list[Bucket]:
        wanted = {"tenant": tenant, "queue": queue, "kind": kind}
        with self._lock:
            since = self.now() - timedelta(seconds=since_seconds)
            measured = [
                (each.ended_at, key, measure)
                for each in self._ticks
                for key, measure in (each.measures or {}).items()
            ]
            for folded in (self._minutes, self._hours):
                measured += [(at, key, measure) for (at, key), measure in folded.items()]
            return in_buckets(
                (
                    each
                    for each in measured
                    if each[0] >= since
                    and all(v is None or getattr(each[1], n) == v for n, v in wanted.items())
                ),
                bucket_seconds,
            )

    def glance(self, ticks: int, since_seconds: float, bucket_seconds: float) -> Glance:
        with self._lock:
            alerts = [alert for _, alert in sorted(self._alerts.items())]
            buckets = self.measures(since_seconds, bucket_seconds)
            return Glance(self.ticks(ticks), buckets, alerts)

    def totals(self) -> Measures:
        with self._lock:
            current = [each for record in self._ticks for each in _for_ever(record)]
            return add_up([*self._totals.items(), *current])

    # -- depths --------------------------------------------------------------------------------

    def depths(self, cap: int) -> builtins.list[Depth]:
        with self._lock:
            now, paused = self.now(), self._paused()
            counts: Counter[tuple[str, str, str]] = Counter()
            oldest: dict[tuple[str, str, str], float] = {}
            for row in (*self._pending.values(), *self._processing.values()):
                queue, kind = row.new.queue, row.new.kind
                since = row.run_at
                if row.state == State.PROCESSING:
                    state = "stalled" if is_stalled(row, now) else "processing"
                    since = row.lease_until or now
                elif row.run_at > now:
                    state = "delayed"
                else:
                    state = "paused" if holds_back(paused, queue, kind) else "pending"
                counts[queue, kind, state] += 1
                seconds = max((now - since).total_seconds(), 0.0)
                oldest[queue, kind, state] = max(oldest.get((queue, kind, state), 0.0), seconds)
            return [Depth(*key, min(counts[key], cap), oldest[key]) for key in sorted(counts)]

    def failed_counts(self, kinds: Collection[str], cap: int) -> dict[str, int]:
        with self._lock:
            found = Counter(
                row.new.kind
                for row in self._rows.values()
                if row.state == State.FAILED and row.new.kind in kinds
            )
        return {kind: min(count, cap) for kind, count in found.items()}


def _for_ever(record: TickRecord) -> list[tuple[Key, Measure]]:
    measures = (record.measures or {}).items()
    untenanted = [(key._replace(tenant=""), measure) for key, measure in measures]
    return [*untenanted, record.own_measure()]
