"""Bull's words at the edge: states, and counts by queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from jobs.core.controls import state_now
from jobs.core.job import Job, bull_state
from jobs.managing import Managing

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


def by_queue(
    counts: Mapping[tuple[str, str, str], int], queues: Iterable[str]
) -> dict[str, dict[str, int]]:
    """Counts in Bull's words for each queue; those without jobs have zeros."""
    found = {
        queue: dict.fromkeys(COUNTED, 0) for queue in sorted({*queues, *(k[0] for k in counts)})
    }
    for (queue, _kind, shown), count in counts.items():
        word = bull_state(shown)
        if word in COUNTED:  # Bull knows no cancelled jobs
            found[queue][word] += count
    return found


def totals(queues: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """The sums over all queues."""
    return {word: sum(counts[word] for counts in queues.values()) for word in COUNTED}


def declared_queues(desk: Managing) -> set[str]:
    """The queues that the code of this deployment names."""
    tickwork = desk.tickwork
    return {*tickwork.queues(), *(handler.queue for handler in tickwork.registry)}
