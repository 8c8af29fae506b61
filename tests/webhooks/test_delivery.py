"""A webhook from enqueue to the receiver: signed, at least once, and told on the job."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from jobs import ConfigurationError, Job, State, Tickwork
from jobs.core.clock import ManualClock
from jobs.handlers.webhook import BACKOFF, queue_webhook
from tests.support.databases import Database
from tests.support.receiver import OK, Receiver, Request
from tests.support.web import ROOT
from tests.webhooks.conftest import PLAIN, SECRET, SETTINGS, answering

INCIDENT = {"event": "incident.created", "data": {"id": 7, "what": "grüße </script>"}}


def queue(place: Receiver, **more: Any) -> Job:
    given: dict[str, Any] = {
        "url": f"{place.url}/hook",
        "payload": INCIDENT,
        "secret": SECRET,
        "event_type": "incident.created",
        "organization_id": "org-1",
        **more,
    }
    return queue_webhook(**given)


def ended(tickwork: Tickwork, job: Job) -> Job:
    found = tickwork.get(job.id)
    assert found is not None
    return found


def test_a_delivery_that_the_receivers_library_and_a_plain_hmac_verify(
    tickwork: Tickwork, place: Receiver
) -> None:
    job = queue(place)
    tickwork.tick()
    (got,) = place.requests

    assert got.line == "POST /hook HTTP/1.1"
    assert Verifier(SECRET).verify(got.body, got.headers) == INCIDENT
    stamp = got.headers["x-webhook-timestamp"]
    plain = hmac.new(SECRET.encode(), f"{stamp}.".encode() + got.body, hashlib.sha256)
    assert got.headers["x-webhook-signature"] == plain.hexdigest()
    assert stamp == got.headers["webhook-timestamp"]
    assert abs(time.time() - int(stamp)) < 60
    assert got.headers["webhook-id"] == job.id
    assert got.headers["x-webhook-event"] == "incident.created"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{place.port}"
    with pytest.raises(WebhookVerificationError):
        Verifier(SECRET).verify(got.body + b" ", got.headers)
    done = ended(tickwork, job)
    assert (done.state, done.queue, done.tenant) == (State.COMPLETED, "webhooks", "org-1")
    assert done.result["status"] == 200
    assert done.result["answer"] == "{}"
    assert 0 <= done.result["duration_ms"] < 5000


def test_while_secrets_rotate_both_sign(tickwork: Tickwork, place: Receiver) -> None:
    old = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
    queue(place, secret=[SECRET, old])
    tickwork.tick()
    (got,) = place.requests

    for each in (SECRET, old):
        assert Verifier(each).verify(got.body, got.headers) == INCIDENT
    assert len(got.headers["webhook-signature"].split(" ")) == 2
    assert len(got.headers["x-webhook-signature"].split(",")) == 2


def test_any_text_is_a_secret(tickwork: Tickwork, place: Receiver) -> None:
    queue(place, secret=PLAIN)
    tickwork.tick()
    (got,) = place.requests

    assert Verifier(PLAIN.encode()).verify(got.body, got.headers) == INCIDENT


def test_a_secret_by_name(
    tickwork: Tickwork, place: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue(place, secret="env:WEBHOOK_SECRET_ACME")
    lost = queue(place, secret="env:WEBHOOK_SECRET_NOBODY")
    monkeypatch.setenv("WEBHOOK_SECRET_ACME", f"{SECRET}, {PLAIN}")
    tickwork.tick()
    (got,) = place.requests

    assert Verifier(SECRET).verify(got.body, got.headers)
    assert Verifier(PLAIN.encode()).verify(got.body, got.headers)
    assert ended(tickwork, job).payload["secret"] == "env:WEBHOOK_SECRET_ACME"
    dead = ended(tickwork, lost)
    assert dead.state == State.FAILED
    assert "WEBHOOK_SECRET_NOBODY is not set" in (dead.error or "")


@pytest.mark.parametrize(
    "answer",
    [
        *[answering(status) for status in (500, 503, 429, 408, 425)],
        answering(302, "Location: http://169.254.169.254/latest/meta-data/"),
        b"",
        b"HTTP/1.1 nonsense\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.0\r\n",
    ],
    ids=["500", "503", "429", "408", "425", "redirect", "cut", "nonsense", "ssh"],
)
def test_what_may_pass_is_tried_again_with_the_same_id(
    tickwork: Tickwork, place: Receiver, clock: ManualClock, answer: bytes
) -> None:
    place.answer = lambda _: answer if len(place.requests) == 1 else OK
    job = queue(place)
    tickwork.tick()
    waiting = ended(tickwork, job)
    assert (waiting.state, waiting.attempts) == (State.PENDING, 1)
    assert 9 <= (waiting.run_at - clock.now()).total_seconds() <= 11
    clock.advance(12)
    tickwork.tick()

    assert ended(tickwork, job).state == State.COMPLETED
    assert [got.line for got in place.requests] == ["POST /hook HTTP/1.1"] * 2
    assert {got.headers["webhook-id"] for got in place.requests} == {job.id}
    assert len({got.body for got in place.requests}) == 1


def test_five_attempts_and_then_a_dead_letter_with_each_on_the_job(
    tickwork: Tickwork, place: Receiver, clock: ManualClock
) -> None:
    place.answer = lambda _: answering(503, body=b"the database sleeps")
    job = queue(place)
    waits = []
    for _ in range(5):
        tickwork.tick()
        now = ended(tickwork, job)
        waits.append(round((now.run_at - clock.now()).total_seconds(), -1))
        clock.advance(2000)

    assert now.state == State.FAILED
    assert waits[1] == pytest.approx(50, abs=10)
    assert waits[2] == pytest.approx(250, abs=30)
    assert waits[3] == pytest.approx(1250, abs=130)
    assert len(now.errors) == 5
    assert all("127.0.0.1 answered 503 after" in entry["message"] for entry in now.errors)
    assert all("the database sleeps" in entry["message"] for entry in now.errors)


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
def test_what_is_refused_is_a_dead_letter_at_once(
    tickwork: Tickwork, place: Receiver, status: int
) -> None:
    place.answer = lambda _: answering(status, body=b'{"error": "no such order"}')
    job = queue(place)
    tickwork.tick()
    dead = ended(tickwork, job)

    assert (dead.state, dead.attempts) == (State.FAILED, 1)
    assert f"answered {status}" in (dead.error or "")
    assert "no such order" in (dead.error or "")
    assert ("wants no more" in (dead.error or "")) is (status == 410)


@pytest.mark.parametrize(
    ("asked", "waits"),
    [
        ("120", 120),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True), 120),
        ("1", BACKOFF.delay(1)),
        ("86400", 3600),
    ],
    ids=["seconds", "date", "sooner than the backoff", "longer than an hour"],
)
def test_retry_after_is_honoured(
    tickwork: Tickwork, place: Receiver, clock: ManualClock, asked: Any, waits: float
) -> None:
    header = asked if isinstance(asked, str) else asked()
    place.answer = lambda _: answering(429, f"Retry-After: {header}")
    job = queue(place)
    tickwork.tick()
    waiting = ended(tickwork, job)

    assert waiting.state == State.PENDING
    assert (waiting.run_at - clock.now()).total_seconds() == pytest.approx(waits, abs=3)


def test_a_host_that_keeps_failing_is_left_alone_and_others_are_not(
    tickwork: Tickwork, place: Receiver
) -> None:
    place.answer = lambda _: answering(500)
    for _ in range(15):
        queue(place, organization_id=None)
    tickwork.tick(limit=15)
    came = len(place.requests)
    other = queue(place, url=f"http://127.0.0.1.nip.example:{place.port}/", organization_id=None)
    one_more = queue(place, organization_id=None)
    tickwork.tick(limit=50)

    assert came == 15
    assert len(place.requests) == came
    assert [each.breaker for each in tickwork.breakers()].count("open") == 1
    assert ended(tickwork, one_more).attempts == 0
    assert ended(tickwork, other).attempts == 1  # nobody resolves that name, but it was tried


def test_answers_and_logs_are_masked_and_bounded(
    tickwork: Tickwork, place: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = f"you sent {PLAIN} and password=hunter2 \x00\x1b[2J ".encode() + b"x" * 50_000
    place.answer = lambda _: answering(200, body=echo)
    job = queue(place, secret=PLAIN)
    tickwork.tick()
    told = ended(tickwork, job).result["answer"]

    assert told.startswith("you sent *** and password=*** \ufffd")
    assert len(told.encode()) <= 1000
    for said in (caplog.text, str([vars(record) for record in caplog.records])):
        assert PLAIN not in said
        assert "hunter2" not in said
        assert "whsec_" not in said
    (line,) = [each for each in caplog.records if each.getMessage() == "webhook sent"]
    shown = vars(line)
    assert (shown["jobId"], shown["host"], shown["status"]) == (job.id, "127.0.0.1", 200)
    assert "/hook" not in caplog.text  # whoever knows the URL can post there


def test_the_row_has_no_secret_in_the_clear(database: Database) -> None:
    tickwork = Tickwork(database.url, handlers=["jobs.handlers.webhook"], **SETTINGS)
    tickwork.create_schema()
    with Session(tickwork.engine) as session, session.begin():
        job = queue_webhook(
            url="https://api.example.com/hooks",
            payload={"event": "x"},
            secret=PLAIN,
            session=session,
        )
        assert tickwork.list() == []  # it commits with the caller's transaction
    with tickwork.engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM tickwork_jobs")).mappings().one()

    assert PLAIN not in str(dict(row))
    assert "$sealed" in str(row["payload"])
    assert ended(tickwork, job).payload["secret"].keys() == {"$sealed"}
    tickwork.close()


DYING = """
import sys
from jobs import Tickwork
tickwork = Tickwork(sys.argv[1], handlers=["jobs.handlers.webhook"],
                    secret_key="a-key-of-the-application", webhook_allow=("127.0.0.1",))
print("ticking", flush=True)
tickwork.tick()
"""


def test_a_runner_that_dies_after_it_was_sent_sends_it_again_with_the_same_id(
    sqlite_url: str, place: Receiver
) -> None:
    tickwork = Tickwork(sqlite_url, handlers=["jobs.handlers.webhook"], **SETTINGS)
    tickwork.create_schema()
    job = queue(place)
    child = subprocess.Popen([sys.executable, "-c", DYING, sqlite_url], cwd=ROOT)

    def kill(_: Request) -> bytes:
        os.kill(child.pid, signal.SIGKILL)
        return b""

    place.answer = kill
    assert child.wait(60) == -signal.SIGKILL
    assert ended(tickwork, job).state == State.PROCESSING
    place.answer = lambda _: OK
    with tickwork.engine.begin() as connection:
        connection.execute(text("UPDATE tickwork_jobs SET lease_until = '2020-01-01 00:00:00'"))
    tickwork.tick()
    with tickwork.engine.begin() as connection:
        connection.execute(text("UPDATE tickwork_jobs SET run_at = '2020-01-01 00:00:00'"))
    tickwork.tick()

    assert ended(tickwork, job).state == State.COMPLETED
    assert [got.headers["webhook-id"] for got in place.requests] == [job.id, job.id]
    assert place.requests[0].body == place.requests[1].body
    tickwork.close()


def test_nothing_listens_there(tickwork: Tickwork, place: Receiver) -> None:
    job = queue(place, url="http://127.0.0.1:9/")
    tickwork.tick()
    waiting = ended(tickwork, job)

    assert waiting.state == State.PENDING
    assert "127.0.0.1 cannot be reached (ConnectionRefusedError)" in (waiting.error or "")


def test_the_payload_may_be_any_json(tickwork: Tickwork, place: Receiver) -> None:
    for payload in ([1, 2.5, None], "text", 0, {}):
        queue(place, payload=payload)
    tickwork.tick()

    assert [json.loads(got.body) for got in place.requests] != []
    assert sorted(got.body for got in place.requests) == [b'"text"', b"0", b"[1,2.5,null]", b"{}"]


def test_the_list_of_what_is_allowed_comes_from_the_environment() -> None:
    environ = {"JOBS_BACKEND": "memory", "JOBS_ENV": "development"}
    allow = "receiver.internal, 10.0.0.0/8,[::1]"
    read = Tickwork.from_env({**environ, "JOBS_WEBHOOK_ALLOW": allow}).settings
    assert read.webhook_allow == ("receiver.internal", "10.0.0.0/8", "[::1]")
    with pytest.raises(ConfigurationError, match=r"JOBS_WEBHOOK_ALLOW: .*'10.0.0.0/99'"):
        Tickwork.from_env({**environ, "JOBS_WEBHOOK_ALLOW": "10.0.0.0/99"})
