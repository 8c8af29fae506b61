"""``tickwork tick``: one run of the loop in this process."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from jobs import Tickwork
from jobs.cli.base import JsonCommand
from jobs.cli.system import opened
from jobs.cli.text import first_line, say, span
from jobs.core.events import EventName, JobEvent
from jobs.runtime.tick import TickResult

TOLD: tuple[EventName, ...] = ("completed", "failed", "retried", "released")
_COUNTED = (
    *("processed", "succeeded", "failed", "retried", "released"),
    *("cancelled", "snoozed", "late", "reclaimed"),
)


@click.command(cls=JsonCommand)
@click.option(
    "--limit", type=click.IntRange(1, 1000), help="Jobs per tick.  [default: JOBS_BATCH_SIZE]"
)
@click.option(
    "--time-budget",
    type=click.FloatRange(0.1, 7 * 86_400),
    help="Seconds until it starts no more jobs.  [default: JOBS_TIME_BUDGET]",
)
@click.option("--drain", is_flag=True, help="Tick again until nothing is due.")
def tick(
    limit: int | None, time_budget: float | None, drain: bool, as_json: bool
) -> dict[str, Any] | None:
    """Run the jobs that are due, here, as the cron's call does.

    The exit code tells of the tick and not of its jobs: it is 0 when what happened to them was
    written down, whatever that was. `tickwork list --state failed` shows those that failed.
    """
    with opened(handlers=True) as tickwork:
        if not tickwork.registry.kinds:
            say(
                "No handlers here, so no job can run: name their modules in JOBS_HANDLERS.",
                err=True,
            )
        if not as_json:
            tell_of_jobs(tickwork)
        tick_limit = _tick_limit(tickwork, time_budget)
        if drain:
            results = tickwork.drain(limit, time_budget, tick_limit, trigger="cli")
        else:
            results = [tickwork.tick(limit, time_budget, tick_limit, trigger="cli")]
    total = _sum(results)
    if as_json:
        return total
    _print_summary(total)
    if drain and results[-1].remaining:
        say("Stopped: the last tick only put off what is due.", err=True)
    return None


def _tick_limit(tickwork: Tickwork, time_budget: float | None) -> float | None:
    if time_budget is None:
        return None
    # Nobody kills this process at JOBS_TICK_LIMIT; what it leaves for jobs to end is kept.
    settings = tickwork.settings
    room_to_end = settings.tick_limit - settings.time_budget
    return max(settings.tick_limit, time_budget + room_to_end)


def _sum(results: list[TickResult]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for result in results:
        for name in _COUNTED:
            counts[name] += getattr(result, name)
    last = results[-1]
    return {
        **{name: counts[name] for name in _COUNTED},
        "remaining": last.remaining,
        "more": last.more,
        "ticks": len(results),
        "jobs": [job_id for result in results for job_id in result.jobs],
        "duration_ms": round(sum(result.duration_ms for result in results), 1),
    }


def tell_of_jobs(tickwork: Tickwork) -> None:
    """Print a line at every job that ends or is put off."""
    for name in TOLD:
        tickwork.on(name, _tell)


def _tell(event: JobEvent) -> None:
    words = [f"{event.name:<9} {event.job_id} {event.kind}"]
    if event.duration_ms is not None:
        words.append(f"({span(event.duration_ms / 1000)})")
    if event.name == "retried":
        again = f"again in {span(event.delay_seconds or 0)}"
        words.append(f"attempt {event.attempt} of {event.max_attempts}, {again}:")
    if event.name in ("failed", "retried"):
        words.append(first_line(event.error))
    say(" ".join(words))


def _print_summary(total: dict[str, Any]) -> None:
    counts = [f"{total[name]} {name}" for name in _COUNTED if total[name]]
    left = f"{total['remaining']}{' or more' if total['more'] else ''} still due"
    ticks = f" in {total['ticks']} ticks" if total["ticks"] > 1 else ""
    took = span(total["duration_ms"] / 1000)
    say(f"{', '.join(counts) or 'Nothing was due'}{ticks}; {left}; took {took}.")
