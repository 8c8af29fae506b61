"""A row of the stub, and what is read of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from jobs.core.controls import holds_back
from jobs.core.job import Claimed, Job, NewJob, State, shown_state
from jobs.core.shown import shown_job
from jobs.core.store import JobFilter, Verdict


@dataclass(slots=True)
class Row:
    """One job: what was enqueued, and what has become of it."""

    new: NewJob
    created_at: datetime
    run_at: datetime
    expires_at: datetime | None
    state: State = State.PENDING
    result: str | None = None
    error: str | None = None
    errors: str | None = None
    attempts: int = 0
    fence: int = 0
    cancel_requested: bool = False
    progress: float = 0.0
    progress_note: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    lease_until: datetime | None = None
    keep_until: datetime | None = None
    duration_ms: float | None = None
    cursor: str | None = None
    continues: int = 0
    ring_at: datetime | None = None
    rings: int = 0

    @property
    def lane(self) -> str:
        """The lane it waits or runs in."""
        return f"{self.new.priority}/{self.new.queue}/{self.new.kind}/{self.new.flow}"

    @property
    def order(self) -> tuple[int, datetime, str]:
        """Its place among what waits: the least goes first."""
        return (self.new.priority, self.run_at, self.new.id)


def is_outlived(row: Row, verdict: Verdict, now: datetime) -> bool:
    """Whether the row is too old to be put off once more."""
    within = verdict.continue_within_seconds
    return within is not None and row.created_at <= now - timedelta(seconds=within)


def is_stalled(row: Row, now: datetime) -> bool:
    """Whether its lease has run out."""
    return row.lease_until is not None and row.lease_until < now


def shown_of(row: Row, now: datetime, paused: Collection[str]) -> str:
    """Its state as people are told it."""
    return shown_state(
        row.state,
        attempts=row.attempts,
        run_at=row.run_at,
        lease_until=row.lease_until,
        now=now,
        paused=holds_back(paused, row.new.queue, row.new.kind),
    )


def matches(row: Row, where: JobFilter, now: datetime, paused: Collection[str] = ()) -> bool:
    """Whether a filter finds it."""
    if where.shown is not None and shown_of(row, now, paused) != where.shown:
        return False
    if where.since is not None and row.created_at < where.since:
        return False
    if where.until is not None and row.created_at >= where.until:
        return False
    if where.ids is not None and row.new.id not in where.ids:
        return False
    if where.text is not None and not any(
        where.text in (text or "")
        for text in (row.new.id, row.new.alias, row.new.dedupe_key, row.error, row.new.payload)
    ):
        return False
    if where.error is not None and where.error not in (row.error or ""):
        return False
    if where.older_than_seconds is not None:
        by = now - timedelta(seconds=where.older_than_seconds)
        if (row.finished_at or row.created_at) > by:
            return False
    if where.after_id is not None and row.new.id <= where.after_id:
        return False
    return all(
        wanted is None or actual == wanted
        for wanted, actual in (
            (where.state, row.state),
            (where.kind, row.new.kind),
            (where.queue, row.new.queue),
            (where.tenant, row.new.tenant),
            (where.parent_id, row.new.parent_id),
        )
    ) and (where.before_id is None or row.new.id < where.before_id)


def to_claimed(row: Row, now: datetime) -> Claimed:
    """What a runner is given of it."""
    new = row.new
    return Claimed(
        id=new.id,
        kind=new.kind,
        queue=new.queue,
        payload=new.payload,
        priority=new.priority,
        attempt=row.attempts,
        max_attempts=new.max_attempts,
        fence=row.fence,
        timeout_seconds=new.timeout_seconds,
        backoff=new.backoff,
        tenant=new.tenant,
        run_at=row.run_at,
        errors=row.errors,
        marked=row.started_at is not None,
        # A job that snoozed has its attempt back, but it did start: it has run for some time.
        expired=row.expires_at is not None
        and row.expires_at <= now
        and row.attempts == 1
        and row.duration_ms is None,
        cancel_requested=row.cancel_requested,
        concurrency_key=new.concurrency_key,
        group_id=new.group_id,
        chain=new.chain,
        cursor=row.cursor,
        continues=row.continues,
        version=new.version,
        trace=new.trace,
    )


def to_job(row: Row) -> Job:
    """What people are shown of it."""
    return shown_job(row.new, row)
