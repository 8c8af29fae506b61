"""The pages on exports, reports and insights: their code runs, their variables are read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from jobs import Tickwork
from jobs.core.settings import known_variables
from jobs.handlers import data_export, insights, report
from jobs.handlers.datasets import catalogue
from jobs.handlers.insights import definition as daily
from jobs.handlers.reports import definition
from tests.files.conftest import HANDLERS

PAGES = Path(__file__).parents[2] / "docs" / "batteries"
KINDS = {
    "exports.md": data_export.data_export,
    "reports.md": report.report,
    "insights.md": insights.insights,
}


@pytest.mark.parametrize("page", KINDS)
def test_the_code_of_a_page_runs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in (
        (catalogue._catalogue, "_datasets"),
        (definition, "_reports"),
        (daily, "_registered"),
    ):
        monkeypatch.setattr(place, name, {})
    tickwork = Tickwork(backend="memory", env="production", handlers=list(HANDLERS))
    monkeypatch.setattr(KINDS[page], "system", tickwork)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", (PAGES / page).read_text("utf-8"), re.DOTALL):
        exec(compile(code, page, "exec"), names)  # noqa: S102 - the page is ours
    for name in ("every_monday", "every_six_hours"):
        if name in names:
            names[name](tickwork)

    (job,) = tickwork.list()
    assert (job.kind, job.tenant) == (KINDS[page].kind, "org-1")
    tickwork.close()


@pytest.mark.parametrize("page", KINDS)
def test_the_variables_of_a_page_are_read(page: str) -> None:
    text = (PAGES / page).read_text("utf-8")
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)(?:=[^`]*)?`", text))
    assert named
    assert named <= known_variables()
