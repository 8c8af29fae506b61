"""Connections that several mails go over.

A tick sends its mails over few connections instead of greeting the server for each. A connection
that nobody has used for some seconds is closed, so none outlives its tick for long; one that has
died meanwhile is found out before a mail is given to it, and renewed.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

IDLE_SECONDS: Final = 5.0
MAILS_PER_CONNECTION: Final = 100
"""Servers end a connection after a number of mails of their own, often 100."""

Times = tuple[float, ...]


class Connection(Protocol):
    """A connection to some server; `mails` is how many went over it."""

    mails: int

    def is_usable(self) -> bool:
        """Whether the other side still answers, and expects a new mail."""
        ...

    def close(self) -> None:
        """Say goodbye and close; never raises."""
        ...


C = TypeVar("C", bound=Connection)


class _Idle(NamedTuple):
    place: str
    connection: Connection
    since: Times


def two_clocks() -> Times:
    """Seconds by both clocks: either may stand still while a function is frozen."""
    return time.monotonic(), time.time()


class Pool(Generic[C]):
    """Idle connections by the place that they lead to. Safe to use from several threads.

    idle_seconds: how long one may lie unused
    clocks: the time, in seconds, by one clock or more; the longest of the waits counts
    """

    def __init__(
        self, idle_seconds: float = IDLE_SECONDS, clocks: Callable[[], Times] = two_clocks
    ) -> None:
        self._idle_seconds = idle_seconds
        self._clocks = clocks
        self._forget()
        atexit.register(self.close_all)
        if hasattr(os, "register_at_fork"):
            # A child that used its parent's connection would speak into the same conversation.
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []
        self._timer: threading.Timer | None = None

    def take(self, place: str, connect: Callable[[], C]) -> C:
        """Return a connection to the place that answers: an idle one, or a new one.

        place: whither, as a text that equal places share
        connect: makes a new one; what it raises is passed on
        The caller gives it back with `give_back`, or closes it.
        """
        while (idle := self._pop(place)) is not None:
            if not self._is_old(idle) and idle.connection.is_usable():
                return idle.connection  # type: ignore[return-value]
            idle.connection.close()
        return connect()

    def give_back(self, place: str, connection: C) -> None:
        """Keep a connection that is ready for another mail, unless it has carried enough."""
        if connection.mails >= MAILS_PER_CONNECTION:
            connection.close()
            return
        with self._lock:
            self._idle.append(_Idle(place, connection, self._clocks()))
            self._set_timer()

    def close_idle(self) -> None:
        """Close what has lain unused for too long, and look again later if something is left."""
        with self._lock:
            self._timer = None
            old = [each for each in self._idle if self._is_old(each)]
            self._idle = [each for each in self._idle if each not in old]
            if self._idle:
                self._set_timer()
        for each in old:
            each.connection.close()

    def close_all(self) -> None:
        """Close everything that lies unused."""
        with self._lock:
            everything, self._idle = self._idle, []
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        for each in everything:
            each.connection.close()

    def _pop(self, place: str) -> _Idle | None:
        # The one used last: it is the least likely to be stale, and the others can grow old.
        with self._lock:
            for at in reversed(range(len(self._idle))):
                if self._idle[at].place == place:
                    return self._idle.pop(at)
        return None

    def _is_old(self, idle: _Idle) -> bool:
        waits = [now - since for now, since in zip(self._clocks(), idle.since, strict=True)]
        return max(waits) >= self._idle_seconds

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(self._idle_seconds, self.close_idle)
            self._timer.daemon = True
            with suppress(RuntimeError):  # no thread can be started while the process ends
                self._timer.start()
