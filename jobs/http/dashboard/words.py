"""Numbers, times and states in the words and forms that pages use."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from jobs.ops.words import age, many

def number(value: float | None, capped: bool = False) -> str:  # noqa: FBT001, FBT002 - a filter
    """A count with its thousands, ``+`` behind one that was not counted to its end."""
    return "–" if value is None else f"{value:,.0f}{'+' if capped else ''}"


def milliseconds(value: float | None) -> str:
    """A duration that was measured.

    >>> milliseconds(0.4), milliseconds(843), milliseconds(61_500), milliseconds(None)
    ('<1 ms', '843 ms', '1 min 2 s', '–')
    """
    if value is None:
        return "–"
    if value < 1:
        return "<1 ms"
    if value < 1000:
        return f"{value:.0f} ms"
    if value < 60_000:
        return f"{value / 1000:.3g} s"
    if value < 3_600_000:
        return f"{int(value // 60_000)} min {value % 60_000 / 1000:.0f} s"
    return f"{int(value // 3_600_000)} h {value % 3_600_000 / 60_000:.0f} min"


def duration(seconds: float | None) -> str:
    """A duration in seconds."""
    return milliseconds(None if seconds is None else seconds * 1000)


def instant(at: datetime | None) -> str:
    """An instant in UTC, to the second."""
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def iso(at: datetime) -> str:
    """An instant for a program."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def relative(at: datetime | None, now: datetime | None) -> str | Markup:
    """How long ago or ahead, with the exact instant behind it."""
    if at is None or now is None:
        return "–"
    seconds = (now - at).total_seconds()
    text = f"in {age(-seconds)}" if seconds < -0.5 else f"{age(max(0.0, seconds))} ago"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso(at), instant(at), text)


def since(at: datetime | None, now: datetime | None) -> str | Markup:
    """How long, up to now."""
    if at is None or now is None:
        return "–"
    text = age(max(0.0, (now - at).total_seconds()))
    return Markup('<time datetime="{}" title="since {}" data-form="since">{}</time>').format(
        iso(at), instant(at), text
    )


def state(name: str) -> Markup:
    """A state as a chip."""
    return Markup('<span class="state state-{0}">{0}</span>').format(name)


def pretty_json(value: Any) -> str:
    """A value as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def percent(share: float | None) -> str:
    """A share of one.

    >>> percent(0.9934), percent(None)
    ('99.3 %', '–')
    """
    return "–" if share is None else f"{share * 100:.1f} %"


FILTERS = {
    "number": number,
    "milliseconds": milliseconds,
    "duration": duration,
    "instant": instant,
    "iso": iso,
    "relative": relative,
    "since": since,
    "state": state,
    "pretty_json": pretty_json,
    "percent": percent,
    "many": many,
    "age": age,
}
