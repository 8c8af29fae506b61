"""One job: where it stands and why, its attempts and waits, what it was given and gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from flask import Response, request
from werkzeug.exceptions import BadRequest, NotFound

from jobs.core.errors import ConfigurationError
from jobs.core.job import TERMINAL, Job, State
from jobs.core.outcome import NOTES
from jobs.http.dashboard.desk import Desk, link
from jobs.http.dashboard.related import LOOKED_AT, children_of, files_of


class Step(NamedTuple):
    """A line of a job's life: ``wait_seconds`` went by before it, or before it began to run."""

    title: str
    at: datetime | None
    wait_seconds: float | None = None
    tone: str = ""
    text: str = ""
    trace: str = ""
    took_ms: float | None = None


def show(desk: Desk, job_id: str) -> Response:
    """``GET /jobs/<id>``."""
    job = _job(desk, job_id)
    waits = job.state is State.PENDING
    children = children_of(desk, job)
    waits = waits or any(child.state is State.PENDING for child in children)
    paused = desk.store.paused() if waits else ()
    result = desk.redacted(job.result, job.kind)
    return desk.page(
        "job.html",
        job=job,
        shown=desk.shown(job, paused),
        steps=timeline(job, desk.masked),
        payload=desk.redacted(job.payload, job.kind),
        result=result,
        files=files_of(desk.unnamed(job.result, job.kind)),
        children=[(child, desk.shown(child, paused)) for child in children],
        looked_at=LOOKED_AT,
        cursor=desk.redacted(job.cursor, job.kind),
        chain=[step.get("kind", "?") for step in job.chain],
        handler=desk.tickwork.registry.find(job.kind),
        may_retry=job.state in (State.FAILED, State.CANCELLED, State.COMPLETED),
        is_over=job.state in TERMINAL,
    )


def why(desk: Desk, job_id: str) -> Response:
    """``GET /jobs/<id>/why``: the reasons, as a page, and as a part of the job's own."""
    job = _job(desk, job_id)
    return desk.page("why.html", job=job, why=desk.tickwork.why(job.id, tenant=desk.tenant))


def act(desk: Desk, job_id: str, action: str) -> Response:
    """``POST /jobs/<id>/<action>``: retry, cancel, discard, delete."""
    job = _job(desk, job_id)
    here, managing = link(f"/jobs/{job.id}"), desk.managing
    match action:
        case "retry":
            at = _instant(request.form.get("run_at", ""))
            force = job.state is State.COMPLETED
            managing.retry(job.id, run_at=at, force=force)
            text = "It is put back to be run" + (" at the time you chose." if at else " now.")
        case "cancel":
            managing.cancel(job.id)
            text = (
                "It was asked to stop; a handler notices at its next checkpoint."
                if job.state is State.PROCESSING
                else "It is cancelled."
            )
        case "discard":
            managing.discard(job.id, reason=reason_of(request.form.get("because")))
            text = "It is given up, and stands among the dead letters."
        case "delete":
            if request.form.get("sure") != "yes":
                return desk.page("delete.html", job=job)
            managing.remove(job.id)
            here, text = link("/jobs"), f"Job {job.id} is deleted."
        case _:
            raise NotFound
    return desk.go(here, text)


def timeline(job: Job, masked: Callable[[str], str] = str) -> list[Step]:
    """A job's life in the order of time: enqueued, each attempt that ended badly, its end."""
    steps = [Step("Enqueued", job.created_at)]
    last = job.created_at
    for entry in job.errors:
        at = _read(entry.get("at"))
        wait = _waited(last, at, entry.get("duration_ms"))
        steps.append(_step_of(entry, at, wait, masked))
        last = at or last
    if job.state is State.PROCESSING and job.started_at is not None:
        wait = (job.started_at - last).total_seconds()
        steps.append(Step(f"Attempt {job.attempts} began", job.started_at, wait, "runs"))
    elif job.state is State.PROCESSING:
        steps.append(Step(f"Claimed for attempt {job.attempts}", None, None, "runs"))
    elif job.finished_at is not None:
        tone = {"completed": "good", "failed": "bad"}.get(job.state, "off")
        # What failed for good did so with its last attempt, which stands above.
        is_same = job.state is State.FAILED and bool(job.errors)
        wait = None if is_same else _waited(last, job.finished_at, job.duration_ms)
        title = {"failed": "Failed for good"}.get(job.state, str(job.state).capitalize())
        steps.append(
            Step(title, job.finished_at, wait, tone, took_ms=None if is_same else job.duration_ms)
        )
    elif job.state is State.PENDING:
        steps.append(Step("Due", job.run_at, (job.run_at - last).total_seconds(), "waits"))
    return steps


def _waited(since: datetime, ended: datetime | None, ran_ms: object) -> float | None:
    """The seconds between two ends in which the job did not run."""
    if ended is None:
        return None
    ran = ran_ms / 1000 if isinstance(ran_ms, int | float) else 0.0
    return max(0.0, (ended - since).total_seconds() - ran)


def _step_of(
    entry: Mapping[str, Any],
    at: datetime | None,
    wait: float | None,
    masked: Callable[[str], str],
) -> Step:
    attempt, kind = entry.get("attempt", "?"), str(entry.get("type", ""))
    message = masked(str(entry.get("message", "")))
    if kind in NOTES:
        return Step("A person stepped in", at, wait, "off", message)
    took = entry.get("duration_ms")
    return Step(
        f"Attempt {attempt} failed",
        at,
        wait,
        "bad",
        f"{kind}: {message}" if message else kind,
        masked(str(entry.get("traceback") or "")),
        took if isinstance(took, int | float) else None,
    )


def _job(desk: Desk, job_id: str) -> Job:
    job = desk.tickwork.get(job_id, tenant=desk.tenant)
    if job is None:
        raise NotFound
    return job


def _read(text: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _instant(text: str) -> datetime | None:
    if not text.strip():
        return None
    at = _read(text.strip())
    if at is None:
        raise ConfigurationError(f"{text!r} is no time: write 2026-01-31T08:00 (UTC)")
    return at


def reason_of(text: str | None) -> str:
    """What somebody gave as a reason, without blanks around it; it may not be nothing."""
    reason = (text or "").strip()
    if not reason:
        raise BadRequest("Say why: those who find it later will ask.")
    return reason
