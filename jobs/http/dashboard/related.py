"""What a job's page leads to: the jobs that it enqueued, and the files that it made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from jobs.core.job import Job
from jobs.core.store import JobFilter
from jobs.http.dashboard.desk import Desk

# The fields of results that batteries and the documented examples name files by.
FILE_FIELDS = ("download_url", "file_url")
# Of the jobs enqueued after it, so many are looked at: no index leads to the children of a job.
LOOKED_AT = 5000
CHILDREN_SHOWN = 20


class File(NamedTuple):
    """A file by the field that names it; ``url`` is ``None`` for one that no browser can open."""

    field: str
    text: str
    url: str | None


def files_of(result: Any) -> list[File]:
    """The files that a result names.

    Only addresses of the web lead anywhere, so that no result can make a link of something else.
    """
    if not isinstance(result, Mapping):
        return []
    found = [(field, result.get(field)) for field in FILE_FIELDS]
    return [
        File(field, text, text if _opens(text) else None)
        for field, text in found
        if isinstance(text, str) and text
    ]


def _opens(text: str) -> bool:
    try:
        parts = urlsplit(text)
        has_user = parts.username is not None
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not has_user


def children_of(desk: Desk, job: Job) -> list[Job]:
    """The jobs that it enqueued, the oldest first, as far as they are found among the next ones.

    Only those of a group, and the steps of a chain, say which job enqueued them.
    """
    if job.attempts == 0 or (job.group_id is None and not job.chain):
        return []
    # Of a chain alone the next step's kind is known, and its index leads there.
    kind = str(job.chain[0].get("kind", "")) if job.chain and job.group_id is None else None
    where = JobFilter(
        kind=kind or None,
        tenant=job.tenant or desk.tenant,
        after_id=job.id,
        parent_id=job.id,
        window=LOOKED_AT,
    )
    return desk.store.list(where, CHILDREN_SHOWN)
