"""Jobs: one, a page of them, and many at once."""

from __future__ import annotations

from heapq import merge
from itertools import islice
from typing import Any

from jobs.choosing import Spread
from jobs.core.job import Job, State
from jobs.core.names import EVERY_QUEUE
from jobs.core.store import JobFilter
from jobs.http.manage.models import (
    BulkBody,
    BulkTold,
    JobsTold,
    JobTold,
    ListQuery,
    ReasonBody,
    RetryBody,
    WhyTold,
)
from jobs.http.manage.operations import Call, operation
from jobs.http.manage.words import SHOWN, job_told, told_now
from jobs.runtime.steer import Which


@operation(
    "List the jobs of a queue, newest first",
    "jobs",
    query=ListQuery,
    answers={200: JobsTold},
    problems=(404,),
)
def list_jobs(call: Call, queue: str, query: ListQuery) -> dict[str, Any]:
    """``all`` is every queue; ``next_cursor`` continues where the page ended."""
    where = JobFilter(
        kind=query.kind,
        queue=None if queue == EVERY_QUEUE else queue,
        tenant=query.tenant,
        before_id=query.cursor,
        error=query.error,
    )
    found = _page(call, where, query.status, query.limit + 1)
    more, page = len(found) > query.limit, found[: query.limit]
    store = call.tickwork.store
    now, paused = store.now(), store.paused()
    return {
        "jobs": [job_told(call.desk, job, now, paused) for job in page],
        "next_cursor": page[-1].id if more else None,
    }


def _page(call: Call, where: JobFilter, status: str | None, limit: int) -> list[Job]:
    if status is None:
        return call.desk.jobs(where, limit)
    if status not in SHOWN:
        return call.desk.jobs(where._replace(state=State(status)), limit)
    if status == "active":  # stalled ones too, which the clock tells from the others
        return call.desk.jobs(where._replace(state=State.PROCESSING), limit)
    pages = [call.desk.jobs(where._replace(shown=shown), limit) for shown in SHOWN[status]]
    newest_first = merge(*pages, key=lambda job: job.id, reverse=True)
    return list(islice(newest_first, limit))


@operation("Show a job", "jobs", answers={200: JobTold}, problems=(404,))
def get_job(call: Call, queue: str, job_id: str) -> dict[str, Any]:
    """By its id, or by the ``job_id`` it was enqueued with."""
    return told_now(call.desk, call.desk.job(job_id, queue))


@operation("Tell why a job is not running", "jobs", answers={200: WhyTold}, problems=(404,))
def why_job(call: Call, queue: str, job_id: str) -> dict[str, Any]:
    """The one reason, and all behind it."""
    job = call.desk.job(job_id, queue)
    return call.tickwork.why(job.id, tenant=job.tenant).as_dict()


@operation(
    "Retry a failed or cancelled job",
    "jobs",
    body=RetryBody,
    body_is_optional=True,
    answers={200: JobTold},
    problems=(404, 409),
)
def retry_job(call: Call, queue: str, job_id: str, body: RetryBody) -> dict[str, Any]:
    """It begins anew; a delayed one falls due now."""
    job = call.desk.retry(
        job_id,
        queue,
        run_at=body.run_at,
        attempts=body.attempts,
        force=body.force,
        reason=body.reason,
    )
    return told_now(call.desk, job)


@operation(
    "Cancel a job",
    "jobs",
    body=ReasonBody,
    body_is_optional=True,
    answers={200: JobTold},
    problems=(404, 409),
)
def cancel_job(call: Call, queue: str, job_id: str, body: ReasonBody) -> dict[str, Any]:
    """At once if it waits, else by asking it to stop."""
    return told_now(call.desk, call.desk.cancel(job_id, queue, reason=body.reason))


@operation(
    "Give up a job that waits",
    "jobs",
    body=ReasonBody,
    body_is_optional=True,
    answers={200: JobTold},
    problems=(404, 409),
)
def discard_job(call: Call, queue: str, job_id: str, body: ReasonBody) -> dict[str, Any]:
    """It has failed for good; its history tells who gave it up, and why."""
    return told_now(call.desk, call.desk.discard(job_id, queue, reason=body.reason))


@operation("Delete a job that does not run", "jobs", answers={200: JobTold}, problems=(404, 409))
def delete_job(call: Call, queue: str, job_id: str) -> dict[str, Any]:
    """Answers with what it was."""
    return told_now(call.desk, call.desk.remove(job_id, queue))


@operation(
    "Retry, cancel or delete many jobs",
    "jobs",
    body=BulkBody,
    answers={200: BulkTold},
    problems=(404, 409),
)
def act_on_jobs(call: Call, queue: str, body: BulkBody) -> dict[str, Any]:
    """First without ``confirm``: how many it concerns. Then with the answer's, and it is done.

    If they are others by then nothing is done, and 409 tells how many those are.
    """
    state, given = State(body.filter.state), body.filter
    which: Which = {
        "queue": queue,
        "kind": given.kind,
        "error": given.error,
        "older_than": given.older_than,
        "tenant": given.tenant,
    }
    if body.confirm is None:
        chosen = call.desk.choose(body.action, state, which)
        return {
            "action": body.action,
            "count": chosen.found,
            "done": False,
            "confirm": chosen.confirm,
            **({"more": True} if chosen.more else {}),
        }
    total = call.desk.bulk(
        body.action,
        state,
        which,
        confirm=body.confirm,
        spread=Spread(body.attempts, body.per_second),
        reason=body.reason,
    )
    return {"action": body.action, "count": total, "done": True}
