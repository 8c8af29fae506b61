"""The groups of the in-memory stub; its store holds the lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from jobs.core.group import (
    GROUP_CHECK_SECONDS,
    GROUP_KEEP_SECONDS,
    OPEN,
    Group,
    NewGroup,
    callbacks,
    state_at_end,
)
from jobs.core.job import TERMINAL, NewJob, State


@dataclass(slots=True)
class _Group:
    new: NewGroup
    created_at: datetime
    check_at: datetime
    state: str = OPEN
    finished_at: datetime | None = None


class MemoryGroups:
    """Groups by id. ``state_of`` tells the state of a job, ``None`` once it is gone."""

    def __init__(self, state_of: Callable[[str], State | None]) -> None:
        self._state_of = state_of
        self._groups: dict[str, _Group] = {}
        self._members: dict[str, list[str]] = {}

    def add(self, group: NewGroup, now: datetime) -> None:
        """A new group."""
        check_at = now + timedelta(seconds=GROUP_CHECK_SECONDS)
        self._groups.setdefault(group.id, _Group(group, now, check_at))

    def join(self, group_id: str, job_id: str) -> None:
        """A job that belongs to it."""
        self._members.setdefault(group_id, []).append(job_id)

    def is_open(self, group_id: str | None) -> bool:
        """Whether it counts on the rows of its jobs."""
        group = self._groups.get(group_id or "")
        return group is not None and group.state == OPEN

    def is_due(self, now: datetime) -> bool:
        """Whether one is to be looked at."""
        return any(group.check_at <= now for group in self._groups.values())

    def check(self, group_id: str, now: datetime) -> list[NewJob]:
        """End it if all its jobs have; returns what is to be enqueued then."""
        counts = self._counts(group_id)
        if not self.is_open(group_id) or any(state not in TERMINAL for state in counts):
            return []
        group = self._groups[group_id]
        group.state, group.finished_at = state_at_end(counts), now
        group.check_at = now + timedelta(seconds=GROUP_KEEP_SECONDS)
        return callbacks(group.new, counts)

    def check_due(self, limit: int, now: datetime) -> list[NewJob]:
        """The same for those that are to be looked at; what ended long ago is forgotten."""
        due = [each for each in self._groups.values() if each.check_at <= now]
        jobs: list[NewJob] = []
        for group in sorted(due, key=lambda each: each.check_at)[:limit]:
            if group.state != OPEN:
                del self._groups[group.new.id]
                self._members.pop(group.new.id, None)
                continue
            jobs += self.check(group.new.id, now)
            if group.state == OPEN:
                group.check_at = now + timedelta(seconds=GROUP_CHECK_SECONDS)
        return jobs

    def check_all(self, ids: Collection[str], now: datetime) -> list[NewJob]:
        """As :meth:`check`, one after the other."""
        return [job for each in sorted(ids) for job in self.check(each, now)]

    def read(self, group_id: str) -> Group | None:
        """How it stands."""
        group = self._groups.get(group_id)
        if group is None:
            return None
        return Group(
            group_id,
            group.new.tenant,
            group.new.name,
            group.state,
            group.created_at,
            group.finished_at,
            self._counts(group_id),
        )

    def clear(self) -> None:
        """Forget all."""
        self._groups.clear()
        self._members.clear()

    def _counts(self, group_id: str) -> dict[str, int]:
        states = map(self._state_of, self._members.get(group_id, ()))
        return dict(Counter(str(state) for state in states if state is not None))
