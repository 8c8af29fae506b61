"""What must never be seen, whatever the model says: the promises, from what a store shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

from jobs.core.job import TERMINAL, Job, State
from jobs.testing.model import HANDLED, LIVE, QUEUES_AT_ONCE

Jobs = Mapping[str, Job]


def ends_stand(before: Jobs, after: Jobs, retried: Collection[str]) -> None:
    """A job that has ended stays as it ended, unless somebody asked for it once more."""
    for job_id, was in before.items():
        now = after.get(job_id)
        if now is not None and was.state in TERMINAL and job_id not in retried:
            assert now == was, f"a job that had ended was changed: {was} is now {now}"


def fences_rise(before: Jobs, after: Jobs) -> None:
    """A fence never falls, and rises by one at a time."""
    for job_id, now in after.items():
        fence = before[job_id].fence if job_id in before else 0
        assert fence <= now.fence <= fence + 1, f"the fence went from {fence} to {now.fence}: {now}"


def attempts_are_within_budget(after: Jobs) -> None:
    """No job has more attempts than it may have, or fewer than none."""
    for job in after.values():
        assert 0 <= job.attempts <= job.max_attempts, f"attempts beyond the budget: {job}"


def ends_are_whole(after: Jobs) -> None:
    """Who has ended has a time for it, and is held by nobody; who has not, has none."""
    for job in after.values():
        ended = job.state in TERMINAL
        assert (job.finished_at is not None) == ended, f"state and finish disagree: {job}"
        held = job.lease_until is not None
        assert held == (job.state is State.PROCESSING), f"state and lease disagree: {job}"


def keys_are_unique(after: Jobs) -> None:
    """A unique key has at most one live job, an alias at most one at all."""
    live = Counter(
        (job.tenant, job.kind, job.dedupe_key)
        for job in after.values()
        if job.dedupe_key is not None and job.state in LIVE
    )
    aliases = Counter((job.tenant, job.alias) for job in after.values() if job.alias is not None)
    twice = [name for name, count in [*live.items(), *aliases.items()] if count > 1]
    assert not twice, f"held by more than one job: {twice}"


def limits_hold(after: Jobs) -> None:
    """No more run at once than may; stalled ones count, as their handlers may still run."""
    running = [job for job in after.values() if job.state is State.PROCESSING]
    for queue, most in QUEUES_AT_ONCE.items():
        count = sum(job.queue == queue for job in running)
        assert most is None or count <= most, f"{count} run in {queue}, where {most} may"
    for kind in HANDLED.values():
        same = [job for job in running if job.kind == kind.name]
        most = kind.at_once
        assert most is None or len(same) <= most, f"{len(same)} {kind.name} run, where {most} may"
        owners = Counter((job.tenant, job.concurrency_key) for job in same)
        del owners["", None]
        for owner, count in owners.items():
            most = kind.per_key
            assert most is None or count <= most, f"{count} of {owner} run, where {most} may"


def rates_hold(claims: Sequence[tuple[datetime, str]]) -> None:
    """In no window, wherever it begins, did more start than may. Claims in order of time."""
    for kind in HANDLED.values():
        if kind.rate is None:
            continue
        most, seconds = kind.rate
        instants = [at for at, name in claims if name == kind.name]
        for first, beyond in zip(instants, instants[most:], strict=False):
            assert beyond - first >= timedelta(seconds=seconds), (
                f"{most + 1} {kind.name} claimed from {first} to {beyond}"
            )


def removals_are_right(before: Jobs, after: Jobs, may_go: Callable[[Job], bool]) -> None:
    """Only what may go has gone."""
    for job_id, was in before.items():
        assert job_id in after or may_go(was), f"a row is gone that should not be: {was}"
