"""The one place where exports and reports send mail: about a file that stands already.

A mail that fails does not fail the work: a retry would write the whole file again and end at the
same mail server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from jobs.handlers.errors import HandlerError
from jobs.handlers.links import Link
from jobs.handlers.mail.message import Mail
from jobs.handlers.mail.send import MailSettings, send_mail

log = logging.getLogger("jobs.handlers.export")

Send = Callable[[Mail], object]


def sender(settings: MailSettings) -> Send:
    """Return what sends a mail now, as the settings say."""
    return lambda mail: send_mail(mail, settings)


def notify(compose: Callable[[], Mail], send: Send, what: str) -> str:
    """Send a mail about what is done; return `sent`, or `failed: ` and the reason.

    compose: makes the mail; a template that goes wrong fails the mail, and not the work either
    what: how the log names the work, for example `export 0190a5c4-...`
    """
    try:
        send(compose())
    except HandlerError as error:
        log.warning("%s stands, but its mail was not sent: %s", what, error)
        return f"failed: {error}"
    return "sent"


def link_for_mail(download: Link | None, fallback: str) -> tuple[str, list[str]]:
    """Return the link that a mail shows, and the lines that say how long it works.

    download: the signed link, if there is one
    fallback: where the file is, for those who can reach it
    """
    if download is None or not download.is_absolute:
        return fallback, []
    if download.expires_at is None:
        return download.url, []
    until = download.expires_at.strftime("%Y-%m-%d %H:%M UTC")
    return download.url, ["", f"The link works until {until}."]
