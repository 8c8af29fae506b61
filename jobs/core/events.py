"""Listeners: told of what happened to jobs, unable to break them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple

from jobs.core.ids import new_id
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

# The id of the tick, or of the batch of messages, that runs jobs in this thread; empty outside one.
current_tick: ContextVar[str] = ContextVar("tickwork_tick", default="")


@contextmanager
def ticking() -> Iterator[str]:
    """Give what runs inside the id of a new tick; as a decorator, every call."""
    tick = new_id()
    token = current_tick.set(tick)
    try:
        yield tick
    finally:
        current_tick.reset(token)


class JobEvent(NamedTuple):
    """What happened: the job's id, kind and queue, and what is known of this attempt.

    ``failed`` is for good; an attempt that will be tried again is ``retried``. ``result``,
    ``error``, ``duration_ms``, ``delay_seconds`` and ``percent`` are set where they apply.
    ``tick`` is the id of the tick that ran it, ``context`` what its handler lets logs say of the
    payload (``log_context=``), ``exception`` what a handler raised that failed for good,
    ``together`` how many jobs were enqueued at once.
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
    tick: str = ""
    context: Mapping[str, Any] | None = None
    exception: BaseException | None = None
    together: int = 1

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
When = Callable[[], bool]


class Events:
    """The listeners of one system."""

    def __init__(self) -> None:
        self._listeners: dict[str, tuple[tuple[Listener, When | None], ...]] = {}
        self._lock = threading.Lock()

    def on(self, name: EventName, listener: Listener, *, when: When | None = None) -> Listener:
        """Call ``listener`` with every event of that name. Returns the listener.

        With ``when`` only while that is true: it is asked at every event, so it must be quick.
        """
        if name not in EVENT_NAMES:
            raise ValueError(f"no event {name!r}; there are {', '.join(EVENT_NAMES)}")
        with self._lock:
            self._listeners[name] = (*self._listeners.get(name, ()), (listener, when))
        return listener

    def wanted(self, name: EventName | str) -> bool:
        """Whether anybody listens: events nobody hears are not built."""
        heard = self._listeners.get(name, ())  # asked for every job
        return bool(heard) and any(when is None or when() for _, when in heard)

    def emit(self, event: JobEvent) -> None:
        """Tell the listeners; one that raises is logged and the others still hear."""
        for listener, when in self._listeners.get(event.name, ()):
            try:
                if when is None or when():
                    listener(event)
            except Exception:
                log.exception("listener of %r raised for job %s", event.name, event.job_id)
