"""Listeners: told of what happened to jobs, unable to break them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from jobs.core.job import Claimed

EventName = Literal["enqueued", "started", "completed", "failed", "retried", "progress", "released"]
EVENT_NAMES: tuple[EventName, ...] = (
    "enqueued",
    "started",
    "completed",
    "failed",
    "retried",
    "progress",
    "released",
)
log = logging.getLogger("tickwork")


class JobEvent(NamedTuple):
    """What happened: the job's id, kind and queue, and what is known of this attempt.

    ``failed`` is for good; an attempt that will be tried again is ``retried``. ``result``,
    ``error``, ``duration_ms``, ``delay_seconds`` and ``percent`` are set where they apply.
    """

    name: EventName
    job_id: str
    kind: str
    queue: str
    tenant: str = ""
    attempt: int = 0
    max_attempts: int = 0
    result: Any = None
    error: str | None = None
    duration_ms: float | None = None
    delay_seconds: float | None = None
    percent: float | None = None

    @classmethod
    def of(cls, name: EventName, job: Claimed, **facts: Any) -> JobEvent:
        """The event of a claimed job, with what else is known of it."""
        return cls(
            name,
            job.id,
            job.kind,
            job.queue,
            job.tenant,
            job.attempt,
            job.max_attempts,
            **facts,
        )


Listener = Callable[[JobEvent], None]


class Events:
    """The listeners of one system."""

    def __init__(self) -> None:
        self._listeners: dict[str, tuple[Listener, ...]] = {}
        self._lock = threading.Lock()

    def on(self, name: EventName, listener: Listener) -> Listener:
        """Call ``listener`` with every event of that name. Returns the listener."""
        if name not in EVENT_NAMES:
            raise ValueError(f"no event {name!r}; there are {', '.join(EVENT_NAMES)}")
        with self._lock:
            self._listeners[name] = (*self._listeners.get(name, ()), listener)
        return listener

    @property
    def heard(self) -> bool:
        """Whether there is any listener at all."""
        return bool(self._listeners)

    def wanted(self, name: EventName) -> bool:
        """Whether anybody listens: events nobody hears are not built."""
        return name in self._listeners

    def emit(self, event: JobEvent) -> None:
        """Tell the listeners; one that raises is logged and the others still hear."""
        for listener in self._listeners.get(event.name, ()):
            try:
                listener(event)
            except Exception:
                log.exception("listener of %r raised for job %s", event.name, event.job_id)
