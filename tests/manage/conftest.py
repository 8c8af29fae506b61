"""The management API over real stores, with a caller for each role and tenant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import BaseModel
from werkzeug.test import TestResponse

from jobs import Tickwork
from jobs.core.access import Change, ChangeFilter, NewToken, Role, digest_of, new_secret
from jobs.core.clock import ManualClock
from jobs.core.ids import new_id
from jobs.core.job import Job
from jobs.core.redact import Secret
from jobs.http import create_app
from tests.support.databases import Database

ADMIN = "an-admin-token-of-some-length"


class Card(BaseModel):
    number: Annotated[str, Secret]
    note: str = ""


@dataclass
class Caller:
    """Somebody with a token."""

    client: FlaskClient
    secret: str

    def __call__(self, method: str, path: str, **more: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.secret}", **more.pop("headers", {})}
        return self.client.open(path, method=method, headers=headers, **more)

    def get(self, path: str, **more: Any) -> Any:
        answer = self("GET", path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json

    def post(self, path: str, body: Any = None, status: int = 200, **more: Any) -> Any:
        sent = {} if body is None else {"json": body}
        answer = self("POST", path, **sent, **more)
        assert answer.status_code == status, answer.text
        return answer.json


@dataclass
class Office:
    """A Tickwork with kinds that work, fail and wait, behind its application."""

    tickwork: Tickwork
    clock: ManualClock
    app: Flask
    seen: list[Any] = field(default_factory=list)

    def caller(self, role: str = "admin", tenant: str | None = None, name: str = "") -> Caller:
        secret = new_secret()
        label = name or f"{role}-{tenant}"
        self.tickwork.store.add_token(
            NewToken(new_id(), label, Role(role), tenant, digest_of(secret))
        )
        return Caller(self.app.test_client(), secret)

    @property
    def admin(self) -> Caller:
        return Caller(self.app.test_client(), ADMIN)

    def failed(self, tenant: str = "", **payload: Any) -> Job:
        """A dead letter."""
        job = self.tickwork.enqueue("bad", payload, tenant=tenant)
        self.tickwork.tick(limit=100)
        found = self.tickwork.get(job.id)
        assert found is not None
        assert found.state == "failed"
        return found

    def log(self) -> list[Change]:
        return self.tickwork.store.changes(ChangeFilter(), 1000)


def open_office(**settings: Any) -> Office:
    clock = ManualClock()
    if "database_url" not in settings:
        settings["backend"] = "memory"
    tickwork = Tickwork(clock=clock, env="production", admin_token=ADMIN, **settings)
    tickwork.create_schema()
    office = Office(tickwork, clock, create_app(tickwork))

    @tickwork.handler("note", api=True, queue="notes")
    def note(payload: dict[str, Any]) -> dict[str, Any]:
        office.seen.append(payload)
        return {"token": "hunter2", "n": payload.get("n")}

    @tickwork.handler("bad", api=True, queue="bad", max_attempts=1)
    def bad(payload: dict[str, Any]) -> None:
        raise ValueError("no luck with password=hunter2")

    @tickwork.handler("card", api=True, redact=["pan"])
    def card(payload: Card) -> None:
        office.seen.append(payload)

    @tickwork.handler("inside")
    def inside(payload: dict[str, Any]) -> None:
        office.seen.append(payload)

    return office


@pytest.fixture
def office() -> Iterator[Office]:
    opened = open_office()
    yield opened
    opened.tickwork.close()


@pytest.fixture
def sql_office(database: Database) -> Iterator[Office]:
    """On each database in turn."""
    opened = open_office(database_url=database.url)
    yield opened
    opened.tickwork.close()
