"""The command line within this process, on an SQLite file unless a test says otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobs import Tickwork
from jobs.cli import main

Cli = Callable[..., Result]


@dataclass
class Place:
    """Where commands run: a folder with a database, and a system to prepare and look with."""

    folder: Path
    url: str
    tickwork: Tickwork


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment that says nothing, and an empty current directory."""
    import os

    for name in list(os.environ):
        if name.startswith(("JOBS_", "QUEUE_")) or name.endswith(("_URL", "_SECRET")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(Tickwork, "_from_env", None)  # one per process, and tests are many
    monkeypatch.chdir(tmp_path)
    return monkeypatch


@pytest.fixture
def place(bare: pytest.MonkeyPatch, sqlite_url: str, tmp_path: Path) -> Iterator[Place]:
    bare.setenv("DATABASE_URL", sqlite_url)
    bare.setenv("JOBS_HANDLERS", "tests.cli.tasks")
    tickwork = Tickwork(sqlite_url)
    tickwork.create_schema()
    yield Place(tmp_path, sqlite_url, tickwork)
    tickwork.close()


@pytest.fixture
def cli(bare: pytest.MonkeyPatch) -> Cli:
    def run(*arguments: str, input: str | bytes | None = None) -> Result:  # noqa: A002
        bare.setattr(Tickwork, "_from_env", None)
        return CliRunner().invoke(main, arguments, input=input)

    return run


def document(result: Result) -> Any:
    """What a command with ``--json`` said; it must have gone well and said nothing else."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
