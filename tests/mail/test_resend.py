"""Resend's REST API, played by an HTTP server on loopback."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Iterator
from email.utils import format_datetime
from typing import Any

import pytest

from jobs import State, Tickwork
from jobs.core.clock import ManualClock
from jobs.handlers.errors import MailDelayed, MailRefused, MailThrottled
from jobs.handlers.mail import resend
from jobs.handlers.mail.message import Attachment, Mail
from jobs.handlers.mail.send import send_mail
from tests.handlers.shop import Settings
from tests.support.receiver import Receiver, receiver
from tests.support.servers import free_port

KEY = "re_hunter2_and_more"


def answer(status: int, document: Any, *headers: str) -> bytes:
    body = json.dumps(document).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.fixture
def place() -> Iterator[Receiver]:
    with receiver() as opened:
        opened.answer = lambda _: answer(200, {"id": "49a3999c"})
        yield opened
        resend._connections().clear()


def settings(place: Receiver, key: str = KEY) -> Settings:
    return Settings(
        resend_api_key=key, resend_api_url=place.url, email_from="Shop <shop@example.com>"
    )


MAIL = Mail("ann@example.com", "Hällo", text="x", idempotency_key="job-1")


def test_a_mail_is_posted_whole(place: Receiver) -> None:
    mail = Mail(
        ["Ann Lee <ann@example.com>", "b@bücher.example"],
        "Hällo",
        text="Grüße",
        html="<p>ü</p>",
        cc="c@example.com",
        bcc=["d@example.com"],
        reply_to="help@example.com",
        attachments=[Attachment("a.csv", b"1,2", "text/csv")],
        idempotency_key="job-1",
    )
    sent = send_mail(mail, settings(place))
    [request] = place.requests

    assert sent == {"sent": True, "message_id": "49a3999c", "transport": "resend"}
    assert request.line == "POST /emails HTTP/1.1"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["idempotency-key"] == "job-1"
    assert json.loads(request.body) == {
        "from": "Shop <shop@example.com>",
        "to": ["Ann Lee <ann@example.com>", "b@xn--bcher-kva.example"],
        "cc": ["c@example.com"],
        "bcc": ["d@example.com"],
        "reply_to": "help@example.com",
        "subject": "Hällo",
        "text": "Grüße",
        "html": "<p>ü</p>",
        "headers": {"Auto-Submitted": "auto-generated"},
        "attachments": [
            {
                "filename": "a.csv",
                "content": base64.b64encode(b"1,2").decode(),
                "content_type": "text/csv",
            }
        ],
    }


def test_the_same_mail_is_the_same_request(place: Receiver) -> None:
    send_mail(MAIL, settings(place), now=dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
    send_mail(MAIL, settings(place), now=dt.datetime(2025, 1, 1, tzinfo=dt.UTC))
    first, second = place.requests

    # Resend refuses a key that comes again with another body.
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_mails_go_over_one_connection(place: Receiver) -> None:
    for _ in range(3):
        send_mail(MAIL, settings(place))

    assert place.connections == 1


ERRORS = {
    "validation": (422, "validation_error", MailRefused),
    "wrong key": (401, "missing_api_key", MailRefused),
    "forbidden": (403, "invalid_api_key", MailRefused),
    "other body": (409, "invalid_idempotent_request", MailRefused),
    "at work": (409, "concurrent_idempotent_requests", MailDelayed),
    "broken": (500, "application_error", MailDelayed),
    "away": (503, "", MailDelayed),
    "timed out": (408, "", MailDelayed),
    "redirected": (302, "", MailDelayed),
}


@pytest.mark.parametrize("what", ERRORS)
def test_its_answers_are_told_apart(place: Receiver, what: str) -> None:
    status, name, error = ERRORS[what]
    said = {"statusCode": status, "name": name, "message": f"no luck with {KEY}"}
    place.answer = lambda _: answer(status, said)
    with pytest.raises(error, match=f"Resend answered {status} {name}: no luck with") as caught:
        send_mail(MAIL, settings(place))

    assert type(caught.value) is error
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("Retry-After: 7", 7, 7),
        ("Retry-After: 0", 1, 1),
        ("Retry-After: soon", 10, 10),
        ("X: y", 10, 10),
        ("Retry-After: {in an hour}", 3500, 3600),
    ],
    ids=["seconds", "now", "nonsense", "nothing", "date"],
)
def test_too_many_mails_tells_when_to_come_back(
    place: Receiver, header: str, low: float, high: float
) -> None:
    # Now, and not when the tests were collected: a whole suite may lie between.
    in_an_hour = format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))
    told = header.replace("{in an hour}", in_an_hour)
    place.answer = lambda _: answer(429, {"name": "rate_limit_exceeded"}, told)
    with pytest.raises(MailThrottled) as caught:
        send_mail(MAIL, settings(place))

    assert low <= caught.value.after_seconds <= high


NO_SUCCESS = {"none": b"", "list": b"[]", "no id": b"{}", "html": b"<html>"}


@pytest.mark.parametrize("body", NO_SUCCESS.values(), ids=NO_SUCCESS)
def test_an_answer_without_an_id_is_no_success(place: Receiver, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    place.answer = lambda _: head + body
    with pytest.raises(MailDelayed):
        send_mail(MAIL, settings(place))


def test_a_line_that_is_cut_is_worth_a_retry(place: Receiver) -> None:
    place.answer = lambda _: b""
    with pytest.raises(MailDelayed, match="Resend was not reached: ProtocolError"):
        send_mail(MAIL, settings(place))


def test_nobody_there_is_worth_a_retry() -> None:
    away = Settings(
        resend_api_key=KEY,
        resend_api_url=f"http://127.0.0.1:{free_port()}",
        email_from="a@b.example",
    )
    with pytest.raises(MailDelayed, match="not reached"):
        send_mail(MAIL, away)


def test_a_slow_one_is_not_waited_for(place: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resend, "_READ_SECONDS", 0.05)
    resend._connections.cache_clear()
    place.answer = lambda _: b"HTTP/1.1 200 OK\r\n"  # and nothing more
    with pytest.raises(MailDelayed, match="ReadTimeoutError"):
        send_mail(MAIL, settings(place))
    resend._connections().clear()
    resend._connections.cache_clear()


@pytest.mark.parametrize(
    "key", ["re_hunter2\nX: y", "re_hunter2\0", "hunter2é"], ids=["line", "nul", "letter"]
)
def test_a_key_that_no_header_may_hold_stays_secret(place: Receiver, key: str) -> None:
    with pytest.raises(MailRefused, match="RESEND_API_KEY holds a character") as caught:
        send_mail(MAIL, settings(place, key))

    assert "hunter2" not in str(caught.value)
    assert place.requests == []


class TestJobs:
    """The kind `email`, by Resend."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def tickwork(self, place: Receiver, clock: ManualClock) -> Iterator[Tickwork]:
        system = Tickwork(
            handlers=["jobs.handlers.email"],
            clock=clock,
            resend_api_key=KEY,
            resend_api_url=place.url,
            email_from="shop@example.com",
        )
        yield system
        system.close()

    def test_each_attempt_bears_the_jobs_id(
        self, tickwork: Tickwork, place: Receiver, clock: ManualClock
    ) -> None:
        answers = iter([b"", answer(500, {}), answer(200, {"id": "1"})])
        place.answer = lambda _: next(answers)
        job = tickwork.enqueue("email", {"to": "a@example.com", "subject": "x", "text": "1"})
        for _ in range(3):
            tickwork.tick()
            clock.advance(3600)
        done = tickwork.get(job.id)

        assert done is not None
        assert (done.state, done.attempts) == (State.COMPLETED, 3)
        assert {each.headers["idempotency-key"] for each in place.requests} == {job.id}
        assert len({each.body for each in place.requests}) == 1

    def test_too_many_mails_use_no_attempt(
        self, tickwork: Tickwork, place: Receiver, clock: ManualClock
    ) -> None:
        many = answer(429, {"name": "rate_limit_exceeded"}, "Retry-After: 30")
        place.answer = lambda _: many
        job = tickwork.enqueue("email", {"to": "a@example.com", "subject": "x", "text": "1"})
        for _ in range(7):
            assert tickwork.tick().snoozed == 1
            clock.advance(29)
            assert tickwork.tick().processed == 0
            clock.advance(2)
        place.answer = lambda _: answer(200, {"id": "1"})
        tickwork.tick()
        done = tickwork.get(job.id)

        assert done is not None
        assert (done.state, done.attempts) == (State.COMPLETED, 1)
        assert len(place.requests) == 8
