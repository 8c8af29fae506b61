"""Which failures are one and the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobs.core.failures import LINE_MAX_CHARS, error_line, grouped
from jobs.core.store import Failure

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("KeyError: order 17", "KeyError: order 4711"),
        (
            "no row 01a21506-2eaf-709f-b613-6b022f1c0f47",
            "no row 01a21506-2eaf-709f-b613-000000000000",
        ),
        ("at 0x7f4fffea8900", "at 0x7f0000000000"),
        ("digest deadbeef01", "digest 0123456789abcdef"),
        ("took 1.5 s", "took 12,000.25 s"),
        ("\n  first line 1\nsecond", "first line 2\nanother second"),
    ],
)
def test_what_varies_is_left_out(one: str, other: str) -> None:
    assert error_line(one) == error_line(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("KeyError: a", "KeyError: b"), ("TimeoutError: x", "ValueError: x"), ("cafe", "face")],
)
def test_what_differs_stays_apart(one: str, other: str) -> None:
    assert error_line(one) != error_line(other)


def test_any_text_has_a_line() -> None:
    for text in (None, "", " \n\t", "x" * 10_000, "1" * 10_000, "é\u202e😀"):
        assert 0 < len(error_line(text)) <= LINE_MAX_CHARS


def test_groups_are_by_kind_and_line_the_largest_first() -> None:
    def failure(number: int, kind: str, error: str) -> Failure:
        at = NOON - timedelta(minutes=number)
        return Failure(f"id-{number}", kind, "q", "", 1, at, error)

    groups = grouped(
        [
            failure(0, "a", "E: once"),
            failure(1, "a", "E: order 1"),
            failure(2, "b", "E: order 2"),
            failure(3, "a", "E: order 3"),
        ]
    )
    assert [(each.kind, each.jobs) for each in groups] == [("a", 2), ("a", 1), ("b", 1)]
    assert groups[0].ids == ("id-1", "id-3")
    assert groups[0].example.id == "id-1"
    assert (groups[0].newest_at, groups[0].oldest_at) == (
        NOON - timedelta(minutes=1),
        NOON - timedelta(minutes=3),
    )
