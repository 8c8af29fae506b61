"""Charts of a PDF report: lines over days, bars for names. Drawn, so they stay sharp when printed.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which people with any colour
vision tell apart; several lines also differ in how they are dashed.
"""

from __future__ import annotations

from typing import Final

from jobs.handlers.reports.definition import Chart
from jobs.handlers.reports.gathering import Gathered, shown
from jobs.handlers.reports.scales import spaced, tick_text, ticks
from jobs.handlers.reports.sheet import HAIRLINE, INK, MARGIN_MM, QUIET, Sheet

_COLOURS: Final = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
_DASHES: Final = (0.0, 2.4, 0.8, 4.0)
_LINE_CHART_MM: Final = 58.0
_BAR_MM: Final = 5.4
_MOST_BARS: Final = 20


def chart_height(chart: Chart, gathered: Gathered) -> float:
    """Return how many millimetres of a page a chart takes, with its labels."""
    if not gathered.points:
        return 0.0
    if chart.kind == "line":
        return _LINE_CHART_MM + 14
    return min(len(gathered.points), _MOST_BARS) * len(chart.series) * _BAR_MM + 10


def draw_chart(sheet: Sheet, chart: Chart, gathered: Gathered) -> None:
    """Draw a chart where the sheet stands; nothing where there are no points."""
    if not gathered.points:
        return
    sheet.set_font_size(7)
    if len(chart.series) > 1:
        _legend(sheet, chart, gathered)
    if chart.kind == "line":
        _lines(sheet, gathered)
    else:
        _bars(sheet, gathered)
    if chart.kind == "line" and gathered.total_rows > len(gathered.points):
        sheet.note(f"The first {len(gathered.points):,} of {gathered.total_rows:,} points.")
    sheet.set_font_size(9)
    sheet.set_draw_color(*HAIRLINE)
    sheet.set_line_width(0.2)


def _reach(gathered: Gathered) -> list[float]:
    values = [value for _, series in gathered.points for value in series if value is not None]
    return ticks(min(values, default=0.0), max(values, default=0.0))


def _legend(sheet: Sheet, chart: Chart, gathered: Gathered) -> None:
    sheet.set_x(MARGIN_MM)
    for name, colour, dash in zip(chart.series, _COLOURS, _DASHES, strict=False):
        x, y = sheet.get_x(), sheet.get_y() + sheet.line_height() / 2
        sheet.set_draw_color(*colour)
        sheet.set_line_width(0.8)
        sheet.set_dash_pattern(dash=dash, gap=dash / 2)
        sheet.line(x + 1, y, x + 7, y)
        sheet.set_dash_pattern()
        sheet.set_x(x + 8)
        sheet.text_cell(sheet.width_of(name) + 6, name)
    sheet.ln(sheet.line_height() + 1)


def _lines(sheet: Sheet, gathered: Gathered) -> None:
    marks = _reach(gathered)
    left = MARGIN_MM + max(sheet.width_of(tick_text(mark)) for mark in marks) + 3
    right, top = MARGIN_MM + sheet.epw - 2, sheet.get_y() + 2
    bottom = top + _LINE_CHART_MM
    scale = (bottom - top) / (marks[-1] - marks[0])
    sheet.set_text_color(*QUIET)
    sheet.set_draw_color(*HAIRLINE)
    sheet.set_line_width(0.2)
    for mark in marks:
        y = bottom - (mark - marks[0]) * scale
        sheet.line(left, y, right, y)
        sheet.set_xy(MARGIN_MM, y - sheet.line_height() / 2)
        sheet.text_cell(left - MARGIN_MM - 1, tick_text(mark), align="R")
    count = len(gathered.points)
    step = (right - left) / max(count - 1, 1)
    widest = max(sheet.width_of(label) for label, _ in gathered.points) + 4
    for index in spaced(count, max(2, int((right - left) / widest))):
        x = left + index * step
        sheet.line(x, bottom, x, bottom + 1)
        sheet.set_xy(min(max(x - widest / 2, MARGIN_MM), right - widest + 2), bottom + 1.2)
        sheet.text_cell(widest, gathered.points[index][0], align="C")
    for number in range(len(gathered.points[0][1])):
        sheet.set_draw_color(*_COLOURS[number])
        sheet.set_line_width(0.55)
        sheet.set_dash_pattern(dash=_DASHES[number], gap=_DASHES[number] / 2)
        before: tuple[float, float] | None = None
        for index, (_, series) in enumerate(gathered.points):
            value = series[number]
            if value is None:  # a gap, and no line over it
                before = None
                continue
            here = left + index * step, bottom - (value - marks[0]) * scale
            if before is not None:
                sheet.line(*before, *here)
            elif count == 1:
                sheet.circle(here[0], here[1], 0.6, style="D")
            before = here
        sheet.set_dash_pattern()
    sheet.set_text_color(*INK)
    sheet.set_xy(MARGIN_MM, bottom + sheet.line_height() + 4)


def _bars(sheet: Sheet, gathered: Gathered) -> None:
    """From left to right, so that names in any script have room."""
    points = gathered.points[:_MOST_BARS]
    marks = _reach(gathered)
    names = min(max(sheet.width_of(label) for label, _ in points) + 4, sheet.epw * 0.35)
    texts = [[shown(value) for value in series] for _, series in points]
    numbers = max(sheet.width_of(text) for row in texts for text in row) + 4
    left, width = MARGIN_MM + names, sheet.epw - names - numbers
    low, high = min(marks[0], 0.0), marks[-1]
    scale = width / (high - low)
    zero = left - low * scale
    several = len(points[0][1])
    for (label, series), row in zip(points, texts, strict=True):
        height = _BAR_MM * several
        if sheet.room() < height:
            sheet.add_page()
        top = sheet.get_y()
        sheet.set_xy(MARGIN_MM, top + (height - sheet.line_height()) / 2)
        sheet.text_cell(names, sheet.fitted(label, names), align="R")
        for number, value in enumerate(series):
            y = top + number * _BAR_MM
            end = zero + (value or 0.0) * scale
            sheet.set_fill_color(*_COLOURS[number])
            sheet.rect(min(zero, end), y + 0.7, abs(end - zero), _BAR_MM - 1.4, style="F")
            sheet.set_xy(max(zero, end) + 0.5, y + (_BAR_MM - sheet.line_height()) / 2)
            sheet.text_cell(numbers, row[number])
        sheet.set_xy(MARGIN_MM, top + height)
    if gathered.total_rows > len(points):
        sheet.note(f"and {gathered.total_rows - len(points):,} more")
    sheet.ln(2)
