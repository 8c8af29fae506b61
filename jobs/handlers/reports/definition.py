"""What a report is: sections made of datasets, and how each is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from jobs.handlers.datasets import find_dataset
from jobs.handlers.errors import DatasetError, ReportError
from jobs.handlers.reports.periods import read_zone

PDF_ROWS: Final = 500
"""How many rows of a section a PDF shows if the section does not say."""
_MOST_SECTIONS: Final = 20


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart over the rows of a section, in the PDF.

    kind: `line` or `bar`
    x: the column of the labels: days, names
    y: one column of numbers or several (at most 4)
    points: how many rows are drawn at most, from the first
    """

    kind: Literal["line", "bar"]
    x: str
    y: str | Sequence[str]
    points: int = 400

    @property
    def series(self) -> tuple[str, ...]:
        return (self.y,) if isinstance(self.y, str) else tuple(self.y)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: a dataset, and how it is shown.

    title: its heading
    dataset: the name of a dataset
    columns: those shown, by the headings that they get; all of them if not given
    filters: fixed values for the dataset's filters
    since, until: the dataset's filters that the period is bound to, where it has such: the first
        day and the first one after it for filters of type `date`, instants in UTC for `datetime`
    chart: drawn above the table, in the PDF
    totals: columns whose sum over all rows is shown under the table, in the PDF
    rows: how many rows the PDF shows, the rest is counted; 0 for none, where a chart says it all
    """

    title: str
    dataset: str
    columns: Mapping[str, str] | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)
    since: str = "since"
    until: str = "until"
    chart: Chart | None = None
    totals: Sequence[str] = ()
    rows: int = PDF_ROWS


@dataclass(frozen=True, slots=True)
class Report:
    """A report, by name. Make it with `register_report`.

    period: what is meant if the job does not say, for example `last-week`; None for a report
        without one
    timezone: whose days are meant
    """

    name: str
    title: str
    sections: Sequence[Section]
    period: str | None = None
    timezone: str = "UTC"


_reports: dict[str, Report] = {}


def register_report(
    name: str,
    *,
    title: str,
    sections: Sequence[Section],
    period: str | None = None,
    timezone: str = "UTC",
) -> Report:
    """Make a report known by name; the same name again replaces it.

    name, title, sections, period, timezone: see Report
    Returns the report. Raises ReportError when it could not work.
    """
    if not 1 <= len(sections) <= _MOST_SECTIONS:
        raise ReportError(f"report {name!r} has 1 to {_MOST_SECTIONS} sections")
    if len({section.title for section in sections}) < len(sections):
        raise ReportError(f"two sections of report {name!r} have one title")
    read_zone(timezone)
    for section in sections:
        chart = section.chart
        if chart is not None and not 1 <= len(chart.series) <= 4:
            raise ReportError(f"section {section.title!r}: a chart has 1 to 4 series")
        if section.rows < 0:
            raise ReportError(f"section {section.title!r}: rows is 0 or more")
    report = _reports[name] = Report(name, title, tuple(sections), period, timezone)
    return report


def find_report(names: Sequence[str], toml: str | None = None) -> Report:
    """Return the first report of these names; else the dataset of the last name, as a report.

    toml: the file of EXPORT_DATASETS
    Raises ReportError when there is neither.
    """
    for name in names:
        if name in _reports:
            return _reports[name]
    try:
        dataset = find_dataset(names[-1], toml)
    except DatasetError as error:
        known = ", ".join(sorted(_reports)) or "none: call register_report"
        raise ReportError(
            f"there is no report {' or '.join(repr(name)[:80] for name in names)}; the reports: "
            f"{known}. Nor is it a dataset: {error}"
        ) from error
    title = dataset.description or dataset.name.replace("-", " ").capitalize()
    return Report(dataset.name, title, (Section(title, dataset.name),))
