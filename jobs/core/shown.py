"""A stored job as people are shown it, of whatever store."""

from __future__ import annotations

import json
from typing import Any

from jobs.core.codec import decode
from jobs.core.job import Job, State
from jobs.core.schedule import read_slot


def shown_job(given: Any, row: Any) -> Job:
    """The Job of a stored row, its texts read.

    ``given`` has what was enqueued (fields of :class:`~jobs.core.job.NewJob`), ``row`` what has
    become of it; a row with the columns of both stands for both.
    """
    return Job(
        id=given.id,
        kind=given.kind,
        queue=given.queue,
        tenant=given.tenant,
        state=State(row.state),
        priority=given.priority,
        payload=decode(given.payload),
        result=None if row.result is None else decode(row.result),
        error=row.error,
        errors=json.loads(row.errors) if row.errors else [],
        attempts=row.attempts,
        max_attempts=given.max_attempts,
        fence=row.fence,
        progress=row.progress,
        progress_note=row.progress_note,
        timeout_seconds=given.timeout_seconds,
        backoff=given.backoff,
        created_at=row.created_at,
        run_at=row.run_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        lease_until=row.lease_until,
        expires_at=row.expires_at,
        cancel_requested=bool(row.cancel_requested),
        duration_ms=row.duration_ms,
        keep_until=row.keep_until,
        concurrency_key=given.concurrency_key,
        dedupe_key=given.dedupe_key,
        alias=given.alias,
        group_id=given.group_id,
        parent_id=given.parent_id,
        schedule=given.schedule,
        slot=read_slot(given.slot),
        chain=json.loads(given.chain) if given.chain else [],
        cursor=None if row.cursor is None else decode(row.cursor),
        continues=row.continues,
        version=given.version,
        trace=given.trace,
    )
