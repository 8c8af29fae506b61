"""`vercel.json` deploys as it is, on the free plan too, and publishes nothing but `public/`."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs import Tickwork
from tests.support.databases import Database
from tests.support.node import run, tool
from tests.support.pythons import newer_than_311

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
    for path in ("api/lambda_handlers.py", "serverless.yml", "build/lambda.zip"):
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
    done = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=folder)
    assert done.returncode in (0, 1)
    return done.returncode == 1


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


# What the real build makes of it.

SECRET = "correct-horse-battery-staple"
TASKS = """
from flask import Blueprint
from jobs import Tickwork

tickwork = Tickwork.from_env()
blueprint = Blueprint("shop", __name__)


@tickwork.handler("greet")
def greet(payload: dict) -> str:
    return f"hello {payload['name']}"


@blueprint.post("/greet/<name>")
def enqueue(name: str) -> dict:
    return {"id": greet.enqueue({"name": name}).id}
"""
# The platform's own entry: its runtime starts the application's server and is asked like this.
ASK = """
import json, sys
from vc__handler__python import vc_handler

for method, path, headers in json.loads(sys.argv[1]):
    body = json.dumps({"method": method, "path": path, "headers": headers})
    print("ANSWER", json.dumps(vc_handler({"body": body}, None)))
"""


@dataclass(frozen=True)
class Build:
    """A finished `vercel build` and the Python that it was made for."""

    output: Path
    log: str
    python: Path
    version: str

    @property
    def function(self) -> dict[str, Any]:
        where = self.output / "functions" / "api" / "index.func" / ".vc-config.json"
        read: dict[str, Any] = json.loads(where.read_text())
        return read


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`vercel build` on what git knows of this folder, with a shop's module and a few strays."""
    version, python = newer_than_311()
    tool("vercel")
    folder = tmp_path_factory.mktemp("checkout")
    _check_out(folder)
    (folder / "shop.py").write_text(TASKS)
    for stray in (".env", ".env.production", "jobs.db", "jobs.db-wal"):
        (folder / stray).write_text("SHOP_PASSWORD=hush-hush")
    (folder / ".vercel").mkdir()
    project = {"projectId": "x", "orgId": "x", "settings": {}}
    (folder / ".vercel" / "project.json").write_text(json.dumps(project))
    programs = folder.with_name(f"{folder.name}-programs")  # uv is in our own environment
    programs.mkdir()
    (programs / "uv").symlink_to(Path(sys.executable).with_name("uv"))
    for name in (f"python{version}", "python3"):
        (programs / name).write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
        (programs / name).chmod(0o755)
    log = run(
        *("vercel", "build", "--yes"),
        folder=folder,
        home=tmp_path_factory.mktemp("home"),
        path=str(programs),
        environ={"VERCEL_PYTHON_COMPILEALL": "1"},
    )
    return Build(folder / ".vercel" / "output", log, python, version)


def _check_out(folder: Path) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True)
    if listed.returncode != 0:
        pytest.skip("this is no git repository, so nothing says what would be deployed")
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


@pytest.mark.slow
def test_the_build_publishes_one_file_and_makes_one_function(build: Build) -> None:
    static = build.output / "static"
    functions = build.output / "functions"

    assert [path.relative_to(static).as_posix() for path in static.rglob("*")] == ["robots.txt"]
    assert [path.relative_to(functions).as_posix() for path in functions.rglob("*.func")] == [
        "api/index.func"
    ]
    assert "Internal rewrites" not in build.log


@pytest.mark.slow
def test_the_build_has_the_cron_and_sends_every_path_to_the_function(build: Build) -> None:
    made = json.loads((build.output / "config.json").read_text())
    rewrite = {"src": "^(?:/(.*))$", "dest": "/api/index", "check": True}

    assert made["crons"] == [{"path": "/cron/process-jobs", "schedule": "0 5 * * *"}]
    assert rewrite in made["routes"]
    assert build.function["maxDuration"] == 60
    assert build.function["runtime"] == f"python{build.version}"


@pytest.mark.slow
def test_the_function_holds_what_it_needs_and_no_more(build: Build) -> None:
    files = set(build.function["filePathMap"])
    own = {name for name in files if not name.startswith("_vendor/")}
    folders = {name.split("/")[0] for name in own if "/" in name}

    assert {"api/index.py", "jobs/system.py", "shop.py", "_vendor/flask/__init__.py"} <= files
    assert folders - {"__pycache__"} <= {"_vc_pycache", "api", "jobs", "public"}
    assert {name for name in own if name.startswith("api/")} - {
        name for name in own if "/__pycache__/" in name
    } == {"api/index.py"}
    for name in own:
        assert not re.search(r"\.env|\.db|^serverless|lambda_handlers\.py$|^tests/", name), name


@pytest.mark.slow
def test_the_function_is_small_and_has_its_bytecode(build: Build) -> None:
    root = build.output.parents[1]
    files = build.function["filePathMap"]
    size = sum((root / path).stat().st_size for path in files.values())

    assert size < 120e6, "Vercel's builder works to 225 MB"
    compiled = [name for name in files if name.endswith(".pyc")]
    assert any(name.startswith("jobs/__pycache__/system.") for name in compiled)
    assert any(name.startswith("_vendor/sqlalchemy/") for name in compiled)


@pytest.mark.slow
def test_the_built_function_ticks(
    build: Build, tmp_path: Path, postgresql_database: Database
) -> None:
    """Laid out as the platform does it, and asked through the platform's own runtime."""
    root, task = build.output.parents[1], tmp_path / "task"
    for name, path in build.function["filePathMap"].items():
        (task / name).parent.mkdir(parents=True, exist_ok=True)
        (task / name).symlink_to(root / path)
    made = build.output / "functions" / "api" / "index.func" / "vc__handler__python.py"
    shutil.copy2(made, task / made.name)
    database = Tickwork(postgresql_database.url)
    database.create_schema()
    bearer = {"Authorization": f"Bearer {SECRET}", "User-Agent": "vercel-cron/1.0"}
    asked = [
        ("GET", "/healthz", {}),
        ("POST", "/greet/Ada", {}),
        ("GET", "/cron/process-jobs", {}),
        ("GET", "/cron/process-jobs", bearer),
        ("GET", "/api/index", bearer),
        ("GET", "/jobs/system.py", bearer),
    ]
    done = subprocess.run(
        [build.python, "-S", "-c", ASK, json.dumps(asked)],
        cwd=task,
        env={
            **build.function["environment"],
            "PATH": os.environ["PATH"],
            "VERCEL": "1",
            "VERCEL_ENV": "production",
            "DATABASE_URL": postgresql_database.url,
            "CRON_SECRET": SECRET,
            "JOBS_HANDLERS": "shop",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    answers = [
        json.loads(line.removeprefix("ANSWER "))
        for line in done.stdout.splitlines()
        if line.startswith("ANSWER ")
    ]

    assert [answer["statusCode"] for answer in answers] == [200, 200, 401, 200, 404, 404], (
        done.stdout + done.stderr
    )
    assert json.loads(answers[3]["body"])["succeeded"] == 1
    assert database.get(json.loads(answers[1]["body"])["id"]).result == "hello Ada"
    assert SECRET not in done.stdout + done.stderr
    database.close()
