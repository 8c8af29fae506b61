"""Periods of reports: calendars, clocks that change, and what is no period."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.handlers.errors import ReportError
from jobs.handlers.reports.periods import Period, midnight, read_period, read_zone

ASKED = datetime(2024, 3, 31, 22, 30, tzinfo=UTC)  # in Berlin it is April already
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "start", "end", "label"),
    [
        ("7d", "2024-03-25", "2024-04-01", "last 7 days"),
        ("1d", "2024-03-31", "2024-04-01", "last day"),
        ("2w", "2024-03-18", "2024-04-01", "last 2 weeks"),
        ("1y", "2023-04-01", "2024-04-01", "last 12 months"),
        ("last-week", "2024-03-25", "2024-04-01", "week 13 of 2024"),
        ("last-month", "2024-03-01", "2024-04-01", "March 2024"),
        ("last-quarter", "2024-01-01", "2024-04-01", "quarter 1 of 2024"),
        ("last-year", "2023-01-01", "2024-01-01", "2023"),
        ("2020-W53", "2020-12-28", "2021-01-04", "week 53 of 2020"),
        ("2024-02", "2024-02-01", "2024-03-01", "February 2024"),
        ("2024-12", "2024-12-01", "2025-01-01", "December 2024"),
        ("2024-Q4", "2024-10-01", "2025-01-01", "quarter 4 of 2024"),
        ("2024", "2024-01-01", "2025-01-01", "2024"),
        ("2024-02-29", "2024-02-29", "2024-03-01", "2024-02-29"),
        ("2024-05-01/2024-05-08", "2024-05-01", "2024-05-08", "2024-05-01 to 2024-05-07"),
    ],
)
def test_what_a_text_means(text: str, start: str, end: str, label: str) -> None:
    period = read_period(text, ASKED, BERLIN)
    assert period == Period(date.fromisoformat(start), date.fromisoformat(end), label)


@pytest.mark.parametrize(
    "text",
    [
        *("", "week", "7", "7 d", "0d", "-7d", "9999y", "last-day", "2023-02-29", "2024-13"),
        *(
            "2023-W53",
            "2024-Q5",
            "2024-05-08/2024-05-01",
            "2024-05-01/2024-05-01",
            "\u0667d",
            "0000",
        ),
        *("0001-01-01/9999-12-31", "7d; DROP TABLE"),
    ],
)
def test_what_is_no_period(text: str) -> None:
    with pytest.raises(ReportError):
        read_period(text, ASKED, BERLIN)


def test_the_year_before_a_leap_day_begins_on_its_last() -> None:
    asked = datetime(2024, 2, 29, 12, tzinfo=UTC)
    assert read_period("1y", asked, UTC).start == date(2023, 2, 28)


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        ("2024-03-31", "Europe/Berlin", 23),
        ("2024-10-27", "Europe/Berlin", 25),
        ("2024-06-01", "Europe/Berlin", 24),
        ("2018-11-04", "America/Sao_Paulo", 23),  # the day began at 01:00
        ("2024-11-03", "America/Havana", 25),  # midnight came twice
        ("2024-04-07", "Australia/Lord_Howe", 24.5),
        ("2011-12-30", "Pacific/Apia", 0),  # the day that there was not
    ],
)
def test_days_are_as_long_as_they_are(day: str, zone: str, hours: float) -> None:
    start, end = read_period(day, ASKED, UTC).instants(read_zone(zone))
    assert end - start == timedelta(hours=hours)


def test_the_first_instant_after_a_midnight_that_there_was_not() -> None:
    found = midnight(date(2018, 11, 4), ZoneInfo("America/Sao_Paulo"))
    assert found == datetime(2018, 11, 4, 3, tzinfo=UTC)


def test_no_such_zone() -> None:
    for name in ("Mars/Olympus", "../../etc/passwd", ""):
        with pytest.raises(ReportError, match="there is no time zone"):
            read_zone(name)


INSTANTS = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - as hypothesis takes them
ZONES = st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York", "Pacific/Auckland"])


@given(INSTANTS, ZONES, st.sampled_from(["week", "month", "quarter", "year"]))
def test_the_last_one_is_whole_and_over(asked: datetime, zone_name: str, unit: str) -> None:
    zone = ZoneInfo(zone_name)
    period = read_period(f"last-{unit}", asked, zone)
    start, end = period.instants(zone)

    assert start < end <= asked
    assert period.end <= asked.astimezone(zone).date()
    # The next of its kind is not over yet.
    assert (asked.astimezone(zone).date() - period.end).days < {
        "week": 7,
        "month": 31,
        "quarter": 92,
        "year": 366,
    }[unit]
    if unit == "week":
        assert (period.days, period.start.weekday()) == (7, 0)


@given(INSTANTS, ZONES, st.integers(1, 400))
def test_periods_touch_and_do_not_overlap(asked: datetime, zone_name: str, days: int) -> None:
    zone = ZoneInfo(zone_name)
    period = read_period(f"{days}d", asked, zone)
    assert period.days == period.before.days == days
    assert period.before.instants(zone)[1] == period.instants(zone)[0]
