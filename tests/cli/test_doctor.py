"""`tickwork doctor`: in a healthy environment, and in broken ones, where it never crashes."""

from __future__ import annotations

import json
import tempfile
from typing import Any

import pytest

from tests.cli.conftest import Cli, Place, document

SECRET = "k3Jw9qZt7Rb2LxNv5Hc8"


@pytest.fixture
def healthy(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A deployment with nothing wrong. The test's own files lie in a temporary folder, rightly."""
    monkeypatch.setenv("CRON_SECRET", SECRET)
    monkeypatch.setattr(tempfile, "tempdir", str(place.folder / "elsewhere"))
    return place


def findings(cli: Cli, exit_code: int, *arguments: str) -> dict[str, Any]:
    """What ``doctor --json`` found, by code."""
    result = cli("doctor", "--json", *arguments)
    assert result.exit_code == exit_code, result.output
    said = json.loads(result.stdout)
    assert said["ok"] is (exit_code == 0)
    return {each["code"]: each for each in said["findings"]}


@pytest.mark.usefixtures("healthy")
def test_a_healthy_deployment_is_told_in_one_line(cli: Cli) -> None:
    result = cli("doctor")

    assert (result.exit_code, result.stdout) == (0, "Nothing is wrong.\n")
    assert document(cli("doctor", "--json")) == {"ok": True, "findings": []}


def test_notes_alone_are_no_failure(cli: Cli, healthy: Place, bare: pytest.MonkeyPatch) -> None:
    bare.setenv("CRON_SECRET_PREVIOUS", f"{SECRET}-old")

    assert set(findings(cli, 0)) == {"secret-previous"}


def test_a_finding_names_its_mend(cli: Cli, healthy: Place, bare: pytest.MonkeyPatch) -> None:
    bare.delenv("CRON_SECRET")

    result = cli("doctor")

    assert result.exit_code == 1
    assert "error    secret-missing" in result.stdout
    assert "Mend: make one with" in result.stdout
    assert result.stdout.endswith("1 error.\n")


BROKEN: dict[str, dict[str, str]] = {
    "encryption-key-malformed": {"JOBS_ENCRYPTION_KEYS": "bm90IGEga2V5"},
    "setting": {"JOBS_BATCH_SIZE": "many"},
    "database-setting": {"DATABASE_URL": "sqlite:///:memory:"},
    "database-unreachable": {"DATABASE_URL": "postgresql://app:hunter22@127.0.0.1:1/app"},
    "sqlite-missing": {"DATABASE_URL": "sqlite:///nowhere.db"},
    "handlers-broken": {"JOBS_HANDLERS": "no.such.module"},
    "handlers-missing": {"JOBS_HANDLERS": ""},
    "in-memory": {"JOBS_BACKEND": "memory", "JOBS_ENV": "production"},
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_broken_environment_is_told_and_nothing_crashes(
    code: str, cli: Cli, healthy: Place, bare: pytest.MonkeyPatch
) -> None:
    for name, value in BROKEN[code].items():
        bare.setenv(name, value)

    found = findings(cli, 1)

    assert code in found
    assert "check-failed" not in found
    assert "hunter22" not in json.dumps(found)


def test_it_makes_no_database(cli: Cli, healthy: Place, bare: pytest.MonkeyPatch) -> None:
    bare.setenv("DATABASE_URL", "sqlite:///nowhere.db")

    findings(cli, 1)

    assert not (healthy.folder / "nowhere.db").exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('password=hunter22secret')", "RuntimeError"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("import nothing_of_that_name", "nothing_of_that_name"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_handler_module_that_fails_is_named(
    body: str, said: str, cli: Cli, healthy: Place, bare: pytest.MonkeyPatch
) -> None:
    bare.setenv("MAIL_PASSWORD", "hunter22secret")
    bare.setenv("JOBS_HANDLERS", "tests.cli.tasks,broken_handlers")
    (healthy.folder / "broken_handlers.py").write_text(body)

    found = findings(cli, 1)

    assert set(found) == {"handlers-broken"}
    sentence = found["handlers-broken"]["sentence"]
    assert "'broken_handlers'" in sentence
    assert said in sentence
    assert "hunter22secret" not in sentence


def test_missing_tables_are_told(cli: Cli, healthy: Place, bare: pytest.MonkeyPatch) -> None:
    (healthy.folder / "empty.db").touch()
    bare.setenv("DATABASE_URL", "sqlite:///empty.db")

    assert set(findings(cli, 1)) == {"schema"}


def test_the_plan_and_the_folder_can_be_named(cli: Cli, healthy: Place) -> None:
    project = healthy.folder / "project"
    (project / "public").mkdir(parents=True)
    (project / "vercel.json").write_text(
        json.dumps(
            {
                "framework": None,
                "functions": {"api/index.py": {"maxDuration": 60}},
                "crons": [{"path": "/cron/process-jobs", "schedule": "* * * * *"}],
            }
        )
    )

    assert findings(cli, 0) == {}
    assert set(findings(cli, 0, "--folder", str(project))) == {"cron-needs-plan"}
    assert findings(cli, 0, "--folder", str(project), "--plan", "pro") == {}
    assert set(findings(cli, 1, "--folder", str(project), "--plan", "hobby")) == {"cron-over-plan"}


@pytest.mark.parametrize("wrong", [["--plan", "gold"], ["--folder", "nowhere"], ["now"]])
def test_a_wrong_question_is_no_finding(wrong: list[str], cli: Cli, healthy: Place) -> None:
    assert cli("doctor", *wrong).exit_code == 2
