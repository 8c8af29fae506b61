"""SMTP, spoken with a real server."""

from __future__ import annotations

import datetime as dt
import socket
import time
from pathlib import Path

import pytest

from jobs.handlers.errors import MailDelayed, MailRefused
from jobs.handlers.mail import smtp as smtp_module
from jobs.handlers.mail.message import Mail
from jobs.handlers.mail.send import send_mail
from tests.handlers.shop import Settings
from tests.mail.conftest import Open
from tests.support.certificates import serving_tls
from tests.support.postman import Postman, body, parse
from tests.support.servers import free_port

NOW = dt.datetime(2024, 5, 31, 12, tzinfo=dt.UTC)


LETTER = Mail("ann@example.com", "Hällo", text="x" * 3000 + "\n.\n..\nend", idempotency_key="k")


def sender(smtp_url: str) -> Settings:
    return Settings(smtp_url=smtp_url, email_from="shop@example.com")


def test_a_mail_goes_out(postman: Postman, plain_port: int) -> None:
    sent = send_mail(LETTER, sender(f"smtp://127.0.0.1:{plain_port}"), now=NOW)
    [letter] = postman.letters
    assert isinstance(letter.content, bytes)
    message = parse(letter.content)

    assert (letter.mail_from, letter.rcpt_tos) == ("shop@example.com", ["ann@example.com"])
    assert sent == {"sent": True, "message_id": message["Message-ID"], "transport": "smtp"}
    assert message["Subject"] == "Hällo"
    assert body(message, "plain").splitlines() == ["x" * 3000, ".", "..", "end"]


def test_a_password_with_odd_characters(postman: Postman, plain_port: int) -> None:
    send_mail(LETTER, sender(f"smtp://me%40x:p%40ss%2Fword@127.0.0.1:{plain_port}"))

    assert postman.logins == [(b"me@x", b"p@ss/word")]
    assert len(postman.letters) == 1


def test_a_wrong_password_is_for_good_and_stays_secret(plain_port: int) -> None:
    with pytest.raises(MailRefused, match="answered 535") as caught:
        send_mail(LETTER, sender(f"smtp://me:hunter2@127.0.0.1:{plain_port}"))
    assert "hunter2" not in str(caught.value)


def test_encryption_from_a_server_that_is_trusted(
    postman: Postman, starttls_port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    send_mail(LETTER, sender(f"smtp://u:p%40ss%2Fword@localhost:{starttls_port}?starttls=1"))

    assert postman.logins == [(b"u", b"p@ss/word")]
    assert len(postman.letters) == 1


def test_encryption_from_a_server_that_is_not_trusted(postman: Postman, starttls_port: int) -> None:
    with pytest.raises(MailDelayed, match=r"(?i)certificate"):
        send_mail(LETTER, sender(f"smtp://localhost:{starttls_port}?starttls=1"))
    assert postman.letters == []


def test_encryption_from_the_start(
    postman: Postman, open_port: Open, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with open_port(ssl_context=serving_tls(certificate)) as port:
        send_mail(LETTER, sender(f"smtps://u:p%40ss%2Fword@localhost:{port}"))
    assert len(postman.letters) == 1


def test_a_password_is_not_sent_unencrypted_to_another_machine(
    postman: Postman, plain_port: int
) -> None:
    # This machine by another name, one that is not known to be this machine.
    url = f"smtp://u:p%40ss%2Fword@127.1:{plain_port}"
    with pytest.raises(MailRefused, match="STARTTLS"):
        send_mail(LETTER, sender(url))
    assert postman.logins == []

    send_mail(LETTER, sender(f"{url}?starttls=0"))
    assert len(postman.letters) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("550 no such user", MailRefused),
        ("554 not here", MailRefused),
        ("450 mailbox busy", MailDelayed),
        ("421 going down", MailDelayed),
    ],
)
def test_what_a_server_says_to_the_recipient(
    postman: Postman, plain_port: int, answer: str, error: type[Exception]
) -> None:
    postman.to_recipient["ann@example.com"] = answer
    with pytest.raises(error, match=f"answered {answer}"):
        send_mail(LETTER, sender(f"smtp://127.0.0.1:{plain_port}"))


@pytest.mark.parametrize(
    ("answer", "error"),
    [("552 too large", MailRefused), ("451 try again", MailDelayed)],
)
def test_what_a_server_says_to_the_mail(
    postman: Postman, plain_port: int, answer: str, error: type[Exception]
) -> None:
    postman.to_data = answer
    with pytest.raises(error, match=f"the mail was .*: the mail server answered {answer}"):
        send_mail(LETTER, sender(f"smtp://127.0.0.1:{plain_port}"))


def test_some_recipients_are_refused(postman: Postman, plain_port: int) -> None:
    postman.to_recipient["b@example.com"] = "550 no such user"
    mail = Mail(["a@example.com", "b@example.com"], "x", text="1")
    sent = send_mail(mail, sender(f"smtp://127.0.0.1:{plain_port}"))

    assert sent["refused"] == ["b@example.com"]
    assert postman.letters[0].rcpt_tos == ["a@example.com"]


def test_one_of_several_refusals_is_temporary(postman: Postman, plain_port: int) -> None:
    postman.to_recipient = {"a@example.com": "550 no", "b@example.com": "450 busy"}
    mail = Mail(["a@example.com", "b@example.com"], "x", text="1")
    with pytest.raises(MailDelayed, match="450 busy"):
        send_mail(mail, sender(f"smtp://127.0.0.1:{plain_port}"))


def test_a_goodbye_that_fails_changes_nothing(postman: Postman, plain_port: int) -> None:
    postman.hangs_up_at = "QUIT"

    assert send_mail(LETTER, sender(f"smtp://127.0.0.1:{plain_port}"))["sent"]
    smtp_module._pool.close_all()
    assert len(postman.letters) == 1


def test_no_server_is_worth_a_retry() -> None:
    with pytest.raises(MailDelayed, match=r"no mail server at 127\.0\.0\.1: .*refused"):
        send_mail(LETTER, sender(f"smtp://u:hunter2@127.0.0.1:{free_port()}"))


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"smtp://127.0.0.1:{silent.getsockname()[1]}?timeout=0.2"
        began = time.perf_counter()
        with pytest.raises(MailDelayed, match="timed out"):
            send_mail(LETTER, sender(url))
        assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    "url",
    [
        "smtp://",
        "smtp://host:port",
        "http://u:hunter2@host",
        "smtp://u:hunter2@host?starttls=yes",
        "smtp://host?timeout=soon",
        "smtp://host?timeout=0",
        "smtp://host?tls=1",
    ],
)
def test_a_wrong_url_says_how_to_write_it(url: str) -> None:
    with pytest.raises(MailRefused, match="SMTP_URL cannot be read; write smtp://") as caught:
        send_mail(LETTER, sender(url))
    assert "hunter2" not in str(caught.value)


def test_smtp_needs_a_sender() -> None:
    with pytest.raises(MailRefused, match="set EMAIL_FROM"):
        send_mail(LETTER, Settings(smtp_url="smtp://127.0.0.1:25"))
