"""Cron expressions: what can be said, what is refused, and the days on which clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.cron import ALIASES, Cron
from jobs.core.errors import ConfigurationError

BERLIN, NEW_YORK, UTC_ZONE = (
    ZoneInfo("Europe/Berlin"),
    ZoneInfo("America/New_York"),
    ZoneInfo("UTC"),
)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def local_slots(expression: str, zone: ZoneInfo, day: tuple[int, int, int]) -> list[str]:
    """The slots of one day on the wall, as the clock on the wall shows them."""
    first = datetime(*day, tzinfo=zone)
    last = (datetime(*day) + timedelta(days=1)).replace(tzinfo=zone)  # noqa: DTZ001
    cron = Cron(expression, zone)
    found = []
    slot = cron.after(first.astimezone(UTC) - timedelta(seconds=1))
    while slot is not None and slot < last.astimezone(UTC):
        found.append(slot.astimezone(zone).strftime("%H:%M%z"))
        slot = cron.after(slot)
    return found


@pytest.mark.parametrize(
    ("expression", "expected", "words"),
    [
        ("0 * * * *", "2026-01-01T01:00", "At the start of every hour"),
        ("0 */6 * * *", "2026-01-01T06:00", "At minute 0 past every sixth hour"),
        ("0 8 * * *", "2026-01-01T08:00", "At 08:00 every day"),
        ("0 8 * * 1", "2026-01-05T08:00", "At 08:00 on Monday"),
        ("0 8 1 * *", "2026-01-01T08:00", "At 08:00 on the first day of every month"),
        ("0 9 * * *", "2026-01-01T09:00", "At 09:00 every day"),
        ("*/15 9-17 * jan-mar Mon-Fri", "2026-01-01T09:00", None),
        ("0 9 L * *", "2026-01-31T09:00", "At 09:00 on the last day of every month"),
        ("0 9 LW 5 *", "2026-05-29T09:00", None),
        ("0 9 * * 5L", "2026-01-30T09:00", "At 09:00 on the last Friday of the month"),
        ("0 9 * * MON#2", "2026-01-12T09:00", "At 09:00 on the second Monday of the month"),
        ("0 0 * * 7", "2026-01-04T00:00", "At 00:00 on Sunday"),
        ("0 0 13 * 5", "2026-01-02T00:00", None),
        ("0 0 29 2 *", "2028-02-29T00:00", None),
        ("  5   4  *  *  * ", "2026-01-01T04:05", "At 04:05 every day"),
        ("@daily", "2026-01-02T00:00", "At 00:00 every day"),
        ("@Hourly", "2026-01-01T01:00", "At the start of every hour"),
        ("@weekly", "2026-01-04T00:00", "At 00:00 on Sunday"),
        ("@monthly", "2026-02-01T00:00", None),
        ("@yearly", "2027-01-01T00:00", None),
    ],
)
def test_what_can_be_said(expression: str, expected: str, words: str | None) -> None:
    cron = Cron(expression, UTC_ZONE)
    assert cron.after(BEGIN) == datetime.fromisoformat(f"{expected}Z")
    assert words is None or cron.words() == words


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_are_expressions(alias: str) -> None:
    assert Cron(alias, UTC_ZONE).after(BEGIN) == Cron(ALIASES[alias], UTC_ZONE).after(BEGIN)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("60 * * * *", "'60' is no minute; it is 0-59"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("* 24 * * *", "'24' is no hour; it is 0-23"),
        ("0 0 0 * *", "'0' is no day of month; it is 1-31"),
        ("0 0 * 13 *", "'13' is no month; it is 1-12 or JAN-DEC"),
        ("0 0 * * MOO", "'MOO' is no day of week; it is 0-7 or SUN-SAT"),
        ("0 0 * * 1#6", "'1#6' is no day of week"),
        ("0 0 * * FRI-MON", "'FRI-MON' is no day of week"),
        ("? * * * *", "'?' is no minute"),
        ("0 0 30 2 *", "there is no such day, day of month '30' never comes"),
        ("0 0 31 2,4 *", "there is no such day"),
        ("* * * *", "has 4 fields and not 5: minute, hour, day of month, month, day of week"),
        ("* * * * * *", "has 6 fields and not 5"),
        ("", "has 0 fields"),
        ("@reboot", "is not known: there are @yearly"),
        ("0 0 * * 1;DROP", "is no day of week"),
    ],
)
def test_what_is_refused_names_the_field(expression: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Cron(expression, UTC_ZONE)
    assert reason in str(refused.value)
    assert repr(expression) in str(refused.value)


SPRING = {BERLIN: (2026, 3, 29), NEW_YORK: (2026, 3, 8)}  # 02:00 becomes 03:00 in both
AUTUMN = {BERLIN: (2026, 10, 25), NEW_YORK: (2026, 11, 1)}  # 03:00 becomes 02:00, 02:00 01:00


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK], ids=str)
def test_every_quarter_of_an_hour_is_a_real_quarter(zone: ZoneInfo) -> None:
    assert len(local_slots("*/15 * * * *", zone, SPRING[zone])) == 92
    assert len(local_slots("*/15 * * * *", zone, AUTUMN[zone])) == 100
    assert len(local_slots("*/15 * * * *", zone, (2026, 6, 1))) == 96
    assert len(local_slots("0 * * * *", zone, SPRING[zone])) == 23
    assert len(local_slots("0 * * * *", zone, AUTUMN[zone])) == 25


@pytest.mark.parametrize(
    ("zone", "offset"), [(BERLIN, "+0200"), (NEW_YORK, "-0400")], ids=["Berlin", "New York"]
)
def test_what_spring_leaves_out_comes_at_the_first_instant_after(
    zone: ZoneInfo, offset: str
) -> None:
    day = SPRING[zone]
    assert local_slots("30 2 * * *", zone, day) == [f"03:00{offset}"]
    assert local_slots("0,30 2 * * *", zone, day) == [f"03:00{offset}"]
    # Nothing is lost or doubled where the hour after has slots of its own.
    assert local_slots("30 2,3 * * *", zone, day) == [f"03:00{offset}", f"03:30{offset}"]
    assert local_slots("0 3 * * *", zone, day) == [f"03:00{offset}"]
    assert len(local_slots("30 1 * * *", zone, day)) == 1


def test_what_autumn_repeats_comes_once() -> None:
    assert local_slots("30 2 * * *", BERLIN, AUTUMN[BERLIN]) == ["02:30+0200"]
    assert local_slots("30 1 * * *", BERLIN, AUTUMN[BERLIN]) == ["01:30+0200"]
    assert local_slots("30 1 * * *", NEW_YORK, AUTUMN[NEW_YORK]) == ["01:30-0400"]
    assert local_slots("30 2 * * *", NEW_YORK, AUTUMN[NEW_YORK]) == ["02:30-0500"]


def test_a_look_from_within_the_repeated_hour_goes_forward() -> None:
    """Asked at 02:10 for the second time: 02:30 has been, whatever the wall shows."""
    second = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    cron = Cron("30 2 * * *", BERLIN)
    assert cron.after(second) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    assert cron.newest(second - timedelta(days=3), second, 1) == [
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    ]


def test_where_midnight_is_left_out() -> None:
    """Cairo's clocks go from 00:00 to 01:00."""
    cairo = ZoneInfo("Africa/Cairo")
    assert local_slots("0 0 * * *", cairo, (2026, 4, 24)) == ["01:00+0300"]
    assert len(local_slots("*/30 * * * *", cairo, (2026, 4, 24))) == 46


EXPRESSIONS = [
    *("* * * * *", "*/15 * * * *", "0 * * * *", "30 2 * * *", "0,30 1-3 * * *", "15 */2 * * *"),
    *("0 8 * * 1", "0 9 L * *", "30 1 25 10 *", "0 0 1 1 *", "30 2,3 29 3 *"),
]


@settings(deadline=None, max_examples=60)
@given(
    expression=st.sampled_from(EXPRESSIONS),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    until=st.one_of(
        st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001
        st.datetimes(datetime(2026, 10, 24, 20), datetime(2026, 10, 25, 5)),  # noqa: DTZ001
        st.datetimes(datetime(2026, 3, 28, 20), datetime(2026, 3, 29, 5)),  # noqa: DTZ001
    ),
    back=st.integers(0, 3 * 86_400),
    count=st.integers(1, 20),
)
def test_the_newest_are_the_last_of_those_in_turn(
    expression: str, zone: str, until: datetime, back: int, count: int
) -> None:
    cron = Cron(expression, ZoneInfo(zone))
    until = until.replace(tzinfo=UTC, microsecond=0)
    first = until - timedelta(seconds=back)
    walked = []
    slot = cron.after(first - timedelta(seconds=1))
    while slot is not None and slot <= until:
        assert slot.microsecond == slot.second == 0
        walked.append(slot)
        slot = cron.after(slot)
    assert walked == sorted(set(walked))
    assert cron.newest(first, until, count) == walked[-count:]


def test_the_newest_of_a_year_of_minutes_is_found_at_once() -> None:
    """By looking back from the end; a walk of 525,600 steps would not end within the test."""
    steps = 0

    class Counting(Cron):
        def _from(self, instant: datetime):  # type: ignore[no-untyped-def]
            nonlocal steps
            for slot in super()._from(instant):
                steps += 1
                yield slot

    cron = Counting("* * * * *", UTC_ZONE)
    until = BEGIN + timedelta(days=365)
    assert cron.newest(BEGIN, until, 100) == [
        until - timedelta(minutes=minutes) for minutes in reversed(range(100))
    ]
    assert steps < 1000
