"""``tickwork schedules``: what runs when, and the ways to steer it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from jobs import Tickwork
from jobs.cli.base import CarefulGroup, JsonCommand
from jobs.cli.desk import desk
from jobs.cli.system import opened
from jobs.cli.text import say, span, table
from jobs.cli.values import duration, read_payload
from jobs.core.schedule import Schedule

BY_CLI = "command line"


class ListsByDefault(CarefulGroup):
    """A group that means its ``list`` when no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {option for parameter in self.get_params(ctx) for option in parameter.opts}
        if not args or (args[0].startswith("-") and args[0] not in own):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("schedules", cls=ListsByDefault)
def schedules() -> None:
    """List and steer what runs by itself; alone, it lists.

    A RULE is a cron expression ("0 8 * * 1"), "every 2h", or "at 2030-01-31T08:00:00Z".
    """


_TENANT = click.option("--tenant", default="", help="Whose schedule it is.")


@schedules.command("list", cls=JsonCommand)
@click.option("--tenant", help="Only this tenant's.")
def list_schedules(tenant: str | None, as_json: bool) -> dict[str, Any] | None:
    """List schedules with their next slot and their last job."""
    with opened() as tickwork:
        found = tickwork.schedules.list(tenant)
        now = tickwork.store.now()
        words = {each.key: tickwork.schedules.words(each) for each in found}
    if as_json:
        return {"schedules": [_as_dict(each, words[each.key]) for each in found]}
    if not found:
        say("No schedules.")
        return None
    headings = ["NAME", "KIND", "NEXT", "LAST", "LAST JOB", "WHEN"]
    rows = [
        [
            *(each.name, each.kind, _next(each, now), _ago(each.last_at, now)),
            *(each.last_job_id or "", words[each.key]),
        ]
        for each in found
    ]
    if any(each.tenant for each in found):
        headings.insert(1, "TENANT")
        for row, each in zip(rows, found, strict=True):
            row.insert(1, each.tenant)
    table(headings, rows)
    return None


@schedules.command(cls=JsonCommand)
@click.argument("name")
@click.argument("rule")
@click.argument("kind")
@click.argument("payload", metavar="[JSON]", default="{}")
@click.option("--timezone", help="An IANA name, such as Asia/Kolkata.  [default: UTC]")
@click.option("--missed", help="latest, all:N or none: what becomes of slots that no tick saw.")
@click.option(
    "--jitter", callback=duration, metavar="DURATION", help="Spread the jobs over that long."
)
@click.option("--queue", help="The lane its jobs wait in.")
@click.option("--priority", type=int, help="1 (first) to 5 (last).")
@click.option("--max-attempts", type=int, help="How often a job may run, the first time included.")
@click.option(
    "--timeout", callback=duration, metavar="DURATION", help="How long one attempt may take."
)
@click.option(
    "--expires-in", callback=duration, metavar="DURATION", help="Cancel a job not started by then."
)
@_TENANT
def add(
    name: str, rule: str, kind: str, payload: str, as_json: bool, **options: Any
) -> dict[str, Any] | None:
    """Make the schedule NAME by a RULE, for jobs of KIND; one of that name is changed.

    The payload is JSON, - for stdin, @FILE for a file.
    """
    value = read_payload(payload)
    parts = _rule(rule)
    with opened(handlers=True) as tickwork:
        made = tickwork.schedules.add(
            name, parts.pop("cron", None), kind, value, by=BY_CLI, **parts, **options
        )
        desk(tickwork).note("schedule.set", name, made.tenant, reason=made.rule)
        return _told(tickwork, made, as_json, f"Schedule {name} makes jobs of {kind}")


@schedules.command(cls=JsonCommand)
@click.argument("name")
@_TENANT
def enable(name: str, tenant: str, as_json: bool) -> dict[str, Any] | None:
    """Switch a schedule on, from its next slot."""
    with opened() as tickwork:
        changed = tickwork.schedules.enable(name, tenant, by=BY_CLI)
        desk(tickwork).note("schedule.enable", name, tenant)
        return _told(tickwork, changed, as_json, f"Schedule {name} is on")


@schedules.command(cls=JsonCommand)
@click.argument("name")
@_TENANT
def disable(name: str, tenant: str, as_json: bool) -> dict[str, Any] | None:
    """Switch a schedule off, until somebody enables it. Its waiting jobs still run."""
    with opened() as tickwork:
        changed = tickwork.schedules.disable(name, tenant, by=BY_CLI)
        desk(tickwork).note("schedule.disable", name, tenant)
        return _told(tickwork, changed, as_json, f"Schedule {name} is off")


@schedules.command(cls=JsonCommand)
@click.argument("name")
@_TENANT
def run(name: str, tenant: str, as_json: bool) -> dict[str, Any] | None:
    """Enqueue one of its jobs now, beside its slots."""
    with opened(handlers=True) as tickwork:
        job = desk(tickwork).run_schedule(name, tenant)
    if as_json:
        return job.as_dict()
    say(f"Enqueued {job.id}: {job.kind} in queue {job.queue}.")
    return None


@schedules.command(cls=JsonCommand)
@click.argument("name")
@_TENANT
def remove(name: str, tenant: str, as_json: bool) -> dict[str, Any] | None:
    """Delete a schedule; the jobs it has made stay."""
    with opened() as tickwork:
        desk(tickwork).remove_schedule(name, tenant)
    if as_json:
        return {"removed": name, "tenant": tenant}
    say(f"Removed {name}.")
    return None


@schedules.command(cls=JsonCommand)
@click.argument("name_or_rule", metavar="NAME|RULE")
@click.option("-n", "count", type=click.IntRange(1, 1000), default=5, show_default=True)
@click.option("--timezone", help="For a RULE: an IANA name.  [default: UTC]")
@_TENANT
def preview(
    name_or_rule: str, count: int, timezone: str | None, tenant: str, as_json: bool
) -> dict[str, Any] | None:
    """Show the next slots of a schedule, or of a RULE before it becomes one."""
    if " " in name_or_rule.strip() or name_or_rule.startswith("@"):
        words, slots = _preview_rule(name_or_rule, timezone or "UTC", count)
    else:
        if timezone is not None:
            raise click.UsageError("--timezone is for a RULE: a schedule has its own")
        with opened(handlers=True) as tickwork:
            slots = tickwork.schedules.preview(name_or_rule, count, tenant)
            words = tickwork.schedules.words_of(name_or_rule, tenant)
    if as_json:
        return {"words": words, "slots": [slot.isoformat() for slot in slots]}
    say(words)
    for slot in slots:
        say(f"{slot:%a %Y-%m-%d %H:%M:%S %z}")
    if not slots:
        say("No slot is to come.")
    return None


def _preview_rule(text: str, timezone: str, count: int) -> tuple[str, list[datetime]]:
    from jobs.core.clock import SystemClock  # late, as all that only this command needs
    from jobs.core.slots import in_words, read_rule, read_zone, upcoming, write_rule

    now = SystemClock().now()
    parts = _rule(text)
    rule = read_rule(write_rule(parts.pop("cron", None), **parts), timezone, now)
    zone = read_zone(timezone)
    slots = [slot.astimezone(zone) for slot in upcoming(rule, now, count)]
    return in_words(rule, timezone), slots


def _rule(text: str) -> dict[str, Any]:
    """What a RULE says, by the names that the Python API has for it."""
    word, _, rest = text.strip().partition(" ")
    if word.lower() == "every":
        return {"every": duration(click.get_current_context(), click.Option(["--every"]), rest)}
    if word.lower() == "at":
        from jobs.cli.values import instant

        return {"at": instant(click.get_current_context(), click.Option(["--at"]), rest)}
    return {"cron": text}


def _told(
    tickwork: Tickwork, schedule: Schedule, as_json: bool, done: str
) -> dict[str, Any] | None:
    words = tickwork.schedules.words(schedule)
    if as_json:
        return _as_dict(schedule, words)
    now = tickwork.store.now()
    say(f"{done}: {words} (next: {_next(schedule, now)}).")
    return None


def _as_dict(schedule: Schedule, words: str) -> dict[str, Any]:
    return {**schedule.as_dict(), "words": words}


def _next(schedule: Schedule, now: datetime) -> str:
    if not schedule.enabled:
        return "off"
    if schedule.next_at is None:
        return "over"
    seconds = (schedule.next_at - now).total_seconds()
    return f"in {span(seconds)}" if seconds > 0 else f"due for {span(-seconds)}"


def _ago(at: datetime | None, now: datetime) -> str:
    return "" if at is None else f"{span((now - at).total_seconds())} ago"
