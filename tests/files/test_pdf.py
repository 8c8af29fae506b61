"""PDF reports: what stands on the pages, in which scripts, and how much at most."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pypdf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.handlers.delivering import Order
from jobs.handlers.errors import ReportError
from jobs.handlers.exporting import open_settings_source
from jobs.handlers.report import ReportJob, build
from jobs.handlers.reports import Chart, Section, definition, register_report
from jobs.handlers.reports.fonts import font_files, needs_shaping
from jobs.handlers.reports.gathering import gather, shown
from jobs.handlers.reports.pdf import write_pdf
from jobs.handlers.reports.scales import spaced, tick_text, ticks
from jobs.handlers.watching import Watch
from tests.handlers.shop import Settings, settings_in
from tests.support.databases import Database

NAMES = ("Łódź & Søn", "Ελληνικά", "Щедрость", "हिन्दी क्षेत्र", "متجر النور", "東京", "Công ty")
DATASETS = """
[datasets.numbers]
query = '''
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows)
  SELECT i AS number, 'row ' || i AS name, i * 0.5 AS amount FROM n'''
filters = { rows = { type = "integer", default = 3 } }
"""
ROWS = Section(
    "Rows",
    "numbers",
    columns={"number": "Number", "name": "Name", "amount": "Amount"},
    totals=["amount"],
    rows=40,
)


@pytest.fixture
def settings(
    tmp_path: Path, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    monkeypatch.setattr(definition, "_reports", {})
    Path(sqlite_database.url.removeprefix("sqlite:///")).touch()
    selects = " UNION ALL ".join(f"SELECT '{name}' AS name, 1 AS amount" for name in NAMES)
    (tmp_path / "datasets.toml").write_text(
        f'{DATASETS}[datasets.names]\nquery = "{selects}"\n', "utf-8"
    )
    return settings_in(tmp_path, sqlite_database.url)


def pdf_of(settings: Settings, *sections: Section, **said: Any) -> pypdf.PdfReader:
    register_report("r", title="A report", sections=sections)
    asked_at = dt.datetime(2024, 4, 1, 8, tzinfo=dt.UTC)
    order = Order("job", "", asked_at, settings)
    built = build(ReportJob(type="r", format="pdf", **said), order)
    file = io.BytesIO()
    with open_settings_source(settings) as source:
        archive = write_pdf(file, built, source, Watch())
    assert archive.bytes == len(file.getvalue())
    return pypdf.PdfReader(file)


def texts(reader: pypdf.PdfReader) -> list[str]:
    return [page.extract_text() for page in reader.pages]


def test_heading_table_totals_and_page(settings: Settings) -> None:
    reader = pdf_of(settings, ROWS)
    (page,) = texts(reader)

    for words in ("A report", "Rows", "Number", "Name", "Amount", "row 3", "1.50", "Total", "3.00"):
        assert words in page
    assert "2024-04-01 08:00 UTC" in page
    assert "Page 1 of 1" in page
    assert "more" not in page
    assert reader.metadata is not None
    assert reader.metadata.title == "A report"


def test_the_rest_is_counted_and_added_up(settings: Settings) -> None:
    pages = texts(pdf_of(settings, ROWS, filters={"rows": 12_380}))
    whole = "\n".join(pages)

    assert "and 12,340 more" in whole
    assert "row 40" in whole
    assert "row 41" not in whole
    assert f"{sum(range(12_381)) / 2:,.2f}" in whole
    assert f"Page {len(pages)} of {len(pages)}" in pages[-1]


def test_headings_stand_on_every_page(settings: Settings) -> None:
    section = Section("Rows", "numbers", rows=100, filters={"rows": 100})
    pages = texts(pdf_of(settings, section))

    assert len(pages) >= 3
    for number, page in enumerate(pages, start=1):
        assert "name" in page
        assert "A report" in page
        assert f"Page {number} of {len(pages)}" in page


@pytest.mark.parametrize("kind", ["line", "bar"])
def test_charts_have_labels(settings: Settings, kind: Any) -> None:
    chart = Chart(kind, x="name", y=["amount", "number"])
    section = Section("Drawn", "numbers", chart=chart, rows=0, filters={"rows": 30})
    (page,) = texts(pdf_of(settings, section))

    assert "row 1" in page
    assert "amount" in page
    assert ("10.00" if kind == "bar" else "30") in page
    assert ("and 10 more" in page) is (kind == "bar")


def test_no_rows_are_said(settings: Settings) -> None:
    chart = Chart("line", x="name", y="amount")
    path = Path(str(settings.export_datasets))
    path.write_text('[datasets.numbers]\nquery = "SELECT 1 AS name, 1 AS amount WHERE 1 = 0"\n')
    section = Section("Empty", "numbers", chart=chart)
    (page,) = texts(pdf_of(settings, section))
    assert "No rows." in page


def test_names_in_many_scripts(settings: Settings) -> None:
    reader = pdf_of(settings, Section("Names", "names"))
    (page,) = texts(reader)

    for name in ("Łódź & Søn", "Ελληνικά", "Щедрость", "Công ty"):
        assert name in page
    # Shaped letters come back in pieces; that they are drawn from fonts that have them is sure.
    fonts = {str(font) for font in _fonts(reader)}
    assert {font.partition("+")[2] for font in fonts} == {"NotoSans", "NotoSansArabic"}
    # No font here has these.
    assert "2 characters could not be drawn" in page
    assert "U+4EAC" in page


def _fonts(reader: pypdf.PdfReader) -> set[str]:
    resources: Any = reader.pages[0]["/Resources"]
    return {str(font.get_object()["/BaseFont"]) for font in resources["/Font"].values()}


def test_texts_that_no_page_holds_are_cut(settings: Settings) -> None:
    path = Path(str(settings.export_datasets))
    long = "word " * 100 + "x" * 5000
    path.write_text(f"[datasets.numbers]\nquery = \"SELECT '{long}' AS name, 1 AS amount\"\n")
    chart = Chart("bar", x="name", y="amount")
    (page,) = texts(pdf_of(settings, Section("w" * 400, "numbers", chart=chart)))
    assert "…" in page


def test_what_cannot_be_drawn_is_said(settings: Settings) -> None:
    for section, reason in (
        (Section("S", "numbers", columns={"colour": "Colour"}), "no column 'colour'; the columns"),
        (Section("S", "numbers", totals=["name"]), "has no total: 'row 1' is no number"),
        (Section("S", "numbers", chart=Chart("bar", "number", "name")), "a chart draws numbers"),
    ):
        with pytest.raises(ReportError, match=reason):
            pdf_of(settings, section)


def test_fonts_of_ones_own(tmp_path: Path) -> None:
    packaged = font_files()
    assert [path.suffix for path in packaged] == [".ttf"] * 2
    assert "NotoSans[" in packaged[0].name

    own = tmp_path / "Own.ttf"
    own.write_bytes(packaged[0].read_bytes())
    assert font_files([str(own)])[1] == font_files([str(tmp_path)])[1] == own
    with pytest.raises(ReportError, match="REPORT_FONTS: there is no font at"):
        font_files([str(tmp_path / "missing.ttf")])


@pytest.mark.parametrize(
    ("text", "asked"),
    [("Łódź 12.50", False), ("東京", False), ("हिन्दी", True), ("نور", True), ("e\u0301", True)],
)
def test_shaping_is_asked_for_where_letters_need_it(text: str, asked: bool) -> None:
    assert needs_shaping(text) is asked


# --- pure parts


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12), st.integers(3, 12))
@example(0.0, 5e-324, 3)
@example(-5e-324, 0.0, 4)
def test_an_axis_holds_what_is_drawn(one: float, other: float, most: int) -> None:
    low, high = min(one, other), max(one, other)
    marks = ticks(low, high, most)
    slack = 1e-6 * max(abs(low), abs(high), 1e-300)

    assert marks[0] <= low + slack
    assert marks[-1] >= high - slack
    assert any(abs(mark) < 1e-300 for mark in marks)
    assert 2 <= len(marks) <= most + 1
    steps = [after - before for before, after in itertools.pairwise(marks)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-6) for step in steps)


def test_marks_are_round() -> None:
    assert ticks(3, 97) == [0, 25, 50, 75, 100]
    assert ticks(0, 0) == [0, 0.25, 0.5, 0.75, 1.0]
    assert ticks(-30, 60) == [-50, -25, 0, 25, 50, 75]
    assert [tick_text(each) for each in (0, 2.5, 1200, 3.5e6, -2e9)] == [
        *("0", "2.5", "1,200", "3.5M", "-2G")
    ]


@given(st.integers(0, 1000), st.integers(1, 50))
def test_labels_are_never_too_many(count: int, most: int) -> None:
    assert len(spaced(count, most)) <= most


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "yes"),
        (2024, "2024"),
        (1234.5, "1,234.50"),
        (Decimal("0.015"), "0.02"),
        (math.nan, "NaN"),
        ("1997-01-01 00:00:00.000", "1997-01-01"),
        ("1997-01-01 00:00:01", "1997-01-01 00:00:01"),
        (dt.datetime(2024, 5, 31, 8, 0, 59), "2024-05-31 08:00"),  # noqa: DTZ001
        ("two\r\n lines\t", "two lines"),
        ("x" * 500, "x" * 299 + "…"),
    ],
)
def test_values_are_shown_as_people_read_them(value: Any, text: str) -> None:
    assert shown(value) == text


def test_a_column_with_cents_has_them_in_every_row() -> None:
    gathered = gather(Section("S", "d", totals=["b"]), ["a", "b"], [(1, 400), (2, 0.5), (3, None)])
    assert gathered.rows == [["1", "400.00"], ["2", "0.50"], ["3", ""]]
    assert gathered.numeric == [True, True]
    assert gathered.totals == {"b": "400.50"}


def test_all_rows_pass_and_few_are_kept() -> None:
    section = Section("S", "d", rows=2, chart=Chart("line", "a", "b", points=3))
    gathered = gather(section, ["a", "b"], ((number, number) for number in range(10_000)))
    assert (len(gathered.rows), len(gathered.points), gathered.total_rows) == (2, 3, 10_000)
