"""The stub's names: which job holds a dedupe key or an alias. Guarded by the store's lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from jobs.core.job import Job, NewJob, State
from jobs.core.keys import Key, Want, holds, is_live, look_again_seconds, retaken, wants_of


@dataclass(slots=True)
class _Held:
    job_id: str
    held_until: datetime
    check_at: datetime


class MemoryKeys:
    """Names by key; ``state_of`` tells the state of a job, ``None`` if its row is gone."""

    def __init__(self, state_of: Callable[[str], State | None]) -> None:
        self._state_of = state_of
        self._names: dict[Key, _Held] = {}

    def take(self, job: NewJob, now: datetime) -> str | None:
        """Take all the names the job wants, or none: then the id of the job that has one."""
        wants = wants_of(job)
        for want in wants:
            held = self._names.get(want.key)
            if held is not None and self._holds(want.key, held, now):
                return held.job_id
        self._write(wants, now)
        return None

    def retake(self, job: Job, now: datetime) -> str | None:
        """Take the key back for a job that is to wait again, or tell which live job has it."""
        if job.dedupe_key is None:
            return None
        want = retaken(job)
        held = self._names.get(want.key)
        if held is not None and held.job_id != job.id and is_live(self._state_of(held.job_id)):
            return held.job_id
        self._write([want], now)
        if held is not None and held.job_id == job.id:
            self._names[want.key].held_until = held.held_until  # its own window runs on
        return None

    def _write(self, wants: Sequence[Want], now: datetime) -> None:
        for want in wants:
            self._names[want.key] = _Held(
                want.job_id,
                now + timedelta(seconds=want.window_seconds),
                now + timedelta(seconds=want.look_after_seconds),
            )

    def _holds(self, key: Key, held: _Held, now: datetime) -> bool:
        in_window = held.held_until > now
        return holds(key.scope, in_window=in_window, state=self._state_of(held.job_id))

    def id_of(self, key: Key) -> str | None:
        """Whose name it is."""
        held = self._names.get(key)
        return None if held is None else held.job_id

    def is_due(self, now: datetime) -> bool:
        """Whether a name is to be looked at."""
        return any(held.check_at <= now for held in self._names.values())

    def sweep(self, now: datetime, limit: int) -> int:
        """Of up to ``limit`` names to be looked at, free those not held; returns how many."""
        due = [(held.check_at, key) for key, held in self._names.items() if held.check_at <= now]
        freed = 0
        for _, key in sorted(due)[:limit]:
            held = self._names[key]
            if self._holds(key, held, now):
                held.check_at = now + timedelta(seconds=look_again_seconds(key))
            else:
                del self._names[key]
                freed += 1
        return freed

    def clear(self) -> None:
        """Forget all names."""
        self._names.clear()
