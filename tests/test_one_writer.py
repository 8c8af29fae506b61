"""SQLite under many processes: nobody is told that the database is locked."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from jobs import Tickwork
from tests.support.databases import Database

ROOT = Path(__file__).parents[1]
PROCESSES = 8
PROCESS = """
import sys
from jobs import Tickwork
tickwork = Tickwork(sys.argv[1])

@tickwork.handler("note")
def note(payload, ctx):
    sys.stdout.write(f"{ctx.job_id}\\n")  # in one piece, though several threads write

tickwork.store.engine.connect().close()
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    tickwork.enqueue("note", {"n": number})
    if number % 20 == 19:
        tickwork.tick(limit=20)
while tickwork.tick(limit=100).remaining:
    pass
"""


@pytest.mark.parametrize("jobs", [25, pytest.param(200, marks=pytest.mark.slow)])
def test_eight_processes_enqueue_and_tick(sqlite_database: Database, jobs: int) -> None:
    with closing(Tickwork(sqlite_database.url)) as tickwork:
        tickwork.create_schema()
        pipe = subprocess.PIPE
        runners = [
            subprocess.Popen(
                [sys.executable, "-c", PROCESS, sqlite_database.url, str(jobs)],
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                text=True,
                cwd=ROOT,
            )
            for _ in range(PROCESSES)
        ]
        try:
            for runner in runners:
                assert runner.stdout is not None
                assert runner.stdout.readline() == "ready\n"
            with ThreadPoolExecutor(PROCESSES) as pool:
                said = list(pool.map(lambda runner: runner.communicate("\n", 120), runners))
        finally:
            for runner in runners:
                runner.kill()
                runner.communicate()
        assert [runner.returncode for runner in runners] == [0] * PROCESSES, said
        assert [errors for _, errors in said] == [""] * PROCESSES
        ran = Counter(job_id for lines, _ in said for job_id in lines.split())
        assert (len(ran), set(ran.values())) == (PROCESSES * jobs, {1})
        assert tickwork.counts() == {("default", "note", "completed"): PROCESSES * jobs}
