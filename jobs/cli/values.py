"""What is typed: durations, instants and JSON."""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from jobs.core.errors import PayloadError

_UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def duration(_ctx: click.Context, _param: click.Parameter, given: str | None) -> float | None:
    """Seconds, from seconds or from a number with a unit: ``90``, ``1.5h``."""
    if given is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|min|m|h|d|)", given.strip())
    seconds = float(found[1]) * _UNIT_SECONDS[found[2]] if found else math.inf
    if not math.isfinite(seconds):
        raise click.BadParameter(f"{given!r} is not a duration: use seconds, or 10s, 5m, 2h, 1d")
    return seconds


def instant(_ctx: click.Context, _param: click.Parameter, given: str | None) -> datetime | None:
    """An aware datetime, from ISO 8601 with an offset from UTC."""
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given.strip())
    except ValueError:
        raise click.BadParameter(f"{given!r} is not a time as in 2030-01-31T08:00:00Z") from None
    if at.tzinfo is None:
        raise click.BadParameter(f"{given!r} has no time zone: add Z for UTC, or +05:30")
    return at


def read_payload(given: str) -> Any:
    """The value of a JSON text, of stdin (``-``) or of a file (``@path``).

    Raises :class:`click.BadParameter` for what cannot be read and for what is not JSON.
    """
    try:
        return json.loads(_text_of(given), object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise _refused(f"not JSON at {place}: {error.msg}") from None
    except RecursionError:
        raise PayloadError("$", "nested far too deep") from None
    except ValueError as error:  # a number of more digits than Python reads
        raise _refused(str(error)) from None


def _text_of(given: str) -> str:
    if given == "-":
        raw = sys.stdin.buffer.read()
        where = "stdin"
    elif given.startswith("@"):
        where = given[1:]
        try:
            raw = Path(where).read_bytes()
        except OSError as error:
            raise _refused(f"{where} cannot be read: {error.strerror}") from None
    else:
        return given
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(f"{where} is not UTF-8 at byte {error.start}") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        repeated, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise _refused(f"the key {repeated!r} is given twice")
    return made


def _refused(reason: str) -> click.BadParameter:
    return click.BadParameter(reason, param_hint="JSON")
