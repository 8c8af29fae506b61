"""Amazon SES, as moto's server speaks it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default as modern
from typing import Any

import boto3
import pytest

from jobs import State, Tickwork
from jobs.handlers.errors import MailDelayed, MailRefused, MailThrottled
from jobs.handlers.mail import ses
from jobs.handlers.mail.message import Attachment, Mail
from jobs.handlers.mail.send import send_mail
from tests.handlers.shop import Settings
from tests.support import sqs
from tests.support.receiver import Receiver, receiver
from tests.support.servers import free_port


@pytest.fixture(scope="module")
def ses_url() -> Iterator[str]:
    with sqs.server() as url:
        yield url


@pytest.fixture
def place(ses_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """SMTP_URL of a fresh SES with one verified sender."""
    for name, value in sqs.ENVIRON.items():
        monkeypatch.setenv(name, value)
    reset = urllib.request.Request(f"{ses_url}/moto-api/reset", method="POST")  # noqa: S310
    urllib.request.urlopen(reset).close()  # noqa: S310 - loopback
    client = boto3.client("sesv2", region_name=sqs.REGION, endpoint_url=ses_url)
    client.create_email_identity(EmailIdentity="shop@example.com")
    client.close()
    return f"ses://{sqs.REGION}?endpoint_url={ses_url}"


def settings(place: str, **more: Any) -> Settings:
    return Settings(smtp_url=place, **{"email_from": "Shop <shop@example.com>", **more})


def captured(place: str, mail: Mail, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The result, and what SES was asked."""
    asked: list[dict[str, Any]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        asked.append(params)

    events = ses.Ses(place)._client.meta.events
    events.register("provide-client-params.sesv2.SendEmail", note)
    try:
        return send_mail(mail, settings(place, **more)), asked[0]
    finally:
        events.unregister("provide-client-params.sesv2.SendEmail", note)


def test_a_mail_is_handed_over_raw(place: str) -> None:
    mail = Mail(
        ["Ann Ägypten <ann@example.com>", "b@example.com"],
        "Hällo",
        text="Grüße",
        html="<p>ü</p>",
        cc="c@example.com",
        bcc=["hidden@example.com", "b@example.com"],
        attachments=[Attachment("a.csv", b"1,2", "text/csv")],
        idempotency_key="job-1",
    )
    result, asked = captured(place, mail)
    message: Any = message_from_bytes(asked["Content"]["Raw"]["Data"], policy=modern)

    assert result["transport"] == "ses"
    assert result["message_id"]
    assert asked["Destination"] == {
        "ToAddresses": ["ann@example.com", "b@example.com"],
        "CcAddresses": ["c@example.com"],
        "BccAddresses": ["hidden@example.com"],
    }
    assert message["Subject"] == "Hällo"
    assert message["Message-ID"].endswith("@example.com>")
    assert b"hidden" not in asked["Content"]["Raw"]["Data"]
    assert [each.get_filename() for each in message.iter_attachments()] == ["a.csv"]
    assert max(map(len, asked["Content"]["Raw"]["Data"].splitlines())) < 998
    assert asked["Content"]["Raw"]["Data"].isascii()


def test_a_mail_arrives(place: str, ses_url: str) -> None:
    result = send_mail(Mail("ann@example.com", "x", text="1"), settings(place))
    kept = json.load(urllib.request.urlopen(f"{ses_url}/moto-api/data.json"))  # noqa: S310
    [message] = [each for name, found in kept["ses"].items() if "Message" in name for each in found]

    assert message["id"] == result["message_id"]
    assert "ann@example.com" in json.dumps(message)


def test_a_configuration_set_is_named(place: str) -> None:
    url = f"{place}&configuration_set=mine"
    _, asked = captured(url, Mail("ann@example.com", "x", text="1"))

    assert asked["ConfigurationSetName"] == "mine"


def test_a_sender_that_is_not_verified_is_refused(place: str) -> None:
    stranger = settings(place, email_from="stranger@elsewhere.example")
    with pytest.raises(MailRefused, match="SES answered 400 MessageRejected: Did not have"):
        send_mail(Mail("ann@example.com", "x", text="1"), stranger)


ANSWERS: dict[str, tuple[int, str, str, type[Exception], float]] = {
    "too fast": (429, "TooManyRequestsException", "Maximum rate exceeded", MailThrottled, 10),
    "throttled": (400, "ThrottlingException", "Rate exceeded", MailThrottled, 10),
    "too many": (400, "ThrottlingException", "Daily message quota exceeded", MailThrottled, 600),
    "rejected": (400, "MessageRejected", "no", MailRefused, 0),
    "denied": (403, "AccessDeniedException", "no", MailRefused, 0),
    "expired": (403, "ExpiredTokenException", "no", MailDelayed, 0),
    "broken": (500, "InternalServiceErrorException", "no", MailDelayed, 0),
}


@pytest.fixture(scope="module")
def stage() -> Iterator[Receiver]:
    """A server that answers as a test asks, at one port: a client takes long to make."""
    with receiver() as place:
        yield place


@pytest.mark.parametrize("what", ANSWERS)
def test_its_answers_are_told_apart(
    what: str, stage: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, code, said, error, seconds = ANSWERS[what]
    for name, value in sqs.ENVIRON.items():
        monkeypatch.setenv(name, value)
    body = json.dumps({"message": said}).encode()
    head = f"HTTP/1.1 {status} X\r\nx-amzn-ErrorType: {code}\r\nContent-Length: {len(body)}\r\n\r\n"
    stage.answer = lambda _: head.encode() + body
    stage.requests.clear()
    with pytest.raises(error, match=f"SES answered {status} {code}: {said}") as caught:
        send_mail(
            Mail("ann@example.com", "x", text="1"),
            settings(f"ses://{sqs.REGION}?endpoint_url={stage.url}"),
        )

    # SES knows no idempotency key: boto3 must not ask twice by itself.
    assert len(stage.requests) == 1
    assert type(caught.value) is error
    assert getattr(caught.value, "after_seconds", 0) == seconds


def test_nobody_there_is_worth_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sqs.ENVIRON.items():
        monkeypatch.setenv(name, value)
    url = f"ses://{sqs.REGION}?endpoint_url=http://127.0.0.1:{free_port()}"
    with pytest.raises(MailDelayed, match="SES was not reached"):
        send_mail(Mail("ann@example.com", "x", text="1"), settings(url))


@pytest.mark.parametrize("url", ["ses://", "ses://eu-central-1?colour=1"])
def test_a_wrong_url_says_how_to_write_it(url: str) -> None:
    with pytest.raises(MailRefused, match="write ses://region"):
        send_mail(Mail("ann@example.com", "x", text="1"), settings(url))


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "boto3.session", None)
    ses._client.cache_clear()
    with pytest.raises(MailRefused, match=r"pip install 'tickwork\[aws\]'"):
        send_mail(Mail("ann@example.com", "x", text="1"), settings("ses://eu-central-1"))


def test_a_job_of_the_kind_goes_out(place: str) -> None:
    tickwork = Tickwork(
        handlers=["jobs.handlers.email"], smtp_url=place, email_from="shop@example.com"
    )
    job = tickwork.enqueue("email", {"to": "a@example.com", "subject": "x", "text": "1"})
    tickwork.tick()
    done = tickwork.get(job.id)
    tickwork.close()

    assert done is not None
    assert done.state == State.COMPLETED, done.error
    assert done.result["transport"] == "ses"
