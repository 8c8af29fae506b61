"""`vercel.json` deploys as it is, on the free plan too, and publishes nothing but `public/`."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ENTRY = "api/index.py"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((ROOT / "vercel.json").read_text())
    return read


def test_the_framework_is_pinned(config: dict[str, Any]) -> None:
    """Left open it is guessed from the Flask dependency, and the rewrite then breaks every path."""
    assert "framework" in config
    assert config["framework"] is None


def test_no_key_is_there_that_switches_another_off(config: dict[str, Any]) -> None:
    """`builds` refuses `functions`, and `routes` cannot stand beside `rewrites`."""
    assert set(config) == {"$schema", "framework", "functions", "crons", "rewrites"}


def test_the_cron_is_one_that_the_free_plan_takes(config: dict[str, Any]) -> None:
    assert [cron["path"] for cron in config["crons"]] == ["/cron/process-jobs"]
    for cron in config["crons"]:
        assert set(cron) == {"path", "schedule"}
        assert re.fullmatch(r"/.{0,511}", cron["path"])
        assert 9 <= len(cron["schedule"]) <= 256
        # Once a day: a fixed minute, a fixed hour, every day.
        assert re.fullmatch(r"[0-5]?\d ([01]?\d|2[0-3]) \* \* \*", cron["schedule"])


def test_every_path_reaches_the_application(config: dict[str, Any]) -> None:
    assert config["rewrites"] == [{"source": "/(.*)", "destination": "/api/index"}]


def test_there_is_one_function_with_a_time_limit_every_plan_allows(config: dict[str, Any]) -> None:
    assert list(config["functions"]) == [ENTRY]
    assert set(config["functions"][ENTRY]) == {"maxDuration", "excludeFiles"}
    assert config["functions"][ENTRY]["maxDuration"] == 60  # JOBS_TICK_LIMIT's default


def test_what_stays_out_of_the_function_is_one_glob(config: dict[str, Any]) -> None:
    glob = config["functions"][ENTRY]["excludeFiles"]

    assert isinstance(glob, str)
    assert len(glob) <= 256
    assert re.fullmatch(r"\{[^{}\s]+\}", glob)
    for path in ("tests/support/servers.py", ".env", ".env.local", "jobs.db", "data/jobs.db-wal"):
        assert _matches(path, glob), path
    for path in (ENTRY, "jobs/system.py", "jobs/http/templates/page.html", "uv.lock"):
        assert not _matches(path, glob), path


def _matches(path: str, glob: str) -> bool:
    meaning = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*"}
    return any(
        re.fullmatch(
            "".join(meaning.get(t, re.escape(t)) for t in re.split(r"(\*\*/|\*\*?)", part)), path
        )
        for part in glob.strip("{}").split(",")
    )


def test_only_the_public_folder_is_published() -> None:
    """Without a `public/` folder, Vercel serves the whole repository as static files."""
    published = sorted(path.name for path in (ROOT / "public").rglob("*"))

    assert published == ["robots.txt"]
    assert "Disallow: /\n" in (ROOT / "public" / "robots.txt").read_text()


def test_no_other_file_can_be_taken_for_the_entry() -> None:
    names = ("app.py", "asgi.py", "index.py", "main.py", "server.py", "wsgi.py")
    found = [
        f"{folder}/{name}"
        for folder in (".", "api", "app", "src")
        for name in names
        if (ROOT / folder / name).exists() and f"{folder}/{name}" != ENTRY
    ]

    assert found == []


def test_the_entry_is_the_only_function_in_api() -> None:
    """Vercel makes a function of every file in `api/` that defines one of three names."""
    files = sorted((ROOT / "api").rglob("*.py"))
    entries = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if {"app", "application", "handler"}.intersection(_top_level_names(path))
    }

    # Without the folder there is nothing to deploy; with it, vercel.json must name what is there.
    assert entries == ({ENTRY} if files else set())


def _top_level_names(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Assign():
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in node.names)


@pytest.fixture(scope="module")
def ignoring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose only ignore file is ours for Vercel; the syntax is the same as git's."""
    folder = tmp_path_factory.mktemp("ignoring")
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    (folder / ".gitignore").write_text((ROOT / ".vercelignore").read_text())
    return folder


def _is_uploaded(path: str, folder: Path) -> bool:
    run = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=folder)
    assert run.returncode in (0, 1)
    return run.returncode == 1


@pytest.mark.parametrize(
    "path",
    [
        *(ENTRY, "jobs/http/app.py", "jobs/http/templates/x.html", "jobs/stores/sql/tables.py"),
        # The build reads these when it installs the project.
        *("pyproject.toml", "README.md", "LICENSE", "uv.lock", "vercel.json", "public/robots.txt"),
    ],
)
def test_what_the_deployment_needs_is_uploaded(path: str, ignoring: Path) -> None:
    assert _is_uploaded(path, ignoring)


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".env.production", "jobs.db", "jobs.db-wal", ".venv/bin/python", "tests/x.py"),
        *("api/lambda_handlers.py", "serverless.yml"),
    ],
)
def test_what_the_deployment_must_not_show_stays_at_home(path: str, ignoring: Path) -> None:
    assert not _is_uploaded(path, ignoring)
