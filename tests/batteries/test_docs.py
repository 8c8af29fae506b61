"""The Python of docs/batteries/{onboarding,maintenance,sync}.md runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    "onboarding": ("", ["creating Acme Corp", "welcome to org-1"]),
    "maintenance": (
        "print([job.state.value for job in tickwork.list()])",
        [
            "{'jobs': {'cancelled': 0, 'completed': 0, 'failed': 0}, 'files': 0, "
            "'cleaners': {'carts': 0}, 'dryRun': True}",
            "HIGH Revenue dropped 50% from yesterday",
            "['completed', 'completed', 'completed']",
        ],
    ),
    "sync": (
        "print(len(tickwork.list()), tickwork.schedules.words(tickwork.schedules.list()[0]))",
        ["1 Every hour"],
    ),
}


@pytest.mark.parametrize("page", PAGES)
def test_the_page(page: str, tmp_path: Path) -> None:
    text = (ROOT / f"docs/batteries/{page}.md").read_text("utf-8")
    more, expected = PAGES[page]
    code = "\n".join([*re.findall(r"```python\n(.*?)```", text, re.DOTALL), more])
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JOBS_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**clean, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == expected, done.stderr
