"""From a definition to statements: which rows each section has, for a period and a tenant."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.handlers.archiving import Part
from jobs.handlers.datasets import Dataset, find_dataset
from jobs.handlers.delivering import Order, file_stem
from jobs.handlers.errors import ReportError
from jobs.handlers.reports.definition import Report, Section
from jobs.handlers.reports.periods import Period, read_period, read_zone


@dataclass(frozen=True, slots=True)
class BuiltSection:
    """A section and what gives its rows."""

    section: Section
    part: Part


@dataclass(frozen=True, slots=True)
class BuiltReport:
    """A report for one period, ready to be written."""

    report: Report
    period: Period | None
    asked_at: dt.datetime
    sections: Sequence[BuiltSection]

    @property
    def parts(self) -> list[Part]:
        return [each.part for each in self.sections]

    def head(self) -> dict[str, Any]:
        """What a file says of the report, before its rows."""
        period = self.period
        return {
            "report": self.report.name,
            "title": self.report.title,
            "period": period
            and {
                "label": period.label,
                "start": period.start.isoformat(),
                "end": period.end.isoformat(),
                "timezone": self.report.timezone,
            },
            "asked_at": self.asked_at.isoformat(),
        }


def build_report(
    report: Report, period_text: str | None, filters: Mapping[str, Any], order: Order
) -> BuiltReport:
    """Check everything and bind it: period, filters, tenant.

    period_text: as the job says it; the report's own if None
    filters: each goes to every section whose dataset declares it
    Raises ReportError and DatasetError for what cannot be.
    """
    zone = read_zone(report.timezone)
    text = period_text or report.period
    period = read_period(text, order.asked_at, zone) if text else None
    known = {
        section.title: find_dataset(section.dataset, order.settings.export_datasets)
        for section in report.sections
    }
    _check_filters(filters, known.values(), report)
    if period_text and not any(_bound(each, known[each.title]) for each in report.sections):
        raise ReportError(
            f"report {report.name!r} has no period: none of its datasets has a filter for it"
        )
    built: list[BuiltSection] = []
    for number, section in enumerate(report.sections, start=1):
        dataset = known[section.title]
        dataset.check_access(order.tenant)
        names = (section.since, section.until)
        given = {
            **dict(section.filters),
            **{name: value for name, value in filters.items() if name in dataset.filters},
            **(bind_period(period, zone, dataset, names) if period else {}),
        }
        stem = file_stem(section.title)
        name = stem if stem != "file" else f"section-{number}"
        if any(name == other.part.name for other in built):
            name = f"{name}-{number}"
        statement = dataset.statement(given, order.tenant)
        built.append(BuiltSection(section, Part(name, statement, dataset.count, section.columns)))
    return BuiltReport(report, period, order.asked_at, built)


def _check_filters(filters: Mapping[str, Any], datasets: Any, report: Report) -> None:
    declared = {name for dataset in datasets for name in dataset.filters}
    for name in filters:
        if name not in declared:
            raise ReportError(
                f"report {report.name!r} has no filter {name!r:.80}; its filters: "
                f"{', '.join(sorted(declared)) or 'none'}"
            )


def _bound(section: Section, dataset: Dataset) -> bool:
    return section.since in dataset.filters or section.until in dataset.filters


def bind_period(
    period: Period, zone: dt.tzinfo, dataset: Dataset, names: tuple[str, str]
) -> dict[str, Any]:
    """Return the values of the dataset's filters that hold a period, where it has such filters.

    names: of the filter for its beginning, and of the one for its end, which is not included
    """
    days = (period.start, period.end)
    instants = period.instants(zone)
    bound: dict[str, Any] = {}
    for index, name in enumerate(names):
        if name in dataset.filters:
            by_instant = dataset.filters[name].type == "datetime"
            bound[name] = instants[index] if by_instant else days[index]
    return bound
