"""The pages on deploying: their snippets parse and run, and what they name exists."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from jobs.cli import main as command_line
from jobs.core import settings
from tests.support.web import serving

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "choosing.md", *sorted((ROOT / "docs" / "deploy").glob("*.md"))]
SECRET = "correct-horse-battery-staple"
# Read by others than Tickwork: the platforms, their tools, and Flask.
OTHERS = {
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_SQS", "QSTASH_TOKEN"),
    *("VERCEL_AUTOMATION_BYPASS_SECRET", "VERCEL_PYTHON_COMPILEALL"),
    *("PYTHON_LAMBDA", "REQUIREMENTS", "INCLUDE", "ARCH"),  # the Makefile's
}
KNOWN = {name for _, names, _ in settings._VARIABLES for name in names}


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages, without the indent of a list."""
    found = re.finditer(r"^( *)```(\w+)\n(.*?)^\1```$", text_of(page), re.DOTALL | re.MULTILINE)
    return [
        re.sub(rf"^{each[1]}", "", each[3], flags=re.MULTILINE)
        for each in found
        if each[2] in languages
    ]


def commands(page: Path) -> list[str]:
    """What is to be typed, without what comes back."""
    lines = "".join(blocks(page, "console")).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


@pytest.fixture(params=PAGES, ids=lambda page: page.stem)
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_there_are_pages() -> None:
    assert [page.stem for page in PAGES] == ["choosing", "aws", "triggers", "vercel"]
    assert all(commands(page) for page in PAGES if page.stem != "choosing")


def test_data_parses(page: Path) -> None:
    for block in blocks(page, "json"):
        json.loads(block)
    for block in blocks(page, "yaml"):
        assert isinstance(yaml.safe_load(block), dict)
    for block in blocks(page, "toml"):
        tomllib.loads(block)


def test_python_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_parses(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "javascript"):
        file = tmp_path / "snippet.mjs"
        file.write_text(block)
        done = subprocess.run(["node", "--check", file], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_commands_are_the_shell_s(page: Path) -> None:
    for command in commands(page):
        done = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_make_knows_its_targets(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"\bmake ([a-z-]+)\b", "\n".join(commands(page)))) <= targets


def test_the_command_line_knows_its_commands(page: Path) -> None:
    """Also those in the running text; options and their values as well."""
    told = re.findall(r"`tickwork ([^`]+)`", text_of(page))
    typed = re.findall(r"\btickwork ((?:\S+ ?)+)$", "\n".join(_plain(page)), re.MULTILINE)
    for words in (*told, *typed):
        _resolve(words.split(), words)


def _plain(page: Path) -> Iterator[str]:
    for command in commands(page):
        if re.search(r"(^|/|' |=\w+ )tickwork ", command):
            yield re.sub(r"'[^']*'", "X", command)


def _resolve(words: list[str], line: str) -> None:
    command: click.Command = command_line.commands[words[0]]
    rest = words[1:]
    if isinstance(command, click.Group):
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for each in command.params for name in each.opts}
    for word in rest:
        assert not word.startswith("--") or word in known, line
    states = {
        choice
        for each in command.params
        if isinstance(each.type, click.Choice)
        for choice in each.type.choices
    }
    for option, value in pairwise(rest):
        assert option != "--state" or value in states, line


def test_the_variables_are_known(page: Path) -> None:
    named = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", text_of(page)))
    named |= set(re.findall(r"\bJOBS_[A-Z_]+\b", text_of(page)))

    assert named - KNOWN - OTHERS == {"FUNCTION_INVOCATION_TIMEOUT"} & named


def test_a_table_of_the_environment_lists_what_the_configuration_sets() -> None:
    table = text_of(ROOT / "docs" / "deploy" / "aws.md").partition("## Environment")[2]
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", table.partition("\n## ")[0], re.MULTILINE))
    config = (ROOT / "serverless.yml").read_text()
    set_there = {name for name in KNOWN if re.search(rf"^ +{name}: ", config, re.MULTILINE)}

    assert {"DATABASE_URL", "SQS_QUEUE_URL"} <= set_there <= listed <= KNOWN


def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", text_of(place), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
            assert anchor in slugs, target


def test_the_defaults_told_are_the_defaults() -> None:
    told = dict(re.findall(r"\| `(JOBS_[A-Z_]+)` \| no \((\d+)\)", text_of(PAGES[-1])))
    defaults = settings.Settings()

    assert told == {
        "JOBS_TICK_LIMIT": f"{defaults.tick_limit:g}",
        "JOBS_TIME_BUDGET": f"{defaults.time_budget:g}",
        "JOBS_BATCH_SIZE": str(defaults.batch_size),
        "JOBS_CONCURRENCY": str(defaults.concurrency),
    }


def test_the_resources_named_are_there() -> None:
    config = (ROOT / "serverless.yml").read_text()
    page = text_of(ROOT / "docs" / "deploy" / "aws.md")

    for name in re.findall(r"`([A-Z][A-Za-z]+(?:Alarm|Policy))`", page):
        assert f"    {name}:\n" in config, name
    for name in ("database-url", "cron-secret"):
        assert f"--name /tickwork/prod/{name} " in page
        assert f"ssm:/${{self:service}}/${{sls:stage}}/{name}" in config


def test_the_comparison_is_whole() -> None:
    """Backends against what one asks of them, then the stages, then the four steps."""
    page = text_of(PAGES[0])
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.partition("\n## ")[0].splitlines()
        if line.startswith("| ")
    ]
    asked = {row[0] for row in rows}

    assert rows[0] == ["", "memory", "SQL and a cron", "SQL, SQS and Lambda", "worker"]
    assert {"cost", "latency", "setup", "scalability", "reliability", "best for"} <= asked
    assert all(len(row) == 5 and all(row[1:]) for row in rows[1:])
    steps = page.partition("in four steps\n")[2].partition("\n## ")[0]
    assert re.findall(r"^(\d)\. ", steps, re.MULTILINE) == ["1", "2", "3", "4"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("name", ["triggers", "vercel"])
def test_the_call_with_curl_is_answered(name: str, tmp_path: Path) -> None:
    """The line as it stands on the page, with our own server's address in it."""
    page = ROOT / "docs" / "deploy" / f"{name}.md"
    line = next(
        each for each in commands(page) if each.startswith("curl") and "shop.example" in each
    )
    (tmp_path / "tasks.py").write_text(blocks(ROOT / "docs" / "deploy" / "vercel.md", "python")[0])
    environ = {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'shop.db'}",
        "CRON_SECRET": SECRET,
        "JOBS_HANDLERS": "tasks",
    }
    _tickwork(tmp_path, environ, "db", "upgrade")
    _tickwork(tmp_path, environ, "enqueue", "greet", '{"name": "Ada"}')

    def serve(port: int) -> list[str]:
        return ["-m", "jobs", "serve", "--port", str(port)]

    with serving(tmp_path, serve, environ) as web:
        here = line.replace("https://shop.example", f"http://127.0.0.1:{web.port}")
        done = subprocess.run(
            ["bash", "-c", here],
            env={"PATH": _path(), "CRON_SECRET": SECRET},
            capture_output=True,
            text=True,
        )
    answer: dict[str, Any] = json.loads(done.stdout or done.stderr)

    assert (answer["processed"], answer["succeeded"]) == (1, 1)


def _tickwork(folder: Path, environ: dict[str, str], *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "jobs", *arguments],
        cwd=folder,
        env={"PATH": _path(), "PYTHONPATH": f"{ROOT}:{folder}", **environ},
        check=True,
        capture_output=True,
    )


def _path() -> str:
    return os.environ["PATH"]
