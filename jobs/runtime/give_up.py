"""Give up: what a person does to a job that is not worth another attempt. It fails, and says so."""

from __future__ import annotations

from jobs.core.codec import clean_text, cut
from jobs.core.controls import NAME_MAX_CHARS, REASON_MAX_CHARS, checked_text
from jobs.core.errors import JobStateConflict
from jobs.core.job import TERMINAL, Job, State
from jobs.core.outcome import DISCARDED, MESSAGE_MAX_BYTES, with_note
from jobs.runtime.base import Runtime
from jobs.runtime.steer import end_groups, one

_TRIES = 3  # it may be claimed, or end, while we look


def discard(
    runtime: Runtime, job_id: str, *, by: str | None, because: str | None, tenant: str | None
) -> Job:
    """End a job that waits as failed, with who gave it up and why; returns it as it then stands."""
    by = checked_text("by", by, NAME_MAX_CHARS)
    because = checked_text("because", because, REASON_MAX_CHARS)
    said = clean_text(
        "given up" + (f" by {by}" if by else "") + (f": {because}" if because else "")
    )
    error = cut(f"{DISCARDED}: {said}", MESSAGE_MAX_BYTES)
    job = one(runtime, job_id, tenant)
    for attempt in range(_TRIES):
        if attempt and job.state is State.FAILED and job.error == error:
            break  # it was written, though the answer was lost
        _check_waits(job)
        errors = with_note(job.errors, job.attempts, runtime.clock.now(), DISCARDED, said)
        keep = runtime.policy(job.kind, job.queue).keep_failed_seconds
        is_written = runtime.store.discard(job, error, errors, keep)
        job = one(runtime, job.id, None)
        if is_written:
            break
    else:
        _check_waits(job)
        raise JobStateConflict(job.id, job.state, "discarded", "somebody changes it: try again")
    if job.group_id is not None:
        end_groups(runtime, [job.group_id])
    return job


def _check_waits(job: Job) -> None:
    if job.state is State.PROCESSING:
        raise JobStateConflict(
            job.id, job.state, "discarded", "cancel it: it is asked to stop, and is not tried again"
        )
    if job.state in TERMINAL:
        raise JobStateConflict(job.id, job.state, "discarded", "it has ended already")
