"""``tickwork pause``, ``resume`` and ``queues``: what holds for queues and kinds at run time."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import click

from jobs import Tickwork
from jobs.cli.base import CarefulGroup, JsonCommand
from jobs.cli.desk import desk
from jobs.cli.shown import SHOWN_STATES
from jobs.cli.system import opened, opened_with_code
from jobs.cli.text import say, span, table
from jobs.cli.values import duration
from jobs.core.backoff import Backoff
from jobs.core.controls import EVERYTHING, Control, subject_of
from jobs.core.names import EVERY_QUEUE
from jobs.core.queues import NAMES
from jobs.core.registry import Retention

_DURATIONS = ("timeout", "backoff", "remove_on_complete", "remove_on_fail")
_by = click.option(
    "--by",
    metavar="NAME",
    default=lambda: os.environ.get("USER") or os.environ.get("LOGNAME"),
    show_default="$USER",
    help="Who asks for it.",
)


@click.command(cls=JsonCommand)
@click.argument("queue", required=False)
@click.option("--kind", help="Pause a kind in place of a queue.")
@click.option("--because", metavar="TEXT", help="Why; it is shown as long as the pause holds.")
@_by
def pause(
    queue: str | None, kind: str | None, because: str | None, by: str | None, as_json: bool
) -> dict[str, Any] | None:
    """Start no more jobs of QUEUE (all: of any), in every process; what runs goes on."""
    with opened() as tickwork:
        tickwork.pause(queue, kind=kind, by=by, because=because)
        subject = subject_of(queue=queue, kind=kind)
        desk(tickwork, by).note("queue.pause", subject, reason=because)
        control = _control(tickwork, subject)
    if as_json:
        return control.as_dict()
    again = f"--kind {kind}" if kind else queue
    say(f"Paused {_in_words(control.subject)}. Take it back with: tickwork resume {again}")
    return None


@click.command(cls=JsonCommand)
@click.argument("queue", required=False)
@click.option("--kind", help="Resume a kind in place of a queue.")
@_by
def resume(
    queue: str | None, kind: str | None, by: str | None, as_json: bool
) -> dict[str, Any] | None:
    """Start jobs of QUEUE again. A queue paused by itself stays so when all are resumed."""
    with opened() as tickwork:
        was_paused = tickwork.resume(queue, kind=kind, by=by)
        subject = subject_of(queue=queue, kind=kind)
        if was_paused:
            desk(tickwork, by).note("queue.resume", subject)
        still = [each for each in tickwork.controls() if each.is_paused]
    if as_json:
        return {
            "subject": subject,
            "was_paused": was_paused,
            "still_paused": [each.subject for each in still],
        }
    words = _in_words(subject)
    say(f"Resumed {words}." if was_paused else f"Nothing had paused {words}.")
    for each in still:
        say(f"Still paused: {_in_words(each.subject)}{_why(each)}", err=True)
    return None


class _Queues(CarefulGroup):
    """A group that lists when it is given no command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] == "--json":
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Queues)
def queues() -> None:
    """Show the queues, and change their settings at run time (set, unset)."""


@queues.command("list", cls=JsonCommand)
def list_queues(as_json: bool) -> dict[str, Any] | None:
    """Queues with their jobs, pauses, and settings with where each comes from (the default)."""
    with opened_with_code() as tickwork:
        tickwork.learn_queues()
        counts = _by_queue(tickwork.counts())
        controls = {each.subject: each for each in tickwork.controls()}
        names = {*counts, *tickwork.queues(), *(each.queue for each in tickwork.registry)}
        names |= {name for kind, name in map(_parted, controls) if kind == "queue"} - {EVERY_QUEUE}
        shown = {name: _queue(tickwork, name, counts, controls) for name in sorted(names)}
    everything = controls.get(EVERYTHING)
    paused = [each for each in controls.values() if each.is_paused]
    kinds = [each for each in paused if each.subject.startswith("kind/")]
    if as_json:
        return {
            "queues": shown,
            "all_paused": everything.as_dict() if everything and everything.is_paused else None,
            "paused_kinds": [each.as_dict() for each in kinds],
        }
    _print_queues(shown, controls)
    for each in (*([everything] if everything and everything.is_paused else []), *kinds):
        say(f"Paused: {_in_words(each.subject)}{_why(each)}")
    return None


@queues.command("set", cls=JsonCommand)
@click.argument("name")
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...")
@_by
def set_queue(
    name: str, settings: tuple[str, ...], by: str | None, as_json: bool
) -> dict[str, Any] | None:
    """Set what holds in queue NAME: max_attempts=5 timeout=30s backoff=5,25,125 priority=1.

    Also remove_on_complete=1d, remove_on_fail=7d, max_concurrency=5, concurrency_in_process=2,
    rate_limit=100/s. It goes before what the code says, in every process from its next tick on.
    """
    with opened() as tickwork:
        said = tickwork.set_queue(name, by=by, **dict(map(_setting, settings)))
        desk(tickwork, by).note("queue.set", f"queue/{name}", reason=", ".join(settings))
    return _tell_set(name, said.as_dict(), as_json)


@queues.command("unset", cls=JsonCommand)
@click.argument("name")
@click.argument("keys", nargs=-1, metavar="[KEY...]")
@_by
def unset_queue(
    name: str, keys: tuple[str, ...], by: str | None, as_json: bool
) -> dict[str, Any] | None:
    """Take back what was set of queue NAME: the KEYs, or everything."""
    with opened() as tickwork:
        said = tickwork.set_queue(name, by=by, **dict.fromkeys(keys or NAMES))
        taken = f"taken back: {', '.join(keys) or 'everything'}"
        desk(tickwork, by).note("queue.set", f"queue/{name}", reason=taken)
    return _tell_set(name, said.as_dict(), as_json)


def _tell_set(name: str, said: Mapping[str, Any], as_json: bool) -> dict[str, Any] | None:
    if as_json:
        return {"queue": name, "settings": dict(said)}
    if not said:
        say(f"Nothing is set at run time of queue {name}.")
        return None
    listed = ", ".join(f"{key}={_as_text(value)}" for key, value in said.items())
    say(f"Set at run time of queue {name}: {listed}")
    return None


def _setting(given: str) -> tuple[str, Any]:
    """A name and a value: JSON where it is any, else a duration or plain text."""
    name, equals, written = given.partition("=")
    name, written = name.strip(), written.strip()
    if not equals or name not in NAMES:
        raise click.BadParameter(
            f"{given!r} is not KEY=VALUE with a KEY of {', '.join(NAMES)}", param_hint="KEY=VALUE"
        )
    try:
        return name, json.loads(written)
    except ValueError:
        pass
    if name not in _DURATIONS:
        return name, written
    ctx, parameter = click.get_current_context(), click.Option([f"--{name}"])
    seconds = [duration(ctx, parameter, each) for each in written.split(",")]
    return name, seconds if len(seconds) > 1 else seconds[0]


def _control(tickwork: Tickwork, subject: str) -> Control:
    return next(each for each in tickwork.controls() if each.subject == subject)


def _parted(subject: str) -> tuple[str, str]:
    noun, _, name = subject.partition("/")
    return noun, name


def _in_words(subject: str) -> str:
    noun, name = _parted(subject)
    return "every queue" if subject == EVERYTHING else f"{noun} {name}"


def _why(control: Control) -> str:
    by = f", by {control.paused_by}" if control.paused_by else ""
    because = f": {control.paused_because}" if control.paused_because else ""
    at = f" since {control.paused_at:%Y-%m-%d %H:%M:%S} UTC" if control.paused_at else ""
    return f"{at}{by}{because}"


def _by_queue(counts: Mapping[tuple[str, str, str], int]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for (queue, _, state), count in counts.items():
        found[queue][state] += count
    return found


def _queue(
    tickwork: Tickwork,
    name: str,
    counts: Mapping[str, Counter[str]],
    controls: Mapping[str, Control],
) -> dict[str, Any]:
    control = controls.get(f"queue/{name}")
    counted = counts.get(name, Counter())
    return {
        "counts": {**dict.fromkeys(SHOWN_STATES, 0), **counted, "total": counted.total()},
        "paused": control.as_dict() if control and control.is_paused else None,
        "settings": {
            key: {"value": _plain(value), "from": whence}
            for key, (value, whence) in tickwork.queue_sources(name).items()
        },
    }


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _print_queues(shown: Mapping[str, Mapping[str, Any]], controls: Mapping[str, Control]) -> None:
    if not shown:
        say("No queues.")
        return
    rows = []
    for name, queue in shown.items():
        said = ", ".join(
            f"{key}={_as_text(each['value'])} ({each['from']})"
            for key, each in queue["settings"].items()
            if each["from"] != "default"
        )
        counts = queue["counts"]
        waiting = counts["pending"] + counts["paused"]
        later = counts["delayed"] + counts["retrying"]
        running = counts["processing"] + counts["stalled"]
        numbers = (waiting, later, running, counts["completed"], counts["failed"])
        paused = "yes" + _why(controls[f"queue/{name}"]) if queue["paused"] else ""
        rows.append([name, *map(str, numbers), paused, said])
    headings = ["QUEUE", "WAITING", "LATER", "RUNNING", "COMPLETED", "FAILED", "PAUSED", "SETTINGS"]
    table(headings, rows)


def _as_text(value: Any) -> str:
    """A setting as a person would write it."""
    if isinstance(value, dict) and value.keys() == {"age_seconds", "count"}:
        retention = Retention(**value)
        age = "ever" if retention.age_seconds is None else span(retention.age_seconds)
        return age if retention.count is None else f"{age}, at most {retention.count}"
    if isinstance(value, dict) and "base" in value:
        policy = Backoff(**{**value, "delays": tuple(value["delays"])})
        steps = ", ".join(span(policy.delay(attempt)) for attempt in range(1, 4))
        return f"{policy.type}: {steps}, ..."
    return f"{value:g}" if isinstance(value, float) else str(value)
