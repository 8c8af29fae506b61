"""Tick until nothing is left to do, moving a manual clock to whatever comes next."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from jobs.core.clock import ManualClock
from jobs.core.job import Job, State
from jobs.runtime.tick import TickResult
from jobs.system import Tickwork

PAGE_JOBS = 500


class NotDrained(AssertionError):
    """There was still something to do after the ticks that were allowed."""


def drain(tickwork: Tickwork, *, max_ticks: int = 100) -> list[TickResult]:
    """Tick until no job of a kind handled here is pending or running; returns the ticks' results.

    With a queue beside the table the ticks run the jobs once nobody else has come for them.

    On a :class:`ManualClock` time is moved to the next retry, delay or lease that runs out. On any
    other clock only what is due now is run. Raises :class:`NotDrained` after ``max_ticks`` ticks.
    """
    clock = tickwork._runtime.clock
    results: list[TickResult] = []
    while len(results) < max_ticks:
        result = tickwork.tick()
        results.append(result)
        if result.remaining or result.reclaimed:
            continue
        ahead = _next_instant(tickwork)
        if ahead is None:
            return results
        now = tickwork.store.now()
        if ahead <= now:
            continue
        if not isinstance(clock, ManualClock):
            return results
        clock.advance((ahead - now).total_seconds())
    left = ", ".join(f"{job.id} ({job.kind}, {job.state})" for job in _unfinished(tickwork))
    raise NotDrained(f"after {max_ticks} ticks there is still to do: {left or 'nothing'}")


def _next_instant(tickwork: Tickwork) -> datetime | None:
    # With a queue beside the table, ticks run only what has been due for some time.
    overdue = timedelta(seconds=tickwork._runtime.overdue_seconds)
    # A lease counts as run out only past its end.
    instants = [
        job.run_at + overdue
        if job.state is State.PENDING or job.lease_until is None
        else job.lease_until + timedelta(milliseconds=1)
        for job in _unfinished(tickwork)
    ]
    return min(instants, default=None)


def _unfinished(tickwork: Tickwork) -> Iterator[Job]:
    """Pending jobs of the kinds handled here, and running ones of any kind."""
    for state in (State.PENDING, State.PROCESSING):
        before_id = None
        while page := tickwork.list(state=state, before_id=before_id, limit=PAGE_JOBS):
            before_id = page[-1].id
            for job in page:
                if state is State.PROCESSING or job.kind in tickwork.registry.kinds:
                    yield job
