"""What is looked at: datasets with one row a day, and their columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jobs.handlers.errors import ReportError
from jobs.handlers.reports.periods import read_zone

_MOST_VALUES: Final = 20


@dataclass(frozen=True, slots=True)
class Daily:
    """Daily values, by name. Make it with `register_insights`.

    dataset: the name of a dataset with a row for each day; a day without one counts as 0
    day: the column of the day
    values: the columns of numbers
    since, until: the dataset's filters that the days are bound to, where it has such
    timezone: whose days are meant
    """

    name: str
    dataset: str
    values: Sequence[str]
    day: str = "day"
    since: str = "since"
    until: str = "until"
    timezone: str = "UTC"


_registered: dict[str, Daily] = {}


def register_insights(daily: Daily) -> Daily:
    """Make daily values known by name; the same name again replaces them.

    Returns them. Raises ReportError when they could not work.
    """
    if not 1 <= len(daily.values) <= _MOST_VALUES:
        raise ReportError(f"insights {daily.name!r} have 1 to {_MOST_VALUES} columns of values")
    read_zone(daily.timezone)
    _registered[daily.name] = daily
    return daily


def find_insights(names: Sequence[str]) -> list[Daily]:
    """Return those of these names, or all that are registered if there are no names.

    Raises ReportError for a name that there is not, and where nothing is registered.
    """
    for name in names:
        if name not in _registered:
            known = ", ".join(sorted(_registered)) or "none"
            raise ReportError(f"there are no insights {name!r:.80}; registered: {known}")
    found = [_registered[name] for name in names or sorted(_registered)]
    if not found:
        raise ReportError("no insights are registered: call register_insights(Daily(...))")
    return found
