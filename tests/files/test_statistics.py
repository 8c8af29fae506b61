"""Statistics of daily values, against their definitions."""

from __future__ import annotations

import math
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.handlers.errors import ReportError
from jobs.handlers.insights.daily import daily_values
from jobs.handlers.insights.definition import Daily
from jobs.handlers.insights.statistics import Day, anomalies_of, summarise, trend_of

FIRST = date(2024, 1, 1)  # a Monday
VALUES = st.floats(-1e6, 1e6).map(lambda value: round(value, 2))


def days(values: list[float]) -> list[Day]:
    return [Day(FIRST + timedelta(days=number), value) for number, value in enumerate(values)]


def shop(weeks: int, seed: int = 1) -> list[float]:
    """A shop that sells three times as much on Saturdays and is closed on Sundays."""
    chance = random.Random(seed)
    usual = (100.0, 100.0, 100.0, 110.0, 120.0, 300.0, 0.0)
    return [usual[number % 7] * chance.uniform(0.9, 1.1) for number in range(7 * weeks)]


def test_the_sums() -> None:
    summary = summarise(days([1.0, 2.0, 3.0, 4.0, 6.0, 5.0]), 3)
    assert (summary.total, summary.mean, summary.total_before) == (15.0, 5.0, 6.0)
    assert (summary.change, summary.change_percent) == (9.0, 150.0)
    assert (summary.highest.value, summary.lowest.value) == (6.0, 4.0)
    assert summary.highest.day == FIRST + timedelta(days=4)


def test_there_is_no_percentage_of_nothing() -> None:
    assert summarise(days([0.0, 0.0, 1.0, 2.0]), 2).change_percent is None


@given(st.lists(VALUES, min_size=2, max_size=60), st.data())
def test_sums_hold_for_any_values(values: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(values) // 2))
    summary = summarise(days(values), count)
    assert math.isclose(summary.total, math.fsum(values[-count:]), abs_tol=1e-6)
    assert math.isclose(summary.change, summary.total - summary.total_before, abs_tol=1e-6)
    assert summary.lowest.value <= summary.mean + 1e-9
    assert summary.mean <= summary.highest.value + 1e-9
    first = FIRST + timedelta(days=len(values) - count)
    assert all(each.day >= first for each in summary.anomalies)


@given(st.floats(0.5, 100), st.floats(-1000, 1000), st.integers(8, 60))
def test_a_straight_line_is_its_own_trend(step: float, start: float, count: int) -> None:
    up = trend_of([start + step * number for number in range(count)])
    down = trend_of([start - step * number for number in range(count)])
    assert (up.direction, down.direction) == ("up", "down")
    assert math.isclose(up.per_day, step, rel_tol=1e-6)
    assert math.isclose(down.per_day, -step, rel_tol=1e-6)


def test_one_odd_day_moves_no_trend() -> None:
    line = [float(number) for number in range(30)]
    line[15] = 1e9
    assert trend_of(line).direction == "up"
    assert math.isclose(trend_of(line).per_day, 1.0, rel_tol=0.05)


def test_noise_has_no_trend() -> None:
    """At 5 %, about one in twenty is taken for one."""
    chance = random.Random(7)
    found = [trend_of([chance.gauss(100, 10) for _ in range(30)]).direction for _ in range(200)]
    assert 180 <= found.count("flat") <= 199


@pytest.mark.parametrize("values", [[], [5.0], [5.0] * 30, [0.0] * 365])
def test_what_never_moves_is_flat(values: list[float]) -> None:
    assert trend_of(values).direction == "flat"
    assert trend_of(values).p_value == 1.0


def test_weekdays_are_no_anomalies() -> None:
    """A closed Sunday and a busy Saturday are as ever; a Saturday like a Monday is not."""
    values = shop(weeks=10)
    assert anomalies_of(days(values), FIRST) == []

    values[-2] = 100.0  # the last Saturday
    (found,) = anomalies_of(days(values), FIRST)
    assert (found.day.weekday(), found.value) == (5, 100.0)
    assert math.isclose(found.expected, 300, rel_tol=0.1)
    assert found.score < -3.5


def test_a_sunday_on_which_a_closed_shop_sells() -> None:
    values = shop(weeks=10)
    values[-1] = 100.0
    assert [each.day.weekday() for each in anomalies_of(days(values), FIRST)] == [6]


@given(st.lists(st.floats(90, 110), min_size=14, max_size=27), st.integers(0, 13))
def test_a_huge_day_is_found_wherever_it_is(values: list[float], place: int) -> None:
    values[place] = 1e6
    found = anomalies_of(days(values), FIRST)
    assert found[0].value == 1e6
    assert found[0].score > 3.5


@given(st.lists(VALUES, max_size=70), st.floats(0.01, 1000), VALUES)
def test_units_change_no_verdict(values: list[float], factor: float, shift: float) -> None:
    plain = {each.day for each in anomalies_of(days(values), FIRST) if abs(each.score) > 3.6}
    other = anomalies_of(days([value * factor + shift for value in values]), FIRST)
    spread = max(values, default=0) - min(values, default=0)
    if spread * factor > 1e-3 and len(other) < 20:
        assert plain <= {each.day for each in other}


@pytest.mark.parametrize("values", [[], [1.0], [7.0] * 60, [0.1 + 0.2] * 30 + [0.3] * 30])
def test_nothing_is_odd_where_all_is_alike(values: list[float]) -> None:
    assert anomalies_of(days(values), FIRST) == []


def test_where_most_days_are_alike_the_mean_deviation_stands_in() -> None:
    assert [each.value for each in anomalies_of(days([0.0] * 26 + [50.0]), FIRST)] == [50.0]


# --- from rows to days

DAILY = Daily("sales", dataset="by-day", values=["amount"])
SPAN = (FIRST, FIRST + timedelta(days=3))


def of_rows(*rows: tuple[Any, Any]) -> list[float]:
    zone = UTC
    found = daily_values(DAILY, ["day", "amount"], rows, SPAN, zone)["amount"]
    assert [each.day for each in found] == [FIRST + timedelta(days=n) for n in range(3)]
    return [each.value for each in found]


def test_each_day_has_a_value() -> None:
    assert of_rows() == [0.0, 0.0, 0.0]
    assert of_rows((FIRST, 5), ("2024-01-03 00:00:00", 7), (FIRST, Decimal("0.5"))) == [5.5, 0, 7]
    assert of_rows((date(2023, 12, 31), 5), (date(2024, 1, 4), 5), (None, 5), (FIRST, None)) == [
        *(0.0, 0.0, 0.0)
    ]
    assert of_rows((datetime(2024, 1, 1, 23, 59, tzinfo=UTC), 1)) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "row", [("yesterday", 1), (5, 1), (FIRST, "many"), (FIRST, True), (FIRST, math.nan)]
)
def test_what_is_no_day_or_no_number_is_said(row: tuple[Any, Any]) -> None:
    with pytest.raises(ReportError):
        of_rows(row)


def test_a_column_that_there_is_not() -> None:
    with pytest.raises(ReportError, match="has no column 'amount'; its columns: day, total"):
        daily_values(DAILY, ["day", "total"], [], SPAN, UTC)
