"""`tickwork demo`, started as somebody types it."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from jobs.demo.check import Outcome
from jobs.demo.place import FOLDER, fresh_place

ROOT = Path(__file__).parents[2]


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **variables}
    return subprocess.run(
        [sys.executable, "-m", "jobs", "demo", *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run with `--json`; with settings of somebody else's system in the environment."""
    folder = tmp_path_factory.mktemp("demo")
    done = run(
        folder, "--json", DATABASE_URL="postgresql://prod.example/db", SMTP_URL="smtp://127.0.0.1:1"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert Path(document["folder"]) == folder / FOLDER
    return document


def test_every_job_ends_as_it_should(summary: dict[str, Any]) -> None:
    kinds = summary["jobs"]["by_kind"]

    assert summary["ok"] is True
    assert summary["problems"] == []
    assert summary["jobs"]["by_state"] == {"completed": summary["jobs"]["total"] - 1, "failed": 1}
    assert summary["jobs"]["total"] > 200
    assert kinds["sync-supplier"]["attempts"] == 3 * kinds["sync-supplier"]["completed"]
    assert {"exchange-rates", "restock", "remind-cart", "thumbnail", "welcome-mail"} <= set(kinds)


def test_the_dead_letter_says_why(summary: dict[str, Any]) -> None:
    [dead] = summary["dead_letters"]

    assert (dead["kind"], dead["attempts"]) == ("charge-card", 3)
    assert "card expired" in dead["error"]


def test_only_the_secret_opens_the_tick(summary: dict[str, Any]) -> None:
    assert summary["ticks"]["wrong_secret_status"] == 401


def test_the_files_are_there(summary: dict[str, Any]) -> None:
    suffixes = [Path(file["path"]).suffix for file in summary["files"]]
    assert {".csv", ".jsonl"} == set(suffixes)
    assert len(suffixes) == 8
    assert max(file["rows"] for file in summary["files"]) > 3_000
    for file in summary["files"]:
        with Path(file["path"]).open(encoding="utf-8", newline="") as content:
            if file["path"].endswith(".csv"):
                rows = list(csv.reader(content, strict=True))[1:]
            else:
                rows = [list(json.loads(line)) for line in content]
        assert len(rows) == file["rows"] > 0
        assert file["first_lines"][0]


def test_what_a_delivery_added_is_counted_once(summary: dict[str, Any]) -> None:
    assert summary["stock"]["after"] == summary["stock"]["before"] + 84


def test_plain_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    done = run(tmp_path, ONCE="1", LC_ALL="POSIX", PYTHONIOENCODING="ascii", PYTHONUTF8="0")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    assert "wrong secret: 401" in done.stdout
    assert "tick  1:" in done.stdout
    assert "Dead letter  charge-card" in done.stdout
    assert "All as it should be" in done.stdout
    assert "Still serving" not in done.stdout
    secret = tmp_path / FOLDER / "cron-secret"
    assert secret.stat().st_mode & 0o077 == 0
    assert len(secret.read_text()) >= 32
    assert secret.read_text() not in done.stdout + (tmp_path / FOLDER / "server.log").read_text()


def test_on_a_terminal_it_serves_on_until_it_is_ended(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    demo = subprocess.Popen(
        [sys.executable, "-m", "jobs", "demo"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    try:
        said = read_until(leader, "Still serving (http://127.0.0.1:[0-9]+).* list --state failed")
        with urllib.request.urlopen(f"{said[1]}/healthz", timeout=30) as health:  # noqa: S310
            assert json.load(health) == {"status": "ok"}
        assert demo.poll() is None
        demo.send_signal(signal.SIGINT)
        read_until(leader, "Ended")
        assert demo.wait(30) == 0
    finally:
        demo.kill()
        demo.wait()
        os.close(leader)


def read_until(terminal: int, pattern: str) -> re.Match[str]:
    """Reads what is drawn on a terminal, without its colours, until it matches."""
    written, deadline = b"", time.monotonic() + 120
    while select.select([terminal], [], [], max(deadline - time.monotonic(), 0))[0]:
        written += os.read(terminal, 65_536)
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode(errors="replace"))
        found = re.search(pattern, plain, re.DOTALL)
        if found is not None:
            return found
    raise TimeoutError(written.decode(errors="replace"))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / ".tickwork").write_text("in the way")
    done = run(tmp_path)

    assert done.returncode == 1
    assert "cannot be made here" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_demo_leaves_the_folder_of_another_alone(tmp_path: Path) -> None:
    with fresh_place(tmp_path / "demo") as first, fresh_place(tmp_path / "demo") as second:
        assert first.folder != second.folder
        assert (first.folder / "cron-secret").read_text() == first.cron_secret
        (first.folder / "shop.db").touch()
    with fresh_place(tmp_path / "demo") as third:
        assert third.folder == first.folder
        assert not third.database.exists()
        assert third.cron_secret not in (first.cron_secret, second.cron_secret)


def test_what_is_not_as_it_should_be_is_a_problem() -> None:
    outcome = Outcome(jobs=[])
    outcome.expect("mails", 99, 100)
    outcome.expect("files", 8, 8)

    assert outcome.problems == ["mails: 99, but it should be 100"]
    assert outcome.checks == 2
