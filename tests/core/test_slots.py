"""Rules as text, the slots of intervals and one-offs, and the policies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from msgspec.structs import replace

from jobs.core.errors import ConfigurationError
from jobs.core.schedule import (
    Declared,
    Schedule,
    check_jitter,
    check_missed,
    jitter_of,
)
from jobs.core.slots import (
    Rule,
    due_slots,
    in_words,
    next_slot,
    read_rule,
    read_zone,
    upcoming,
    write_rule,
)

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def rule(text: str, timezone: str = "UTC") -> Rule:
    return read_rule(text, timezone, BEGIN)


@pytest.mark.parametrize(
    ("given", "text", "words"),
    [
        ({"cron": " 0 8  * * 1 "}, "0 8 * * 1", "At 08:00 on Monday, Asia/Kolkata"),
        ({"every": 3600}, "every 3600", "Every hour"),
        ({"every": timedelta(minutes=90)}, "every 5400", "Every 90 minutes"),
        ({"every": 7200.0}, "every 7200", "Every 2 hours"),
        ({"every": 86_400}, "every 86400", "Every day"),
        ({"every": 61}, "every 61", "Every 61 seconds"),
        ({"every": 60, "start": BEGIN}, "every 60 from 2026-01-01T00:00:00Z", "Every minute"),
        (
            {"at": datetime(2026, 3, 1, 12, 30, 1, 5, tzinfo=timezone(timedelta(hours=2)))},
            "at 2026-03-01T10:30:01Z",
            "Once, at 2026-03-01 16:00:01, Asia/Kolkata",
        ),
    ],
)
def test_a_rule_is_written_and_read(given: dict[str, Any], text: str, words: str) -> None:
    assert write_rule(**given) == text
    assert in_words(rule(text, "Asia/Kolkata"), "Asia/Kolkata") == words


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "one rule: a cron expression, every=SECONDS or at=DATETIME"),
        ({"cron": "@daily", "every": 5}, "one rule"),
        ({"cron": "@daily", "start": BEGIN}, "start= is what every= counts from"),
        ({"cron": 5}, "is text such as"),
        ({"cron": "1," * 150 + "1 * * * *"}, "at most 200 characters"),
        ({"every": 0}, "a whole number of seconds, from 1"),
        ({"every": 0.5}, "a whole number of seconds"),
        ({"every": 1e12}, "to 10 years"),
        ({"every": True}, "a number of seconds or a timedelta"),
        ({"every": "1h"}, "a number of seconds or a timedelta"),
        ({"at": datetime(2026, 1, 1)}, "at has no time zone"),  # noqa: DTZ001
        ({"at": "2026-01-01"}, "at is a datetime"),
        ({"every": 5, "start": datetime(2026, 1, 1)}, "start has no time zone"),  # noqa: DTZ001
    ],
)
def test_a_rule_that_makes_no_sense(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        write_rule(**given)


@pytest.mark.parametrize("text", ["at noon", "at 2026-01-01T00:00:00", "every 0", "every 5 from x"])
def test_a_text_that_is_no_rule(text: str) -> None:
    with pytest.raises(ConfigurationError):
        rule(text)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "Europe", "../etc/passwd", 5, None, "nul\0"])
def test_a_zone_that_is_none(zone: object) -> None:
    with pytest.raises(ConfigurationError, match="IANA name such as 'Europe/Berlin'"):
        read_zone(zone)


def test_intervals_are_counted_from_their_start_in_real_time() -> None:
    every = rule("every 7200 from 2026-03-28T23:30:00Z", "Europe/Berlin")
    start = datetime(2026, 3, 28, 23, 30, tzinfo=UTC)
    assert every.after(BEGIN) == start
    assert every.after(start) == start + 2 * HOUR
    assert every.after(start + timedelta(seconds=7199)) == start + 2 * HOUR
    day = [slot for slot in upcoming(every, start, 20) if slot <= start + 24 * HOUR]
    assert len(day) == 12, "the day of 23 hours too"
    assert every.newest(start, start + 5 * HOUR, 2) == [start + 2 * HOUR, start + 4 * HOUR]
    assert every.newest(BEGIN, start + 5 * HOUR, 9)[0] == start
    assert every.newest(start + HOUR, start + 5 * HOUR, 9)[0] == start + 2 * HOUR
    assert every.newest(BEGIN, start - HOUR, 9) == []


def test_without_a_start_they_are_counted_from_when_the_schedule_began() -> None:
    begun = datetime(2026, 1, 1, 0, 0, 7, 999, tzinfo=UTC)
    assert read_rule("every 60", "UTC", begun).after(begun) == begun.replace(
        minute=1, microsecond=0
    )


def test_once_is_once() -> None:
    once = rule("at 2026-01-01T01:00:00Z")
    assert once.after(BEGIN) == BEGIN + HOUR
    assert once.after(BEGIN + HOUR) is None
    assert once.newest(BEGIN, BEGIN + HOUR, 5) == [BEGIN + HOUR]
    assert once.newest(BEGIN, BEGIN, 5) == []
    assert upcoming(once, BEGIN, 5) == [BEGIN + HOUR]


def hourly(**fields: Any) -> Schedule:
    return Schedule("hourly", "", "x", "0 * * * *", next_at=BEGIN + HOUR, **fields)


@pytest.mark.parametrize(
    ("missed", "late_seconds", "hours"),
    [
        ("latest", 0, [3]),
        ("latest", 3599, [3]),
        ("all:2", 100, [2, 3]),
        ("all:100", 100, [1, 2, 3]),
        ("none", 0, [3]),
        ("none", 300, [3]),
        ("none", 301, []),
    ],
)
def test_slots_that_have_come(missed: str, late_seconds: int, hours: list[int]) -> None:
    now = BEGIN + 3 * HOUR + timedelta(seconds=late_seconds)
    assert due_slots(hourly(missed=missed), now) == [BEGIN + hour * HOUR for hour in hours]
    assert due_slots(hourly(missed=missed), BEGIN + HOUR - timedelta(seconds=1)) == []


def test_no_slot_is_before_the_last_one() -> None:
    row = hourly(last_at=BEGIN + 5 * HOUR)
    assert next_slot(row, BEGIN) == BEGIN + 6 * HOUR
    assert next_slot(row, BEGIN + 8 * HOUR) == BEGIN + 9 * HOUR


@pytest.mark.parametrize("missed", ["all", "all:0", "all:101", "all:01", "first", "", None, 3])
def test_a_policy_that_is_none(missed: object) -> None:
    with pytest.raises(ConfigurationError, match=r"'latest'.*'all:N'.*'none'"):
        check_missed(missed)


@pytest.mark.parametrize("jitter", [-1, 86_401, float("nan"), "5", True])
def test_a_jitter_that_is_none(jitter: object) -> None:
    with pytest.raises(ConfigurationError, match="jitter"):
        check_jitter(jitter)


def test_jitter_is_the_same_for_all_who_ask() -> None:
    one = hourly(jitter_seconds=60.0)
    drawn = [jitter_of(one, BEGIN + hour * HOUR) for hour in range(200)]
    assert drawn == [jitter_of(one, BEGIN + hour * HOUR) for hour in range(200)]
    assert all(0 <= each < 60 for each in drawn)
    assert 25 < sum(drawn) / 200 < 35
    assert jitter_of(replace(one, name="other"), BEGIN) != drawn[0]
    assert jitter_of(replace(one, tenant="acme"), BEGIN) != drawn[0]
    # Always this one, so that two versions of the program agree as well.
    assert drawn[0] == 15.956


def test_a_name_is_declared_once() -> None:
    declared = Declared()
    assert declared.snapshot() == (0, [])
    declared.add(hourly())
    declared.add(hourly())
    assert declared.is_new
    changes, found = declared.snapshot()
    assert list(found) == [hourly()]
    with pytest.raises(ConfigurationError, match="is declared twice"):
        declared.add(hourly(payload={"n": 1}))
    declared.synchronised(changes)
    assert not declared.is_new
