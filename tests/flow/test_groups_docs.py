"""The Python of docs/flow/groups.md runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs/flow/groups.md").read_text("utf-8"), re.DOTALL
)
MORE = """
charge.enqueue({"amount_cents": 5})
tickwork.drain()
print(sorted({job.status for job in tickwork.list(limit=100)}))
results = [str(job.result) for job in tickwork.list(kind="mail")]
mails = [result for result in results if "cat.png at 200" in result]
print(mails, len(results), tickwork.list(kind="import")[0].result)
"""


def test_the_page(tmp_path: Path) -> None:
    code = "\n".join(BLOCKS) + MORE
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JOBS_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**clean, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "{'pending': 3}",
        "['completed']",
        "['sent: /tmp/cat.png at 200'] 3 250",
    ], done.stderr
