"""The demo's shop on a database, behind its application, with a clock that moves when told to."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jobs import Job, Tickwork
from jobs.core.clock import ManualClock
from jobs.demo.shop import BRANCHES, create_shop
from jobs.demo.tables import export_jobs, notifications
from jobs.http import create_app
from tests.support.databases import Database
from tests.support.servers import free_port

CRON = {"Authorization": "Bearer correct-horse-battery-staple"}
ADMIN = {"Authorization": "Bearer shopkeeper-has-a-long-token"}
KOELN, ATHENS, KRAKOW = BRANCHES


@dataclass
class StormCom:
    """The shop in production's clothes; `folder` holds its files and its outbox."""

    tickwork: Tickwork
    client: FlaskClient
    clock: ManualClock
    folder: Path

    def ask(self, headers: dict[str, str] | None = None, **body: Any) -> TestResponse:
        """`POST /api/orders/export`, for the first store unless the body says otherwise."""
        whole = {"storeId": KOELN.store_id, "userId": KOELN.user_id, **body}
        return self.client.post(
            "/api/orders/export", json=whole, headers=ADMIN if headers is None else headers
        )

    def asked(self, **body: Any) -> tuple[str, str]:
        """Ask, and give the ids of the record and of the job."""
        answer = self.ask(**body)
        assert answer.status_code == 202, answer.text
        made = json.loads(answer.data)
        return made["jobId"], made["queueJobId"]

    def cron(self) -> dict[str, Any]:
        """`GET /cron/process-jobs`, as the platform calls it."""
        answer = self.client.get("/cron/process-jobs", headers=CRON)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = json.loads(answer.data)
        return found

    def job(self, job_id: str) -> Job:
        found = self.tickwork.get(job_id)
        assert found is not None
        return found

    def record(self, export_id: str) -> dict[str, Any]:
        """The record, as the shop's API shows it."""
        answer = self.client.get(f"/api/orders/export/{export_id}", headers=ADMIN)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = json.loads(answer.data)
        return found

    def rows(self, statement: sa.Select[Any]) -> list[Any]:
        with self.tickwork.engine.connect() as connection:
            return list(connection.execute(statement).all())

    def records(self) -> int:
        return len(self.rows(sa.select(export_jobs.c.id)))

    def notices(self) -> list[Any]:
        return self.rows(sa.select(notifications))

    def mails(self) -> list[Path]:
        return sorted((self.folder / "outbox").glob("*.eml"))


def file_of(record: dict[str, Any]) -> Path:
    return Path(unquote(urlsplit(record["fileUrl"]).path))


def csv_of(record: dict[str, Any]) -> list[list[str]]:
    """The file, read the way a stranger would."""
    with file_of(record).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


def jsonl_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file_of(record).read_text("utf-8").split("\n")[:-1]]


Open = Callable[..., StormCom]


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Open]:
    """Opens the shop on a database, with settings of its own where a test wants them."""
    opened: list[Tickwork] = []

    def open_it(database: Database, orders: int = 300, **settings: Any) -> StormCom:
        clock = ManualClock()
        values = {
            "blob_url": str(tmp_path / "files"),
            "smtp_url": str(tmp_path / "outbox"),
            "email_from": "StormCom <shop@example.com>",
            "cron_secret": CRON["Authorization"].removeprefix("Bearer "),
            "admin_token": ADMIN["Authorization"].removeprefix("Bearer "),
            "tick_limit": 700.0,
            **settings,
        }
        tickwork = Tickwork(database.url, handlers=["jobs.demo.orders"], clock=clock, **values)
        opened.append(tickwork)
        tickwork.create_schema()
        with tickwork.engine.begin() as connection:
            create_shop(connection, orders=orders, customers=60, products=12)
        return StormCom(tickwork, create_app(tickwork).test_client(), clock, tmp_path)

    yield open_it
    for tickwork in opened:
        tickwork.close()


@pytest.fixture
def shop(open_shop: Open, sqlite_database: Database) -> StormCom:
    """The shop on SQLite."""
    return open_shop(sqlite_database)


@pytest.fixture
def any_shop(open_shop: Open, database: Database) -> StormCom:
    """The shop on each database in turn."""
    return open_shop(database)


class Postman:
    """Keeps what arrives; `answer` is what he says to a letter."""

    def __init__(self) -> None:
        self.letters: list[bytes] = []
        self.answer = "250 OK"
        self.port = free_port()

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        await asyncio.sleep(0)
        if self.answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.letters.append(envelope.content)
        return self.answer


@pytest.fixture
def postman() -> Iterator[Postman]:
    """A real mail server."""
    postman = Postman()
    controller = Controller(postman, hostname="127.0.0.1", port=postman.port)
    controller.start()
    yield postman
    controller.stop()
