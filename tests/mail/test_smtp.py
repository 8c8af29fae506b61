from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jobs.handlers.errors import HandlerError, MailDelayed, MailRefused, PermanentError
from jobs.handlers.outbox import Mail, check_address, send_mail
from tests.handlers.shop import Settings, files_in
from tests.support.servers import free_port

NOW = dt.datetime(2024, 5, 31, 12, tzinfo=dt.UTC)


def parse(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=modern)
    assert isinstance(message, EmailMessage)
    return message


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    text: str = part.get_content()
    return text


# --- the directory


def test_a_mail_becomes_a_file(tmp_path: Path) -> None:
    mail = Mail(
        "Ann Ägypten <ann@example.com>", "Fertig: ✓ 東京", text="Grüße,\nTick\n", html="<p>é</p>"
    )
    settings = Settings(smtp_url=str(tmp_path), email_from="Shop <shop@example.com>")
    sent = send_mail(mail, settings, now=NOW)
    [name] = files_in(tmp_path)
    message = parse((tmp_path / name).read_bytes())

    assert sent == {
        "sent": True,
        "message_id": message["Message-ID"],
        "transport": "outbox",
        "path": str(tmp_path / name),
    }
    assert name.startswith("fertig-")
    assert name.endswith(".eml")
    assert message["From"] == "Shop <shop@example.com>"
    assert message["To"] == "Ann Ägypten <ann@example.com>"
    assert message["Subject"] == "Fertig: ✓ 東京"
    assert message["Date"].datetime == NOW
    assert message["Auto-Submitted"] == "auto-generated"
    assert body(message, "plain").splitlines() == ["Grüße,", "Tick"]
    assert body(message, "html").strip() == "<p>é</p>"


def test_html_alone_and_several_recipients(tmp_path: Path) -> None:
    mail = Mail(
        ["a@example.com", "b@bücher.example"], "x", html="<b>1</b>", sender="me@example.org"
    )
    send_mail(mail, Settings(smtp_url=str(tmp_path)))
    message = parse(next(tmp_path.glob("*.eml")).read_bytes())

    assert message["To"] == "a@example.com, b@xn--bcher-kva.example"
    assert message["From"] == "me@example.org"
    assert message.get_content_type() == "text/html"


def test_a_retry_is_recognisable(tmp_path: Path) -> None:
    settings = Settings(smtp_url=f"file://{tmp_path}")
    ids = [
        send_mail(Mail("a@example.com", "x", text="1", idempotency_key=key), settings)["message_id"]
        for key in ("job-1", "job-1", "job-2", None, None)
    ]

    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
    assert len(files_in(tmp_path)) == 4


def test_the_default_is_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    send_mail(Mail("a@example.com", "x", text="1"), Settings())

    [name] = files_in(tmp_path)
    assert name.startswith(".tickwork/outbox/x-")
    assert parse((tmp_path / name).read_bytes())["From"] == "tickwork@localhost"


def test_an_outbox_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    settings = Settings(smtp_url=str(tmp_path / "file"))
    with pytest.raises(MailDelayed, match=r"cannot write into the outbox .*; set SMTP_URL"):
        send_mail(Mail("a@example.com", "x", text="1"), settings)


# --- what no mail may hold

INJECTION = ["x\r\nBcc: evil@example.com", "x\nBcc: e@x.y", "x\rY: z", "x\0", "x\u2028y", "x\x85y"]


@pytest.mark.parametrize("text", [*INJECTION, "", "  ", "\ud800"])
def test_a_subject_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(MailRefused, match="the subject "):
        send_mail(Mail("a@example.com", text, text="1"), Settings(smtp_url=str(tmp_path)))
    assert files_in(tmp_path) == []


WRONG_ADDRESSES = [
    "ann",
    "ann@",
    "@example.com",
    "a@example.com, b@example.com",
    "a@example.com b@example.com",
    "a b@example.com",
    "Ann <ann@example.com> <b@example.com>",
    "group: a@example.com;",
    "a@exa mple.com",
    "a@example..com",
    "ünï@example.com",
    *(f"a@example.com{text[1:]}" for text in INJECTION),
    *(f"{text} <a@example.com>" for text in INJECTION),
]


@pytest.mark.parametrize("address", WRONG_ADDRESSES)
def test_a_wrong_address_is_refused(tmp_path: Path, address: str) -> None:
    settings = Settings(smtp_url=str(tmp_path))
    with pytest.raises(MailRefused, match="recipient"):
        send_mail(Mail(address, "x", text="1"), settings)
    with pytest.raises(MailRefused, match="EMAIL_FROM"):
        send_mail(Mail("a@example.com", "x", text="1", sender=address), settings)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("a.b+c@example.com", "a.b+c@example.com"),
        ("Ann Lee <ann@example.com>", "ann@example.com"),
        ('"Lee, Ann" <ann@example.com>', "ann@example.com"),
        ("東京 <a@例え.example>", "a@xn--r8jz45g.example"),
        ("root@localhost", "root@localhost"),
    ],
)
def test_an_ordinary_address_passes(address: str, plain: str) -> None:
    assert check_address(address).addr_spec == plain


@pytest.mark.parametrize(
    ("mail", "message"),
    [
        (Mail([], "x", text="1"), "no recipient"),
        (Mail("a@example.com", "x"), "no body; give text, html, or both"),
    ],
)
def test_an_incomplete_mail_is_refused(tmp_path: Path, mail: Mail, message: str) -> None:
    with pytest.raises(MailRefused, match=message):
        send_mail(mail, Settings(smtp_url=str(tmp_path)))


def test_the_two_errors_are_told_apart() -> None:
    assert issubclass(MailRefused, PermanentError)
    assert issubclass(MailDelayed, HandlerError)
    assert not issubclass(MailDelayed, PermanentError)


# --- SMTP


class Postman:
    """Keeps what arrives; answers as a test asks."""

    def __init__(self) -> None:
        self.letters: list[Envelope] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.to_recipient: dict[str, str] = {}
        self.to_data = "250 OK"
        self.hangs_up_at_quit = False

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _: list[str]
    ) -> str:
        answer = self.to_recipient.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        if self.to_data.startswith("250"):
            self.letters.append(envelope)
        return self.to_data

    async def handle_QUIT(  # noqa: N802
        self, server: SMTP, _session: Session, _envelope: Envelope
    ) -> str:
        if self.hangs_up_at_quit:
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        return "221 Bye"

    def check_login(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _kind: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"p@ss/word", handled=False)


@pytest.fixture
def postman() -> Postman:
    return Postman()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that nobody trusts by himself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def serve(postman: Postman, **options: Any) -> Iterator[int]:
    port = free_port()
    controller = Controller(
        postman,
        hostname="127.0.0.1",
        port=port,
        authenticator=postman.check_login,
        **{"auth_require_tls": False, "auth_exclude_mechanism": ["CRAM-MD5"], **options},
    )
    controller.start()
    yield port
    controller.stop()


@pytest.fixture
def plain_port(postman: Postman) -> Iterator[int]:
    yield from serve(postman)


@pytest.fixture
def starttls_port(postman: Postman, certificate: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    yield from serve(postman, tls_context=context, auth_require_tls=True)


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
    send_mail(LETTER, sender(f"smtp://u:p%40ss%2Fword@127.0.0.1:{starttls_port}?starttls=1"))

    assert postman.logins == [(b"u", b"p@ss/word")]
    assert len(postman.letters) == 1


def test_encryption_from_a_server_that_is_not_trusted(postman: Postman, starttls_port: int) -> None:
    with pytest.raises(MailDelayed, match=r"(?i)certificate"):
        send_mail(LETTER, sender(f"smtp://127.0.0.1:{starttls_port}?starttls=1"))
    assert postman.letters == []


def test_encryption_from_the_start(
    postman: Postman, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    for port in serve(postman, ssl_context=context):
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
    postman.hangs_up_at_quit = True

    assert send_mail(LETTER, sender(f"smtp://127.0.0.1:{plain_port}"))["sent"]
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
