"""Bull's words at the edge: states, and counts by queue."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from jobs.core.controls import state_now
from jobs.core.job import Job, bull_state
from jobs.managing import Managing

# As the dashboard counts: what is behind it is told as "more".
COUNT_CAP = 10_000
COUNTED = ("waiting", "active", "completed", "failed", "delayed", "paused")
# The states as people are told them, behind each of Bull's.
SHOWN = {
    "waiting": ("pending",),
    "active": ("processing",),
    "delayed": ("delayed", "retrying"),
    "paused": ("paused",),
}


def job_told(desk: Managing, job: Job, now: datetime, paused: Iterable[str]) -> dict[str, Any]:
    """A job as it is shown, with its state in three words: stored, shown, and Bull's."""
    shown = state_now(job, now, frozenset(paused))
    return {**desk.shown(job), "shown_state": shown, "status": bull_state(shown)}


def told_now(desk: Managing, job: Job) -> dict[str, Any]:
    """The same, as of now."""
    store = desk.tickwork.store
    return job_told(desk, job, store.now(), store.paused())


Counts = dict[str, int]


def counted(desk: Managing, tenant: str | None) -> dict[str, Counts]:
    """Counts in Bull's words for each queue of the board and of the code, zeros included.

    A state is counted up to :data:`COUNT_CAP`; a queue of which one has more says so: ``more``.
    """
    board = desk.tickwork.store.board(COUNT_CAP, desk.whose(tenant), completed=True)
    names = {*declared_queues(desk), *(each.queue for each in board.counts)}
    found = {name: nothing() for name in sorted(names)}
    for each in board.counts:
        word = bull_state(each.shown)
        if word in COUNTED:  # Bull knows no cancelled jobs
            found[each.queue][word] += each.jobs
            if each.capped:
                found[each.queue]["more"] = True
    return found


def nothing() -> Counts:
    """The counts of a queue without jobs."""
    return dict.fromkeys(COUNTED, 0)


def totals(queues: Iterable[Counts]) -> Counts:
    """The sums over some queues."""
    counts = list(queues)
    total = {word: sum(each[word] for each in counts) for word in COUNTED}
    return {**total, "more": True} if any(each.get("more") for each in counts) else total


def with_total(counts: Counts) -> Counts:
    """The counts of a queue with the sum of all states."""
    return {**counts, "total": sum(counts[word] for word in COUNTED)}


def declared_queues(desk: Managing) -> set[str]:
    """The queues that the code of this deployment names."""
    tickwork = desk.tickwork
    return {*tickwork.queues(), *(handler.queue for handler in tickwork.registry)}
