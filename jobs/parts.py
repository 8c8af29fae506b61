"""What a running system is made of: what its scheduling, its steering and its ticks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs.core.clock import Clock
from jobs.core.errors import CapabilityError
from jobs.core.job import NewJob
from jobs.core.registry import Registry
from jobs.core.settings import Settings
from jobs.core.store import Store
from jobs.runtime.base import Runtime
from jobs.runtime.enqueue import Enqueued, announce, is_heard
from jobs.runtime.groups import Groups


class Parts:
    """A system's parts, and the word that goes out when jobs are enqueued."""

    settings: Settings
    _runtime: Runtime

    @property
    def store(self) -> Store:
        """Where the rows live."""
        return self._runtime.store

    @property
    def groups(self) -> Groups:
        """The groups of jobs: ``groups.get(id)``."""
        return Groups(self._runtime)

    @property
    def registry(self) -> Registry:
        """The kinds this system handles."""
        return self._runtime.registry

    @property
    def clock(self) -> Clock:
        """Where this system's time comes from."""
        return self._runtime.clock

    @property
    def engine(self) -> Any:
        """The SQL store's engine; a CapabilityError on the in-memory stub."""
        engine = getattr(self.store, "engine", None)
        if engine is None:
            raise CapabilityError("the in-memory stub has no engine: set DATABASE_URL")
        return engine

    def _announce(self, jobs: Sequence[NewJob], session: Any) -> None:
        if is_heard(self._runtime):
            told = [Enqueued.of(self._runtime, job) for job in jobs]
            self._tell_when_committed(told, session)

    def _tell_when_committed(self, told: list[Enqueued], session: Any) -> None:
        if session is None:
            self._tell_enqueued(told)
        else:
            self.store.after_commit(session, self._tell_enqueued, told)

    def _tell_enqueued(self, told: list[Enqueued]) -> None:
        announce(self._runtime, told)
