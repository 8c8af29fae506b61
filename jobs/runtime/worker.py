"""The worker: a long-running process that does what ticks do, side by side with them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jobs.core.deadline import WORKER_LEASE_SECONDS
from jobs.core.doorbell import Ring
from jobs.runtime.base import Runtime
from jobs.runtime.stream import Stream

log = logging.getLogger("tickwork.worker")


class Listener(Protocol):
    """What hears a doorbell; losing a ring costs at most a poll interval."""

    def start(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` at every ring from now on, from a thread of its own."""
        ...

    def describe(self) -> str:
        """Whether it hears, in a few words."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """What a worker did in a span of time, and how it stands at its end.

    ``trouble`` says why jobs wait, if the database could not be asked; ``doorbell`` what wakes it.
    """

    seconds: float
    started: int
    succeeded: int
    failed: int
    retried: int
    snoozed: int
    released: int
    cancelled: int
    late: int
    reclaimed: int
    running: int
    slots: int
    doorbell: str
    trouble: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As one line of ``tickwork worker --json``."""
        return {name: getattr(self, name) for name in self.__slots__}


class Worker:
    """Claims and runs jobs in this process until it is told to stop.

    It keeps its slots full, looks every ``JOBS_POLL_INTERVAL`` and when something is due, and at
    once when its listener hears a ring or a job is enqueued in this very process.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        slots: int | None = None,
        kinds: Collection[str] | None = None,
        queues: Collection[str] | None = None,
        lease_seconds: float = WORKER_LEASE_SECONDS,
        listener: Listener | None = None,
        when_ended: Callable[[], None] | None = None,
    ) -> None:
        """``slots`` is how many jobs run at once, ``JOBS_CONCURRENCY`` by default.

        ``when_ended`` is called from the worker's thread as its last act.
        """
        self.slots = slots or runtime.settings.concurrency
        self.error: BaseException | None = None
        self.has_ended = False  # before its thread has, which calls ``when_ended`` as its last act
        self._runtime = runtime
        self._listener = listener
        self._when_ended = when_ended
        self._stream = Stream(
            runtime, slots=self.slots, kinds=kinds, queues=queues, lease_seconds=lease_seconds
        )
        self._thread = threading.Thread(target=self._run, name="tickwork-worker", daemon=True)
        self._since = runtime.clock.monotonic()

    @property
    def is_running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._thread.is_alive() and not self.has_ended

    @property
    def leaves_threads(self) -> bool:
        """Whether handlers that were given up on still run: threads that nobody can end."""
        return self._runtime.still_abandoned() > 0

    @property
    def is_clogged(self) -> bool:
        """Whether it ended because too many given-up handlers still run in this process."""
        return self._stream.is_clogged

    def start(self) -> None:
        """Begin, in a thread of its own."""
        if self._listener is not None:
            self._listener.start(self._stream.wake)
        outer = self._runtime.doorbell
        # What a handler here enqueues needs no way round.
        self._runtime.doorbell = _Beside(outer, self._stream.wake)
        self._thread.start()

    def wake(self) -> None:
        """Look for due jobs now. Not for signal handlers: it takes a lock."""
        self._stream.wake()

    def stop(self, grace_seconds: float) -> None:
        """Start no more jobs; what still runs after the grace is given up on, and retried.

        What was claimed and has not begun goes back at once, attempt included. One that is given up
        on has used an attempt, as after a timeout. Returns at once: see :meth:`wait`.
        """
        runtime = self._runtime
        runtime.give_up_at = min(runtime.give_up_at, runtime.clock.monotonic() + grace_seconds)
        runtime.stopping.set()
        self._stream.wake()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for its end; whether it has ended, with all ends written unless ``error`` is set."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def take_stats(self) -> WorkerStats:
        """What was done since the last call, or since the start."""
        now = self._runtime.clock.monotonic()
        seconds, self._since = now - self._since, now
        tally = self._stream.take_tally()
        ended = tally.ended
        return WorkerStats(
            seconds=round(seconds, 1),
            started=tally.started,
            succeeded=ended["completed"],
            failed=ended["failed"],
            retried=ended["retried"],
            snoozed=ended["snoozed"] + ended["continued"],
            released=ended["released"],
            cancelled=ended["cancelled"],
            late=tally.late,
            reclaimed=tally.reclaimed,
            running=self._stream.running,
            slots=self.slots,
            doorbell="polling" if self._listener is None else self._listener.describe(),
            trouble=self._stream.trouble,
        )

    def _run(self) -> None:
        try:
            self._stream.run()
        except BaseException as error:  # noqa: BLE001 - told by whoever waits for the end
            self.error = error
        finally:
            if self._listener is not None:
                self._listener.close()
            self.has_ended = True
            if self._when_ended is not None:
                self._when_ended()


class _Beside:
    """The doorbell that was there before, and the worker of this process."""

    def __init__(self, outer: Any, wake: Callable[[], None]) -> None:
        self._outer = outer
        self._wake = wake

    def ring(self, rings: Sequence[Ring]) -> Any:
        if any(each.delay_seconds <= 0 for each in rings):
            self._wake()
        return self._outer.ring(rings)

    def close(self) -> None:
        if callable(close := getattr(self._outer, "close", None)):
            close()
