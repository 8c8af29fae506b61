"""The page's Python runs as it stands, and its lines are those that come."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from jobs.core.settings import known_variables

PAGE = (Path(__file__).parents[2] / "docs" / "logs.md").read_text("utf-8")


def test_the_handlers_of_the_page_log_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    place: dict[str, Any] = {"__name__": "page"}
    with caplog.at_level(logging.INFO, "tickwork.jobs"):
        exec(compile(code, "docs/logs.md", "exec"), place)  # noqa: S102 - the page is ours
        tickwork = place["tickwork"]
        tickwork.enqueue(
            "release-notice", {"transactionId": "t-1", "recipientEmail": "a@b.example"}
        )
        tickwork.enqueue("export", {"dataset": "orders"})
        tickwork.tick()
    lines = [vars(record) for record in caplog.records if record.name == "tickwork.jobs"]

    assert [line.get("template") for line in lines if line["msg"] == "%s"] == ["release"]
    assert {
        line["dataset"] for line in lines if line["kind"] == "export" and "dataset" in line
    } == {"orders"}
    assert any(line["message"].startswith("[Metrics] Export job ") for line in lines)


def test_the_json_of_the_page_is_json() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    added, *_, failed = map(json.loads, block.splitlines())

    assert {"jobId", "queue", "to"} <= set(added)
    assert {"jobId", "queue", "status", "error", "attempts"} <= set(failed)


def test_the_variables_of_the_page_are_read() -> None:
    named = set(re.findall(r"`(JOBS_[A-Z_]+)", PAGE))

    assert named
    assert named <= known_variables()
