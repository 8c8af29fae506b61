"""One event loop for all async handlers, in a thread of its own, begun when first needed."""

from __future__ import annotations

import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


class Escaped(Exception):
    """Carries what would have ended the loop, and with it every other handler on it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(error)


async def _contained(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        # asyncio lets these two out of a task and through run_forever.
        raise Escaped(error) from error


class LoopThread:
    """Async clients that a handler keeps between jobs stay on the loop they were made on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run on the loop; cancelling the future cancels the coroutine there."""
        import asyncio  # late, here and below: most deployments have no async handler

        return asyncio.run_coroutine_threadsafe(_contained(work), self._running_loop())

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        import asyncio

        with self._lock:
            # After a fork only the forking thread lives on, so the thread is asked, not the loop.
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="tickwork-async", daemon=True
                )
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """Stop the loop; what still runs on it is cancelled."""
        with self._lock:
            if self._loop is not None and self._thread is not None and self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join(timeout=5)
                if not self._loop.is_running():
                    self._loop.close()
            self._loop = self._thread = None
