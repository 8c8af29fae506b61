"""Recorder: writes records of ticks, those of a busy process some together; never fails a tick."""

from __future__ import annotations

import logging
import math
import os
import re
import socket
import threading

from jobs.core.measure import TickRecord, join_records
from jobs.core.store import Store

log = logging.getLogger("tickwork.records")
# A process that ticks all the time writes a record so often at most.
GATHER_SECONDS = 10.0
# Triggers of processes that tick all the time.
GATHERED = frozenset({"worker", "local"})
RUNNER_CHARS = 60


class Recorder:
    """The records that one process has not written yet, joined by trigger."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gathered: dict[str, TickRecord] = {}
        self._written_at = -math.inf

    def add(self, store: Store, record: TickRecord, now: float, *, gather: bool) -> None:
        """Write ``record``, or keep it for the next that is due; ``now`` in monotonic seconds."""
        if gather and record.error is None:
            with self._lock:
                earlier = self._gathered.get(record.trigger)
                joined = record if earlier is None else join_records(earlier, record)
                self._gathered[record.trigger] = joined
                if now - self._written_at < GATHER_SECONDS:
                    return
                self._written_at = now
            self.flush(store)
        else:
            _write(store, record)

    def flush(self, store: Store) -> None:
        """Write what was gathered: when a process stops ticking."""
        with self._lock:
            records = list(self._gathered.values())
            self._gathered.clear()
        for record in records:
            _write(store, record)


def _write(store: Store, record: TickRecord) -> None:
    try:
        store.record_tick(record)
    except Exception as error:  # noqa: BLE001 - what the tick did is written; this only tells of it
        log.warning("a tick was not recorded: %s: %s", type(error).__name__, error)


def runner_name() -> str:
    """A short name of this process: host and process id."""
    host = re.sub(r"[^A-Za-z0-9.-]+", "-", socket.gethostname())
    return f"{host[: RUNNER_CHARS - 12]}-{os.getpid()}"
