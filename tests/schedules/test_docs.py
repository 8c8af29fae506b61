"""The Python of docs/flow/schedules.md runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/flow/schedules.md").read_text("utf-8")


def test_the_page(tmp_path: Path) -> None:
    declaring, making = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    between = """
tickwork.create_schema()
assert tickwork.tick().scheduled == 0
print(*sorted(row.name for row in tickwork.schedules.list()))
"""
    after = """
print(tickwork.schedules.run("insights").payload, tickwork.list(tenant="acme")[0].payload)
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JOBS_")}
    done = subprocess.run(
        [sys.executable, "-c", declaring + between + making + after],
        cwd=tmp_path,
        env={**clean, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["insights sync weekly", "At 00:00 every day, UTC"]
    assert len(lines) == 6
    assert lines[-1] == "{'period': '7d'} {'team': 'acme'}"


def test_the_page_names_every_policy_and_alias() -> None:
    for word in ("`latest`", "`all:N`", "`none`", "@hourly", "@yearly", "ctx.slot"):
        assert word in PAGE
