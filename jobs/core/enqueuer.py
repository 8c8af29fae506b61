"""The part of a running system that a handler may call back: the enqueue calls."""

from __future__ import annotations

from typing import Any, Protocol

from jobs.core.job import Job


class Enqueuer(Protocol):
    """What a bound handler needs of its system."""

    def enqueue(self, kind: str, payload: object = None, **options: Any) -> Job: ...

    async def aenqueue(self, kind: str, payload: object = None, **options: Any) -> Job: ...

    def enqueue_many(self, jobs: Any, **options: Any) -> list[str]: ...
