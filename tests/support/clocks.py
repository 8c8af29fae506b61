"""Clocks that tests move themselves."""

from __future__ import annotations

from jobs.core.clock import ManualClock


class StoppedClock(ManualClock):
    """Monotonic time that stands still until a test moves it: nothing flushes by itself."""

    elapsed = 0.0

    def monotonic(self) -> float:
        return self.elapsed
