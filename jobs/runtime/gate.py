"""The gate: how many jobs of a queue or a kind run at once in this process.

It is shared by all ticks of the process. Who finds it shut leaves a function to be called once a
place is free, and does something else meanwhile.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from jobs.core.job import Claimed
from jobs.core.queues import QueueSettings
from jobs.core.registry import Handler

WhenFree = Callable[[], None]


class Gate:
    """Places by name (``queue/<queue>``, ``kind/<kind>``), as many as the registry says."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._waiting: defaultdict[str, list[WhenFree]] = defaultdict(list)

    def enter(self, places: Sequence[tuple[str, int]], when_free: WhenFree) -> bool:
        """Take a place of each name, or none and have ``when_free`` called when to try again."""
        with self._lock:
            if self._is_full(places, when_free):
                return False
            self._running.update(name for name, _ in places)
            return True

    def leave(self, places: Sequence[tuple[str, int]]) -> None:
        """Give the places back, and tell those who wait for one."""
        told: list[WhenFree] = []
        with self._lock:
            self._running.subtract(name for name, _ in places)
            for name, _ in places:
                told += self._waiting.pop(name, ())
        for when_free in told:
            when_free()

    def is_open(
        self, places: Sequence[tuple[str, int]], promised: Counter[str], when_free: WhenFree
    ) -> bool | None:
        """Whether there is a place of each name; if not, ``when_free`` is called once to try again.

        ``promised`` are places that the caller is about to take: if only those are in the way, the
        answer is ``None`` and nothing will be called.
        """
        with self._lock:
            if self._is_full(places, when_free):
                return False
            fits = all(self._running[name] + promised[name] < most for name, most in places)
            return True if fits else None

    def _is_full(self, places: Sequence[tuple[str, int]], when_free: WhenFree) -> bool:
        """Under the lock: whether a name has no place; who asks is then told when it has one."""
        for name, most in places:
            if self._running[name] >= most:
                if when_free not in self._waiting[name]:
                    self._waiting[name].append(when_free)
                return True
        return False


def places_of(
    queue: QueueSettings, handler: Handler | None, job: Claimed
) -> tuple[tuple[str, int], ...]:
    """The places that a job needs to run here, each with how many there are."""
    places = []
    if queue.concurrency_in_process is not None:
        places.append((f"queue/{job.queue}", queue.concurrency_in_process))
    if handler is not None and handler.concurrency_in_process is not None:
        places.append((f"kind/{job.kind}", handler.concurrency_in_process))
    return tuple(places)
