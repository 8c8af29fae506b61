"""``tickwork watch``: the queues and the last failures, drawn again and again."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from time import sleep as pause
from typing import Any

import click

from jobs import Tickwork
from jobs.cli.base import JsonCommand
from jobs.cli.system import opened
from jobs.cli.text import first_line, say, span, table
from jobs.core.job import SHOWN_STATES
from jobs.core.store import Board
from jobs.managing import redactor

COUNTED_UP_TO = 10_000
FAILURES = 10
_CLEAR = "\x1b[H\x1b[2J"
# Completed jobs are history, of which there may be millions: they are not counted here.
_STATES = tuple(state for state in SHOWN_STATES if state != "completed")


@click.command(cls=JsonCommand)
@click.option("--tenant", help="Only this tenant's jobs.")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--looks", type=click.IntRange(min=1), help="End after so many.")
def watch(
    tenant: str | None, interval: float, looks: int | None, as_json: bool
) -> dict[str, Any] | None:
    """Watch the queues and the last failures until Ctrl-C. With --json, one look."""
    with opened() as tickwork:
        if as_json:
            return _document(tickwork, tenant)
        try:
            for look in _turns(looks):
                if look:
                    pause(interval)
                board = tickwork.store.board(COUNTED_UP_TO, tenant)
                failures = _failures(tickwork, tenant)
                if sys.stdout.isatty():
                    click.echo(_CLEAR, nl=False)
                _draw(board, failures)
        except KeyboardInterrupt:
            say()
    return None


def _turns(looks: int | None) -> Iterator[int]:
    look = 0
    while looks is None or look < looks:
        yield look
        look += 1


def _failures(tickwork: Tickwork, tenant: str | None) -> list[dict[str, Any]]:
    """The last ones with error, attempts and times."""
    hide = redactor(tickwork.settings.redact).text
    jobs = tickwork.dead_letters(FAILURES, tenant=tenant)
    return [
        {
            "id": job.id,
            "kind": job.kind,
            "error": hide(job.error),
            "attempts": job.attempts,
            "created_at": job.created_at.isoformat().replace("+00:00", "Z"),
            "finished_at": None
            if job.finished_at is None
            else job.finished_at.isoformat().replace("+00:00", "Z"),
        }
        for job in jobs
    ]


def _by_queue(board: Board) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for each in board.counts:
        found[each.queue][each.shown] = f"{each.jobs}{'+' if each.capped else ''}"
    return dict(sorted(found.items()))


def _draw(board: Board, failures: list[dict[str, Any]]) -> None:
    oldest = {
        each.queue: span((board.now - each.oldest_at).total_seconds())
        for each in board.counts
        if each.shown in ("pending", "paused") and each.oldest_at is not None
    }
    say(f"{board.now:%Y-%m-%d %H:%M:%S} UTC")
    rows = [
        [queue, *(counts.get(state, "0") for state in _STATES), oldest.get(queue, "")]
        for queue, counts in _by_queue(board).items()
    ]
    if rows:
        table(
            ["QUEUE", *(state.upper() for state in _STATES), "OLDEST"],
            rows,
            numbers=len(_STATES) + 1,
        )
    else:
        say("Nothing waits, runs or has failed.")
    if failures:
        say()
        table(
            ["FAILED", "KIND", "ATTEMPTS", "CREATED", "ERROR"],
            [
                [
                    *(each["id"], each["kind"], str(each["attempts"]), each["created_at"]),
                    first_line(each["error"]),
                ]
                for each in failures
            ],
        )


def _document(tickwork: Tickwork, tenant: str | None) -> dict[str, Any]:
    board = tickwork.store.board(COUNTED_UP_TO, tenant)
    return {
        "at": board.now.isoformat().replace("+00:00", "Z"),
        "paused": sorted(board.paused),
        "queues": [
            {
                "queue": each.queue,
                "state": each.shown,
                "jobs": each.jobs,
                "capped": each.capped,
                "oldest_at": None
                if each.oldest_at is None
                else each.oldest_at.isoformat().replace("+00:00", "Z"),
            }
            for each in board.counts
        ],
        "last_failures": _failures(tickwork, tenant),
    }
