"""The runbooks: every command in them is one that exists, and every statement runs."""

from __future__ import annotations

import re
import shlex
from contextlib import closing

import click
import pytest

from jobs import Tickwork
from jobs.cli import main
from jobs.ops.why import LATE_SECONDS
from tests.ops.conftest import ROOT
from tests.support.databases import Database

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```console\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
LINES = [line.strip() for block in BLOCKS for line in block.splitlines()]
INLINE = re.findall(r"`(tickwork [^`]+)`", PAGE)
COMMANDS = sorted({line for line in [*LINES, *INLINE] if line.startswith("tickwork ")})
STATEMENTS = dict(re.findall(r"^```sql (\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


def test_there_is_something_to_look_at() -> None:
    assert len(COMMANDS) > 15
    assert set(STATEMENTS) == {"postgresql", "mysql", "sqlite"}
    assert LATE_SECONDS < 3600


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_runbooks_exists(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no {words[0]!r}"
        command, words = found, words[1:]
    command.make_context(command.name, words, resilient_parsing=False).close()


def test_a_statement_of_the_runbooks_runs(database: Database) -> None:
    with closing(Tickwork(database.url)) as tickwork:
        tickwork.create_schema()
        job = tickwork.enqueue("work")
        tickwork.store.claim(1, kinds={"work"}, lease_seconds=60, mark=1)
        with tickwork.engine.connect() as connection:
            rows = connection.exec_driver_sql(STATEMENTS[database.name]).all()

    assert [row[0] for row in rows] == [job.id]
    assert 0 <= float(rows[0][3]) < 600
