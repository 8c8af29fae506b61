"""Periods of reports: whole days in a time zone, the last one excluded.

    30d, 12w, 1y             so many days, weeks or years up to yesterday
    last-week                the week before this one, Monday to Sunday (ISO 8601)
    last-month, last-quarter, last-year
    2024-W20, 2024-05, 2024-Q2, 2024, 2024-05-31
    2024-05-01/2024-05-08    from the first day up to the second, which is not in it

Days are the calendar's, so a day of 23 or 25 hours is one day like any other: the instants of a
period are the midnights of the zone, or what comes first after a midnight that there was not.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jobs.handlers.errors import ReportError

_MOST_DAYS: Final = 3660
_FORMS: Final = (
    "30d, 12w, 1y, last-week, last-month, last-quarter, last-year, 2024-W20, 2024-05, 2024-Q2, "
    "2024, 2024-05-31, or 2024-05-01/2024-05-08"
)


@dataclass(frozen=True, slots=True)
class Period:
    """Days from `start` up to `end`, which is not in it. `label` is how people call it."""

    start: dt.date
    end: dt.date
    label: str

    def __post_init__(self) -> None:
        if not 1 <= self.days <= _MOST_DAYS:
            raise ReportError(f"a period has 1 to {_MOST_DAYS} days, not {self.days}")

    @property
    def days(self) -> int:
        return (self.end - self.start).days

    @property
    def before(self) -> Period:
        """The period of as many days just before this one."""
        start = self.start - (self.end - self.start)
        return Period(start, self.start, f"{self.days} days before")

    def instants(self, zone: dt.tzinfo) -> tuple[dt.datetime, dt.datetime]:
        """Its first instant and the first one after it, in UTC."""
        return midnight(self.start, zone), midnight(self.end, zone)


def midnight(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    """Return the first instant of a day in a zone, in UTC.

    Where clocks were put forward over midnight, that is the first instant after the gap; where they
    were put back over it, the first of the two.
    """
    # In a gap, the offset before it (fold=0) lands exactly as much after its start as there is
    # between midnight and it: for a gap that begins at midnight, at its end.
    return dt.datetime.combine(day, dt.time(), zone).astimezone(dt.UTC)


def read_zone(name: str) -> ZoneInfo:
    """Return a time zone by its name. Raises ReportError for one that there is not."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ReportError(
            f"there is no time zone {name!r:.80}; write a name such as Asia/Kolkata"
        ) from error


def read_period(text: str, asked_at: dt.datetime, zone: dt.tzinfo) -> Period:
    """Return the period that a text means.

    text: one of the forms above
    asked_at: when it was said, with an offset
    zone: whose days are meant
    Raises ReportError for another form, and for one that means no days, or too many.
    """
    today = asked_at.astimezone(zone).date()
    for pattern, read in _READERS:
        if found := pattern.fullmatch(text.strip()):
            try:
                return read(today, *found.groups())
            except (ValueError, OverflowError) as error:
                raise ReportError(f"{text!r:.60} is no period: {error}") from error
    raise ReportError(f"{text!r:.60} is no period; write {_FORMS}")


def _rolling(today: dt.date, count: str, unit: str) -> Period:
    number = int(count)
    if unit == "y":
        return Period(_add_months(today, -12 * number), today, f"last {12 * number} months")
    days = number * (7 if unit == "w" else 1)
    name = {"d": "day", "w": "week"}[unit]
    return Period(today - dt.timedelta(days=days), today, f"last {_some(number, name)}")


def _some(number: int, unit: str) -> str:
    return unit if number == 1 else f"{number} {unit}s"


def _last(today: dt.date, unit: str) -> Period:
    match unit:
        case "week":
            monday = today - dt.timedelta(days=today.weekday() + 7)
            year, week, _ = monday.isocalendar()
            return _week(today, str(year), str(week))
        case "month":
            day = _add_months(today.replace(day=1), -1)
            return _month(today, str(day.year), str(day.month))
        case "quarter":
            day = _add_months(today.replace(day=1), -3)
            return _quarter(today, str(day.year), str((day.month - 1) // 3 + 1))
    return _year(today, str(today.year - 1))


def _week(_: dt.date, year: str, week: str) -> Period:
    monday = dt.date.fromisocalendar(int(year), int(week), 1)
    return Period(monday, monday + dt.timedelta(days=7), f"week {int(week)} of {year}")


def _month(_: dt.date, year: str, month: str) -> Period:
    first = dt.date(int(year), int(month), 1)
    return Period(first, _add_months(first, 1), first.strftime("%B %Y"))


def _quarter(_: dt.date, year: str, quarter: str) -> Period:
    first = dt.date(int(year), 3 * int(quarter) - 2, 1)
    return Period(first, _add_months(first, 3), f"quarter {quarter} of {year}")


def _year(_: dt.date, year: str) -> Period:
    return Period(dt.date(int(year), 1, 1), dt.date(int(year) + 1, 1, 1), year)


def _day(_: dt.date, text: str) -> Period:
    day = dt.date.fromisoformat(text)
    return Period(day, day + dt.timedelta(days=1), text)


def _between(_: dt.date, start: str, end: str) -> Period:
    first, after = dt.date.fromisoformat(start), dt.date.fromisoformat(end)
    return Period(first, after, f"{first} to {after - dt.timedelta(days=1)}")


def _add_months(day: dt.date, months: int) -> dt.date:
    """The same day of another month, or its last one where there is no such day."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    following = dt.date(year + month // 11, (month + 1) % 12 + 1, 1)
    last = (following - dt.timedelta(days=1)).day
    return dt.date(year, month + 1, min(day.day, last))


_READERS: Final[tuple[tuple[re.Pattern[str], Callable[..., Period]], ...]] = tuple(
    (re.compile(pattern, re.ASCII), read)
    for pattern, read in (
        (r"(\d{1,4})([dwy])", _rolling),
        (r"last-(week|month|quarter|year)", _last),
        (r"(\d{4})-W(\d{2})", _week),
        (r"(\d{4})-(\d{2})", _month),
        (r"(\d{4})-Q([1-4])", _quarter),
        (r"(\d{4})", _year),
        (r"(\d{4}-\d{2}-\d{2})", _day),
        (r"(\d{4}-\d{2}-\d{2})/(\d{4}-\d{2}-\d{2})", _between),
    )
)
