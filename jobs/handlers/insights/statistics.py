"""Statistics of daily values: pure rules, each with its source.

Change      against the period of as many days before.
Trend       the slope is Theil's and Sen's: the median of the slopes between all pairs of days (Sen,
            "Estimates of the regression coefficient based on Kendall's tau", 1968), which one odd
            day does not move. Whether it is up or down at all is said by the Mann-Kendall test with
            its correction for ties (Kendall, "Rank correlation methods", 1975) at 5 %.
Anomalies   the modified z-score, 0.6745 (x - median) / MAD, over 3.5 in size (Iglewicz and Hoaglin,
            "How to detect and handle outliers", 1993). Where the MAD is 0, since over half of the
            days are alike, the mean absolute deviation stands in: (x - median) / (1.2533 MeanAD). A
            Sunday is held against Sundays as soon as there are four of each weekday: its median is
            theirs. The spread is that of all days together; on weekdays of more than the usual,
            deviations count in proportion, since days on which more is sold also differ by more.
"""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

ODD_FROM: Final = 3.5
_SIGNIFICANT: Final = 0.05
_OF_EACH_WEEKDAY: Final = 4
_FEWEST_DAYS: Final = 5
_SHOWN_ANOMALIES: Final = 20

Direction = Literal["up", "down", "flat"]


@dataclass(frozen=True, slots=True)
class Day:
    """The value of one day."""

    day: dt.date
    value: float


@dataclass(frozen=True, slots=True)
class Trend:
    """Where values go: `per_day` is the slope; `p_value` how likely chance alone is so clear."""

    direction: Direction
    per_day: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A day that is unlike the others: `score` in robust standard deviations from `expected`."""

    day: dt.date
    value: float
    expected: float
    score: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What a period's values say. `change_percent` is None where the period before had nothing."""

    total: float
    mean: float
    total_before: float
    change: float
    change_percent: float | None
    highest: Day
    lowest: Day
    trend: Trend
    anomalies: Sequence[Anomaly]


def summarise(history: Sequence[Day], days: int) -> Summary:
    """Return what the last `days` of a history say.

    history: one value for every day, in order; at least twice as many as `days`. The longer it is,
        the better the anomalies: they are judged by all of it.
    """
    period, before = history[-days:], history[-2 * days : -days]
    total = math.fsum(each.value for each in period)
    total_before = math.fsum(each.value for each in before)
    return Summary(
        total=total,
        mean=total / days,
        total_before=total_before,
        change=total - total_before,
        change_percent=100 * (total - total_before) / abs(total_before) if total_before else None,
        highest=max(period, key=lambda each: each.value),
        lowest=min(period, key=lambda each: each.value),
        trend=trend_of([each.value for each in period]),
        anomalies=anomalies_of(history, period[0].day),
    )


def trend_of(values: Sequence[float]) -> Trend:
    """Return the trend of values that are one day apart."""
    count = len(values)
    slopes, ups = [], 0
    for first in range(count):
        for second in range(first + 1, count):
            difference = values[second] - values[first]
            slopes.append(difference / (second - first))
            ups += (difference > 0) - (difference < 0)
    per_day = statistics.median(slopes) if slopes else 0.0
    p_value = _mann_kendall(values, ups)
    if p_value > _SIGNIFICANT or per_day == 0:
        return Trend("flat", per_day, p_value)
    return Trend("up" if per_day > 0 else "down", per_day, p_value)


def _mann_kendall(values: Sequence[float], score: int) -> float:
    """How likely so high a score is where there is no trend (two-sided, normal approximation)."""
    count = len(values)
    ties = Counter(values).values()
    variance = _pairs_variance(count) - sum(map(_pairs_variance, ties))
    if variance <= 0 or score == 0:
        return 1.0
    # One step nearer to 0, since the score goes in steps.
    z = (abs(score) - 1) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


def _pairs_variance(count: int) -> float:
    return count * (count - 1) * (2 * count + 5) / 18


def anomalies_of(history: Sequence[Day], since: dt.date) -> list[Anomaly]:
    """Return the odd days from `since` on, the oddest first, at most 20.

    history: one value for every day, in order
    """
    if len(history) < _FEWEST_DAYS:
        return []
    groups = _groups(history)
    expected = {
        group: statistics.median(each.value for each in history if groups[each.day] == group)
        for group in set(groups.values())
    }
    level = abs(statistics.median(each.value for each in history))
    sizes = {
        group: max(1.0, abs(wanted) / level) if level else 1.0 for group, wanted in expected.items()
    }
    rests = [
        (each.value - expected[groups[each.day]]) / sizes[groups[each.day]] for each in history
    ]
    spread = _spread(rests)
    # What is left of rounding is no spread, and nothing is odd about it.
    if spread <= 1e-9 * max(1.0, *(abs(each.value) for each in history)):
        return []
    found = [
        Anomaly(each.day, each.value, expected[groups[each.day]], rest / spread)
        for each, rest in zip(history, rests, strict=True)
        if each.day >= since and abs(rest) / spread > ODD_FROM
    ]
    return sorted(found, key=lambda each: -abs(each.score))[:_SHOWN_ANOMALIES]


def _groups(history: Sequence[Day]) -> dict[dt.date, int]:
    """The weekday of each day; one group of all where there are too few of a weekday."""
    weekdays = {each.day: each.day.weekday() for each in history}
    counts = Counter(weekdays.values())
    enough = len(counts) == 7 and min(counts.values()) >= _OF_EACH_WEEKDAY
    return weekdays if enough else dict.fromkeys(weekdays, 0)


def _spread(deviations: Sequence[float]) -> float:
    """What a standard deviation would be, without what few odd days do to one."""
    sizes = [abs(each) for each in deviations]
    mad = statistics.median(sizes)
    return mad / 0.6745 if mad else 1.253314 * statistics.fmean(sizes)
