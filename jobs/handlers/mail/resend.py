"""Sends mail by Resend's REST API, which knows a repeated request by its idempotency key."""

from __future__ import annotations

import base64
import datetime as dt
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from jobs.core.mailing import TransportName
from jobs.handlers.answers import Meaning, meaning_of, retry_after
from jobs.handlers.errors import MailDelayed, MailRefused, MailThrottled
from jobs.handlers.mail.message import Letter
from jobs.handlers.mail.transport import Sent

if TYPE_CHECKING:
    import urllib3

DEFAULT_URL: Final = "https://api.resend.com"
_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 20.0
_SHOWN_CHARACTERS: Final = 300
_UNSAID_WAIT_SECONDS: Final = 10.0
# Another request with the same key is still at work: the same one again will tell how it went.
_CONCURRENT: Final = "concurrent_idempotent_requests"


class Resend:
    """Resend, with an API key.

    key: as its dashboard gives it
    url: the base of its URLs, DEFAULT_URL if not given
    Raises MailRefused for a key that no header may hold.
    """

    name: TransportName = "resend"
    default_sender: str | None = None

    def __init__(self, key: str, url: str | None = None) -> None:
        if not (key.isascii() and key.isprintable()):  # the key itself is in no message
            raise MailRefused(
                "RESEND_API_KEY holds a character that no header may have; set it again"
            )
        self._key = key
        self._url = (url or DEFAULT_URL).rstrip("/")

    def send(self, letter: Letter) -> Sent:
        import urllib3  # late: only where something is sent

        headers = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            "User-Agent": "tickwork",
        }
        if letter.mail.idempotency_key is not None:
            headers["Idempotency-Key"] = letter.mail.idempotency_key
        try:
            answer = _connections().request(
                "POST",
                f"{self._url}/emails",
                body=json.dumps(_document(letter)).encode(),
                headers=headers,
                redirect=False,
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise MailDelayed(f"Resend was not reached: {type(error).__name__}") from error
        said = _read(answer.data)
        if 200 <= answer.status < 300 and "id" in said:
            return Sent(str(said["id"]))
        raise self._told(answer, said)

    def _told(
        self, answer: urllib3.BaseHTTPResponse, said: dict[str, Any]
    ) -> MailRefused | MailDelayed:
        name, message = str(said.get("name", "")), str(said.get("message", ""))
        words = f"Resend answered {answer.status} {name}: {message}"[:_SHOWN_CHARACTERS]
        words = words.replace(self._key, "***")
        if answer.status == 429:
            wait = retry_after(answer.headers.get("Retry-After"), dt.datetime.now(dt.UTC))
            seconds = _UNSAID_WAIT_SECONDS if wait is None else max(wait, 1.0)
            return MailThrottled(f"the mail was not accepted now: {words}", seconds)
        is_for_good = meaning_of(answer.status) in (Meaning.REFUSED, Meaning.GONE)
        if is_for_good and name != _CONCURRENT:
            return MailRefused(f"the mail was refused: {words}")
        return MailDelayed(f"the mail was not accepted now: {words}")


def _document(letter: Letter) -> dict[str, Any]:
    """The body: the same at every attempt, since a key that comes with another one is refused."""
    mail = letter.mail
    document: dict[str, Any] = {
        "from": str(letter.sender),
        "to": [str(each) for each in letter.to],
        "subject": mail.subject,
        "headers": {"Auto-Submitted": "auto-generated"},
    }
    groups = {"cc": letter.cc, "bcc": letter.bcc}
    document |= {name: [str(each) for each in group] for name, group in groups.items() if group}
    if letter.reply_to is not None:
        document["reply_to"] = str(letter.reply_to)
    document |= {
        name: text for name, text in (("text", mail.text), ("html", mail.html)) if text is not None
    }
    if mail.attachments:
        document["attachments"] = [
            {
                "filename": each.name,
                "content": base64.b64encode(each.content).decode(),
                "content_type": each.content_type,
            }
            for each in mail.attachments
        ]
    return document


def _read(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


@lru_cache(maxsize=1)
def _connections() -> urllib3.PoolManager:
    """One pool for the process: urllib3 keeps and renews its connections by itself."""
    import urllib3  # late, as above

    timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS)
    return urllib3.PoolManager(timeout=timeout, maxsize=10)
