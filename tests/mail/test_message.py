"""What a mail may hold: addresses, headers, files."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest

from jobs.handlers.errors import HandlerError, MailDelayed, MailRefused, PermanentError
from jobs.handlers.mail.message import Attachment, Mail, check_address, recipients_of
from jobs.handlers.mail.send import send_mail
from tests.handlers.shop import Settings, files_in
from tests.support.postman import body, parse

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
        ("HSE.Digital <noreply@hse.example>", "noreply@hse.example"),
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


# --- files and hidden recipients


def sent_to(folder: Path, mail: Mail) -> EmailMessage:
    send_mail(mail, Settings(smtp_url=str(folder)))
    [path] = folder.glob("*.eml")
    return parse(path.read_bytes())


def test_files_go_with_the_body(tmp_path: Path) -> None:
    files = [Attachment("Größe.csv", b"a,b\r\n", "text/csv"), Attachment("x.bin", b"\0\xff")]
    message = sent_to(
        tmp_path, Mail("a@example.com", "x", text="1", html="<p>1</p>", attachments=files)
    )

    assert [part.get_content_type() for part in message.iter_parts()] == [
        "multipart/alternative",
        "text/csv",
        "application/octet-stream",
    ]
    assert [part.get_filename() for part in message.iter_attachments()] == ["Größe.csv", "x.bin"]
    assert list(message.iter_attachments())[1].get_content() == b"\0\xff"
    assert body(message, "plain").strip() == "1"


@pytest.mark.parametrize(
    "attachment",
    [
        *(Attachment(name, b"") for name in ("", "a/b", "..", "a\\b", "a\nb", "x" * 201)),
        *(Attachment("a", b"", kind) for kind in ("", "text", "text/a b", "multipart/mixed")),
    ],
    ids=lambda each: f"{each.name[:5]!r}-{each.content_type}",
)
def test_a_file_that_no_header_may_name_is_refused(tmp_path: Path, attachment: Attachment) -> None:
    with pytest.raises(MailRefused, match=r"attachment|media type"):
        send_mail(
            Mail("a@example.com", "x", text="1", attachments=[attachment]),
            Settings(smtp_url=str(tmp_path)),
        )


def test_everybody_is_counted_once(tmp_path: Path) -> None:
    mail = Mail(
        ["Ann <a@example.com>", "b@example.com"],
        "x",
        text="1",
        cc="a@example.com",
        bcc=["c@example.com", "b@example.com"],
    )
    assert recipients_of(mail) == ("a@example.com", "b@example.com", "c@example.com")
    # The outbox is for the one who looks into it, so hidden recipients can be seen there.
    assert sent_to(tmp_path, mail)["Bcc"] == "c@example.com, b@example.com"
