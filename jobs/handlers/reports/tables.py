"""Tables of a PDF report: columns as wide as their contents, headings again on every page."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final

from jobs.handlers.reports.gathering import Gathered
from jobs.handlers.reports.sheet import HAIRLINE, MARGIN_MM, SHADE, Sheet

_SIZE_PT: Final = 8.0
_MOST_LINES: Final = 3
_MEASURED_ROWS: Final = 60
_NARROWEST_MM: Final = 9.0
_PADDING_MM: Final = 1.6
_MOST_MORE_MM: Final = 25.0


def draw_table(sheet: Sheet, gathered: Gathered) -> None:
    """Draw the rows that are kept, and the totals under them."""
    sheet.set_font_size(_SIZE_PT)
    table = _Table(sheet, gathered)
    table.head()
    for row in gathered.rows:
        table.row(row)
    if gathered.totals:
        table.total_row()
    sheet.set_font_size(9)
    sheet.ln(1)


class _Table:
    def __init__(self, sheet: Sheet, gathered: Gathered) -> None:
        self._sheet = sheet
        self._gathered = gathered
        self._widths = _widths(sheet, gathered)

    def head(self) -> None:
        with self._sheet.bold():
            lines = self._lines(self._gathered.headings)
        # Two rows more, or the headings would stand alone at the foot of a page.
        height = self._height(lines)
        if self._sheet.room() < height + 3 * self._height([["x"]]):
            self._sheet.add_page()
        self._draw(lines, shaded=True, bold=True)

    def row(self, values: Sequence[str]) -> None:
        lines = self._lines(values)
        if self._sheet.room() < self._height(lines):
            self._sheet.add_page()
            self.head()
        self._draw(lines)

    def total_row(self) -> None:
        gathered = self._gathered
        values = [gathered.totals.get(heading, "") for heading in gathered.headings]
        if not values[0]:
            values[0] = "Total"
        lines = self._lines(values)
        if self._sheet.room() < self._height(lines):
            self._sheet.add_page()
            self.head()
        self._draw(lines, shaded=True, bold=True)

    def _lines(self, values: Sequence[str]) -> list[list[str]]:
        return [
            self._sheet.wrapped(value, width, _MOST_LINES)
            for value, width in zip(values, self._widths, strict=True)
        ]

    def _height(self, lines: Sequence[Sequence[str]]) -> float:
        return max(map(len, lines)) * self._sheet.line_height() + _PADDING_MM

    def _draw(
        self, lines: Sequence[Sequence[str]], *, shaded: bool = False, bold: bool = False
    ) -> None:
        sheet, height = self._sheet, self._height(lines)
        top, left = sheet.get_y(), MARGIN_MM
        if shaded:
            sheet.set_fill_color(*SHADE)
            sheet.rect(left, top, sum(self._widths), height, style="F")
        for cell, width, numeric in zip(lines, self._widths, self._gathered.numeric, strict=True):
            for number, line in enumerate(cell):
                sheet.set_xy(left, top + _PADDING_MM / 2 + number * sheet.line_height())
                with sheet.bold() if bold else nullcontext():
                    sheet.text_cell(width, line, align="R" if numeric else "L")
            left += width
        sheet.set_draw_color(*HAIRLINE)
        sheet.line(MARGIN_MM, top + height, MARGIN_MM + sum(self._widths), top + height)
        sheet.set_xy(MARGIN_MM, top + height)


def _widths(sheet: Sheet, gathered: Gathered) -> list[float]:
    """As wide as headings and contents ask for; if that is too much, the widest give way."""
    asked = []
    for index, heading in enumerate(gathered.headings):
        texts = [row[index] for row in gathered.rows[:_MEASURED_ROWS]]
        texts += [heading, gathered.totals.get(heading, "")]
        widest = max(map(sheet.width_of, texts)) + 2 * sheet.c_margin + 1
        asked.append(max(widest, _NARROWEST_MM))
    room = float(sheet.epw)
    if sum(asked) <= room:
        # Columns of text share what is left, so that numbers stay together; but what belongs
        # together is not drawn apart over a whole page.
        free = [index for index, numeric in enumerate(gathered.numeric) if not numeric]
        free = free or list(range(len(asked)))
        more = min((room - sum(asked)) / len(free), _MOST_MORE_MM)
        return [each + more if index in free else each for index, each in enumerate(asked)]
    low, high = 0.0, max(asked)
    for _ in range(40):
        limit = (low + high) / 2
        fits = sum(min(each, limit) for each in asked) <= room
        low, high = (limit, high) if fits else (low, limit)
    return [min(each, low) for each in asked]
