"""Writes a report as JSON or CSV, in constant memory."""

from __future__ import annotations

import json
from typing import IO

from jobs.handlers.archiving import (
    Archive,
    FileFormat,
    projected,
    sealed,
    shares_of,
    write_parts,
)
from jobs.handlers.reports.building import BuiltReport
from jobs.handlers.source import Source
from jobs.handlers.watching import Watch
from jobs.handlers.writers import write_rows


def write_csv(
    file: IO[bytes], built: BuiltReport, source: Source, watch: Watch, *, spreadsheet_safe: bool
) -> Archive:
    """Write the sections as CSV files: plain if it is one, zipped if there are more."""
    return write_parts(file, built.parts, source, FileFormat("csv", spreadsheet_safe), watch)


def write_json(file: IO[bytes], built: BuiltReport, source: Source, watch: Watch) -> Archive:
    """Write one object: the report's head and `sections`, each with `title` and `rows`."""
    parts = built.parts
    expected = [source.count(part.statement) if part.count else None for part in parts]
    rows: dict[str, int] = {}
    head = json.dumps(built.head(), ensure_ascii=False, indent=1).removesuffix("\n}")
    file.write(f'{head},\n "sections": [\n'.encode())
    for index, share in enumerate(shares_of(parts, expected)):
        each = built.sections[index]
        watch.checkpoint()
        title = json.dumps(each.section.title, ensure_ascii=False)
        file.write(f'{"," if index else ""}{{"title": {title}, "rows": '.encode())
        with source.stream(each.part.statement) as found:
            columns, values = projected(found.columns, found, each.part.columns)
            watched = watch.over(values, expected[index], share)
            written = write_rows(file, columns, watched, file_format="json")
        rows[each.part.name] = written.total_rows
        file.write(b"}\n")
    file.write(b"]}\n")
    return sealed(file, rows)
