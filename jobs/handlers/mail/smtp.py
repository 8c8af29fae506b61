"""Sends mail by SMTP: over TLS where it is asked for, several mails over one connection."""

from __future__ import annotations

import smtplib
import ssl
from contextlib import suppress
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from jobs.core.mailing import TransportName
from jobs.handlers.errors import MailDelayed, MailRefused
from jobs.handlers.mail.message import Letter
from jobs.handlers.mail.pool import Pool
from jobs.handlers.mail.transport import Sent

_TIMEOUT_SECONDS: Final = 20.0
_GOODBYE_SECONDS: Final = 2.0
_PORTS: Final = {"smtp": 25, "smtps": 465}
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_Answers = dict[str, tuple[int, bytes]]


class Smtp:
    """A mail server, named by a URL; see `SmtpPlace.read`. Raises MailRefused for a wrong one."""

    name: TransportName = "smtp"
    default_sender: str | None = None

    def __init__(self, url: str) -> None:
        self._url = url
        self._place = SmtpPlace.read(url)

    def send(self, letter: Letter) -> Sent:
        try:
            answers = self._converse(letter)
        except smtplib.SMTPRecipientsRefused as error:
            # All of them: a retry helps where it helps one.
            (code, reply), address = min((said, each) for each, said in error.recipients.items())
            raise _by_code(code, reply, f"the recipient {address}") from error
        except smtplib.SMTPResponseException as error:
            raise _by_code(error.smtp_code, error.smtp_error, "the mail") from error
        except (smtplib.SMTPNotSupportedError, UnicodeError) as error:
            raise MailRefused(f"the mail server cannot do what this mail needs: {error}") from error
        except (smtplib.SMTPException, OSError) as error:
            raise MailDelayed(f"no mail server at {self._place.host}: {error}") from error
        refused: dict[str, str] = {}
        delayed: dict[str, str] = {}
        for address, (code, reply) in answers.items():
            (refused if _is_for_good(code) else delayed)[address] = _said(code, reply)
        return Sent(letter.message_id, refused, delayed)

    def _converse(self, letter: Letter) -> _Answers:
        """Hand the letter over; return what was said to recipients who were not accepted."""
        connection = _pool.take(self._url, lambda: SmtpConnection(self._place))
        try:
            answers = connection.deliver(letter)
        except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused):
            # Its "no" to one mail leaves the conversation in order, where it did not hang up.
            self._give_back(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)
        return answers

    def _give_back(self, connection: SmtpConnection) -> None:
        if connection.is_open:
            _pool.give_back(self._url, connection)


class SmtpPlace(NamedTuple):
    """What SMTP_URL says."""

    host: str
    port: int
    user: str
    password: str
    is_encrypted: bool
    starttls: bool
    timeout_seconds: float

    @classmethod
    def read(cls, url: str) -> SmtpPlace:
        """Return what a URL says. Its text is in no message, because it holds the password.

        url: `smtp://user:password@host:port?starttls=0|1&timeout=seconds`, or `smtps://`
        Raises MailRefused for one that makes no sense.
        """
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, keep_blank_values=True))
            port = parts.port or (587 if options.get("starttls") == "1" else _PORTS[parts.scheme])
            timeout_seconds = float(options.get("timeout", _TIMEOUT_SECONDS))
            wrong = options.keys() - {"starttls", "timeout"}
            if wrong or options.get("starttls", "0") not in ("0", "1"):
                raise ValueError("an option that there is not")
            if not parts.hostname or not timeout_seconds > 0:
                raise ValueError("no host, or no time")
        except (ValueError, KeyError):
            raise MailRefused(
                "SMTP_URL cannot be read; write smtp://user:password@host:587?starttls=1, "
                "smtps://user:password@host, or a directory (options: starttls=0|1, "
                "timeout=seconds)"
            ) from None
        user = unquote(parts.username or "")
        # A password goes unencrypted only to this machine, or where that was asked for.
        protect = "1" if user and parts.hostname not in _LOOPBACK else "0"
        return cls(
            host=parts.hostname,
            port=port,
            user=user,
            password=unquote(parts.password or ""),
            is_encrypted=parts.scheme == "smtps",
            starttls=parts.scheme == "smtp" and options.get("starttls", protect) == "1",
            timeout_seconds=timeout_seconds,
        )


class SmtpConnection:
    """A conversation with a mail server, greeted and logged in."""

    def __init__(self, place: SmtpPlace) -> None:
        self.mails = 0
        # Trusted certificates are read where they are needed: there are hundreds.
        context = ssl.create_default_context() if place.is_encrypted or place.starttls else None
        if place.is_encrypted:
            self._server: smtplib.SMTP = smtplib.SMTP_SSL(
                place.host, place.port, timeout=place.timeout_seconds, context=context
            )
        else:
            self._server = smtplib.SMTP(place.host, place.port, timeout=place.timeout_seconds)
        try:
            if place.starttls:
                self._server.starttls(context=context)
            if place.user:
                self._server.login(place.user, place.password)
        except BaseException:
            self._server.close()
            raise

    @property
    def is_open(self) -> bool:
        return getattr(self._server, "sock", None) is not None

    def deliver(self, letter: Letter) -> _Answers:
        """Send a letter; return what was said to recipients who were not accepted, if any was."""
        self.mails += 1
        return self._server.sendmail(
            letter.sender.addr_spec, letter.recipients, letter.message.as_bytes()
        )

    def is_usable(self) -> bool:
        """Whether the server still answers; it forgets what was begun of another mail."""
        try:
            code, _ = self._server.rset()
        except (smtplib.SMTPException, OSError):
            return False
        return code == 250

    def close(self) -> None:
        # The server has answered for its mails already: a goodbye that fails changes nothing.
        with suppress(smtplib.SMTPException, OSError):
            if self._server.sock is not None:
                self._server.sock.settimeout(_GOODBYE_SECONDS)
            self._server.quit()
        self._server.close()


_pool: Pool[SmtpConnection] = Pool()


def _is_for_good(code: int) -> bool:
    return 500 <= code < 600


def _said(code: int, reply: bytes | str) -> str:
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
    return f"{code} {text}"


def _by_code(code: int, reply: bytes | str, what: str) -> MailRefused | MailDelayed:
    said = f"the mail server answered {_said(code, reply)}"
    if _is_for_good(code):
        return MailRefused(f"{what} was refused: {said}")
    return MailDelayed(f"{what} was not accepted now: {said}")
