"""Writes a report as PDF: for each section a heading, its chart, its table.

Bounded: each section shows its first rows and counts the others ("and 12,340 more"), so a PDF grows
with the report's definition and not with the data. A PDF is put together in memory.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import IO

from jobs.handlers.archiving import Archive, sealed, shares_of
from jobs.handlers.reports.building import BuiltReport, BuiltSection
from jobs.handlers.reports.charts import chart_height, draw_chart
from jobs.handlers.reports.fonts import font_files
from jobs.handlers.reports.gathering import Gathered, gather
from jobs.handlers.reports.sheet import Sheet, log
from jobs.handlers.reports.tables import draw_table
from jobs.handlers.source import Source
from jobs.handlers.watching import Watch

_WIDE_FROM_COLUMNS = 8


def write_pdf(
    file: IO[bytes],
    built: BuiltReport,
    source: Source,
    watch: Watch,
    *,
    fonts: Sequence[str] = (),
) -> Archive:
    """Write the report as PDF.

    file, built, source, watch: as for `write_json`
    fonts: further font files and directories (REPORT_FONTS)
    Returns what was written; the rows are those of the data, not those shown.
    """
    gathered = [_gather(built, index, source, watch) for index in range(len(built.sections))]
    wide = any(len(each.headings) >= _WIDE_FROM_COLUMNS for each in gathered)
    sheet = Sheet(
        font_files(fonts),
        title=built.report.title,
        aside=_label(built),
        made_at=built.asked_at,
        wide=wide,
    )
    _draw_head(sheet, built)
    for each, rows in zip(built.sections, gathered, strict=True):
        watch.checkpoint()
        _draw_section(sheet, each, rows)
    _draw_missing(sheet)
    file.write(bytes(sheet.output()))
    return sealed(
        file,
        {
            each.part.name: rows.total_rows
            for each, rows in zip(built.sections, gathered, strict=True)
        },
    )


def _gather(built: BuiltReport, index: int, source: Source, watch: Watch) -> Gathered:
    each, part = built.sections[index], built.sections[index].part
    parts = built.parts
    watch.checkpoint()
    expected = source.count(part.statement) if part.count else None
    share = shares_of(parts, [None] * len(parts))[index]
    watch.progress(int(share.first), f"{share.prefix}reading")
    with source.stream(part.statement) as found:
        return gather(each.section, found.columns, watch.over(found, expected, share))


def _draw_head(sheet: Sheet, built: BuiltReport) -> None:
    sheet.heading(built.report.title, 20, keep_mm=0)
    period = built.period
    if period is not None:
        last = period.end - dt.timedelta(days=1)
        days = str(last) if period.days == 1 else f"{period.start} to {last}"
        sheet.note(f"{_label(built)}: {days} ({built.report.timezone})")


def _label(built: BuiltReport) -> str:
    label = built.period.label if built.period else ""
    return label[:1].upper() + label[1:]


def _draw_section(sheet: Sheet, each: BuiltSection, gathered: Gathered) -> None:
    section = each.section
    sheet.ln(6)
    chart_mm = chart_height(section.chart, gathered) if section.chart else 0.0
    sheet.heading(section.title, 13, keep_mm=chart_mm or 30)
    sheet.ln(1.5)
    if section.chart is not None and gathered.points:
        draw_chart(sheet, section.chart, gathered)
        sheet.ln(2)
    if gathered.total_rows == 0:
        sheet.note("No rows.")
    elif gathered.rows:
        draw_table(sheet, gathered)
        hidden = gathered.total_rows - len(gathered.rows)
        if hidden:
            sheet.note(f"and {hidden:,} more")


def _draw_missing(sheet: Sheet) -> None:
    """Say it where characters became boxes: nobody should take them for the data."""
    if not sheet.missing:
        return
    count = len(sheet.missing)
    some = ", ".join(f"U+{ord(char):04X}" for char in sorted(sheet.missing)[:5])
    log.warning("%d characters are in no font (%s, ...): set REPORT_FONTS", count, some)
    sheet.note(
        f"{count:,} character{'s' if count > 1 else ''} could not be drawn, since no font here has "
        f"{'them' if count > 1 else 'it'} ({some}); a sign stands in the place. The JSON and CSV "
        "files of this report have them all."
    )
