"""``tickwork ticks``: the last ticks, and whether they come as they should."""

from __future__ import annotations

from typing import Any

import click

from jobs.cli.base import JsonCommand
from jobs.cli.system import opened
from jobs.cli.text import first_line, say, span, table
from jobs.core.measure import TRIGGERS, Pulse, TickRecord


@click.command(cls=JsonCommand)
@click.option("--trigger", type=click.Choice(TRIGGERS), help="Only those started by this.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
def ticks(trigger: str | None, limit: int, as_json: bool) -> dict[str, Any] | None:
    """List the last ticks, the newest first, and tell whether they come.

    A worker, a drain or the local runner records many ticks together.
    """
    with opened() as tickwork:
        found = tickwork.ticks(limit, triggers=None if trigger is None else [trigger])
        now, pulse = tickwork.store.now(), tickwork.pulse()
    if as_json:
        return {
            "ticks": [each.as_dict() for each in found],
            "age_seconds": pulse.age_seconds,
            "cadence_seconds": pulse.cadence_seconds,
            "learnt": pulse.learnt,
            "beating": pulse.is_beating,
        }
    if found:
        table(
            [
                "AGO",
                "TRIGGER",
                "TICKS",
                "CLAIMED",
                "DONE",
                "FAILED",
                "RETRIED",
                "LEFT",
                "TOOK",
                "ERROR",
            ],
            [_row(each, (now - each.ended_at).total_seconds()) for each in found],
        )
    say(_told(pulse))
    return None


def _row(record: TickRecord, seconds_ago: float) -> list[str]:
    return [
        span(max(seconds_ago, 0.0)),
        record.trigger,
        str(record.ticks),
        str(record.claimed),
        str(record.succeeded),
        str(record.failed),
        str(record.retried),
        f"{record.remaining}{'+' if record.more else ''}",
        span(record.duration_ms / 1000),
        first_line(record.error),
    ]


def _told(pulse: Pulse) -> str:
    if pulse.age_seconds is None:
        return "No tick was recorded yet."
    every = span(pulse.cadence_seconds)
    how = f"every {every}, as they used to" if pulse.learnt else f"every {every}"
    verdict = "Ticks come" if pulse.is_beating else "Ticks are missing"
    return f"{verdict}: the last {span(pulse.age_seconds)} ago, to be {how}."
