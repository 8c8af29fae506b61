"""How many in a while: counted in this process alone, so of N processes each allows as many.

What it protects is this process and its database connections from one eager caller; it is not a
quota to bill by.
"""

from __future__ import annotations

import math
import threading

from jobs.core.clock import Clock

MOST_NAMES = 10_000


class Rates:
    """At most ``most`` in ``seconds`` of each name, refilled evenly (a token bucket)."""

    def __init__(self, clock: Clock, most: int, seconds: float) -> None:
        self._clock = clock
        self._most = float(most)
        self._per_second = most / seconds
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait_seconds(self, name: str) -> int:
        """Count one; 0 if it may be, else after how many whole seconds to try again."""
        with self._lock:
            left = self._now_left(name)
            if left < 1.0:
                return max(1, math.ceil((1.0 - left) / self._per_second))
            self._keep(name, left - 1.0)
            return 0

    def is_spent(self, name: str) -> int:
        """As :meth:`wait_seconds`, and nothing is counted."""
        with self._lock:
            left = self._now_left(name)
            return 0 if left >= 1.0 else max(1, math.ceil((1.0 - left) / self._per_second))

    def _now_left(self, name: str) -> float:
        left, at = self._left.get(name, (self._most, 0.0))
        return min(self._most, left + max(0.0, self._now() - at) * self._per_second)

    def _keep(self, name: str, left: float) -> None:
        if len(self._left) >= MOST_NAMES:  # the oldest is likely full again
            self._left.pop(next(iter(self._left)))
        self._left.pop(name, None)
        self._left[name] = (left, self._now())

    def _now(self) -> float:
        return self._clock.now().timestamp()
