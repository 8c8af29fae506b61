"""What a mail may hold: addresses, headers, files."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.handlers.errors import HandlerError, MailDelayed, MailRefused, PermanentError
from jobs.handlers.mail.message import Mail, check_address
from jobs.handlers.mail.send import send_mail
from tests.handlers.shop import Settings, files_in

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
