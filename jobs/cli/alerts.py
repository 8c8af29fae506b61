"""``tickwork alerts``: what is wrong at the moment, and who knows of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from jobs.cli.base import CarefulGroup, JsonCommand
from jobs.cli.desk import desk
from jobs.cli.system import opened
from jobs.cli.text import say, span, table

BY_CLI = "command line"


class _ListsByDefault(CarefulGroup):
    """A group that means its ``list`` when no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {option for parameter in self.get_params(ctx) for option in parameter.opts}
        if not args or (args[0].startswith("-") and args[0] not in own):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("alerts", cls=_ListsByDefault)
def alerts() -> None:
    """List and acknowledge alerts; alone, it lists those that are open."""


@alerts.command("list", cls=JsonCommand)
@click.option("--all", "every", is_flag=True, help="Those of the last week that are over as well.")
def list_alerts(every: bool, as_json: bool) -> dict[str, Any] | None:
    """List alerts and warnings, the worst first.

    Ticks look at most once a minute, and a tick with nothing to do every ten minutes.
    """
    with opened() as tickwork:
        found = tickwork.alerts(all=every)
        now = tickwork.store.now()
    if as_json:
        return {"alerts": [alert.as_dict() for alert in found]}
    if not found:
        say("No alerts." if every else "No open alerts.")
        return None
    table(
        ["LEVEL", "ALERT", "OF", "SINCE", "KNOWN TO", "DETAIL"],
        [
            [
                *(str(alert.level), alert.name, alert.subject, _ago(alert.since, now)),
                *(alert.acknowledged_by or "", alert.detail),
            ]
            for alert in found
        ],
    )
    return None


@alerts.command("ack", cls=JsonCommand)
@click.argument("name")
@click.option("--subject", help="Only of this queue or kind.")
@click.option("--by", default=BY_CLI, show_default=True, help="Who knows of it.")
def acknowledge(name: str, subject: str | None, by: str, as_json: bool) -> dict[str, Any] | None:
    """Note that somebody knows of an open alert, until it gets worse or is over."""
    with opened() as tickwork:
        count = tickwork.acknowledge_alert(name, by=by, subject=subject)
        if count:
            who = None if by == BY_CLI else by
            desk(tickwork, who).note_acknowledged(name, subject, count)
        names = sorted({alert.name for alert in tickwork.alerts()})
    if not count:
        is_open = f"open are {', '.join(names)}" if names else "none is open"
        raise click.ClickException(f"no open alert {name!r}; {is_open}")
    if as_json:
        return {"acknowledged": count, "name": name, "by": by}
    say(f"{count} of {name}: known to {by}.")
    return None


def _ago(at: datetime, now: datetime) -> str:
    return f"{span((now - at).total_seconds())} ago"
