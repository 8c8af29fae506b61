"""Liveness, and the dead man's switch: is this process up, and do ticks come?

Both are open to all, so they say nothing else. Liveness touches no database: a platform that asks
for it would otherwise restart a healthy process because the database is away.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import Any

from flask import Flask
from flask.typing import ResponseReturnValue

from jobs.core.measure import Pulse
from jobs.system import Tickwork

# Anybody may ask: the database is asked so often at most.
LOOK_SECONDS = 5.0


def install(app: Flask, tickwork: Tickwork) -> None:
    """Serve ``/healthz`` and ``/healthz/ticks``."""
    app.add_url_rule("/healthz", "tickwork.health", health)
    app.add_url_rule("/healthz/ticks", "tickwork.ticks_health", TicksHealth(tickwork))


def health() -> dict[str, str]:
    """The process is up."""
    return {"status": "ok"}


class TicksHealth:
    """200 while ticks come, 503 once none came for three times as long as they are apart."""

    __name__ = "ticks_health"

    def __init__(self, tickwork: Tickwork) -> None:
        self._tickwork = tickwork
        self._lock = threading.Lock()
        self._seen: tuple[float, Pulse] | None = None

    def __call__(self) -> ResponseReturnValue:
        """The verdict, and the age of the last tick in seconds."""
        pulse = self._pulse()
        document: dict[str, Any] = {"status": "ok", "age_seconds": None}
        if pulse.age_seconds is not None:
            document["age_seconds"] = round(pulse.age_seconds, 1)
        if pulse.is_beating:
            return document
        document["status"] = "never" if pulse.age_seconds is None else "late"
        return document, HTTPStatus.SERVICE_UNAVAILABLE

    def _pulse(self) -> Pulse:
        # One asks, the others have its answer: many at once cost the database no more than one.
        with self._lock:
            now = self._tickwork.clock.monotonic()
            if self._seen is None or now - self._seen[0] >= LOOK_SECONDS:
                self._seen = now, self._tickwork.pulse()
            return self._seen[1]
