"""``tickwork retry``, ``cancel``, ``discard``, ``dead``, ``clean``, ``remove`` and ``reclaim``.

What concerns many jobs says first how many, and asks, unless ``--yes`` is given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import click

from jobs import Tickwork
from jobs.cli.base import JsonCommand
from jobs.cli.desk import desk
from jobs.cli.look import list_where
from jobs.cli.shown import Shown
from jobs.cli.system import opened, opened_with_code
from jobs.cli.text import say, span
from jobs.cli.values import duration, instant
from jobs.core.job import Job, State
from jobs.core.store import JobFilter
from jobs.managing import redactor
from jobs.runtime.steer import Which

Command = TypeVar("Command", bound=Callable[..., Any])
_COUNTED_UP_TO = 100_000
_ENDED = ("completed", "failed", "cancelled")
_yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
_by = click.option(
    "--by",
    metavar="NAME",
    default=lambda: os.environ.get("USER") or os.environ.get("LOGNAME"),
    show_default="$USER",
    help="Who asks for it.",
)


def _filters(command: Command) -> Command:
    """The options that say which jobs are meant."""
    for option in (
        click.option(
            "--older-than",
            callback=duration,
            metavar="DURATION",
            help="Only those that ended (or, not ended, were enqueued) so long ago: 90, 10m, 7d.",
        ),
        click.option("--error", metavar="TEXT", help="Only those whose last error holds this."),
        click.option("--tenant", help="Only this tenant's; also what its job_id's need."),
        click.option("--queue", help="Only this queue."),
        click.option("--kind", help="Only this kind."),
    ):
        command = option(command)
    return command


def _which(given: Mapping[str, Any]) -> Which:
    return {
        "kind": given["kind"],
        "queue": given["queue"],
        "tenant": given["tenant"],
        "error": given["error"],
        "older_than": given["older_than"],
    }


@click.command(cls=JsonCommand)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--failed", "state", flag_value="failed", help="All failed jobs of the filters.")
@click.option("--cancelled", "state", flag_value="cancelled", help="All cancelled ones.")
@_filters
@click.option("--run-at", callback=instant, metavar="TIME", help="Due no sooner (with IDs).")
@click.option("--attempts", type=int, help="How often they may run from now on.")
@click.option("--per-second", type=float, help="Spread them: so many fall due each second.")
@click.option("--limit", type=click.IntRange(min=1), help="No more than so many, oldest first.")
@click.option("--force", is_flag=True, help="Completed ones too (with IDs).")
@_by
@_yes
def retry(
    ids: tuple[str, ...],
    state: str | None,
    run_at: datetime | None,
    attempts: int | None,
    per_second: float | None,
    limit: int | None,
    force: bool,
    by: str | None,
    yes: bool,
    as_json: bool,
    **given: Any,
) -> dict[str, Any] | None:
    """Put failed or cancelled jobs back: the IDs, or all that --failed and the filters find.

    They begin anew, with all their attempts; one that is delayed falls due now.
    """
    _one_way("--failed or --cancelled", ids, state, given)
    if state is None:
        if per_second is not None or limit is not None:
            raise click.UsageError("--per-second and --limit go with --failed or --cancelled")
        return _each(
            ids,
            lambda tickwork, job_id: tickwork.retry(
                job_id,
                run_at=run_at,
                attempts=attempts,
                force=force,
                by=by,
                tenant=given["tenant"],
            ),
            lambda job, shown: f"{job.id} runs again: {shown.when}.",
            as_json,
            ("job.retry", by),
        )
    if run_at is not None or force:
        raise click.UsageError("--run-at and --force go with IDs")
    which = _which(given)
    with opened() as tickwork:
        _confirm(tickwork, [state], which, "Retry", yes, limit)
        total = tickwork.retry_many(
            state, attempts=attempts, per_second=per_second, limit=limit, by=by, **which
        )
        desk(tickwork, by).note_many("jobs.retry", state, which, total)
    return _told("retried", total, f"Retried {_jobs(total)}.", as_json)


@click.command(cls=JsonCommand)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--pending", "state", flag_value="pending", help="All that wait, by the filters.")
@click.option("--running", "state", flag_value="processing", help="All that run.")
@click.option("--all", "state", flag_value="all", help="All that wait or run.")
@_filters
@_yes
def cancel(
    ids: tuple[str, ...], state: str | None, yes: bool, as_json: bool, **given: Any
) -> dict[str, Any] | None:
    """Cancel jobs: at once if they wait, else by asking them to stop."""
    _one_way("--pending, --running or --all", ids, state, given)
    if state is None:
        tenant = given["tenant"]
        return _each(
            ids,
            lambda tickwork, job_id: tickwork.cancel(job_id, tenant=tenant),
            _cancelled,
            as_json,
            ("job.cancel", None),
        )
    which = _which(given)
    states = ["pending", "processing"] if state == "all" else [state]
    with opened() as tickwork:
        _confirm(tickwork, states, which, "Cancel", yes)
        total = sum(tickwork.cancel_many(each, **which) for each in states)
        desk(tickwork).note_many("jobs.cancel", state, which, total)
    return _told("cancelled", total, f"Cancelled {_jobs(total)}, or asked them to stop.", as_json)


def _cancelled(job: Job, _shown: Shown) -> str:
    if job.state == State.CANCELLED:
        return f"Cancelled {job.id}."
    return f"Asked {job.id} to stop: it runs, and ends when it looks (ctx.checkpoint())."


@click.command(cls=JsonCommand)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--tenant", help="Whose jobs they are: needed with a job_id of a tenant's own.")
@click.option("--because", metavar="TEXT", help="Why; kept with the job.")
@_by
def discard(
    ids: tuple[str, ...], tenant: str | None, because: str | None, by: str | None, as_json: bool
) -> dict[str, Any] | None:
    """Give up jobs that wait: they have failed for good. One that runs is cancelled instead."""
    return _each(
        ids,
        lambda tickwork, job_id: tickwork.discard(job_id, by=by, because=because, tenant=tenant),
        lambda job, _shown: f"Gave up {job.id}: it is a dead letter now.",
        as_json,
        ("job.discard", by),
        reason=because,
    )


@click.command(cls=JsonCommand)
@_filters
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
def dead(limit: int, as_json: bool, **given: Any) -> dict[str, Any] | None:
    """List the dead letters: jobs that failed for good, the newest first."""
    age = given["older_than"]
    where = JobFilter(
        None, given["kind"], given["queue"], given["tenant"], None, given["error"], age
    )
    return list_where(where, "failed", limit, as_json)


@click.command(cls=JsonCommand)
@click.option("--state", type=click.Choice(_ENDED), help="Those that ended so.")
@click.option("--empty", metavar="QUEUE", help="All that wait in QUEUE (all: in every queue).")
@_filters
@click.option("--limit", type=click.IntRange(min=0), default=0, help="No more than so many.")
@_yes
def clean(
    state: str | None, empty: str | None, limit: int, yes: bool, as_json: bool, **given: Any
) -> dict[str, Any] | None:
    """Delete jobs that have ended (--state), or all that wait in a queue (--empty).

    What runs is never deleted.
    """
    which = _which(given)
    if (state is None) == (empty is None):
        raise click.UsageError(
            "say --state completed, failed or cancelled (with --older-than 7d), or --empty QUEUE"
        )
    if state is not None:
        with opened() as tickwork:
            _confirm(tickwork, [state], which, "Delete", yes, limit or None)
            total = tickwork.clean(0, limit, state, **which)
            desk(tickwork).note_many("jobs.delete", state, which, total)
        return _told("deleted", total, f"Deleted {_jobs(total)}.", as_json)
    if limit or which["queue"] or which["error"] or which["older_than"] is not None:
        raise click.UsageError("--empty goes with --kind and --tenant only")
    with opened() as tickwork:
        assert empty is not None
        where: Which = {**which, "queue": empty}
        _confirm(tickwork, ["pending"], where, "Delete", yes)
        total = tickwork.empty(empty, kind=which["kind"], tenant=which["tenant"])
        desk(tickwork).note_many("jobs.delete", "pending", where, total)
    return _told("deleted", total, f"Deleted {_jobs(total)}.", as_json)


@click.command(cls=JsonCommand)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--tenant", help="Whose jobs they are: needed with a job_id of a tenant's own.")
def remove(ids: tuple[str, ...], tenant: str | None, as_json: bool) -> dict[str, Any] | None:
    """Delete single jobs, whatever they wait for or became; one that runs is refused."""
    return _each(
        ids,
        lambda tickwork, job_id: tickwork.remove(job_id, tenant=tenant),
        lambda job, shown: f"Deleted {job.id} ({shown.state}).",
        as_json,
        ("job.delete", None),
    )


@click.command(cls=JsonCommand)
@click.option(
    "--older-than",
    callback=duration,
    is_flag=False,
    flag_value="30m",
    metavar="[DURATION]",
    help="Also those running for so long whose lease still holds; 30m if you do not say how long.",
)
@_yes
def reclaim(older_than: float | None, yes: bool, as_json: bool) -> dict[str, Any] | None:
    """Put back jobs whose runner is lost: their lease ran out. Every tick does so by itself."""
    with opened_with_code() as tickwork:
        if older_than is not None:
            say(
                f"Jobs in processing for over {span(older_than)} are put back though their lease "
                "may hold: one whose runner is alive may run twice at once.",
                err=True,
            )
            if not yes:
                click.confirm("Put them back?", abort=True, err=True)
        total = tickwork.reclaim(older_than)
        desk(tickwork).note("jobs.reclaim", "stalled", concerned=total)
    return _told("reclaimed", total, f"Put back {_jobs(total)}.", as_json)


def _one_way(flags: str, ids: tuple[str, ...], state: str | None, given: Mapping[str, Any]) -> None:
    if bool(ids) == (state is not None):
        raise click.UsageError(f"name IDs, or say {flags} with filters")
    # The tenant is not only a filter: a job_id of the caller's is a name among that tenant's.
    if ids and any(value is not None for name, value in given.items() if name != "tenant"):
        raise click.UsageError(f"filters go with {flags}, not with IDs")


def _confirm(
    tickwork: Tickwork,
    states: list[str],
    which: Which,
    verb: str,
    yes: bool,
    limit: int | None = None,
) -> None:
    """Say how many jobs it concerns, and ask; nobody is asked with ``--yes``."""
    if yes:
        return
    cap = _COUNTED_UP_TO if limit is None else min(limit, _COUNTED_UP_TO)
    total = sum(tickwork.count(each, cap=cap, **which) for each in states)
    more = " or more" if total >= _COUNTED_UP_TO else ""
    click.confirm(f"{verb} {_jobs(total)}{more}?", abort=True, err=True)


def _each(
    ids: tuple[str, ...],
    act: Callable[[Tickwork, str], Job],
    tell: Callable[[Job, Shown], str],
    as_json: bool,
    noted: tuple[str, str | None],
    reason: str | None = None,
) -> dict[str, Any] | None:
    """Do it to each, and write it down; the first that cannot be ends the command."""
    action, by = noted
    documents = []
    with opened() as tickwork:
        for job_id in ids:
            job = act(tickwork, job_id)
            desk(tickwork, by).note(action, job.id, job.tenant, reason=reason)
            hides = redactor(tickwork.settings.redact)
            shown = Shown(job, tickwork.store.now(), tickwork.store.paused(), hides)
            documents.append(shown.as_dict())
            if not as_json:
                say(tell(job, shown))
    if not as_json:
        return None
    return documents[0] if len(documents) == 1 else {"jobs": documents}


def _told(name: str, total: int, said: str, as_json: bool) -> dict[str, Any] | None:
    if as_json:
        return {name: total}
    say(said)
    return None


def _jobs(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"
