"""What a PDF needs of a section's rows: the first ones, points for the chart, totals, the count.

All rows pass, few are kept. Values become text as people read them.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from jobs.handlers.errors import ReportError
from jobs.handlers.reports.definition import Chart, Section
from jobs.handlers.writers import distinct, plain_text

_MOST_CHARACTERS: Final = 300
# SQLite keeps days as text, often with a time that says nothing.
_a_day = re.compile(r"(\d{4}-\d\d-\d\d)[T ]00:00(?::00(?:\.0+)?)?").fullmatch


@dataclass(slots=True)
class Gathered:
    """A section's rows, as far as a PDF shows them.

    headings: of the columns
    rows: the first rows, as text
    numeric: which columns are numbers, and stand to the right
    points: of the chart: a label and a number for each series (None where there is none)
    totals: text by heading
    total_rows: how many there are in all
    """

    headings: list[str]
    rows: list[list[str]] = field(default_factory=list)
    numeric: list[bool] = field(default_factory=list)
    points: list[tuple[str, list[float | None]]] = field(default_factory=list)
    totals: dict[str, str] = field(default_factory=dict)
    total_rows: int = 0


def gather(section: Section, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Gathered:
    """Let all rows of a section pass, and keep what the PDF shows.

    columns: the names, in the order of the values
    Raises ReportError where the section speaks of a column that there is not, or draws or adds up
    what is no number.
    """
    columns = distinct(columns)
    wanted = {name: name for name in columns} if section.columns is None else section.columns
    places = [_place(columns, name) for name in wanted]
    summed = {name: _place(columns, name) for name in section.totals}
    drawn = _chart_places(section.chart, columns)
    gathered = Gathered(list(wanted.values()))
    sums: dict[str, Decimal | float | int] = dict.fromkeys(summed, 0)
    kept: list[list[Any]] = []
    for row in rows:
        gathered.total_rows += 1
        if len(kept) < section.rows:
            kept.append([row[place] for place in places])
        for name, place in summed.items():
            if row[place] is not None:
                sums[name] = _added(sums[name], row[place], name)
        if section.chart is not None and len(gathered.points) < section.chart.points:
            label, *values = (row[place] for place in drawn)
            gathered.points.append((shown(label), [_point(value) for value in values]))
    columns_kept = [[row[index] for row in kept] for index in range(len(places))]
    gathered.numeric = [
        all(value is None or is_number(value) for value in values) for values in columns_kept
    ]
    texts = [_column_texts(values) for values in columns_kept]
    gathered.rows = [[column[number] for column in texts] for number in range(len(kept))]
    gathered.totals = {wanted.get(name, name): shown(total) for name, total in sums.items()}
    return gathered


def _column_texts(values: Sequence[Any]) -> list[str]:
    """A column with cents has them in every row, also where SQLite made a whole number of one."""
    if any(isinstance(value, (float, Decimal)) for value in values):
        values = [float(value) if type(value) is int else value for value in values]
    return [shown(value) for value in values]


def _place(columns: Sequence[str], name: str) -> int:
    if name not in columns:
        raise ReportError(f"there is no column {name!r}; the columns: {', '.join(columns)}")
    return list(columns).index(name)


def _chart_places(chart: Chart | None, columns: Sequence[str]) -> list[int]:
    return [] if chart is None else [_place(columns, name) for name in (chart.x, *chart.series)]


def _point(value: Any) -> float | None:
    if value is None:
        return None
    if not is_number(value):
        raise ReportError(f"a chart draws numbers, not {value!r:.60}")
    return float(value) if math.isfinite(value) else None


def _added(total: Any, value: Any, name: str) -> Any:
    if not is_number(value):
        raise ReportError(f"column {name!r} has no total: {value!r:.60} is no number")
    # Decimal and float cannot be added; where a column mixes them, it is no sum of cents.
    mixed = isinstance(total, float) or isinstance(value, float)
    return float(total) + float(value) if mixed else total + value


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """Return a value as people read it: `1,234.50`, `2024-05-31 08:00`, `yes`; NULL is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (float, Decimal)) and math.isfinite(value):
        return f"{value:,.2f}"
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    text = " ".join(plain_text(value).split())
    if found := _a_day(text):
        return found.group(1)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
