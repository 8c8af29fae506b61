"""``tickwork limits``: what is allowed, what is used of it, and circuit breakers."""

from __future__ import annotations

from typing import Any

import click

from jobs.cli.base import CarefulGroup, JsonCommand
from jobs.cli.desk import desk
from jobs.cli.system import opened
from jobs.cli.text import say, table
from jobs.core.limits import LimitStatus

_HELP = ("-h", "--help")


class _ListByDefault(CarefulGroup):
    """``tickwork limits`` alone lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in _HELP):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListByDefault)
def limits() -> None:
    """Show limits with what runs, and circuit breakers; `limits reset NAME` closes one."""


@limits.command("list", cls=JsonCommand)
def list_limits(as_json: bool) -> dict[str, Any] | None:
    """List the limits of the queues, kinds and keys that are declared here."""
    with opened(handlers=True) as tickwork:
        found, now = tickwork.limits(), tickwork.store.now()
    if as_json:
        return {"limits": [each.as_dict() for each in found]}
    if not found:
        say("No limits are declared by the handlers in JOBS_HANDLERS.")
        return None
    rows = []
    for each in found:
        breaker = each.breaker or ""
        if each.breaker == "open" and each.open_until is not None:
            breaker = f"open for {(each.open_until - now).total_seconds():.0f} s"
        rows.append(
            [each.name, each.label or "", _running(each), _taken(each), breaker, _ended(each)]
        )
    table(["NAME", "OF", "RUNNING", "STARTED", "BREAKER", "FAILED"], rows)
    return None


def _running(status: LimitStatus) -> str:
    if status.max_concurrency is None:
        return str(status.running) if status.running else ""
    return f"{status.running} of {status.max_concurrency}"


def _taken(status: LimitStatus) -> str:
    return "" if status.rate_limit is None else f"{status.taken} of {status.rate_limit}"


def _ended(status: LimitStatus) -> str:
    ended = status.successes + status.failures
    return f"{status.failures} of {ended}" if ended else ""


@limits.command(cls=JsonCommand)
@click.argument("name")
def reset(name: str, as_json: bool) -> dict[str, Any] | None:
    """Close the circuit breaker NAME (as `limits` shows it) and forget what it counted."""
    with opened(handlers=True) as tickwork:
        desk(tickwork).reset_breaker(name)
    if as_json:
        return {"reset": name}
    say(f"Closed {name}.")
    return None
