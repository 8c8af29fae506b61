"""A large export takes no more memory than a small one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MARGIN_MB = 25

PROGRAM = """
import json, resource, sys
from jobs import Tickwork
from jobs.demo.orders import request_export
from jobs.demo.shop import BRANCHES, create_shop

folder, orders = sys.argv[1], int(sys.argv[2])
tickwork = Tickwork(
    f"sqlite:///{folder}/shop.db", handlers=["jobs.demo.orders"],
    blob_url=f"{folder}/files", smtp_url=f"{folder}/outbox", tick_limit=3600, time_budget=3000,
)
tickwork.create_schema()
with tickwork.engine.begin() as connection:
    create_shop(connection, orders=orders)
    _, job_id = request_export(
        tickwork, connection, store_id=BRANCHES[0].store_id, user_id=BRANCHES[0].user_id
    )
tickwork.tick()
job = tickwork.get(job_id)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"state": job.state, "error": job.error, "peak": peak, **(job.result or {})}))
"""


def export(folder: Path, orders: int) -> dict[str, Any]:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(orders)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["state"] == "completed", found["error"]
    # A kilobyte is the unit on Linux, a byte on macOS.
    found["peak_mb"] = found["peak"] / (1024 if sys.platform == "linux" else 1024 * 1024)
    return found


@pytest.mark.parametrize("orders", [60_000, pytest.param(1_500_000, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, orders: int) -> None:
    small = export(tmp_path / "small", 2_000)
    large = export(tmp_path / "large", orders)

    assert large["totalRows"] > orders * 0.65
    assert large["peak_mb"] < small["peak_mb"] + MARGIN_MB
