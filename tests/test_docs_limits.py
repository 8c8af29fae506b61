"""The Python of docs/flow/limits.md runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "flow" / "limits.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_runs(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JOBS_")}
    declare, look = BLOCKS
    done = subprocess.run(
        [sys.executable, "-c", f"{declare}\nprint(tickwork.tick().succeeded)\n{look}"],
        cwd=tmp_path,
        env={**clean, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["2", "kind/sync-shop closed None"]
