"""The README's Python runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def _run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JOBS_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**clean, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_first_handler(tmp_path: Path) -> None:
    handler, producer, *_ = BLOCKS
    (tmp_path / "tasks.py").write_text(handler, "utf-8")

    done = _run(
        "from tasks import tickwork; tickwork.create_schema()\n" + producer + "\nprint(job.id)",
        tmp_path,
        DATABASE_URL="sqlite:///shop.db",
        JOBS_HANDLERS="tasks",
    )

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 36


def test_what_a_handler_can_do(tmp_path: Path) -> None:
    more = """
charge.enqueue({})
first, second = tickwork.tick(), tickwork.tick()
print(first.succeeded + second.succeeded, tickwork.list(kind="resize")[0].result["attempt"])
"""
    done = _run(BLOCKS[2] + more, tmp_path)

    assert done.stdout.split() == ["3", "1"], done.stderr


def test_steering(tmp_path: Path) -> None:
    more = """
counts = {state: count for (_, _, state), count in tickwork.counts().items()}
print(counts, tickwork.get("sync-s2").state, [each.subject for each in tickwork.controls()])
tickwork.tick()
print([each.name for each in tickwork.schedules.list()])
"""
    done = _run(BLOCKS[3] + more, tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "{'cancelled': 1, 'pending': 3} cancelled ['queue/exports']",
        "['nightly']",
    ]
