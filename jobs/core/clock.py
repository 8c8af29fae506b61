"""Where time comes from. Only the outermost layer reads a clock; below it, time is an argument."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """A source of *now*, and a monotonic one for measuring.

    ``frozen_now`` is ``None`` in production: SQL stores then use the database's own time, so that
    runners with skewed clocks agree. A test clock returns its instant, which SQL stores bind.
    """

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    def frozen_now(self) -> datetime | None: ...


class SystemClock:
    """The host's clock; SQL stores ask their database instead."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def frozen_now(self) -> datetime | None:
        return None


class ManualClock:
    """A clock that moves only when told to, for tests and simulations.

    >>> clock = ManualClock()
    >>> clock.advance(10)
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        """Real monotonic time: timeouts of handlers that really run are not simulated."""
        return time.monotonic()

    def frozen_now(self) -> datetime | None:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward by ``seconds`` (a negative number moves back)."""
        self._now += timedelta(seconds=seconds)
