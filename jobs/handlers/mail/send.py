"""Sends one mail the way that the settings say."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from jobs.core.mailing import DEFAULT_OUTBOX, Ways, transport_name
from jobs.handlers.errors import MailRefused
from jobs.handlers.mail.message import Mail, compose
from jobs.handlers.mail.transport import Sent, Transport


class MailSettings(Ways, Protocol):
    """What sending needs to know; the project's settings have it."""

    @property
    def email_from(self) -> str | None: ...
    @property
    def resend_api_url(self) -> str | None: ...


def send_mail(
    mail: Mail, settings: MailSettings, *, now: dt.datetime | None = None
) -> dict[str, Any]:
    """Send one mail and say what happened.

    mail: the mail
    settings: how mail leaves (see `jobs.core.mailing`), and whom it is from by default
    now: the Date of the mail, with an offset; the clock's time if not given
    Returns `{"sent": True, "message_id", "transport"}`, with `path` for the outbox, and `refused`
    and `delayed` (the addresses) when a server took the mail for some recipients only.
    Raises MailRefused when a retry cannot help, MailDelayed when it can.
    """
    transport = choose_transport(settings)
    return as_result(transport, send_by(transport, mail, settings.email_from, now=now))


def choose_transport(settings: MailSettings) -> Transport:
    """Return the transport that the settings say, by the rule of `transport_name`.

    Raises MailRefused for a URL that makes no sense.
    """
    name, url = transport_name(settings), settings.smtp_url or ""
    # Each is imported with its first mail: a deployment needs one of them.
    match name:
        case "smtp":
            from jobs.handlers.mail.smtp import Smtp

            return Smtp(url)
        case "ses":
            from jobs.handlers.mail.ses import Ses

            return Ses(url)
        case "resend":
            from jobs.handlers.mail.resend import Resend

            return Resend(settings.resend_api_key or "", settings.resend_api_url)
        case "console":
            from jobs.handlers.mail.outbox import Console

            return Console()
        case "outbox":
            from jobs.handlers.mail.outbox import Outbox

            return Outbox(_directory(url or DEFAULT_OUTBOX))


def send_by(
    transport: Transport,
    mail: Mail,
    default_sender: str | None,
    *,
    now: dt.datetime | None = None,
    only: Collection[str] | None = None,
) -> Sent:
    """Send one mail by a transport.

    default_sender: whom it is from where the mail does not say
    now: the Date of the mail, with an offset; the clock's time if not given
    only: the addresses that are to get it, where others have it already
    Raises as `send_mail` does.
    """
    sender = mail.sender or default_sender or transport.default_sender
    if sender is None:
        raise MailRefused("the mail has no sender; set EMAIL_FROM")
    return transport.send(
        compose(mail, sender=sender, now=now or dt.datetime.now(dt.UTC), only=only)
    )


def as_result(transport: Transport, sent: Sent) -> dict[str, Any]:
    """Return what was sent as JSON takes it; see `send_mail`."""
    result = {"sent": True, "message_id": sent.message_id, "transport": transport.name, **sent.more}
    for name, addresses in (("refused", sent.refused), ("delayed", sent.delayed)):
        if addresses:
            result[name] = sorted(addresses)
    return result


def _directory(url: str) -> Path:
    """The outbox's, from a path or a `file:` URL."""
    if "://" not in url:
        return Path(url)
    parts = urlsplit(url)
    if parts.scheme != "file":
        raise MailRefused(
            "SMTP_URL cannot be read; write smtp://host, smtps://host, ses://region, console:// or "
            "a directory"
        )
    return Path(unquote(parts.path))
