"""The command line: ``tickwork``, also ``python -m jobs``.

Exit codes: 0, 1 (it failed), 2 (it was asked wrongly: an option, a payload, the environment). With
``--json`` stdout holds one JSON document and nothing else; logs and troubles go to stderr.
"""

from __future__ import annotations

import click

from jobs import __version__
from jobs.cli.alerts import alerts
from jobs.cli.base import CarefulGroup
from jobs.cli.control import pause, queues, resume
from jobs.cli.database import database
from jobs.cli.demo import demo
from jobs.cli.doctor import doctor
from jobs.cli.groups import group
from jobs.cli.limits import limits
from jobs.cli.look import list_jobs, show, stats
from jobs.cli.produce import enqueue
from jobs.cli.queue import redrive
from jobs.cli.repair import cancel, clean, dead, discard, reclaim, remove, retry
from jobs.cli.schedules import schedules
from jobs.cli.serve import serve
from jobs.cli.tick import tick
from jobs.cli.ticks import ticks
from jobs.cli.tokens import audit, tokens
from jobs.cli.watch import watch
from jobs.cli.why import why
from jobs.cli.worker import worker

__all__ = ["main"]


@click.group(
    cls=CarefulGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0, 1 (it failed), 2 (it was asked wrongly).",
)
@click.version_option(__version__, prog_name="tickwork")
def main() -> None:
    """Background jobs in your SQL database, where there is no server to keep running.

    The environment says which: DATABASE_URL, and JOBS_HANDLERS for the modules with handlers.
    """


for command in (
    *(demo, serve, tick, worker, enqueue, list_jobs, show, stats, redrive, schedules, database),
    *(retry, cancel, discard, dead, clean, remove, reclaim, pause, resume, queues, limits),
    *(why, doctor, group, ticks, alerts, tokens, audit, watch),
):
    main.add_command(command)
