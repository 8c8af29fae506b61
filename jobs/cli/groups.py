"""``tickwork group``."""

from __future__ import annotations

from typing import Any

import click

from jobs.cli.base import JsonCommand
from jobs.cli.system import opened
from jobs.cli.text import say


@click.command(cls=JsonCommand)
@click.argument("group_id", metavar="ID")
def group(group_id: str, as_json: bool) -> dict[str, Any] | None:
    """Show a group: how many of its jobs are in which state, and whether it has ended."""
    with opened() as tickwork:
        found = tickwork.groups.get(group_id)
    if as_json:
        return found.as_dict()
    for name, value in (("id", found.id), ("name", found.name), ("tenant", found.tenant)):
        if value:
            say(f"{name:<13} {value}")
    left = f", {found.unfinished} of {found.total} jobs not ended" if found.unfinished else ""
    say(f"{'state':<13} {found.state}{left}")
    for name, at in (("created", found.created_at), ("finished", found.finished_at)):
        if at is not None:
            say(f"{name:<13} {at:%Y-%m-%d %H:%M:%S} UTC")
    for state, count in sorted(found.counts.items()):
        say(f"{state:<13} {count}")
    return None
