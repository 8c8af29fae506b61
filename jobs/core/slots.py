"""The slots of a schedule: its rule read, the slots that are due, those to come, and its words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from jobs.core.cron import Cron
from jobs.core.errors import LONGEST_DELAY_SECONDS, ConfigurationError
from jobs.core.schedule import Schedule, is_missed, most_jobs, slot_text

_EVERY = re.compile(r"every ([0-9]{1,10})(?: from (\S+))?", re.IGNORECASE)
_AT = re.compile(r"at (\S+)", re.IGNORECASE)
_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


class Rule(Protocol):
    """When a schedule's jobs are made: instants in UTC, on whole seconds."""

    def after(self, instant: datetime) -> datetime | None:
        """The first slot after ``instant``; ``None`` if there is none any more."""
        ...

    def newest(self, first: datetime, until: datetime, count: int) -> list[datetime]:
        """The last ``count`` slots from ``first`` to ``until``, both included, oldest first."""
        ...

    def words(self) -> str:
        """The rule in plain words, without the zone."""
        ...


class Every:
    """Each so many real seconds from an instant on, whatever clocks on walls do."""

    def __init__(self, seconds: int, start: datetime) -> None:
        self.step = timedelta(seconds=seconds)
        self.start = start

    def after(self, instant: datetime) -> datetime | None:
        if instant < self.start:
            return self.start
        return self.start + ((instant - self.start) // self.step + 1) * self.step

    def newest(self, first: datetime, until: datetime, count: int) -> list[datetime]:
        if until < self.start:
            return []
        slot = self.start + (until - self.start) // self.step * self.step
        found: list[datetime] = []
        while slot >= max(first, self.start) and len(found) < count:
            found.append(slot)
            slot -= self.step
        return found[::-1]

    def words(self) -> str:
        seconds = round(self.step.total_seconds())
        size, unit = next(each for each in _UNITS if seconds % each[0] == 0)
        count = seconds // size
        return f"Every {unit}" if count == 1 else f"Every {count:,} {unit}s"


class At:
    """Once."""

    def __init__(self, instant: datetime, zone: ZoneInfo) -> None:
        self.instant = instant
        self.zone = zone

    def after(self, instant: datetime) -> datetime | None:
        return self.instant if instant < self.instant else None

    def newest(self, first: datetime, until: datetime, count: int) -> list[datetime]:
        return [self.instant] if first <= self.instant <= until else []

    def words(self) -> str:
        return f"Once, at {self.instant.astimezone(self.zone):%Y-%m-%d %H:%M:%S}"


def write_rule(
    cron: str | None = None,
    *,
    every: float | timedelta | None = None,
    at: datetime | None = None,
    start: datetime | None = None,
) -> str:
    """The text of a rule, from the one of ``cron``, ``every`` (seconds) and ``at`` that is given.

    ``start`` is what the slots of ``every`` are counted from. Raises
    :class:`~jobs.core.errors.ConfigurationError` for none or several, and for what makes no sense.
    """
    if sum(given is not None for given in (cron, every, at)) != 1:
        raise ConfigurationError(
            "a schedule has one rule: a cron expression, every=SECONDS or at=DATETIME"
        )
    if start is not None and every is None:
        raise ConfigurationError("start= is what every= counts from; the other rules have none")
    if at is not None:
        return f"at {_whole(at, 'at')}"
    if every is not None:
        counted = "" if start is None else f" from {_whole(start, 'start')}"
        return f"every {_whole_seconds(every)}{counted}"
    if not isinstance(cron, str):
        raise ConfigurationError(f"a cron expression is text such as '0 8 * * 1', not {cron!r}")
    text = " ".join(cron.split())
    if len(text) > 200:
        raise ConfigurationError("a cron expression has at most 200 characters")
    return text


def read_rule(rule: str, timezone: str, anchor: datetime) -> Rule:
    """The rule of its text.

    ``anchor`` is what an interval without a start of its own is counted from. Raises
    :class:`~jobs.core.errors.ConfigurationError` for what cannot be read, and for no zone.
    """
    zone = read_zone(timezone)
    if found := _EVERY.fullmatch(rule):
        start = anchor if found[2] is None else _read_instant(found[2])
        return Every(_whole_seconds(int(found[1])), start.replace(microsecond=0))
    if found := _AT.fullmatch(rule):
        return At(_read_instant(found[1]), zone)
    return Cron(rule, zone)


def options_of_rule(rule: str) -> dict[str, Any]:
    """What :func:`write_rule` was given to write it.

    >>> options_of_rule("every 300")
    {'every': 300.0}
    """
    if found := _EVERY.fullmatch(rule):
        start = {} if found[2] is None else {"start": _read_instant(found[2])}
        return {"every": float(found[1]), **start}
    if found := _AT.fullmatch(rule):
        return {"at": _read_instant(found[1])}
    return {"cron": rule}


def rule_of(schedule: Schedule) -> Rule:
    """The rule of a schedule."""
    return read_rule(schedule.rule, schedule.timezone, schedule.created_at)


def read_zone(timezone: object) -> ZoneInfo:
    """The time zone of an IANA name, or a ConfigurationError."""
    try:
        if isinstance(timezone, str) and timezone:
            return ZoneInfo(timezone)
    except (LookupError, ValueError, OSError):  # a folder's name is an OSError
        pass
    raise ConfigurationError(
        f"timezone {timezone!r} is not known: use an IANA name such as 'Europe/Berlin' or 'UTC'"
    )


def due_slots(schedule: Schedule, now: datetime) -> list[datetime]:
    """The slots that have come and are to make a job, by the policy for missed ones."""
    if schedule.next_at is None or schedule.next_at > now:
        return []
    found = rule_of(schedule).newest(schedule.next_at, now, most_jobs(schedule.missed))
    return [slot for slot in found if not is_missed(schedule.missed, slot, now)]


def next_slot(schedule: Schedule, now: datetime) -> datetime | None:
    """The first slot after ``now``, and after the last one that made a job.

    The second holds slots back when a clock went backwards: none makes a job twice.
    """
    last = schedule.last_at
    return rule_of(schedule).after(now if last is None else max(now, last))


def upcoming(rule: Rule, after: datetime, count: int) -> list[datetime]:
    """The next ``count`` slots."""

    def walk() -> Iterator[datetime]:
        slot = rule.after(after)
        while slot is not None:
            yield slot
            slot = rule.after(slot)

    return [slot for slot, _ in zip(walk(), range(count), strict=False)]


def in_words(rule: Rule, timezone: str) -> str:
    """The rule and its zone in plain words."""
    return rule.words() if isinstance(rule, Every) else f"{rule.words()}, {timezone}"


def _whole(at: object, name: str) -> str:
    if not isinstance(at, datetime):
        raise ConfigurationError(f"{name} is a datetime, not {at!r}")
    if at.utcoffset() is None:
        raise ConfigurationError(
            f"{name} has no time zone: use datetime.now(timezone.utc) or another aware datetime"
        )
    return slot_text(at.replace(microsecond=0))


def _whole_seconds(every: object) -> int:
    seconds = every.total_seconds() if isinstance(every, timedelta) else every
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ConfigurationError(f"every is a number of seconds or a timedelta, not {every!r}")
    if not 1 <= seconds <= LONGEST_DELAY_SECONDS or seconds != int(seconds):
        raise ConfigurationError(
            f"every is a whole number of seconds, from 1 to 10 years, not {every!r}"
        )
    return int(seconds)


def _read_instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is not an instant as in 2030-01-31T08:00:00Z") from None
    if at.tzinfo is None:
        raise ConfigurationError(f"{text!r} has no time zone: add Z for UTC, or +05:30")
    return at.astimezone(UTC).replace(microsecond=0)
