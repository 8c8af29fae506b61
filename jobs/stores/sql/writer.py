"""SQLite's only writer, queued for within the process instead of by busy waiting."""

from __future__ import annotations

import threading

from jobs.core.errors import CapabilityError


class OnlyWriter:
    """A lock that knows whether a transactional handler holds it.

    Other processes still meet at the file's own lock, with its busy timeout.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hold: HandlerHold | None = None

    @property
    def held_by_handler(self) -> bool:
        return self._hold is not None

    def for_handler(self) -> HandlerHold:
        """Hold the writer for as long as a transactional handler runs, or until it is given up."""
        return HandlerHold(self)

    def acquire(self) -> None:
        """Wait for the writer; a CapabilityError for the handler that holds it already."""
        hold = self._hold
        if hold is not None and hold.thread == threading.get_ident():
            raise CapabilityError(
                "a transactional handler on SQLite holds the only writer: write through "
                "ctx.session (and enqueue with session=ctx.session)"
            )
        self._lock.acquire()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def take(self, hold: HandlerHold) -> None:
        """Wait for the writer, and note who has it."""
        self.acquire()
        self._hold = hold

    def give_back(self, hold: HandlerHold) -> None:
        """Free the writer, once: a handler that was given up does not free it for its successor."""
        with hold.mutex:
            if self._hold is hold:
                self._hold = None
                self._lock.release()


class HandlerHold:
    """One handler's turn with the writer; another thread may end it."""

    def __init__(self, writer: OnlyWriter) -> None:
        self._writer = writer
        self.mutex = threading.Lock()
        self.thread = threading.get_ident()

    def __enter__(self) -> HandlerHold:
        self._writer.take(self)
        return self

    def release(self) -> None:
        """End the turn; harmless when it has ended."""
        self._writer.give_back(self)

    def __exit__(self, *_: object) -> None:
        self.release()
