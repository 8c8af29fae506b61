"""Sends mail by Amazon SES, as a raw message, with credentials as boto3 finds them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from jobs.core.mailing import TransportName
from jobs.handlers.errors import MailDelayed, MailRefused, MailThrottled
from jobs.handlers.mail.message import Letter
from jobs.handlers.mail.transport import Sent

_OPTIONS: Final = frozenset({"configuration_set", "endpoint_url"})
_CONNECT_SECONDS: Final = 5
_READ_SECONDS: Final = 20
# Its own words for "too fast" and "too many today"; it asks to wait for up to ten minutes then.
_THROTTLED: Final = frozenset({"TooManyRequestsException", "ThrottlingException", "Throttling"})
_TOO_FAST_SECONDS: Final = 10.0
_TODAY_SECONDS: Final = 600.0
# Answers of class 400 that another attempt may mend.
_PASSING: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})


class Ses:
    """Amazon SES in a region: `ses://eu-central-1`. Needs boto3.

    url: options are `configuration_set`, and `endpoint_url` for another place that speaks SES
    Raises MailRefused for a URL that makes no sense, or where boto3 is not installed.
    """

    name: TransportName = "ses"
    default_sender: str | None = None

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if not parts.hostname or options.keys() - _OPTIONS:
            raise MailRefused(
                "SMTP_URL cannot be read; write ses://region, as in ses://eu-central-1 (options: "
                f"{', '.join(sorted(_OPTIONS))})"
            )
        self._client = _client(parts.hostname, options.get("endpoint_url"))
        self._configuration_set = options.get("configuration_set")

    def send(self, letter: Letter) -> Sent:
        from botocore.exceptions import BotoCoreError, ClientError  # late, as boto3

        asked: dict[str, Any] = {
            "FromEmailAddress": str(letter.sender),
            # By the envelope, not by the headers: a hidden recipient is in no header.
            "Destination": _destination(letter),
            "Content": {"Raw": {"Data": letter.message.as_bytes()}},
        }
        if self._configuration_set:
            asked["ConfigurationSetName"] = self._configuration_set
        try:
            answer = self._client.send_email(**asked)
        except ClientError as error:
            raise _told(error.response) from error
        except BotoCoreError as error:
            raise MailDelayed(f"SES was not reached: {error}") from error
        return Sent(str(answer["MessageId"]))


def _destination(letter: Letter) -> dict[str, list[str]]:
    wanted = set(letter.recipients)
    groups = {
        "ToAddresses": letter.to,
        "CcAddresses": letter.cc,
        "BccAddresses": letter.bcc,
    }
    found: dict[str, list[str]] = {}
    for name, addresses in groups.items():
        specs = [each.addr_spec for each in addresses if each.addr_spec in wanted]
        wanted -= set(specs)
        if specs:
            found[name] = specs
    return found


def _told(response: Any) -> MailRefused | MailDelayed:
    error = response.get("Error", {})
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    said = f"SES answered {status} {code}: {message}"
    if code in _THROTTLED or status == 429:
        seconds = _TODAY_SECONDS if "daily" in message.lower() else _TOO_FAST_SECONDS
        return MailThrottled(f"the mail was not accepted now: {said}", seconds)
    if 400 <= status < 500 and code not in _PASSING:
        return MailRefused(f"the mail was refused: {said}")
    return MailDelayed(f"the mail was not accepted now: {said}")


@lru_cache(maxsize=8)
def _client(region: str, endpoint_url: str | None) -> Any:
    try:
        from boto3.session import Session
        from botocore.config import Config
    except ModuleNotFoundError as error:
        raise MailRefused(
            "SMTP_URL=ses://... needs boto3, which is not installed: pip install 'tickwork[aws]'"
        ) from error
    # One attempt: SES knows no idempotency key, so a repeat after a lost answer is a second mail.
    # Jobs repeat where it is right, and it is seen.
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"total_max_attempts": 1},
    )
    return Session().client("sesv2", region_name=region, endpoint_url=endpoint_url, config=config)
