"""The page on alerts: its code runs, its table is that of the rules, its variables are read."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.core.alerts import Alert, Change
from jobs.core.look import STORE_UNREACHABLE, Level
from jobs.core.rules import BUILT_IN, SIGNALS
from jobs.core.settings import known_variables

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text("utf-8")


def test_the_code_of_the_page_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/alerts.md", "exec"), names)  # noqa: S102 - the page is ours
    rules = {rule.name: rule for rule in names["tickwork"]._runtime.alert_rules.book}

    assert rules["depth"].alert == 2000
    assert "retry_rate" not in rules
    assert rules["slow-exports"].kind == "export"


def test_the_table_names_every_rule_and_the_text_every_signal() -> None:
    table = set(re.findall(r"^\| `(\w+)` \| (?!meaning)", PAGE, re.MULTILINE))
    rules = {rule.name for rule in BUILT_IN}

    assert rules | {STORE_UNREACHABLE} <= table
    assert all(f"`{signal}`" in PAGE for signal in SIGNALS)


def test_the_document_of_the_page_has_the_fields_that_are_sent() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    alert = Alert("depth", "email", Level.ALERT, datetime(2026, 11, 25, tzinfo=UTC))
    sent = Change(Level.WARNING, alert, 100.0).as_dict()

    assert set(json.loads(block)["data"]) == {*sent, "namespace"}


def test_the_variables_of_the_page_are_read() -> None:
    named = set(re.findall(r"`(JOBS_[A-Z_]+)", PAGE))

    assert "JOBS_ALERT_EMAIL" in named
    assert named <= known_variables()
