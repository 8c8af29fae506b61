"""From the rows of a dataset to one value for every day."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from jobs.handlers.errors import ReportError
from jobs.handlers.insights.definition import Daily
from jobs.handlers.insights.statistics import Day


def daily_values(
    daily: Daily,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    span: tuple[dt.date, dt.date],
    zone: dt.tzinfo,
) -> dict[str, list[Day]]:
    """Return, by column, a value for every day of a span; several rows of a day are added up.

    columns, rows: what the dataset gave; rows of other days are passed over
    span: the first day, and the first one after it
    zone: which day an instant with an offset belongs to
    Raises ReportError for a missing column, and for what is no day or no number.
    """
    for name in (daily.day, *daily.values):
        if name not in columns:
            raise ReportError(
                f"dataset {daily.dataset!r} has no column {name!r}; its columns: "
                f"{', '.join(columns)}"
            )
    first, after = span
    days = [first + dt.timedelta(days=number) for number in range((after - first).days)]
    sums: dict[str, dict[dt.date, Any]] = {name: dict.fromkeys(days, 0) for name in daily.values}
    place = list(columns).index(daily.day)
    places = {name: list(columns).index(name) for name in daily.values}
    for row in rows:
        day = _day(row[place], zone)
        if day is None or not first <= day < after:
            continue
        for name, at in places.items():
            if row[at] is not None:
                sums[name][day] += _number(row[at], name)
    return {name: [Day(day, float(values[day])) for day in days] for name, values in sums.items()}


def _day(value: Any, zone: dt.tzinfo) -> dt.date | None:
    if isinstance(value, str):  # SQLite
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError as error:
            raise ReportError(f"{value!r:.60} is no day; write it as 2024-05-31") from error
    if isinstance(value, dt.datetime):
        return (value if value.tzinfo is None else value.astimezone(zone)).date()
    if value is None or isinstance(value, dt.date):
        return value
    raise ReportError(f"{value!r:.60} is no day")


def _number(value: Any, name: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise ReportError(f"column {name!r} holds {value!r:.60}, which is no number")
    if not math.isfinite(value):
        raise ReportError(f"column {name!r} holds {value}, which no statistics bear")
    return Decimal(value)
