"""``tickwork list``, ``show`` and ``stats``."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from textwrap import indent
from typing import Any

import click

from jobs import Tickwork
from jobs.cli.base import JsonCommand
from jobs.cli.shown import SHOWN_STATES, Shown
from jobs.cli.system import opened
from jobs.cli.text import first_line, say, span, table
from jobs.core.codec import cut
from jobs.core.errors import JobNotFound
from jobs.core.job import TERMINAL, State
from jobs.core.store import JobFilter
from jobs.managing import redactor

# These depend on the clock, so no index has them: the jobs in the stored state are looked through.
_COMPUTED = {
    "paused": State.PENDING,
    "delayed": State.PENDING,
    "retrying": State.PENDING,
    "stalled": State.PROCESSING,
}
_PAGE, _LOOKED_THROUGH_AT_MOST = 500, 20_000


@click.command("list", cls=JsonCommand)
@click.option(
    "--state",
    type=click.Choice(SHOWN_STATES),
    help="Only these; pending are also those paused, delayed and retrying, processing those "
    "stalled.",
)
@click.option("--kind", help="Only this kind.")
@click.option("--queue", help="Only this queue.")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--error", metavar="TEXT", help="Only those whose last error holds this text.")
@click.option("--before", metavar="ID", help="Continue a listing after this job.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
def list_jobs(
    state: str | None,
    kind: str | None,
    queue: str | None,
    tenant: str | None,
    error: str | None,
    before: str | None,
    limit: int,
    as_json: bool,
) -> dict[str, Any] | None:
    """List jobs, the newest first."""
    where = JobFilter(None, kind, queue, tenant, before, error)
    return list_where(where, state, limit, as_json)


def list_where(
    where: JobFilter, state: str | None, limit: int, as_json: bool
) -> dict[str, Any] | None:
    """List the jobs of a filter that are shown in ``state``."""
    with opened() as tickwork:
        now, paused = tickwork.store.now(), tickwork.store.paused()
        if state in _COMPUTED:
            found = _looked_through(tickwork, now, paused, state, where)
            jobs = list(islice(found, limit + 1))
        else:
            stored = None if state is None else State(state)
            rows = tickwork.store.list(where._replace(state=stored), limit + 1)
            hides = redactor(tickwork.settings.redact)
            jobs = [Shown(job, now, paused, hides) for job in rows]
    more, jobs = len(jobs) > limit, jobs[:limit]
    if as_json:
        return {"jobs": [each.as_dict() for each in jobs], "more": more}
    if not jobs:
        say("No such jobs." if state or any(where) else "No jobs.")
        return None
    _print_jobs(jobs)
    if more:
        say(f"There are more: --before {jobs[-1].job.id}", err=True)
    return None


def _looked_through(
    tickwork: Tickwork,
    now: datetime,
    paused: frozenset[str],
    state: str,
    where: JobFilter,
) -> Iterator[Shown]:
    stored = _COMPUTED[state]
    where = where._replace(state=stored)
    for _ in range(_LOOKED_THROUGH_AT_MOST // _PAGE):
        page = tickwork.store.list(where, _PAGE)
        hides = redactor(tickwork.settings.redact)
        shown = (Shown(job, now, paused, hides) for job in page)
        yield from (each for each in shown if each.state == state)
        if len(page) < _PAGE:
            return
        where = where._replace(before_id=page[-1].id)
    say(f"Looked through the newest {_LOOKED_THROUGH_AT_MOST:,} {stored} jobs only.", err=True)


def _print_jobs(jobs: list[Shown]) -> None:
    headings = ["ID", "KIND", "QUEUE", "STATE", "ATTEMPTS", "AGE", "WHEN", "ERROR"]
    rows = [
        [
            *(each.job.id, each.job.kind, each.job.queue, each.state, each.attempts),
            *(each.age, each.when, first_line(each.job.error)),
        ]
        for each in jobs
    ]
    if any(each.job.tenant for each in jobs):
        headings.insert(3, "TENANT")
        for row, each in zip(rows, jobs, strict=True):
            row.insert(3, each.job.tenant)
    table(headings, rows)


@click.command(cls=JsonCommand)
@click.argument("job_id", metavar="ID")
@click.option("--tenant", help="Whose job it is: needed with a job_id of a tenant's own.")
@click.option("--reveal", is_flag=True, help="Also passwords, tokens and the like in its data.")
def show(job_id: str, tenant: str | None, reveal: bool, as_json: bool) -> dict[str, Any] | None:
    """Show everything about a job, with the errors of its attempts."""
    with opened() as tickwork:
        job = tickwork.get(job_id, tenant=tenant)
        if job is None:
            raise JobNotFound(job_id)
        hides = None if reveal else redactor(tickwork.settings.redact)
        shown = Shown(job, tickwork.store.now(), tickwork.store.paused(), hides)
    if as_json:
        return shown.as_dict()
    for name, value in _facts(shown):
        say(f"{name:<13} {value}")
    told = job.as_dict() if reveal else shown.as_dict()
    for name in ("payload", "result"):
        if told[name] is not None:
            _print_below(name, json.dumps(told[name], indent=2, ensure_ascii=False))
    if told["error"]:
        _print_below("error", told["error"])
    for entry in told["errors"]:
        _print_attempt(entry)
    return None


def _facts(shown: Shown) -> Iterator[tuple[str, str]]:
    job = shown.job
    stopping = ", asked to stop" if job.cancel_requested and job.state not in TERMINAL else ""
    yield "id", job.id
    yield "kind", job.kind
    yield "queue", job.queue
    if job.tenant:
        yield "tenant", job.tenant
    for name, value in (("job_id", job.alias), ("dedupe key", job.dedupe_key)):
        if value is not None:
            yield name, value
    yield "state", f"{shown.state}{stopping} ({shown.when})" if shown.when else shown.state
    if job.schedule:
        yield "schedule", job.schedule
    yield "priority", str(job.priority)
    yield "attempts", f"{job.attempts} of {job.max_attempts}"
    if job.progress or job.progress_note:
        yield "progress", f"{job.progress:g} % {job.progress_note or ''}".rstrip()
    for name, at in (
        ("created", job.created_at),
        ("run at", job.run_at),
        ("slot", job.slot),
        ("started", job.started_at),
        ("finished", job.finished_at),
        ("lease until", job.lease_until),
        ("expires", job.expires_at),
        ("kept until", job.keep_until),
    ):
        if at is not None:
            yield name, f"{at:%Y-%m-%d %H:%M:%S} UTC, {_in_words(shown, at)}"
    if job.duration_ms is not None:
        yield "took", span(job.duration_ms / 1000)
    if job.timeout_seconds is not None:
        yield "timeout", span(job.timeout_seconds)
    if job.backoff:
        yield "backoff", job.backoff
    if job.group_id:
        yield "group", job.group_id
    if job.parent_id:
        yield "parent", job.parent_id
    if job.chain:
        yield "then", ", ".join(step["kind"] for step in job.chain)
    if job.continues:
        yield "put off", f"{job.continues} times"
    if job.cursor is not None:
        yield "goes on from", cut(json.dumps(job.cursor, ensure_ascii=False), 200)
    if job.version != 1:
        yield "version", str(job.version)


def _in_words(shown: Shown, at: datetime) -> str:
    seconds = shown.seconds_since(at)
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def _print_attempt(entry: Mapping[str, Any]) -> None:
    took = entry.get("duration_ms")
    after = "" if took is None else f", after {span(took / 1000)}"
    said = f"{entry.get('type', '')}: {entry.get('message', '')}"
    heading = f"attempt {entry.get('attempt')} at {entry.get('at')}{after}"
    _print_below(heading, entry.get("traceback") or said)


def _print_below(heading: str, text: str) -> None:
    say()
    say(heading)
    say(indent(text.rstrip("\n"), "    "))


@click.command(cls=JsonCommand)
def stats(as_json: bool) -> dict[str, Any] | None:
    """Count jobs by queue, kind and state."""
    with opened() as tickwork:
        counts = tickwork.counts()
    if as_json:
        return _as_document(counts)
    if not counts:
        say("No jobs.")
        return None
    lines: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for (queue, kind, state), count in counts.items():
        lines[queue, kind][state] += count
    total = sum(lines.values(), Counter[str]())
    states = [*SHOWN_STATES, *sorted(total.keys() - set(SHOWN_STATES))]
    rows = [
        [*names, *(str(line[state]) for state in states), str(line.total())]
        for names, line in [*sorted(lines.items()), (("all", ""), total)]
    ]
    headings = ["QUEUE", "KIND", *(state.upper() for state in states), "TOTAL"]
    table(headings, rows, numbers=len(states) + 1)
    return None


def _as_document(counts: Mapping[tuple[str, str, str], int]) -> dict[str, Any]:
    queues: dict[str, Counter[str]] = defaultdict(Counter)
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    total: Counter[str] = Counter()
    for (queue, kind, state), count in sorted(counts.items()):
        for counter in (queues[queue], kinds[kind], total):
            counter[state] += count
    return {
        "queues": {queue: _counted(counter) for queue, counter in queues.items()},
        "kinds": {kind: _counted(counter) for kind, counter in sorted(kinds.items())},
        "total": _counted(total),
    }


def _counted(counter: Counter[str]) -> dict[str, int]:
    return {**dict.fromkeys(SHOWN_STATES, 0), **counter, "total": counter.total()}
