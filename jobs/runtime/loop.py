"""One event loop for all async handlers, in a thread of its own, begun when first needed.

A handler that blocks it stops all the others: such a loop is left to it, and a new one begun.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("tickwork.loop")
# A loop that does not answer for so long, when a coroutine on it is overdue, is blocked.
ANSWER_SECONDS = 0.1


class Escaped(Exception):
    """Carries what would have ended the loop, and with it every other handler on it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(error)


# The tasks that a handler makes inherit it: whichever of them blocks, its submission is known.
_submission: ContextVar[Submission] = ContextVar("tickwork_submission")


class Lane:
    """One event loop and its thread.

    ``abandoned`` once it was found blocked; ``culprit`` is then the submission that blocks it,
    where that could be told.
    """

    def __init__(self) -> None:
        import asyncio  # late, here and below: most deployments have no async handler

        self.loop = asyncio.new_event_loop()
        self.tasks: set[asyncio.Task[Any]] = set()  # of submissions; used on the loop only
        self.owners: WeakKeyDictionary[asyncio.Future[Any], Submission] = WeakKeyDictionary()
        self.loop.set_task_factory(self._new_task)
        self.abandoned = False
        self.culprit: Submission | None = None
        self.thread = threading.Thread(target=self._run, name="tickwork-async", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.loop.run_forever()
        if self.abandoned:
            self.loop.close()

    def _new_task(
        self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any
    ) -> asyncio.Task[Any]:
        import asyncio

        task = asyncio.Task(work, loop=loop, **options)
        owner = _submission.get(None)
        if owner is not None:
            self.owners[task] = owner
        return task

    def blocker(self) -> asyncio.Task[Any] | None:
        """The task that keeps the loop from answering within ``ANSWER_SECONDS``, if one does."""
        import asyncio

        if not self.thread.is_alive():
            return None
        task = asyncio.current_task(self.loop)
        answered = threading.Event()
        try:
            self.loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # closed meanwhile
            return None
        if answered.wait(ANSWER_SECONDS):
            return None
        # Another task than before means that the loop is slow, not stuck.
        return task if task is asyncio.current_task(self.loop) else None

    async def wind_down(self) -> None:
        """End the thread once the blocked loop moves again and its submissions have ended."""
        import asyncio

        while self.tasks:
            await asyncio.wait(self.tasks)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
        self.loop.stop()


class Submission:
    """A coroutine on a loop. ``begin`` is called there at its first step, and may refuse it."""

    __slots__ = ("begin", "future", "lane", "work")

    def __init__(
        self, lane: Lane, work: Coroutine[Any, Any, Any], begin: Callable[[], None]
    ) -> None:
        import asyncio

        self.lane = lane
        self.work = work
        self.begin = begin
        self.future: Future[Any] = asyncio.run_coroutine_threadsafe(self._contained(), lane.loop)

    async def _contained(self) -> Any:
        import asyncio

        task = asyncio.current_task()
        assert task is not None
        self.lane.tasks.add(task)
        self.lane.owners[task] = self
        _submission.set(self)
        try:
            self.begin()
            return await self.work
        except (SystemExit, KeyboardInterrupt) as error:
            # asyncio lets these two out of a task and through run_forever.
            raise Escaped(error) from error
        finally:
            self.work.close()  # refused, it was never awaited
            self.lane.tasks.discard(task)


class LoopThread:
    """Async clients that a handler keeps between jobs stay on the loop they were made on.

    Only a loop that a handler blocks is left behind, with what is on it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lane: Lane | None = None

    def submit(
        self, work: Coroutine[Any, Any, Any], begin: Callable[[], None] = lambda: None
    ) -> Submission:
        """Run on the loop; cancelling the future cancels the coroutine there.

        ``begin`` is called on the loop when the coroutine is about to take its first step; what it
        raises is raised in its place.
        """
        with self._lock:  # so that nothing comes to a lane after it was told to wind down
            # After a fork only the forking thread lives on, so the thread is asked, not the loop.
            if self._lane is None or not self._lane.thread.is_alive():
                self._lane = Lane()
            return Submission(self._lane, work, begin)

    def replace_if_blocked(self, lane: Lane) -> threading.Thread | None:
        """Leave a blocked loop behind; the next submission goes to a new one.

        Returns the thread that was abandoned by this call, if one was.
        """
        if lane.abandoned:
            return None
        blocker = lane.blocker()
        return None if blocker is None else self.replace(lane, lane.owners.get(blocker))

    def replace(self, lane: Lane, culprit: Submission | None) -> threading.Thread | None:
        """Leave a loop behind; returns its thread, or ``None`` if it was left before."""
        with self._lock:
            if lane.abandoned:
                return None
            lane.culprit = culprit
            lane.abandoned = True
            if self._lane is lane:
                self._lane = None
            lane.loop.call_soon_threadsafe(lambda: lane.loop.create_task(lane.wind_down()))
        log.warning("a handler blocks the event loop; the next async jobs get another one")
        return lane.thread

    def close(self) -> None:
        """Stop the loop; what still runs on it is cancelled."""
        with self._lock:
            lane, self._lane = self._lane, None
            if lane is not None and lane.thread.is_alive():
                lane.loop.call_soon_threadsafe(lane.loop.stop)
                lane.thread.join(timeout=5)
                if not lane.loop.is_running():
                    lane.loop.close()
