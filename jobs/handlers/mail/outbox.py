"""Keeps mail on this machine: as `.eml` files, or printed on the console."""

from __future__ import annotations

import hashlib
import io
import re
import sys
from pathlib import Path
from typing import Final

from jobs.core.mailing import TransportName
from jobs.handlers.errors import MailDelayed
from jobs.handlers.files import replace_file
from jobs.handlers.mail.message import Letter
from jobs.handlers.mail.transport import Sent

_LOCAL_SENDER: Final = "tickwork@localhost"
_SHOWN_CHARACTERS: Final = 4_000


class Outbox:
    """A directory with one `.eml` file for each mail; the same Message-ID is the same file.

    directory: made with the first mail
    """

    name: TransportName = "outbox"
    default_sender: str | None = _LOCAL_SENDER

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    def send(self, letter: Letter) -> Sent:
        subject = re.sub(r"[^a-z0-9]+", "-", letter.mail.subject.lower()).strip("-")[:40]
        digest = hashlib.sha256(letter.message_id.encode()).hexdigest()[:16]
        path = self._directory / f"{subject or 'mail'}-{digest}.eml"
        content = io.BytesIO(_hidden_recipients(letter) + letter.message.as_bytes())
        try:
            replace_file(path, content, incoming=self._directory / ".incoming")
        except OSError as error:
            raise MailDelayed(
                f"cannot write into the outbox {str(self._directory)!r} ({error.strerror}); "
                "set SMTP_URL to a mail server"
            ) from error
        return Sent(letter.message_id, more={"path": str(path)})


def _hidden_recipients(letter: Letter) -> bytes:
    """As mail programs keep them in a draft: nobody but the owner of the outbox reads this."""
    if not letter.bcc:
        return b""
    return f"Bcc: {', '.join(each.addr_spec for each in letter.bcc)}\r\n".encode("ascii")


class Console:
    """Prints mail on standard error, for development."""

    name: TransportName = "console"
    default_sender: str | None = _LOCAL_SENDER

    def send(self, letter: Letter) -> Sent:
        mail = letter.mail
        body = mail.text if mail.text is not None else mail.html or ""
        if len(body) > _SHOWN_CHARACTERS:
            body = f"{body[:_SHOWN_CHARACTERS]}\n... ({len(body):,} characters)"
        lines = [
            f"--- mail {letter.message_id}",
            f"From:    {letter.sender}",
            f"To:      {', '.join(letter.recipients)}",
            f"Subject: {mail.subject}",
            *(f"File:    {each.name} ({len(each.content):,} bytes)" for each in mail.attachments),
            "",
            body.rstrip("\n"),
            "---",
        ]
        # One write, so that mails of several threads do not mix.
        sys.stderr.write("\n".join(lines) + "\n")
        return Sent(letter.message_id)
