"""``tickwork enqueue``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from jobs.cli.base import JsonCommand
from jobs.cli.desk import desk
from jobs.cli.shown import Shown
from jobs.cli.system import opened
from jobs.cli.text import say
from jobs.cli.values import duration, instant, read_payload
from jobs.managing import redactor


@click.command(cls=JsonCommand)
@click.argument("kind")
@click.argument("payload", metavar="[JSON]", default="{}")
@click.option("--queue", help="The lane it waits in.")
@click.option("--priority", type=int, help="1 (first) to 5 (last).")
@click.option(
    "--delay",
    callback=duration,
    metavar="DURATION",
    help="Run it no sooner than that: 90, 10m, 2h, 1d.",
)
@click.option(
    "--run-at", callback=instant, metavar="TIME", help="Run it no sooner: 2030-01-31T08:00:00Z."
)
@click.option("--max-attempts", type=int, help="How often it may run, the first time included.")
@click.option(
    "--timeout", callback=duration, metavar="DURATION", help="How long one attempt may take."
)
@click.option(
    "--expires-in", callback=duration, metavar="DURATION", help="Cancel it if not started by then."
)
@click.option("--tenant", help="Whose job it is.")
@click.option("--dedupe-key", metavar="KEY", help="Make none while a job of the kind has this key.")
@click.option(
    "--dedupe-window",
    callback=duration,
    metavar="DURATION",
    help="How long the key is held at least: 1h by default, 0 while its job lives.",
)
@click.option("--job-id", metavar="NAME", help="A name of your own to find and cancel it by.")
@click.option(
    "--replace",
    is_flag=True,
    help="Give a job that waits already this payload, time and priority.",
)
@click.option(
    "--debounce",
    callback=duration,
    metavar="DURATION",
    help="Run it when so long nobody has enqueued it again, with the last payload.",
)
def enqueue(
    kind: str,
    payload: str,
    queue: str | None,
    priority: int | None,
    delay: float | None,
    run_at: datetime | None,
    max_attempts: int | None,
    timeout: float | None,
    expires_in: float | None,
    tenant: str | None,
    dedupe_key: str | None,
    dedupe_window: float | None,
    job_id: str | None,
    replace: bool,
    debounce: float | None,
    as_json: bool,
) -> dict[str, Any] | None:
    """Enqueue a job of KIND with a payload: JSON, - for stdin, @FILE for a file.

    A kind without a handler in JOBS_HANDLERS is taken as it is: its handler may be deployed
    elsewhere.
    """
    value = read_payload(payload)
    with opened(handlers=True) as tickwork:
        tickwork.learn_queues()  # a process of one enqueue never ticks
        job = tickwork.enqueue(
            kind,
            value,
            queue=queue,
            priority=priority,
            delay=delay,
            run_at=run_at,
            max_attempts=max_attempts,
            timeout=timeout,
            expires_in=expires_in,
            tenant=tenant,
            dedupe_key=dedupe_key,
            dedupe_window=dedupe_window,
            job_id=job_id,
            replace=replace or None,
            debounce=debounce,
        )
        if not job.existing:
            desk(tickwork).note("job.enqueue", job.id, job.tenant)
        shown = Shown(job, tickwork.clock.now(), (), redactor(tickwork.settings.redact))
    if as_json:
        return shown.as_dict()
    if job.existing:
        when = f", {shown.when}" if shown.when else ""
        say(f"Existing {job.id}: {kind} in queue {job.queue} is {shown.state}{when}.")
        return None
    say(f"Enqueued {job.id}: {kind} in queue {job.queue}, {shown.when}.")
    return None
