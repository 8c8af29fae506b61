"""Scales of charts: where an axis begins and ends, and what is written on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

# Below this, powers of ten lose their digits and then are 0.
_SMALLEST: Final = 1e-300


def ticks(lowest: float, highest: float, most: int = 6) -> list[float]:
    """Return round numbers, evenly apart, that hold all between `lowest` and `highest` and 0.

    The steps are 1, 2, 2.5 or 5 times a power of ten. A chart whose axis does not begin at 0 shows
    small changes as large ones.

    most: how many there are at most (at least 3)
    """
    low, high = min(lowest, 0.0), max(highest, 0.0)
    if high - low < _SMALLEST:
        high = low + 1.0
    # Each end may be rounded outwards by one step.
    rough = (high - low) / max(most - 2, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1.0, 2.0, 2.5, 5.0, 10.0) if each * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, last + 1)]


def tick_text(value: float) -> str:
    """Return a number as an axis shows it: `0`, `2.5`, `1,200`, `3.5M`."""
    for limit, unit in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= limit:
            return f"{value / limit:,.4g}{unit}"
    return f"{value:,.10g}"


def spaced(count: int, most: int) -> Sequence[int]:
    """Return which of `count` labels are written: evenly apart, `most` of them at most."""
    step = max(1, -(-count // most))
    return range(0, count, step)
