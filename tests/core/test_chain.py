"""A link of a chain, as a header has it; and what a deadline from outside can do to a tick."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from jobs.core.chain import Link, next_link
from jobs.core.deadline import LEAST_LIMIT_SECONDS, parse_deadline, until_deadline
from jobs.core.ids import new_id

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ID = "0190f3f2-6a77-7c1e-8f6a-2b6f7f6b1c55"


def test_a_link_comes_back_from_its_header() -> None:
    link = Link(new_id(), 999)

    assert Link.parse(link.to_header()) == link


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "1",
        ID,
        f"{ID}/",
        f"{ID}/0",
        f"{ID}/-1",
        f"{ID}/1.5",
        f"{ID}/9999999999",
        f" {ID}/1",
        f"{ID}/1\n",
        f"{ID}/٣",
        f"{'x' * 36}/1",
        f"{ID}0/1",
    ],
)
def test_what_is_no_link_begins_a_new_chain(header: str | None) -> None:
    assert Link.parse(header) is None
    assert next_link(None).length == 1
    assert next_link(None).chain_id != next_link(None).chain_id


def test_the_next_link_counts() -> None:
    first = next_link(None)

    assert next_link(first) == Link(first.chain_id, 2)


@pytest.mark.parametrize(
    ("ahead_seconds", "gone_seconds", "limit_seconds"),
    [
        (300, 0, 60),  # it only shortens
        (60, 0, 60),
        (30, 0, 30),
        (30, 5, 35),  # five of the invocation's seconds are gone, and thirty are left
        (1, 0, LEAST_LIMIT_SECONDS),
        (0, 0, LEAST_LIMIT_SECONDS),
        (-3600, 0, LEAST_LIMIT_SECONDS),  # a clock that is wrong
    ],
)
def test_a_deadline_shortens_a_tick_and_no_further_than_sense(
    ahead_seconds: float, gone_seconds: float, limit_seconds: float
) -> None:
    deadline = NOW + timedelta(seconds=ahead_seconds)

    assert until_deadline(60.0, gone_seconds, NOW, deadline) == limit_seconds


def test_a_short_limit_is_not_made_longer() -> None:
    assert until_deadline(1.0, 0.0, NOW, NOW) == 1.0
    assert until_deadline(60.0, 0.0, NOW, None) == 60.0


def test_a_deadline_is_read_in_any_time_zone() -> None:
    assert parse_deadline("2026-11-25T12:00:00.123Z") == NOW.replace(microsecond=123_000)
    there = parse_deadline("2026-11-25T17:30:00+05:30")
    assert there == NOW
    assert there is not None
    assert there.tzinfo == timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "soon",
        "2026-11-25T12:00:00",
        "2026-11-25",
        "1764072000",
        "1764072000000",
        "2026-13-45T99:00:00Z",
        "9" * 5000,
        "2026-11-25T12:00:00Z\x00",
        "\u0662026-11-25T12:00:00Z",
    ],
)
def test_what_is_no_deadline_is_none(value: str | None) -> None:
    assert parse_deadline(value) is None
