"""Cron expressions: five fields, read by cronsim, which follows Debian's cron at clock changes.

Where the hour and the minute are fixed, a slot in the hour that spring leaves out comes at the
first instant after it, and one in the hour that autumn repeats comes once. Where either begins with
``*``, slots come at each real interval.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from jobs.core.errors import ConfigurationError

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
# The name that cronsim gives a field, ours, and what may stand in it.
_FIELDS = (
    ("minute", "minute", "0-59"),
    ("hour", "hour", "0-23"),
    ("day-of-month", "day of month", "1-31, L (the last) or LW (the last weekday)"),
    ("month", "month", "1-12 or JAN-DEC"),
    ("day-of-week", "day of week", "0-7 or SUN-SAT, 5L (the last Friday) or 1#2 (second Monday)"),
)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class Cron:
    """A cron expression in a time zone.

    Raises :class:`~jobs.core.errors.ConfigurationError` naming the field that makes no sense.
    """

    def __init__(self, expression: str, zone: ZoneInfo) -> None:
        self.expression = _five_fields(expression)
        self.zone = zone
        if next(self._from(_EPOCH), None) is None:
            raise ConfigurationError(f"cron {expression!r}: there is no such day")

    def after(self, instant: datetime) -> datetime | None:
        """The first slot after ``instant``, in UTC."""
        return next(self._from(instant), None)

    def newest(self, first: datetime, until: datetime, count: int) -> list[datetime]:
        """The last ``count`` slots from ``first`` to ``until``, both included, oldest first."""
        # Only forwards, so that every slot is the one that `after` gave. Looking back further and
        # further: a year of minutes would take seconds to walk through.
        back = timedelta(hours=1)
        while True:
            begin = max(first, until - back)
            found: deque[datetime] = deque(maxlen=count)
            for slot in self._from(begin - timedelta(seconds=1)):
                if slot > until:
                    break
                found.append(slot)
            if len(found) == count or begin == first:
                return list(found)
            back *= 8

    def words(self) -> str:
        """The rule in plain words, without the zone."""
        return CronSim(self.expression, _EPOCH).explain()

    def _from(self, instant: datetime) -> Iterator[datetime]:
        """The slots after ``instant``, in UTC."""
        local = instant.astimezone(self.zone)
        last = instant
        for slot in CronSim(self.expression, local):
            found = slot.astimezone(UTC)
            # In the repeated hour cronsim begins with the first of the two: that one is past.
            if found > last:
                last = found
                yield found


def _five_fields(expression: str) -> str:
    text = " ".join(expression.split())
    if text.startswith("@"):
        if text.lower() not in ALIASES:
            raise ConfigurationError(
                f"cron {expression!r} is not known: there are {', '.join(ALIASES)}"
            )
        return ALIASES[text.lower()]
    parts = text.split(" ")
    if len(parts) != len(_FIELDS):
        raise ConfigurationError(
            f"cron {expression!r} has {len(parts) if text else 0} fields and not 5: "
            "minute, hour, day of month, month, day of week"
        )
    try:
        CronSim(text, _EPOCH)
    except (CronSimError, AssertionError, ValueError) as error:
        raise ConfigurationError(_explained(expression, parts, str(error))) from error
    return text


def _explained(expression: str, parts: list[str], reason: str) -> str:
    for (known_as, field, allowed), part in zip(_FIELDS, parts, strict=True):
        if reason == f"Bad {known_as}":
            if _is_alone_right(field, part):
                return f"cron {expression!r}: there is no such day, {field} {part!r} never comes"
            return f"cron {expression!r}: {part!r} is no {field}; it is {allowed}"
    return f"cron {expression!r} is not a cron expression: {reason}"


def _is_alone_right(field: str, part: str) -> bool:
    if field != "day of month":
        return False
    try:
        CronSim(f"0 0 {part} * *", _EPOCH)
    except CronSimError:
        return False
    return True
