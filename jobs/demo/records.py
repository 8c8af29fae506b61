"""The record of an export, `export_jobs`: what the shop's own pages show, kept beside the job.

The record says `failed` only when no attempt is left; while a retry is coming it says `pending`.

Writes of an attempt are fenced by its `startedAt`: an attempt that was given up and still runs
finds another one there, and changes nothing.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobs.demo.tables import export_jobs, notifications, users


class Record(NamedTuple):
    """An export as an attempt sees it. `started_at` is the attempt's own mark."""

    id: str
    store_id: str
    user_id: str
    type: str
    filters: Mapping[str, Any]
    status: str
    total_rows: int
    file_url: str | None
    started_at: dt.datetime
    email: str


def create(
    connection: sa.Connection,
    *,
    export_id: str,
    store_id: str,
    user_id: str,
    export_type: str,
    filters: Mapping[str, Any],
    now: dt.datetime,
) -> None:
    """Write a new record, `pending`, in the caller's transaction. `now` has an offset."""
    connection.execute(
        sa.insert(export_jobs).values(
            id=export_id,
            store_id=store_id,
            user_id=user_id,
            type=export_type,
            status="pending",
            filters=json.dumps(filters, ensure_ascii=False, sort_keys=True),
            total_rows=0,
            created_at=_stored(now),
        )
    )


def begin(engine: sa.Engine, export_id: str, now: dt.datetime) -> Record | None:
    """Say that an attempt starts: `processing`, unless the file stands already.

    Returns the record, or None if it was deleted (with its store, for example).
    """
    started_at = _stored(now)
    with engine.begin() as connection:
        connection.execute(
            sa.update(export_jobs)
            .where(export_jobs.c.id == export_id, export_jobs.c.status != "completed")
            .values(status="processing", started_at=started_at, error=None, completed_at=None)
        )
        row = connection.execute(
            sa.select(export_jobs, users.c.email)
            .join(users, users.c.id == export_jobs.c.user_id)
            .where(export_jobs.c.id == export_id)
        ).one_or_none()
    if row is None:
        return None
    return Record(
        row.id,
        row.storeId,
        row.userId,
        row.type,
        json.loads(row.filters),
        row.status,
        row.totalRows,
        row.fileUrl,
        started_at,
        row.email,
    )


def complete(
    engine: sa.Engine, record: Record, file_url: str, total_rows: int, now: dt.datetime
) -> bool:
    """Write the result and the notification together, once.

    Returns False if another attempt has taken over; then nothing was written.
    """
    with engine.begin() as connection:
        if not _write(
            connection,
            record,
            status="completed",
            file_url=file_url,
            total_rows=total_rows,
            error=None,
            completed_at=_stored(now),
        ):
            return False
        connection.execute(
            sa.insert(notifications).values(
                # Of one export there is one notification, whoever writes it.
                id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"export:{record.id}")),
                user_id=record.user_id,
                type="export.completed",
                title=f"Your export of {record.type} is ready",
                message=f"{total_rows:,} row{'' if total_rows == 1 else 's'}",
                link=file_url,
                created_at=_stored(now),
            )
        )
    return True


def give_back(
    engine: sa.Engine, record: Record, error: str, now: dt.datetime, *, final: bool
) -> bool:
    """Write that this attempt failed: `failed` when it was the last, else `pending` again."""
    with engine.begin() as connection:
        return _write(
            connection,
            record,
            status="failed" if final else "pending",
            error=error,
            completed_at=_stored(now) if final else None,
        )


def _write(connection: sa.Connection, record: Record, **values: Any) -> bool:
    result = connection.execute(
        sa.update(export_jobs)
        .where(
            export_jobs.c.id == record.id,
            export_jobs.c.status == "processing",
            export_jobs.c.started_at == record.started_at,
        )
        .values(**values)
    )
    return result.rowcount == 1


def find(connection: sa.Connection, export_id: str) -> dict[str, Any] | None:
    """Return a record as the shop's API shows it, or None."""
    row = (
        connection.execute(sa.select(export_jobs).where(export_jobs.c.id == export_id))
        .mappings()
        .one_or_none()
    )
    if row is None:
        return None
    shown = {
        name: value.isoformat() + "Z" if isinstance(value, dt.datetime) else value
        for name, value in row.items()
    }
    return {**shown, "filters": json.loads(row["filters"])}


def fail_unheard(engine: sa.Engine, export_id: str, error: str, now: dt.datetime) -> None:
    """Write `failed` on a record whose job ended where its handler could not say so.

    That is a timeout, or a runner that died, at the last attempt.
    """
    with engine.begin() as connection:
        connection.execute(
            sa.update(export_jobs)
            .where(
                export_jobs.c.id == export_id, export_jobs.c.status.in_(("pending", "processing"))
            )
            .values(status="failed", error=error, completed_at=_stored(now))
        )


def _stored(now: dt.datetime) -> dt.datetime:
    """Return a time as the shop's tables hold it: UTC without an offset."""
    return now.astimezone(dt.UTC).replace(tzinfo=None)
