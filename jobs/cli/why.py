"""``tickwork why``: why a job is not running."""

from __future__ import annotations

from typing import Any

import click

from jobs.cli.base import JsonCommand
from jobs.cli.system import opened_with_code
from jobs.cli.text import mask, say, stopped


@click.command(cls=JsonCommand)
@click.argument("job_id", metavar="ID")
@click.option("--tenant", help="Whose job it is: needed with a job_id of a tenant's own.")
def why(job_id: str, tenant: str | None, as_json: bool) -> dict[str, Any] | None:
    """Tell why a job is not running, and what mends it.

    By the handlers in JOBS_HANDLERS here: another deployment may have others.
    """
    with opened_with_code() as tickwork:
        found = tickwork.why(job_id, tenant=tenant)
    if as_json:
        return _masked(found.as_dict())
    say(f"{found.reason}: {stopped(found.sentence)}")
    say(f"Mend: {stopped(found.mend)}")
    for other in found.reasons[1:]:
        say()
        say(f"And {other.reason}: {stopped(other.sentence)}")
        say(f"Mend: {stopped(other.mend)}")
    return None


def _masked(document: dict[str, Any]) -> dict[str, Any]:
    """An error, or a reason that somebody wrote, may hold a password."""
    return {name: _mask(value) for name, value in document.items()}


def _mask(value: Any) -> Any:
    if isinstance(value, dict):
        return _masked(value)
    if isinstance(value, list):
        return [_mask(each) for each in value]
    return mask(value) if isinstance(value, str) else value
