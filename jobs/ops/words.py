"""Numbers, durations and instants in words, for sentences that people read."""

from __future__ import annotations

from datetime import UTC, datetime


def many(count: int, one: str, more: str | None = None) -> str:
    """A number with its noun.

    >>> many(1, "job"), many(1200, "job")
    ('1 job', '1,200 jobs')
    """
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def age(seconds: float) -> str:
    """A duration, to a precision worth reading.

    >>> age(42), age(180), age(7200), age(864000)
    ('42 s', '3 min', '2 h', '10 d')
    """
    for size, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{round(seconds / size)} {unit}"
    return f"{round(max(0.0, seconds))} s"


def instant(at: datetime) -> str:
    """An instant in UTC.

    >>> instant(datetime(2026, 1, 5, 8, tzinfo=UTC))
    '2026-01-05 08:00:00 UTC'
    """
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
