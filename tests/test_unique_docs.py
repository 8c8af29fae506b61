"""The page on unique jobs runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.databases import Database

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "flow" / "unique.md"


def test_the_page_runs(database: Database, tmp_path: Path) -> None:
    first, *others = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(others) == 4
    made = "tickwork = Tickwork.from_env()\n"
    assert made in first
    code = "\n".join([first.replace(made, f"{made}tickwork.create_schema()\n"), *others])

    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(len(tickwork.list()))"],
        cwd=tmp_path,
        env={"DATABASE_URL": database.url, "PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stdout == "6\n", done.stderr
