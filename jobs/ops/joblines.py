"""A log line at every turn of a job's life, in fields that machines read.

The lines go to the logger ``tickwork.jobs`` with their fields as ``extra``, so that they fit any
formatter. A line that the logger's level leaves out is not built.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from jobs.core.events import EventName, Events, JobEvent
from jobs.core.loglines import LOGGER, MOST_LINES, error_text, job_fields
from jobs.core.registry import Registry

log = logging.getLogger(LOGGER)

_LEVELS: dict[EventName, int] = {
    "enqueued": logging.INFO,
    "started": logging.INFO,
    "completed": logging.INFO,
    "retried": logging.WARNING,
    "failed": logging.ERROR,
    "released": logging.DEBUG,
}
_Ended = Callable[[JobEvent, dict[str, Any]], None]


def log_jobs(events: Events, registry: Registry) -> None:
    """Have every event of a job logged; ``registry`` says whose ends are counted."""
    for name, level in _LEVELS.items():
        events.on(name, partial(_line, registry), when=partial(log.isEnabledFor, level))


def _line(registry: Registry, event: JobEvent) -> None:
    if event.together > MOST_LINES:
        return  # they are logged together
    ids = job_fields(event.job_id, event.queue, event.kind, tenant=event.tenant, tick=event.tick)
    if event.attempt:
        ids.update(attempt=event.attempt, maxAttempts=event.max_attempts)
    said, fields = _words(event)
    # Last what is ours: a payload's own key must not pass for a job's id.
    extra = {**(event.context or {}), **ids, **fields}
    log.log(_LEVELS[event.name], "job %s (%s) %s", event.job_id, event.kind, said, extra=extra)
    if event.name in _COUNTED:
        handler = registry.find(event.kind)
        if handler is not None and handler.metrics is not None:
            _count(handler.metrics, event, ids)


def _words(event: JobEvent) -> tuple[str, dict[str, Any]]:
    took = _milliseconds(event)
    error = error_text(event.error)
    match event.name:
        case "enqueued":
            return f"added to {event.queue}", {}
        case "started":
            return "processing", {"status": "processing"}
        case "completed":
            return f"completed in {took} ms", {"status": "completed", "duration": took}
        case "failed":
            fields = {"status": "failed", "error": error, "attempts": event.attempt}
            return f"failed: {error}", {**fields, "duration": took}
        case "retried":
            again = round(event.delay_seconds or 0.0, 3)
            fields = {"status": "retrying", "error": error, "attempts": event.attempt}
            fields = {**fields, "duration": took, "retryInSeconds": again}
            return f"failed and is tried again in {again:g} s: {error}", fields
    return "released", {"status": "released"}


def _milliseconds(event: JobEvent) -> int | None:
    return None if event.duration_ms is None else round(event.duration_ms)


_COUNTED = frozenset({"completed", "failed", "retried"})


def _count(name: str, event: JobEvent, ids: dict[str, Any]) -> None:
    """The ends of a kind as counters: one ``error`` for every attempt that failed."""
    took = _milliseconds(event)
    good = event.name == "completed"
    metrics: dict[str, Any] = {f"{name}.success" if good else f"{name}.error": 1}
    if good:
        metrics[f"{name}.duration"] = took
    log.info(
        "[Metrics] %s job %s %s in %sms",
        name.capitalize(),
        event.job_id,
        "completed" if good else "failed",
        0 if took is None else took,
        extra={**ids, "metrics": metrics},
    )
