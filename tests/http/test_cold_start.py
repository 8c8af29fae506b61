"""A frozen function pays for every import at its first tick."""

from __future__ import annotations

import subprocess
import sys

from tests.support.web import ROOT

# What a tick in production has no use for.
NEEDLESS = {
    *("alembic", "apscheduler", "boto3", "botocore", "pydantic", "rich", "sqlalchemy.orm"),
    *("jobs.handlers.providers", "jobs.handlers.incoming"),
}
TICK = """
import sys
from jobs import Tickwork
from jobs.http import create_app

tickwork = Tickwork(sys.argv[1], cron_secret="correct-horse-battery-staple")
tickwork.create_schema()
tickwork.register_handler("note", lambda payload: None)
tickwork.enqueue("note", {})
client = create_app(tickwork).test_client()
bearer = {"Authorization": "Bearer correct-horse-battery-staple"}
assert client.get("/cron/process-jobs", headers=bearer).get_json()["succeeded"] == 1
print(*sys.modules)
"""


def test_a_tick_over_http_loads_only_what_it_needs(sqlite_url: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", TICK, sqlite_url], capture_output=True, text=True, cwd=ROOT
    )
    loaded = set(run.stdout.split())

    assert "jobs.http.cron" in loaded, run.stderr
    assert sorted(loaded & NEEDLESS) == []
