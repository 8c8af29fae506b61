"""Numbers, times and states in the words and forms that pages use."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from jobs.ops.words import age, many

NOTHING = "\N{EN DASH}"


def number(value: float | None, capped: bool = False) -> str:
    """A count with its thousands, ``+`` behind one that was not counted to its end."""
    return NOTHING if value is None else f"{value:,.0f}{'+' if capped else ''}"


def milliseconds(value: float | None) -> str:
    """A duration that was measured.

    >>> milliseconds(0.4), milliseconds(843), milliseconds(61_500)
    ('<1 ms', '843 ms', '1 min 2 s')
    """
    if value is None:
        return NOTHING
    if value < 1:
        return "<1 ms"
    if value < 1000:
        return f"{value:.0f} ms"
    if value < 60_000:
        return f"{value / 1000:.3g} s"
    if value < 3_600_000:
        return _two(value, 60_000, "min", 1000, "s")
    return _two(value, 3_600_000, "h", 60_000, "min")


def _two(value: float, large: float, unit: str, small: float, lesser: str) -> str:
    whole, rest = divmod(round(value / small), round(large / small))
    return f"{whole} {unit} {rest} {lesser}" if rest else f"{whole} {unit}"


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
        return NOTHING
    seconds = (now - at).total_seconds()
    text = f"in {age(-seconds)}" if seconds < -0.5 else f"{age(max(0.0, seconds))} ago"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso(at), instant(at), text)


def since(at: datetime | None, now: datetime | None) -> str | Markup:
    """How long, up to now."""
    if at is None or now is None:
        return NOTHING
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


def ticked(text: str) -> Markup:
    """A sentence whose `parts between backticks` are code.

    >>> ticked("call `tickwork resume <b>`")
    Markup('call <code>tickwork resume &lt;b&gt;</code>')
    """
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick without its fellow says nothing
        return Markup.escape(text)
    return Markup().join(
        Markup("<code>{}</code>").format(part) if place % 2 else part
        for place, part in enumerate(parts)
    )


def percent(share: float | None) -> str:
    """A share of one.

    >>> percent(0.9934)
    '99.3 %'
    """
    return NOTHING if share is None else f"{share * 100:.1f} %"


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
    "ticked": ticked,
    "many": many,
    "age": age,
}
