"""Sends one mail: by SMTP, or into a directory of `.eml` files.

    send_mail(Mail("ann@example.com", "Ready", text="..."), settings)

`SMTP_URL` says how:

    .tickwork/outbox, file:///var/outbox      the default: one `.eml` file for each mail
    smtp://user:password@host:587             with STARTTLS, since a password is sent
    smtp://host:25                            without encryption; `?starttls=1` asks for it
    smtps://user:password@host                encrypted from the start (port 465)

`?starttls=0` sends a password unencrypted, which is otherwise only done to the machine itself;
`?timeout=20` is how many seconds each step of the conversation may take. Special characters in user
and password are written as %XX. `EMAIL_FROM` is the sender.

A mail can arrive twice, when a runner dies between sending it and writing that down. Mails with
the same idempotency key carry the same Message-ID, so that most mailboxes show one; the outbox
keeps one file.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from jobs.handlers.errors import MailDelayed, MailRefused
from jobs.handlers.files import replace_file

if TYPE_CHECKING:
    import smtplib

DEFAULT_SMTP_URL: Final = ".tickwork/outbox"
_OUTBOX_SENDER: Final = "tickwork@localhost"
_TIMEOUT_SECONDS: Final = 20.0
_PORTS: Final = {"smtp": 25, "smtps": 465}
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class MailSettings(Protocol):
    """What sending needs to know; the project's settings have it."""

    @property
    def smtp_url(self) -> str | None: ...
    @property
    def email_from(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail.

    to: an address (`ann@example.com` or `Ann <ann@example.com>`), or several
    subject: one line
    text, html: the body; at least one of them, both make a mail with two views
    sender: instead of EMAIL_FROM
    idempotency_key: the same for every attempt to send this mail
    """

    to: str | Sequence[str]
    subject: str
    text: str | None = None
    html: str | None = None
    sender: str | None = None
    idempotency_key: str | None = None


def send_mail(
    message: Mail, settings: MailSettings, *, now: dt.datetime | None = None
) -> dict[str, Any]:
    """Send one mail and say what happened.

    message: the mail
    settings: `smtp_url` and `email_from`
    now: the Date of the mail, with an offset; the clock's time if not given
    Returns `{"sent": True, "message_id", "transport": "smtp" | "outbox"}`, with `path` for the
    outbox, and `refused` (the addresses) when a server took the mail for some recipients only.
    Raises MailRefused when a retry cannot help, MailDelayed when it can.
    """
    url = settings.smtp_url or DEFAULT_SMTP_URL
    to_outbox = "://" not in url or url.startswith("file:")
    sender = message.sender or settings.email_from or (_OUTBOX_SENDER if to_outbox else None)
    if sender is None:
        raise MailRefused("the mail has no sender; set EMAIL_FROM")
    composed = compose(message, sender=sender, now=now or dt.datetime.now(dt.UTC))
    sent: dict[str, Any] = {"sent": True, "message_id": str(composed["Message-ID"])}
    if to_outbox:
        directory = Path(unquote(urlsplit(url).path) if "://" in url else url)
        return {
            **sent,
            "transport": "outbox",
            "path": str(_to_outbox(composed, directory)),
        }
    refused = _by_smtp(composed, urlsplit(url))
    return {**sent, "transport": "smtp"} | ({"refused": refused} if refused else {})


# --- the message


def compose(message: Mail, *, sender: str, now: dt.datetime) -> EmailMessage:
    """Return the mail as an EmailMessage. Raises MailRefused for what no header may hold."""
    recipients = [message.to] if isinstance(message.to, str) else list(message.to)
    if not recipients:
        raise MailRefused("the mail has no recipient")
    if message.text is None and message.html is None:
        raise MailRefused("the mail has no body; give text, html, or both")
    from_ = check_address(sender, "EMAIL_FROM")
    composed = EmailMessage(policy=SMTP_POLICY)
    composed["From"] = from_
    composed["To"] = [check_address(recipient, "recipient") for recipient in recipients]
    composed["Subject"] = _one_line(message.subject, "subject")
    composed["Date"] = format_datetime(now)
    composed["Message-ID"] = _message_id(message.idempotency_key, from_.domain)
    # Tells vacation responders not to answer.
    composed["Auto-Submitted"] = "auto-generated"
    if message.text is not None:
        composed.set_content(_encodable(message.text))
        if message.html is not None:
            composed.add_alternative(_encodable(message.html), subtype="html")
    else:
        composed.set_content(_encodable(message.html or ""), subtype="html")
    return composed


def check_address(text: str, what: str = "address") -> Address:
    """Return one address, `ann@example.com` or `Ann <ann@example.com>`.

    what: how an error names it
    Raises MailRefused when it is none, or several, or holds a line break. A domain in another
    script is turned into its ASCII form; a name before the @ in another script is refused, because
    few servers take it.
    """
    line = _one_line(text, what)
    try:
        header: Any = SMTP_POLICY.header_factory("To", line)
        [group] = header.groups
        [address] = group.addresses
        named = group.display_name is not None
        if header.defects or named or not (address.username and address.domain):
            raise ValueError("not one address")
        username = address.username.encode("ascii").decode("ascii")
        domain = address.domain.encode("idna").decode("ascii")
        return Address(address.display_name, username, domain)
    except (ValueError, IndexError) as error:
        raise MailRefused(f"the {what} {line!r:.100} is not one mail address") from error


_control = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]").search


def _one_line(text: object, what: str) -> str:
    """Return a text that fits into one header line: a line break would begin another header."""
    if not isinstance(text, str) or not text.strip():
        raise MailRefused(f"the {what} is empty")
    if _control(text):
        raise MailRefused(f"the {what} holds a line break or another control character")
    return text


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _message_id(idempotency_key: str | None, domain: str) -> str:
    if idempotency_key is None:
        return make_msgid("tickwork", domain)
    return f"<{hashlib.sha256(idempotency_key.encode()).hexdigest()[:40]}@{domain}>"


# --- the outbox


def _to_outbox(message: EmailMessage, directory: Path) -> Path:
    subject = re.sub(r"[^a-z0-9]+", "-", str(message["Subject"]).lower()).strip("-")[:40]
    digest = hashlib.sha256(str(message["Message-ID"]).encode()).hexdigest()[:16]
    path = directory.absolute() / f"{subject or 'mail'}-{digest}.eml"
    try:
        replace_file(path, io.BytesIO(message.as_bytes()), incoming=path.parent / ".incoming")
    except OSError as error:
        raise MailDelayed(
            f"cannot write into the outbox {str(path.parent)!r} ({error.strerror}); "
            "set SMTP_URL to a mail server"
        ) from error
    return path


# --- SMTP


def _by_smtp(message: EmailMessage, url: SplitResult) -> list[str]:
    """Hand a mail to a server; return the addresses that it refused while it took others."""
    import smtplib

    try:
        server = _connect(url)
        try:
            refused = server.send_message(message)
        finally:
            # The server has answered for the mail already: a goodbye that fails changes nothing.
            with suppress(smtplib.SMTPException, OSError):
                server.quit()
    except smtplib.SMTPRecipientsRefused as error:
        answers = [(code, reply) for code, reply in error.recipients.values()]
        code, reply = min(answers)
        raise _by_code(code, reply, "the recipient") from error
    except smtplib.SMTPResponseException as error:
        raise _by_code(error.smtp_code, error.smtp_error, "the mail") from error
    except (smtplib.SMTPNotSupportedError, UnicodeError) as error:
        raise MailRefused(f"the mail server cannot do what this mail needs: {error}") from error
    except (smtplib.SMTPException, OSError) as error:
        raise MailDelayed(f"no mail server at {url.hostname}: {error}") from error
    return sorted(refused)


def _connect(url: SplitResult) -> smtplib.SMTP:
    import smtplib
    import ssl

    host, port, options = _read_url(url)
    user, password = unquote(url.username or ""), unquote(url.password or "")
    timeout_seconds = float(options.get("timeout", _TIMEOUT_SECONDS))
    # A password goes unencrypted only to this machine, or where it was asked for.
    protect = "1" if user and host not in _LOOPBACK else "0"
    context = ssl.create_default_context()
    if url.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            host, port, timeout=timeout_seconds, context=context
        )
    else:
        server = smtplib.SMTP(host, port, timeout=timeout_seconds)
    try:
        if url.scheme == "smtp" and options.get("starttls", protect) == "1":
            server.starttls(context=context)
        if user:
            server.login(user, password)
    except BaseException:
        server.close()
        raise
    return server


def _read_url(url: SplitResult) -> tuple[str, int, dict[str, str]]:
    """Check SMTP_URL. Its text is in no message, because it holds the password."""
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    try:
        port = url.port or (587 if options.get("starttls") == "1" else _PORTS[url.scheme])
        timeout_seconds = float(options.get("timeout", _TIMEOUT_SECONDS))
    except (ValueError, KeyError):
        port, timeout_seconds = 0, 0.0
    wrong = options.keys() - {"starttls", "timeout"} or options.get("starttls", "0") not in "01"
    if not url.hostname or not port or not timeout_seconds > 0 or wrong:
        raise MailRefused(
            "SMTP_URL cannot be read; write smtp://user:password@host:587?starttls=1, "
            "smtps://user:password@host, or a directory (options: starttls=0|1, timeout=seconds)"
        )
    return url.hostname, port, options


def _by_code(code: int, reply: bytes | str, what: str) -> MailRefused | MailDelayed:
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
    said = f"the mail server answered {code} {text}"
    if 500 <= code < 600:
        return MailRefused(f"{what} was refused: {said}")
    return MailDelayed(f"{what} was not accepted now: {said}")
