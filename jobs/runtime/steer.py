"""Steer: what people do to jobs that are there. Retried, cancelled, cleaned, emptied, put back.

Many jobs are gone through in bounded batches, oldest first: ids are looked for without locks, and
each is then changed only if it still is what it was found to be. So nothing here can touch a job
that ran, or was retried, in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypedDict

from jobs.core.controls import NAME_MAX_CHARS, checked_text
from jobs.core.doorbell import Ring, SilentDoorbell
from jobs.core.errors import ConfigurationError, JobNotFound, JobStateConflict
from jobs.core.job import TERMINAL, Claimed, Job, State
from jobs.core.names import EVERY_QUEUE, check_kind, check_queue, check_tenant
from jobs.core.outcome import RESET, RETRIED, Outcome, with_note
from jobs.core.registry import check_max_attempts
from jobs.core.store import JobFilter, Revival, Verdict
from jobs.runtime.base import Runtime
from jobs.runtime.enqueue import Seconds, announce_inserted, in_utc, seconds_of
from jobs.runtime.execute import tell
from jobs.runtime.ring import ring, ring_settled, with_rings
from jobs.runtime.settle import settle_all
from jobs.runtime.unique import find_job

log = logging.getLogger("tickwork.steer")
IDS_PER_BATCH = 1000
# Whole jobs, payloads included, are held in memory at once.
JOBS_PER_BATCH = 200
# Of the groups whose jobs many were: a few statements each. Ticks find the ends of the others.
GROUPS_AT_ONCE = 200


class Which(TypedDict, total=False):
    """Which jobs are meant; what is left out means any.

    ``queue`` ``all`` is every queue, ``error`` text that the last error holds, ``older_than`` how
    long ago the job ended (or was enqueued, if it has not): seconds or a timedelta.
    """

    kind: str | None
    queue: str | None
    tenant: str | None
    error: str | None
    older_than: Seconds | None


def filter_of(state: State | str | None, which: Which) -> JobFilter:
    """The filter, or a ConfigurationError for what makes none."""
    if not which.keys() <= Which.__annotations__.keys():
        unknown = ", ".join(sorted(which.keys() - Which.__annotations__.keys()))
        raise ConfigurationError(
            f"jobs are not told by {unknown}, but by {', '.join(Which.__annotations__)}"
        )
    kind, queue, tenant = which.get("kind"), which.get("queue"), which.get("tenant")
    return JobFilter(
        None if state is None else state_of(state),
        kind=None if kind is None else check_kind(kind),
        queue=None if queue is None or queue == EVERY_QUEUE else check_queue(queue),
        tenant=None if tenant is None else check_tenant(tenant),
        error=which.get("error"),
        older_than_seconds=seconds_of("older_than", which.get("older_than")),
    )


def state_of(name: State | str) -> State:
    """The stored state of that name, or a ConfigurationError."""
    try:
        return State(name)
    except ValueError:
        raise ConfigurationError(f"{name!r} is not a state: there are {', '.join(State)}") from None


# -- those that somebody has chosen ------------------------------------------------------------


def retry_these(
    runtime: Runtime,
    ids: Sequence[str],
    *,
    by: str | None,
    attempts: int | None,
    per_second: float | None,
) -> int:
    """Put those of these jobs that failed or were cancelled back to pending; returns how many."""
    done = seen = 0
    _check_pace(per_second)
    for some in _in_chunks(sorted(ids), JOBS_PER_BATCH):
        where = JobFilter(ids=tuple(some), after_id="")
        jobs = runtime.store.list(where, len(some))
        ended = [job for job in jobs if job.state in (State.FAILED, State.CANCELLED)]
        delays = _paced(seen, len(ended), per_second)
        done += _revive(runtime, ended, delays, attempts=attempts, by=by)
        seen += len(ended)
    return done


def _check_pace(per_second: float | None) -> None:
    if per_second is not None and not 0 < per_second < float("inf"):
        raise ConfigurationError(f"per_second is a number above 0, not {per_second!r}")


def _paced(seen: int, count: int, per_second: float | None) -> list[float]:
    """The delays in seconds of the next ``count`` jobs, after ``seen`` others."""
    if per_second is None:
        return [0.0] * count
    return [place / per_second for place in range(seen, seen + count)]


def cancel_these(runtime: Runtime, ids: Sequence[str]) -> int:
    """Cancel those of these jobs that have not ended; returns how many."""
    return sum(runtime.store.cancel_many(some) for some in _in_chunks(ids, IDS_PER_BATCH))


def remove_these(runtime: Runtime, ids: Sequence[str], state: State | None = None) -> int:
    """Delete those of these jobs that do not run, or that are in ``state``; returns how many.

    Where a state of an end is named, jobs of groups that have not ended stay.
    """
    removable = [each for each in State if each is not State.PROCESSING and state in (None, each)]
    age = 0.0 if state in TERMINAL else None
    return sum(
        runtime.store.remove(some, removable, ended_for_seconds=age)
        for some in _in_chunks(ids, IDS_PER_BATCH)
    )


def ids_of(runtime: Runtime, where: JobFilter, limit: int) -> list[str]:
    """The ids of the first ``limit`` jobs of a filter, oldest first."""
    return [job_id for ids in _found(runtime, where, limit) for job_id in ids]


def _in_chunks(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for begin in range(0, len(ids), size):
        yield ids[begin : begin + size]


# -- away with them ----------------------------------------------------------------------------


def clean(runtime: Runtime, grace: Seconds, limit: int, state: State | str, which: Which) -> int:
    """Delete ended jobs of a state that ended ``grace`` ago or earlier; returns how many."""
    ended = state_of(state)
    if ended not in TERMINAL:
        mend = "empty() takes away what waits" if ended is State.PENDING else "cancel it first"
        raise ConfigurationError(
            f"clean() takes away jobs that have ended (completed, failed, cancelled): {mend}"
        )
    if isinstance(limit, bool) or limit < 0:
        raise ConfigurationError(f"limit is a whole number, 0 for no limit, not {limit!r}")
    seconds = seconds_of("grace", grace) or 0.0
    where = filter_of(ended, which)
    where = where._replace(older_than_seconds=max(seconds, where.older_than_seconds or 0.0))
    age = where.older_than_seconds
    return sum(  # jobs of groups that have not ended stay, so no group's end is near
        runtime.store.remove(ids, [ended], ended_for_seconds=age)
        for ids in _found(runtime, where, limit or None)
    )


def empty(runtime: Runtime, which: Which) -> int:
    """Delete every job that waits, delayed ones too; returns how many. Running ones stay."""
    return _in_batches(
        runtime,
        filter_of(State.PENDING, which),
        lambda ids: runtime.store.remove(ids, [State.PENDING]),
    )


def remove(runtime: Runtime, job_id: str, tenant: str | None) -> Job:
    """Delete one job that does not run; returns what it was."""
    job = one(runtime, job_id, tenant)
    removable = [state for state in State if state is not State.PROCESSING]
    if job.state is State.PROCESSING or not runtime.store.remove([job.id], removable):
        now = runtime.store.get(job.id)
        if now is None:
            raise JobNotFound(job_id)
        raise JobStateConflict(
            job.id, now.state, "removed", "cancel it, and remove it once it has ended"
        )
    if job.group_id is not None:
        end_groups(runtime, [job.group_id])
    return job


def cancel_many(runtime: Runtime, state: State | str | None, which: Which) -> int:
    """Cancel the pending and the running of these; returns how many ended or were asked to stop."""
    wanted = None if state is None else state_of(state)
    if wanted in TERMINAL:
        raise ConfigurationError(f"jobs that are {wanted} have ended: there is nothing to cancel")
    states = [State.PENDING, State.PROCESSING] if wanted is None else [wanted]
    return sum(
        _in_batches(runtime, filter_of(each, which), runtime.store.cancel_many) for each in states
    )


def count(runtime: Runtime, where: JobFilter, cap: int) -> int:
    """How many jobs a filter finds, counted up to ``cap``."""
    return sum(len(ids) for ids in _found(runtime, where, cap))


def end_groups(runtime: Runtime, group_ids: Collection[str]) -> None:
    """End those of the groups whose jobs have all ended, and tell of what that enqueued."""
    if group_ids:
        ended = runtime.store.check_groups(len(group_ids), group_ids)
        announce_inserted(runtime, ended)


def _in_batches(runtime: Runtime, where: JobFilter, change: Callable[[Sequence[str]], int]) -> int:
    """Change what a filter finds, then end the groups that this leaves without unfinished jobs."""
    groups: set[str] = set()
    total = 0
    for ids in _found(runtime, where, None):
        if len(groups) < GROUPS_AT_ONCE:  # asked before the change, which may delete
            groups |= runtime.store.groups_of(ids)
        total += change(ids)
    end_groups(runtime, sorted(groups)[:GROUPS_AT_ONCE])
    return total


def _found(runtime: Runtime, where: JobFilter, limit: int | None) -> Iterator[list[str]]:
    """Ids in batches, oldest first."""
    after, left = "", limit
    while left is None or left > 0:
        size = IDS_PER_BATCH if left is None else min(IDS_PER_BATCH, left)
        ids = runtime.store.find(where._replace(after_id=after), size)
        if ids:
            yield ids
        if len(ids) < size:
            return
        after = ids[-1]
        left = None if left is None else left - size


# -- once more ---------------------------------------------------------------------------------


def retry(
    runtime: Runtime,
    job_id: str,
    *,
    run_at: datetime | None,
    attempts: int | None,
    force: bool,
    by: str | None,
    tenant: str | None,
) -> Job:
    """Put one job back to pending, or bring a pending one forward; returns it as it then stands."""
    delay = 0.0
    if run_at is not None:
        run_at = in_utc(run_at)
        delay = max(0.0, (run_at - runtime.store.now()).total_seconds())
    for _ in range(3):  # it may end, or be retried by somebody else, while we look
        job = one(runtime, job_id, tenant)
        if job.state is State.PROCESSING:
            raise JobStateConflict(job.id, job.state, "retried", "it is being worked on")
        if job.state is State.COMPLETED and not force:
            raise JobStateConflict(
                job.id, job.state, "retried", "force=True (--force) runs it once more all the same"
            )
        refused: dict[str, str] = {}
        if _revive(
            runtime, [job], [delay], attempts=attempts, by=by, run_at=run_at, refused=refused
        ):
            break
        if job.id in refused:
            holder = refused[job.id]
            raise JobStateConflict(
                job.id,
                job.state,
                "retried",
                "let that one end, or cancel it first",
                because=f"its dedupe_key {job.dedupe_key!r} is held by job {holder}",
            )
    return one(runtime, job_id, tenant)


def retry_many(
    runtime: Runtime,
    state: State | str,
    which: Which,
    *,
    attempts: int | None,
    per_second: float | None,
    limit: int | None,
    by: str | None,
) -> int:
    """Put the ended jobs of a filter back to pending, oldest first; returns how many."""
    ended = state_of(state)
    if ended not in (State.FAILED, State.CANCELLED):
        raise ConfigurationError(f"many are retried that failed or were cancelled, not {ended}")
    _check_pace(per_second)
    where, after = filter_of(ended, which), ""
    revived = seen = 0
    while limit is None or revived < limit:
        size = JOBS_PER_BATCH if limit is None else min(JOBS_PER_BATCH, limit - revived)
        jobs = runtime.store.list(where._replace(after_id=after), size)
        delays = _paced(seen, len(jobs), per_second)
        revived += _revive(runtime, jobs, delays, attempts=attempts, by=by)
        if len(jobs) < size:
            break
        after, seen = jobs[-1].id, seen + len(jobs)
    return revived


def _revive(
    runtime: Runtime,
    jobs: Sequence[Job],
    delays: Sequence[float],
    *,
    attempts: int | None,
    by: str | None,
    run_at: datetime | None = None,
    refused: dict[str, str] | None = None,
) -> int:
    """Write it, with a note in each history, and ring for what is due."""
    by = checked_text("by", by, NAME_MAX_CHARS)
    if attempts is not None:
        check_max_attempts(attempts)
    if not jobs:
        return 0
    at = runtime.clock.now()
    verdicts = with_rings(
        runtime,
        [
            Verdict(job.id, job.fence, State.PENDING, delay_seconds=delay)
            for job, delay in zip(jobs, delays, strict=True)
        ],
    )
    revivals = [
        Revival(
            job,
            delay,
            max_attempts=attempts,
            errors=_noted(job, at, by),
            ring_after_seconds=verdict.ring_after_seconds,
        )
        for job, delay, verdict in zip(jobs, delays, verdicts, strict=True)
    ]
    written = runtime.store.revive(revivals, run_at=run_at, refused=refused)
    if written:
        _ring(runtime, jobs, delays, verdicts)
    return written


def _noted(job: Job, at: datetime, by: str | None) -> str | None:
    if job.state is State.PENDING:
        return None
    said = f"{job.state} after {job.attempts} of {job.max_attempts} attempts; retried"
    return with_note(job.errors, job.attempts, at, RETRIED, f"{said} by {by}" if by else said)


def _ring(
    runtime: Runtime, jobs: Sequence[Job], delays: Sequence[float], verdicts: Sequence[Verdict]
) -> None:
    if runtime.rules is not None:
        ring_settled(runtime, verdicts)
    elif not isinstance(runtime.doorbell, SilentDoorbell):
        rings = zip(jobs, delays, strict=True)
        ring(runtime, [Ring(job.id, job.kind, delay, tenant=job.tenant) for job, delay in rings])


def one(runtime: Runtime, job_id: str, tenant: str | None) -> Job:
    """The job by id or alias, or JobNotFound: also for one of another tenant, if one is named."""
    job = find_job(runtime.store, job_id, tenant)
    if job is None:
        raise JobNotFound(job_id)
    return job


# -- what was set meanwhile --------------------------------------------------------------------


def learn_queues(runtime: Runtime, *, at_once: bool = False) -> None:
    """Read what was set of queues at run time: for whoever never probes, and not at every turn."""
    now = runtime.clock.monotonic()
    if at_once or runtime.queues.is_stale(now):
        controls = runtime.store.controls()
        said = {each.subject: each.settings for each in controls if each.settings}
        runtime.queues.learn(said, now)


# -- put back ----------------------------------------------------------------------------------


def reset_stuck(runtime: Runtime, older_than: Seconds) -> int:
    """Put back jobs that have been running for so long, whatever their leases say.

    What still runs them is not stopped: its result is refused, but the job may run twice at once.
    The attempt counts as used, but for a job's last one, which it gets back: otherwise it could not
    run again. Returns how many.
    """
    seconds = seconds_of("older_than", older_than) or 0.0
    total = 0
    while True:
        stuck = runtime.store.stuck(seconds, JOBS_PER_BATCH)
        outcomes = [_put_back(runtime, job, seconds) for job in stuck]
        late = settle_all(runtime, outcomes) if outcomes else frozenset()
        for job, outcome in zip(stuck, outcomes, strict=True):
            if job.id not in late:
                log.warning("job %s: put back by hand after %g s in processing", job.id, seconds)
                tell(runtime, job, outcome)
        total += len(stuck) - len(late)
        if len(stuck) < JOBS_PER_BATCH or len(late) == len(stuck):
            return total


def _put_back(runtime: Runtime, job: Claimed, seconds: float) -> Outcome:
    message = f"put back by hand: in processing for over {timedelta(seconds=seconds)}"
    verdict = Verdict(
        job.id,
        job.fence,
        State.PENDING,
        error=f"{RESET}: {message}",
        errors=with_note(job.errors, job.attempt, runtime.clock.now(), RESET, message),
        delay_seconds=0.0,
        attempts_back=1 if job.attempt >= job.max_attempts else 0,
        keep_seconds=runtime.policy(job.kind, job.queue).keep_failed_seconds,
    )
    return Outcome("retried", verdict, job.kind)
