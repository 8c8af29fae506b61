"""The page on mail: its code runs, its tables are those of the code, its variables are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.core.settings import known_variables
from jobs.handlers.email import EmailJob
from jobs.handlers.mail import render as rendering
from tests.mail.samples import LEAST, SAMPLES

PAGE = (Path(__file__).parents[2] / "docs" / "batteries" / "email.md").read_text("utf-8")


@pytest.fixture(autouse=True)
def _nothing_registered() -> Iterator[None]:
    yield
    if rendering._registered:
        rendering._registered.clear()
        rendering._environment.cache_clear()


def test_the_code_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(code, "docs/batteries/email.md", "exec"), names)  # noqa: S102 - ours
    states = sorted(job.state for job in names["tickwork"].list())
    names["tickwork"].close()

    assert states == ["completed", "pending"]
    assert "Subject: Welcome!" in capsys.readouterr().err


def test_the_tables_name_every_field_and_variable() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (`.*) \|$", PAGE, re.MULTILINE))
    for name, least in LEAST.items():
        needed, _, optional = rows[name].partition(" | ")
        assert set(re.findall(r"`(\w+)`", needed)) == set(least)
        assert set(SAMPLES[name]) <= set(re.findall(r"`(\w+)`", needed + optional))
    fields = set(re.findall(r"`([a-zA-Z_]+)`", PAGE))

    assert {"from" if name == "from_" else name for name in EmailJob.__struct_fields__} <= fields


def test_the_variables_of_the_page_are_read() -> None:
    named = set(re.findall(r"\b(?:JOBS|SMTP|EMAIL|RESEND|BLOB)_[A-Z_]+", PAGE))

    assert named
    assert named <= known_variables()
