"""Drain: tick after tick until nothing is due, the next one begun while the last one writes.

When the handlers of a tick have ended, what is left of it is the database's work. Another thread
claims and runs the next batch meanwhile, so that runner and database both keep busy. Handlers of
two ticks never run side by side: ``JOBS_CONCURRENCY`` holds as in a single tick.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from jobs.core.store import Capability
from jobs.runtime.base import Runtime
from jobs.runtime.tick import TickResult, run_tick


def drain(
    runtime: Runtime,
    *,
    limit: int | None = None,
    time_budget: float | None = None,
    tick_limit: float | None = None,
    slots: int | None = None,
    trigger: str = "call",
) -> list[TickResult]:
    """Tick until nothing is due; the ticks' results, as they ended.

    Stops as well when a tick only put off what is due, since that could go on for ever: the last
    result then says what remains. Durations in seconds, for each tick, settings by default.
    """

    def tick(handlers_ended: Callable[[], None]) -> TickResult:
        return run_tick(
            runtime,
            limit=limit,
            time_budget=time_budget,
            tick_limit=tick_limit,
            slots=slots,
            handlers_ended=handlers_ended,
            trigger=trigger,
            gather=True,
        )

    # One claims and runs, one writes; a third would only wait. With one writer, so would a second.
    ticks_at_once = 2 if Capability.CONCURRENT_WRITERS in runtime.store.capabilities else 1
    results: list[TickResult] = []
    try:
        # Of two ticks that overlapped, the one that found nothing may have ended last.
        while not results or any(map(is_worth_another, results[-ticks_at_once:])):
            results += _Relay(tick, ticks_at_once).run()
    finally:
        runtime.recorder.flush(runtime.store)
    return in_order(results, ticks_at_once)


def in_order(results: list[TickResult], ticks_at_once: int) -> list[TickResult]:
    """``results`` with the last word on what remains at their end.

    A tick that found nothing while the one beside it was still writing does not know what that one
    put off. It changed nothing either, so the other's count holds.
    """
    last = sorted(results[-ticks_at_once:], key=found_any)
    return [*results[:-ticks_at_once], *last]


def found_any(result: TickResult) -> bool:
    """Whether there was anything for the tick to do, or to leave."""
    return bool(result.processed or result.late or result.released or result.remaining)


def is_worth_another(result: TickResult) -> bool:
    """Whether something is still due after a tick that got anywhere."""
    return result.remaining > 0 and moved(result)


def moved(result: TickResult) -> bool:
    """Whether the tick got anywhere: jobs that were only put off could be put off for ever."""
    return result.processed > result.snoozed or bool(result.cancelled or result.late)


class _Relay:
    """Ticks in turns; who holds the baton claims and runs, and passes it on before writing."""

    def __init__(
        self, tick: Callable[[Callable[[], None]], TickResult], ticks_at_once: int
    ) -> None:
        self._tick = tick
        self._ticks_at_once = ticks_at_once
        self._baton = threading.Lock()
        self._over = False
        self._results: list[TickResult] = []
        self._error: BaseException | None = None

    def run(self) -> list[TickResult]:
        """Tick until one leaves nothing due or got nowhere; raises what a tick raised."""
        runners = [
            threading.Thread(target=self._run, name="tickwork-drain", daemon=True)
            for _ in range(self._ticks_at_once)
        ]
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join()
        if self._error is not None:
            raise self._error
        return self._results

    def _run(self) -> None:
        while True:
            self._baton.acquire()
            if self._over:
                self._baton.release()
                return
            pass_on = _Once(self._baton.release)
            try:
                result = self._tick(pass_on)
            except BaseException as error:  # noqa: BLE001 - raised where the drain was called
                self._error = error
                self._over = True
            else:
                self._results.append(result)
                if not is_worth_another(result):
                    self._over = True
            finally:
                pass_on()


class _Once:
    """A function that does something at its first call only."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act

    def __call__(self) -> None:
        act, self._act = self._act, None
        if act is not None:
            act()
