"""One mail: what a caller says of it, and the letter that a transport is handed.

Every address, header and attachment is checked here, before anybody is asked to send anything.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from email.errors import ObsoleteHeaderDefect
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import Any, Final

from jobs.handlers.errors import MailRefused

# Seven bits pass every server, and none has to be asked first.
_POLICY: Final = SMTP.clone(cte_type="7bit")
_NAME_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a mail.

    name: what the reader sees and saves, without a directory
    content: the bytes
    content_type: its media type
    """

    name: str
    content: bytes
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail.

    to: an address (`ann@example.com` or `Ann <ann@example.com>`), or several
    subject: one line
    text, html: the body; at least one of them, both make a mail with two views
    sender: instead of EMAIL_FROM
    idempotency_key: the same for every attempt to send this mail
    cc, bcc: further addresses; those of `bcc` are in no header
    reply_to: where an answer goes, instead of to the sender
    attachments: files that go with it
    """

    to: str | Sequence[str]
    subject: str
    text: str | None = None
    html: str | None = None
    sender: str | None = None
    idempotency_key: str | None = None
    cc: str | Sequence[str] = ()
    bcc: str | Sequence[str] = ()
    reply_to: str | None = None
    attachments: Sequence[Attachment] = ()


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail made ready for a transport: checked, composed, and with those who are to get it.

    `recipients` are plain addresses, each once, those of `bcc` among them.
    """

    mail: Mail
    message: EmailMessage
    sender: Address
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    bcc: tuple[Address, ...]
    reply_to: Address | None
    recipients: tuple[str, ...]

    @property
    def message_id(self) -> str:
        """The Message-ID of its header, with angle brackets."""
        return str(self.message["Message-ID"])


def compose(
    mail: Mail, *, sender: str, now: dt.datetime, only: Collection[str] | None = None
) -> Letter:
    """Return the mail as a letter.

    sender: whom it is from
    now: its Date, with an offset
    only: the plain addresses that are to get it, where others have it already; all by default.
        The headers name everybody all the same.
    Raises MailRefused for what cannot be sent as it is.
    """
    to, cc, bcc = _addressed(mail)
    if mail.text is None and mail.html is None:
        raise MailRefused("the mail has no body; give text, html, or both")
    from_ = check_address(sender, "EMAIL_FROM")
    reply_to = None if mail.reply_to is None else check_address(mail.reply_to, "reply_to")
    message = EmailMessage(policy=_POLICY)
    message["From"] = from_
    message["To"] = to
    if cc:
        message["Cc"] = cc
    if reply_to:
        message["Reply-To"] = reply_to
    message["Subject"] = one_line(mail.subject, "subject")
    message["Date"] = format_datetime(now)
    message["Message-ID"] = _message_id(mail.idempotency_key, from_.domain)
    # Tells vacation responders not to answer.
    message["Auto-Submitted"] = "auto-generated"
    _add_body(message, mail)
    for attachment in mail.attachments:
        _attach(message, attachment)
    recipients = tuple(each for each in _once(to, cc, bcc) if only is None or each in only)
    return Letter(mail, message, from_, to, cc, bcc, reply_to, recipients)


def recipients_of(mail: Mail) -> tuple[str, ...]:
    """Return the plain addresses of all who are to get a mail, each once.

    Raises MailRefused for one that is no address, and where there is none.
    """
    return tuple(_once(*_addressed(mail)))


def _addressed(mail: Mail) -> list[tuple[Address, ...]]:
    """`to`, `cc` and `bcc`."""
    groups = [
        tuple(check_address(each, "recipient") for each in _several(given))
        for given in (mail.to, mail.cc, mail.bcc)
    ]
    if not groups[0]:
        raise MailRefused("the mail has no recipient")
    return groups


def _several(given: str | Sequence[str]) -> Sequence[str]:
    return [given] if isinstance(given, str) else given


def _once(*groups: Sequence[Address]) -> Iterator[str]:
    seen: set[str] = set()
    for group in groups:
        for address in group:
            if address.addr_spec not in seen:
                seen.add(address.addr_spec)
                yield address.addr_spec


def _add_body(message: EmailMessage, mail: Mail) -> None:
    if mail.text is None:
        message.set_content(_encodable(mail.html or ""), subtype="html")
        return
    message.set_content(_encodable(mail.text))
    if mail.html is not None:
        message.add_alternative(_encodable(mail.html), subtype="html")


def _attach(message: EmailMessage, attachment: Attachment) -> None:
    name = check_file_name(attachment.name)
    main, sub = check_content_type(attachment.content_type)
    message.add_attachment(attachment.content, maintype=main, subtype=sub, filename=name)


# --- what headers may hold


def check_address(text: str, what: str = "address") -> Address:
    """Return one address, `ann@example.com` or `Ann <ann@example.com>`.

    what: how an error names it
    Raises MailRefused when it is none, or several, or holds a line break. A domain in another
    script is turned into its ASCII form; a name before the @ in another script is refused, because
    few servers take it.
    """
    line = one_line(text, what)
    try:
        header: Any = _POLICY.header_factory("To", line)
        [group] = header.groups
        [address] = group.addresses
        named = group.display_name is not None
        # "Shop.example <...>", a dot without quotes, is how people write it, and obsolete alone.
        wrong = [each for each in header.defects if not isinstance(each, ObsoleteHeaderDefect)]
        if wrong or named or not (address.username and address.domain):
            raise ValueError("not one address")
        username = address.username.encode("ascii").decode("ascii")
        domain = address.domain.encode("idna").decode("ascii")
        return Address(address.display_name, username, domain)
    except (ValueError, IndexError) as error:
        raise MailRefused(f"the {what} {line!r:.100} is not one mail address") from error


_control = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]").search


def brand_of(sender: str | None) -> str:
    """Return how readers know a sender: by its name, else by its domain; "" for none.

    Raises MailRefused for what is no address.
    """
    if sender is None:
        return ""
    address = check_address(sender, "EMAIL_FROM")
    return address.display_name or address.domain


def one_line(text: object, what: str) -> str:
    """Return a text that fits into one header line: a line break would begin another header.

    what: how an error names it
    Raises MailRefused for anything else, and for an empty one.
    """
    if not isinstance(text, str) or not text.strip():
        raise MailRefused(f"the {what} is empty")
    if _control(text):
        raise MailRefused(f"the {what} holds a line break or another control character")
    return text


def check_file_name(name: str) -> str:
    """Return the name of an attachment; MailRefused for a path or an endless one."""
    line = one_line(name, "name of an attachment")
    if len(line) > _NAME_CHARACTERS or re.search(r"[/\\]", line) or line in (".", ".."):
        raise MailRefused(
            f"{line!r:.100} is no name of an attachment: write up to {_NAME_CHARACTERS} "
            "characters without a directory"
        )
    return line


def check_content_type(text: str) -> tuple[str, str]:
    """Return both halves of a media type such as `text/csv`; MailRefused for anything else."""
    found = re.fullmatch(r"([\w.+-]+)/([\w.+-]+)", text, re.ASCII)
    if found is None or found[1].lower() in ("multipart", "message"):
        raise MailRefused(f"{text!r:.100} is no media type of a file, as in text/csv")
    return found[1].lower(), found[2].lower()


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _message_id(idempotency_key: str | None, domain: str) -> str:
    if idempotency_key is None:
        return make_msgid("tickwork", domain)
    return f"<{hashlib.sha256(idempotency_key.encode()).hexdigest()[:40]}@{domain}>"
