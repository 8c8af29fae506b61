"""Between rows and values: jobs as they are inserted and as they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, NamedTuple

from jobs.core.job import Claimed, Job, NewJob, State
from jobs.core.keys import is_keyed
from jobs.core.shown import shown_job
from jobs.stores.sql.dialects import DialectSql
from jobs.stores.sql.statements import Statements

_BEST_FIRST = itemgetter(4, 11, 0)  # priority, run_at, id


def is_due(job: NewJob) -> bool:
    """Whether the job says nothing of time: it is due at once and never expires."""
    return job.run_at is None and not job.delay_seconds and job.expires_in_seconds is None


def is_rung(job: NewJob) -> bool:
    """Whether the row is to have a time when it is rung."""
    return job.ring_after_seconds is not None


def insert_parameters(job: NewJob, namespace: str, sql: DialectSql) -> dict[str, Any]:
    """The parameters of the single insert; the database works out its instants."""
    values = job._asdict()
    values["namespace"] = namespace
    if job.run_at is not None:
        values["run_at"] = sql.bind_instant(job.run_at)
    return values


def bulk_rows(
    jobs: Iterable[NewJob],
    namespace: str,
    now: datetime,
    sql: DialectSql,
    keyed: Callable[[NewJob], None] | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Rows for a bulk insert, each in the order of ``Statements.bulk_columns``.

    ``now`` was read from the database once, because a COPY cannot compute. Jobs that want a name
    go to ``keyed`` instead, if it is given.
    """
    # Most jobs of a bulk differ in id and payload alone.
    last: NewJob | None = None
    tail: tuple[Any, ...] = ()
    for job in jobs:
        if last is None or job[3:] != last[3:] or job.kind != last.kind:
            if keyed is not None and is_keyed(job):
                keyed(job)
                continue
            last = job
            tail = _bulk_tail(job, namespace, now, sql)
            if not job.is_plain:
                tail += tuple(getattr(job, name) for name in Statements.RARE_COLUMNS)
        yield (job.id, job.payload, *tail)


def _bulk_tail(job: NewJob, namespace: str, now: datetime, sql: DialectSql) -> tuple[Any, ...]:
    run_at = job.run_at or now + timedelta(seconds=job.delay_seconds)
    expires_in = job.expires_in_seconds
    expires_at = None if expires_in is None else now + timedelta(seconds=expires_in)
    ring: tuple[Any, ...] = ()
    if job.ring_after_seconds is not None:
        ring = (sql.bind_instant(now + timedelta(seconds=job.ring_after_seconds)),)
    return (
        namespace,
        job.tenant,
        job.queue,
        job.kind,
        job.priority,
        "pending",
        job.max_attempts,
        job.timeout_seconds,
        job.backoff,
        sql.bind_instant(now),
        sql.bind_instant(run_at),
        sql.bind_instant(expires_at),
        *ring,
    )


def read_claimed(rows: Sequence[Any], sql: DialectSql, *, mark: int) -> list[Claimed]:
    """Rows of ``Statements.claimed_columns`` as a claim got them, best first.

    The first ``mark`` bear the start mark; no row of a claim was asked to be cancelled.
    """
    ordered = sorted(rows, key=_BEST_FIRST)
    if sql.returns_claimed:
        return list(map(Claimed._make, ordered))
    return [
        _to_claimed(row, sql.read_instant, marked=place < mark) for place, row in enumerate(ordered)
    ]


def read_stalled(row: Sequence[Any], sql: DialectSql) -> Claimed:
    """A row of ``Statements.stalled``."""
    if sql.returns_claimed:
        return Claimed._make(row[:-2])
    return _to_claimed(row, sql.read_instant, marked=bool(row[-2]), cancel_requested=bool(row[-1]))


def _to_claimed(
    row: Sequence[Any],
    read_instant: Callable[[Any], datetime],
    *,
    marked: bool = False,
    cancel_requested: bool = False,
) -> Claimed:
    duration_ms, expired, now = row[13:16]
    if now is not None:  # both instants, as SQLite keeps them
        expired = expired is not None and expired <= now
    # Attempts were raised by this claim. A job that snoozed has its attempt back, but it did start.
    unstarted = row[5] == 1 and duration_ms is None
    return Claimed._make(
        (
            *row[:11],
            read_instant(row[11]),
            row[12],
            marked,
            bool(expired) and unstarted,
            cancel_requested,
            *row[16:23],
        )
    )


def to_job(row: Any) -> Job:
    """A row of the jobs table, selected through its Table, as a Job."""
    return shown_job(row, row)


class _Fresh(NamedTuple):
    """What has become of a row that was just written: nothing yet."""

    created_at: datetime
    run_at: datetime
    expires_at: datetime | None
    state: str = State.PENDING
    result: str | None = None
    error: str | None = None
    errors: str | None = None
    attempts: int = 0
    fence: int = 0
    progress: float = 0.0
    progress_note: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    lease_until: datetime | None = None
    cancel_requested: bool = False
    duration_ms: float | None = None
    keep_until: datetime | None = None
    cursor: str | None = None
    continues: int = 0


def inserted_job(job: NewJob, created_at: datetime) -> Job:
    """The Job a producer is handed: what was written, without reading it back."""
    delay = timedelta(seconds=job.delay_seconds)
    expires = job.expires_in_seconds
    expires_at = None if expires is None else created_at + timedelta(seconds=expires)
    return shown_job(job, _Fresh(created_at, job.run_at or created_at + delay, expires_at))
