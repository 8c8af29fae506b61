"""Rules of the application whose way back to a URL is compiled when somebody asks for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask, url_for
from werkzeug.routing import Rule

from jobs.http import create_app
from jobs.http.rules import LateRule
from jobs.system import Tickwork

ROOT = Path(__file__).parents[2]


@pytest.fixture
def app() -> Flask:
    made = Flask("rules")
    made.url_rule_class = LateRule
    made.add_url_rule(
        "/jobs/<queue>/<int:number>", "job", lambda queue, number: f"{queue} {number}"
    )
    return made


def test_urls_are_built_as_ever(app: Flask) -> None:
    with app.test_request_context():
        for _ in range(2):
            assert url_for("job", queue="a b", number=7) == "/jobs/a%20b/7"
            assert url_for("job", queue="q", number=7, page="2") == "/jobs/q/7?page=2"


def test_requests_find_them(app: Flask) -> None:
    assert app.test_client().get("/jobs/exports/12").text == "exports 12"


def test_an_application_compiles_none_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Rule] = []
    original = Rule._compile_builder

    def noted(rule: Rule, append_unknown: bool = True) -> object:
        compiled.append(rule)
        return original(rule, append_unknown)

    monkeypatch.setattr(Rule, "_compile_builder", noted)
    app = create_app(Tickwork())
    app.test_client().get("/healthz")
    assert compiled == []

    with app.test_request_context():
        assert url_for("tickwork.manage.get_job", queue="q", job_id="x") == "/api/jobs/q/jobs/x"
    assert len(compiled) == 1


def test_a_tick_loads_nothing_of_the_management() -> None:
    program = """
import os, sys
os.environ.update(CRON_SECRET="a secret for this test only", JOBS_ENV="development")
from jobs.http import create_app
answer = create_app().test_client().get(
    "/cron/process-jobs", headers={"Authorization": "Bearer a secret for this test only"}
)
assert answer.status_code == 200, answer.text
print(*sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    loaded = set(run.stdout.split())

    assert "jobs.http.manage" in loaded, run.stderr
    late = {"jobs.managing", "jobs.http.manage.dispatch", "pydantic", "statistics"}
    assert sorted(loaded & late) == []
