"""At SIGTERM: start no more jobs, hand back what has not begun, and leave in time.

Vercel's Python gets SIGTERM and 500 ms, and its runtime does nothing with it; gunicorn's workers
have a grace of 30 s. Elsewhere a process that ends calls ``tickwork.stop_starting()`` itself.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from time import sleep as pause
from types import FrameType

from jobs.core.settings import on_platform
from jobs.system import Tickwork

log = logging.getLogger("tickwork.http")
# Of the 500 ms: when what runs is given up on, and when the process ends in any case. What lies
# between is for writing it down.
GIVE_UP_SECONDS = 0.25
LEAVE_SECONDS = 0.4
# For the answers of ticks that have ended to get away.
ANSWER_SECONDS = 0.05


class Busy:
    """How many calls this process answers, for those who wait for none: ``with busy: ...``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, timeout_seconds: float) -> bool:
        """Whether none is left, at the latest after ``timeout_seconds``."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, max(0.0, timeout_seconds))


def install(tickwork: Tickwork, busy: Busy, environ: Mapping[str, str] = os.environ) -> bool:
    """Listen to SIGTERM where nobody else does it for us; whoever listened before is called too.

    On Vercel, and in gunicorn's workers (with ``--preload`` they set their own afterwards). Returns
    whether it listens: only a process's main thread may.
    """
    on_vercel = on_platform(environ) and bool(environ.get("VERCEL"))
    if not on_vercel and "gunicorn" not in environ.get("SERVER_SOFTWARE", ""):
        return False
    if threading.current_thread() is not threading.main_thread():
        log.debug("not the main thread: SIGTERM is left to whoever listens")
        return False
    before = signal.getsignal(signal.SIGTERM)

    def end(number: int, frame: FrameType | None) -> None:
        tickwork.stop_starting(GIVE_UP_SECONDS if on_vercel else None)
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN:
            # A second one ends the process as if nobody listened.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            threading.Thread(target=_leave, args=(busy,), daemon=True).start()

    signal.signal(signal.SIGTERM, end)
    return True


def _leave(busy: Busy) -> None:
    """End with 0 once all is answered, or when the time is up: what was asked for is no failure."""
    if busy.wait(LEAVE_SECONDS):
        pause(ANSWER_SECONDS)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or nobody reads it any more
            stream.flush()
    # No other way out of a thread: the main one waits in the platform's own loop.
    os._exit(0)
