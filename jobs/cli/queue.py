"""``tickwork worker --sqs`` and ``redrive``: a queue's messages run, or put back."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.base import JsonCommand
from jobs.cli.system import opened
from jobs.cli.text import say
from jobs.cli.tick import tell_of_jobs
from jobs.core.errors import ConfigurationError
from jobs.core.settings import Settings

if TYPE_CHECKING:
    from jobs.aws.source import QueueSource


def run_queue(timeout: float | None, batch: int, wait: int) -> None:
    """Run jobs as their messages arrive in SQS, until SIGTERM or Ctrl-C."""
    with opened(handlers=True) as tickwork:
        url = _queue_url(tickwork.settings)
        from jobs.aws.consumer import Consumer  # late: only these commands need AWS
        from jobs.aws.queue import name_of_url, open_client
        from jobs.aws.source import QueueSource
        from jobs.doorbells.sqs import region_of

        client = open_client(region_of(url, os.environ), wait_seconds=wait)
        source = QueueSource(
            Consumer(tickwork, lambda region: client),
            client,
            url,
            function_seconds=timeout or tickwork.settings.tick_limit,
            batch_size=batch,
            wait_seconds=wait,
            say=say,
        )
        if not tickwork.registry.kinds:
            say("No handlers here, so no job can run: name them in JOBS_HANDLERS.", err=True)
        _end_at_signals(source)
        tell_of_jobs(tickwork)
        say(f"Queue worker is now running: {name_of_url(url)} (Ctrl-C ends it)")
        source.run()
        source.tell()
        say("Ended.")


@click.command(cls=JsonCommand)
@click.option("--sqs", is_flag=True, help="From the dead-letter queue of SQS_QUEUE_URL.")
@click.option("--max", "most", type=click.IntRange(1), help="At most so many.  [default: all]")
@click.option("--dlq", metavar="URL", help="This dead-letter queue, not the one of its policy.")
def redrive(sqs: bool, most: int | None, dlq: str | None, as_json: bool) -> dict[str, Any] | None:
    """Put the messages of a dead-letter queue back into its queue.

    That has their jobs looked at again; one that has failed for good stays failed, and its message
    is taken off.
    """
    if not sqs:
        raise click.UsageError(
            "say --sqs: redrive moves the messages of an SQS dead-letter queue. "
            "Jobs that failed are rows: `tickwork list --state failed` shows them"
        )
    with opened() as tickwork:
        url = _queue_url(tickwork.settings)
    from jobs.aws.queue import open_client
    from jobs.aws.redrive import redrive as move
    from jobs.doorbells.sqs import region_of

    done = move(
        open_client(region_of(url, os.environ), wait_seconds=1),
        url,
        dead_letters_url=dlq,
        most=most,
    )
    if as_json:
        return done.as_dict()
    say(f"{done.moved} moved from {done.source} to {done.target}.")
    if done.failed:
        say(f"{done.failed} were refused and stay in {done.source}.", err=True)
    return None


def _queue_url(settings: Settings) -> str:
    if not settings.sqs_queue_url:
        raise ConfigurationError("SQS_QUEUE_URL is not set: it says which queue")
    return settings.sqs_queue_url


def _end_at_signals(source: QueueSource) -> None:
    """The first signal ends it in order, the second at once."""

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        say("Ending: what runs comes to its end; once more leaves at once.", err=True)
        source.stop()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
