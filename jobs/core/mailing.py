"""Which way mail leaves, from what is set. A pure rule, for whoever sends and for the doctor."""

from __future__ import annotations

from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

from jobs.core.settings import CONSOLE_URL

TransportName = Literal["smtp", "ses", "resend", "outbox", "console"]
DEFAULT_OUTBOX: Final = ".tickwork/outbox"
_BY_SCHEME: Final[dict[str, TransportName]] = {"smtp": "smtp", "smtps": "smtp", "ses": "ses"}


class Ways(Protocol):
    """What decides; the project's settings have it."""

    @property
    def smtp_url(self) -> str | None: ...
    @property
    def resend_api_key(self) -> str | None: ...
    @property
    def is_development(self) -> bool: ...


def transport_name(settings: Ways) -> TransportName:
    """Return how mail leaves: the first of these that is so.

    1. SMTP_URL is set: what it says, also where RESEND_API_KEY is set
    2. RESEND_API_KEY is set: Resend
    3. development: the console
    4. otherwise the outbox, in DEFAULT_OUTBOX

    >>> from jobs.core.settings import Settings
    >>> transport_name(Settings(smtp_url="ses://eu-central-1", resend_api_key="re_1"))
    'ses'
    """
    url = settings.smtp_url
    if url:
        if url == CONSOLE_URL:
            return "console"
        return _BY_SCHEME.get(urlsplit(url).scheme, "outbox") if "://" in url else "outbox"
    if settings.resend_api_key:
        return "resend"
    return "console" if settings.is_development else "outbox"
