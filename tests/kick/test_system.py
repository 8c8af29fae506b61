"""Who is kicked at all, and for which enqueues: after their commit, and for nothing else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from jobs import Tickwork
from jobs.core.doorbell import SilentDoorbell
from jobs.core.settings import read_settings
from jobs.doorbells.http import KickDoorbell
from jobs.http import create_app
from tests.http.conftest import SECRET
from tests.support.databases import Database
from tests.support.receiver import Receiver, receiver
from tests.support.web import eventually


@pytest.fixture
def place() -> Iterator[Receiver]:
    with receiver() as opened:
        yield opened


@pytest.fixture
def tickwork(database: Database, place: Receiver) -> Iterator[Tickwork]:
    opened = Tickwork(
        database.url, cron_secret=SECRET, kick_url=place.url, kick_debounce=0.0, env="production"
    )
    opened.create_schema()
    opened.register_handler("note", lambda payload: None)
    yield opened
    opened.close()


def kicked(place: Receiver, times: int = 1) -> bool:
    return eventually(lambda: len(place.requests) >= times)


def left_alone(place: Receiver) -> bool:
    time.sleep(0.3)
    return not place.requests


def test_an_enqueue_is_a_kick(tickwork: Tickwork, place: Receiver) -> None:
    tickwork.enqueue("note")
    assert kicked(place, 1)
    tickwork.enqueue_many([("note", {})] * 50)
    assert kicked(place, 2)
    asyncio.run(tickwork.aenqueue("note"))
    assert kicked(place, 3)
    time.sleep(0.2)
    assert len(place.requests) == 3


def test_the_row_is_there_when_the_kick_arrives(tickwork: Tickwork, place: Receiver) -> None:
    seen: list[int] = []
    answer = place.answer

    def look(request: Any) -> bytes:
        seen.append(len(tickwork.list()))
        return answer(request)

    place.answer = look
    tickwork.enqueue("note")

    assert eventually(lambda: seen == [1])


def test_a_caller_who_rolls_back_kicks_nobody(tickwork: Tickwork, place: Receiver) -> None:
    with Session(tickwork.engine) as session:
        tickwork.enqueue("note", session=session)
        assert left_alone(place), "nothing is committed"
        session.rollback()
        assert left_alone(place)
        tickwork.enqueue_many([("note", {})] * 3, session=session)
        session.commit()
        assert kicked(place)


def test_a_job_for_later_kicks_nobody(tickwork: Tickwork, place: Receiver) -> None:
    tickwork.enqueue("note", delay=60)

    assert left_alone(place)


def test_an_end_that_is_gone_fails_no_enqueue(sqlite_url: str) -> None:
    with receiver() as gone:
        url = gone.url
    with closing(Tickwork(sqlite_url, cron_secret=SECRET, kick_url=url)) as tickwork:
        tickwork.create_schema()
        tickwork.enqueue("note")
        tickwork.enqueue_many([("note", {})] * 3)
        assert len(tickwork.list()) == 4


def test_a_request_has_no_say_in_where_the_secret_goes(tickwork: Tickwork, place: Receiver) -> None:
    """Whatever a caller calls this host, the kick goes to the address that the settings name."""
    app = create_app(tickwork)

    @app.post("/orders")
    def order() -> dict[str, str]:
        return {"id": tickwork.enqueue("note").id}

    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil"}
    assert app.test_client().post("/orders", headers=headers).status_code == 200
    assert kicked(place)
    assert place.requests[0].headers["host"] == place.url.removeprefix("http://")


# -- who is kicked at all ----------------------------------------------------------------------

BASE = {"DATABASE_URL": "sqlite:///jobs.db", "CRON_SECRET": SECRET}


def doorbell_of(environ: dict[str, str], folder: Path) -> object:
    environ = {**environ, "DATABASE_URL": f"sqlite:///{folder / 'jobs.db'}"}
    with closing(Tickwork(settings=read_settings(environ))) as tickwork:
        return tickwork._runtime.doorbell


def test_production_on_vercel_kicks_itself(tmp_path: Path) -> None:
    environ = {
        **BASE,
        "VERCEL": "1",
        "VERCEL_ENV": "production",
        "VERCEL_PROJECT_PRODUCTION_URL": "shop.example",
        "VERCEL_AUTOMATION_BYPASS_SECRET": "b" * 32,
    }
    kick = doorbell_of(environ, tmp_path)
    assert isinstance(kick, KickDoorbell)
    assert kick.url == "https://shop.example/cron/process-jobs"
    assert kick._headers["x-vercel-protection-bypass"] == "b" * 32
    assert isinstance(doorbell_of({**environ, "VERCEL_ENV": "preview"}, tmp_path), SilentDoorbell)


@pytest.mark.parametrize(
    "environ",
    [
        BASE,
        {**BASE, "JOBS_KICK_URL": "off"},
        {**BASE, "JOBS_KICK_URL": "https://shop.example", "JOBS_BACKEND": "memory"},
    ],
)
def test_nobody_is_kicked_who_did_not_ask(environ: dict[str, str], tmp_path: Path) -> None:
    assert isinstance(doorbell_of(environ, tmp_path), SilentDoorbell)


def test_a_queue_beside_the_table_is_rung_instead(tmp_path: Path) -> None:
    environ = {
        **BASE,
        "JOBS_KICK_URL": "https://shop.example",
        "SQS_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/jobs",
    }
    assert not isinstance(doorbell_of(environ, tmp_path), KickDoorbell)


@pytest.mark.parametrize(
    ("secret", "why"), [("", "CRON_SECRET"), ("correct-horse\nbattery-staple", "CRON_SECRET")]
)
def test_without_a_secret_nobody_is_kicked(
    secret: str, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    environ = {**BASE, "JOBS_KICK_URL": "https://shop.example", "CRON_SECRET": secret}

    assert isinstance(doorbell_of(environ, tmp_path), SilentDoorbell)
    (told,) = caplog.messages
    assert why in told
    assert "battery" not in told
