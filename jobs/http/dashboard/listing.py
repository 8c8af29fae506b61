"""The list of jobs: a filter in the address, counts that follow it, pages by key both ways."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from jobs.core.ids import new_id
from jobs.core.job import State
from jobs.core.names import NAME
from jobs.core.store import JobFilter, needs_looking
from jobs.http.dashboard.asked import LAST, WINDOW, Asked
from jobs.http.dashboard.desk import Desk, link

PER_PAGE = 50
COUNT_CAP = 10_000
_ID_CHARS = len(new_id())


def show(desk: Desk) -> Response:
    """``GET /jobs``."""
    asked = Asked.of(request.args)
    if _is_id(asked.q) and (found := desk.tickwork.get(asked.q, tenant=desk.tenant)) is not None:
        return desk.go(link(f"/jobs/{found.id}"))
    return draw(desk, asked, "jobs.html")


def draw(desk: Desk, asked: Asked, template: str, *, path: str = "/jobs", **more: Any) -> Response:
    """A page of jobs by what was asked; its others are at ``path``."""
    where = asked.filter(desk.tenant, desk.now)
    jobs = desk.store.list(where, PER_PAGE + 1)
    has_more, jobs = len(jobs) > PER_PAGE, jobs[:PER_PAGE]
    if where.after_id is not None:
        jobs = jobs[::-1]
    survey = desk.store.survey(_counted(where), COUNT_CAP)
    # A pause is nothing to jobs that have begun.
    waits = any(job.state is State.PENDING for job in jobs)
    paused = desk.store.paused() if waits else frozenset()
    is_first = where.before_id is None and (where.after_id is None or not has_more)
    newer = None if is_first or not jobs else asked.link(path, after=jobs[0].id)
    older = further = None
    if has_more or where.after_id is not None:
        older = asked.link(path, before=jobs[-1].id) if jobs else None
    elif survey.looked_until is not None:
        further = asked.link(path, before=survey.looked_until)
    return desk.page(
        template,
        asked=asked,
        jobs=[(job, desk.shown(job, paused)) for job in jobs],
        survey=survey,
        window=WINDOW,
        newer=newer,
        older=older,
        further=further,
        kinds=sorted(desk.tickwork.registry.kinds),
        queues=sorted({handler.queue for handler in desk.tickwork.registry}),
        lasts=LAST,
        **more,
    )


def _counted(where: JobFilter) -> JobFilter:
    """What the count is of: all pages, or the rows that this page's search has looked at."""
    return where if needs_looking(where) else where._replace(before_id=None, after_id=None)


def _is_id(text: str) -> bool:
    return len(text) == _ID_CHARS and NAME.fullmatch(text) is not None
