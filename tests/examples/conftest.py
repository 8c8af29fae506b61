"""What the tests of the examples share: a system in production's clothes and its application."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jobs import Job, Tickwork
from jobs.core.clock import ManualClock
from jobs.http import create_app
from tests.support.postman import parse
from tests.support.receiver import Receiver, receiver
from tests.support.web import ROOT

CRON = {"Authorization": "Bearer correct-horse-battery-staple"}
ADMIN = {"Authorization": "Bearer an-operator-has-a-long-token"}


@dataclass
class Example:
    """An example that runs: asked by HTTP, driven by the cron's URL, its clock moved by hand."""

    tickwork: Tickwork
    client: FlaskClient
    clock: ManualClock
    folder: Path

    def ask(self, method: str, path: str, token: str = "", **options: Any) -> TestResponse:
        headers = {**options.pop("headers", {})}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self.client.open(path, method=method, headers=headers, **options)

    def cron(self, path: str = "/cron/process-jobs?limit=100") -> dict[str, Any]:
        """The platform's call."""
        answer = self.client.get(path, headers=CRON)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = json.loads(answer.data)
        return found

    def later(self, seconds: float) -> dict[str, Any]:
        """Time goes on, and then the cron calls."""
        self.clock.advance(seconds)
        return self.cron()

    def jobs(self, kind: str) -> list[Job]:
        return list(self.tickwork.list(kind=kind, limit=100))

    def job(self, kind: str) -> Job:
        """The only one of its kind."""
        (found,) = self.jobs(kind)
        return found

    def rows(self, statement: sa.Select[Any]) -> list[Any]:
        with self.tickwork.engine.connect() as connection:
            return list(connection.execute(statement).all())

    def mails(self) -> list[EmailMessage]:
        files = (self.folder / "outbox").glob("*.eml")
        return [parse(each.read_bytes()) for each in sorted(files)]


Open = Callable[..., Example]


def played(example: str) -> str:
    """Run an example as its README says; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", f"{example}.run"],
        cwd=ROOT / "examples",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def open_example(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens an example by its modules, with settings beside the usual ones.

    Its `application` is made by `create_app` unless it says otherwise.
    """
    database = request.getfixturevalue(f"{request.param}_database")
    opened: list[Tickwork] = []

    def open_it(*modules: str, **settings: Any) -> Example:
        application = settings.pop("application", create_app)
        clock = ManualClock()
        values = {
            "blob_url": str(tmp_path / "files"),
            "smtp_url": str(tmp_path / "outbox"),
            "email_from": "Example <no-reply@example.com>",
            "cron_secret": CRON["Authorization"].removeprefix("Bearer "),
            "admin_token": ADMIN["Authorization"].removeprefix("Bearer "),
            "webhook_allow": ("127.0.0.1",),
            **settings,
        }
        tickwork = Tickwork(database.url, handlers=modules, clock=clock, **values)
        opened.append(tickwork)
        tickwork.create_schema()
        return Example(tickwork, application(tickwork).test_client(), clock, tmp_path)

    yield open_it
    for each in opened:
        each.close()


@pytest.fixture
def place() -> Iterator[Receiver]:
    """Somebody else's server, for webhooks."""
    with receiver() as opened:
        yield opened
