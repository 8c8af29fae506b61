"""SQLite's only writer, queued for within the process instead of by busy waiting."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from jobs.core.errors import CapabilityError


class OnlyWriter:
    """A lock that knows whether a transactional handler holds it.

    Other processes still meet at the file's own lock, with its busy timeout.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handler_thread: int | None = None

    @property
    def held_by_handler(self) -> bool:
        return self._handler_thread is not None

    @contextlib.contextmanager
    def for_handler(self) -> Iterator[None]:
        """Hold the writer for as long as a transactional handler runs."""
        with self:
            self._handler_thread = threading.get_ident()
            try:
                yield
            finally:
                self._handler_thread = None

    def __enter__(self) -> None:
        if self._handler_thread == threading.get_ident():
            raise CapabilityError(
                "a transactional handler on SQLite holds the only writer: write through "
                "ctx.session (and enqueue with session=ctx.session)"
            )
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
