"""Mail that stays on this machine."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from jobs.handlers.errors import MailDelayed
from jobs.handlers.mail.message import Mail
from jobs.handlers.mail.send import send_mail
from tests.handlers.shop import Settings, files_in
from tests.support.postman import body, parse

NOW = dt.datetime(2024, 5, 31, 12, tzinfo=dt.UTC)


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
