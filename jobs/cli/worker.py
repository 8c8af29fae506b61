"""``tickwork worker``: the optional process that runs jobs for as long as it lives."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.base import Command
from jobs.cli.queue import run_queue
from jobs.cli.system import opened
from jobs.cli.text import say, span
from jobs.cli.tick import TOLD, tell_of_jobs
from jobs.core.errors import CapabilityError
from jobs.core.settings import mask_url

if TYPE_CHECKING:
    from jobs.runtime.worker import Worker, WorkerStats
    from jobs.system import Tickwork

STATISTICS_SECONDS = 30.0
# After the grace: for the last ends to be written, which a database that is away may not allow.
LAST_WRITES_SECONDS = 5.0
_OF_SQS = ("timeout", "batch", "wait")
_OF_ROWS = ("concurrency", "queues", "kinds", "grace", "statistics", "as_json", "quiet")


@click.command(cls=Command)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1, 256),
    help="Jobs at once.  [default: JOBS_CONCURRENCY]",
)
@click.option("-q", "--queues", metavar="NAMES", help="Only of these queues, comma-separated.")
@click.option("-k", "--kinds", metavar="NAMES", help="Only of these kinds, comma-separated.")
@click.option(
    "--grace",
    type=click.FloatRange(0, 86_400),
    default=30.0,
    show_default=True,
    help="Seconds that running jobs have to end after SIGTERM.",
)
@click.option(
    "--statistics",
    type=click.FloatRange(0, 86_400),
    default=STATISTICS_SECONDS,
    show_default=True,
    help="Seconds between lines of statistics; 0 prints none.",
)
@click.option("--quiet", is_flag=True, help="No line for each job.")
@click.option("--json", "as_json", is_flag=True, help="A JSON document on each line.")
@click.option("--sqs", is_flag=True, help="Run what arrives in SQS_QUEUE_URL, as Lambda does.")
@click.option(
    "--timeout",
    type=click.FloatRange(1, 900),
    help="With --sqs: seconds that a batch may take.  [default: JOBS_TICK_LIMIT]",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 10),
    default=10,
    show_default=True,
    help="With --sqs: messages per batch.",
)
@click.option(
    "--wait",
    type=click.IntRange(0, 20),
    default=5,
    show_default=True,
    help="With --sqs: seconds that a look at the queue waits; ending waits for it.",
)
@click.pass_context
def worker(ctx: click.Context, /, sqs: bool, **options: Any) -> None:
    """Run jobs as they become due, until SIGTERM or Ctrl-C.

    It does what ticks do, beside them or in their place, and keeps its slots full. It looks every
    JOBS_POLL_INTERVAL, when something is due, and with JOBS_NOTIFY=1 on PostgreSQL at every commit.

    At the first signal it starts no more and hands back what has not begun; what still runs after
    the grace is given up on and retried, for an attempt. A second signal leaves at once.

    With --sqs it is AWS's event source on a laptop: batches, visibility and partial failures are as
    on Lambda.
    """
    _refuse_of_the_other(ctx, _OF_ROWS if sqs else _OF_SQS, sqs=sqs)
    if sqs:
        run_queue(**{name: options[name] for name in _OF_SQS})
        return
    own = {name: options[name] for name in _OF_ROWS}
    ctx.exit(_Command(**own).run())


def _refuse_of_the_other(ctx: click.Context, names: tuple[str, ...], *, sqs: bool) -> None:
    for parameter in ctx.command.params:
        name = parameter.name or ""
        given = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if name in names and given:
            without = "without" if sqs else "with"
            raise click.UsageError(f"{parameter.opts[-1]} is for a worker {without} --sqs")


class _Command:
    """One run of the command."""

    def __init__(
        self,
        concurrency: int | None,
        queues: str | None,
        kinds: str | None,
        grace: float,
        statistics: float,
        as_json: bool,
        quiet: bool,
    ) -> None:
        self.concurrency = concurrency
        self.queues = _names(queues, "--queues")
        self.kinds = _names(kinds, "--kinds")
        self.grace = grace
        self.statistics = statistics
        self.as_json = as_json
        self.quiet = quiet

    def run(self) -> int:
        """Run it to its end; the exit code."""
        with opened(handlers=True) as tickwork, _Signals() as signals:
            if "shared" not in tickwork.store.capabilities:
                raise CapabilityError(
                    "the worker's jobs are rows that others enqueue: set DATABASE_URL"
                )
            tickwork.store.check_schema()
            self._check_kinds(tickwork)
            worker = tickwork.worker(
                concurrency=self.concurrency,
                kinds=self.kinds,
                queues=self.queues,
                when_ended=signals.ring,
            )
            if self.as_json:
                for name in () if self.quiet else TOLD:
                    tickwork.on(name, self._tell_json)
            elif not self.quiet:
                tell_of_jobs(tickwork)
            self._tell_running(tickwork, worker)
            worker.start()
            code = self._watch(worker, signals)
            if code or worker.leaves_threads:
                _leave(code)
            return code

    def _check_kinds(self, tickwork: Tickwork) -> None:
        known = tickwork.registry.kinds
        if not known:
            say("No handlers here, so no job can run: name them in JOBS_HANDLERS.", err=True)
        if self.kinds and (unknown := sorted(self.kinds - known)):
            raise click.UsageError(
                f"--kinds: there is no handler here for {', '.join(unknown)}; "
                f"there is for {', '.join(sorted(known)) or 'none'}"
            )

    def _watch(self, worker: Worker, signals: _Signals) -> int:
        every = self.statistics or float("inf")
        tell_at = time.monotonic() + every
        leave_at = float("inf")
        told_stopping = False
        while not worker.has_ended:
            now = time.monotonic()
            if signals.count and not told_stopping:
                told_stopping = True
                self._event(
                    "ending",
                    f"Ending: no more jobs start, and what runs has {span(self.grace)} to end; "
                    "once more leaves at once.",
                    grace_seconds=self.grace,
                )
                worker.stop(self.grace)
                leave_at = now + self.grace + LAST_WRITES_SECONDS
            if signals.count > 1 or now >= leave_at:
                self._event("left", "Left what still runs: it is run again when its lease is over.")
                return 1
            if now >= tell_at:
                tell_at = now + every
                self._tell_stats(worker.take_stats())
            signals.wait(min(tell_at, leave_at) - time.monotonic())
        self._tell_stats(worker.take_stats())
        if worker.error is not None:
            self._event("failed", f"Ended by an error: {worker.error}", error=str(worker.error))
            return 1
        if worker.is_clogged:
            self._event("clogged", "Ended: handlers that were given up on fill this process.")
            return 1
        self._event("ended", "Ended.")
        return 0

    # -- what it says --------------------------------------------------------------------------

    def _tell_running(self, tickwork: Tickwork, worker: Worker) -> None:
        settings = tickwork.settings
        kinds = sorted(tickwork.registry.kinds if self.kinds is None else self.kinds)
        queues = sorted(self.queues) if self.queues else None
        bell = "LISTEN" if settings.notify else "none (JOBS_NOTIFY is not set)"
        database = mask_url(settings.database_url or "")
        self._event(
            "running",
            f"Tickwork worker is now running (process {os.getpid()}; Ctrl-C ends it)\n"
            f"  database  {database}\n"
            f"  kinds     {', '.join(kinds) or 'none'}\n"
            f"  queues    {', '.join(queues) if queues else 'all'}\n"
            f"  slots     {worker.slots}\n"
            f"  polls     every {settings.poll_interval:g} s; doorbell: {bell}",
            pid=os.getpid(),
            database=database,
            kinds=kinds,
            queues=queues,
            slots=worker.slots,
            poll_interval_seconds=settings.poll_interval,
            notify=settings.notify,
        )
        if settings.backend == "sqs":
            say(
                "SQS_QUEUE_URL is set: jobs that its messages name are run by its consumers, and "
                f"here only what has been due for {settings.sqs_overdue:g} s. `tickwork worker "
                "--sqs` runs what arrives.",
                err=True,
            )

    def _tell_stats(self, stats: WorkerStats) -> None:
        words = [
            f"{getattr(stats, name)} {name}"
            for name in (
                *("succeeded", "failed", "retried", "snoozed", "released"),
                *("cancelled", "late", "reclaimed"),
            )
            if getattr(stats, name)
        ]
        text = (
            f"In {span(stats.seconds)}: {', '.join(words) or 'nothing ended'}; "
            f"{stats.running} of {stats.slots} slots busy; doorbell: {stats.doorbell}"
        )
        if stats.trouble:
            text += f"; jobs wait: {stats.trouble}"
        self._event("statistics", text, **stats.as_dict())

    def _tell_json(self, event: Any) -> None:
        self._event(
            event.name,
            "",
            job=event.job_id,
            kind=event.kind,
            queue=event.queue,
            attempt=event.attempt,
            duration_ms=event.duration_ms,
        )

    def _event(self, name: str, text: str, **more: Any) -> None:
        if self.as_json:
            click.echo(json.dumps({"event": name, **more}, ensure_ascii=True))
        else:
            say(text)


def _leave(code: int) -> None:
    """End this process without waiting for handlers; nobody could end their threads."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _names(given: str | None, option: str) -> frozenset[str] | None:
    if given is None:
        return None
    names = frozenset(filter(None, (name.strip() for name in given.split(","))))
    if not names:
        raise click.UsageError(f"{option} names none")
    return names


class _Signals:
    """SIGTERM and SIGINT counted; a handler takes no lock, since the thread it met may hold it."""

    def __init__(self) -> None:
        self.count = 0
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)

    def __enter__(self) -> _Signals:
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }
        self._wakeup = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._reading.close()
        self._writing.close()

    def _note(self, *_: object) -> None:
        self.count += 1

    def ring(self) -> None:
        """End a wait, from another thread."""
        with contextlib.suppress(OSError):  # nobody waits any more
            self._writing.send(b"\0")

    def wait(self, seconds: float) -> None:
        """Wait for a signal or a ring, for so long."""
        timeout = None if seconds == float("inf") else max(0.0, seconds)
        if select.select([self._reading], [], [], timeout)[0]:
            self._reading.recv(4096)
