"""A connector for REST APIs that answer with JSON.

    RestConnector(
        "https://acme.myshopify.com/admin/api/2025-01/orders.json",
        items="/orders",
        paging=LinkHeader(),
        credentials=HeaderToken("X-Shopify-Access-Token", "env:SHOPIFY_TOKEN"),
        window=Window("updated_at_min", "updated_at_max"),
        parameters={"limit": "250", "status": "any"},
    )

A page is read within `timeout_seconds` and PAGE_MAX_BYTES. Redirects are not followed, and a next
page's URL must be on the same origin: the credentials go nowhere else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

from jobs.core.errors import ConfigurationError
from jobs.handlers.sync.contract import (
    AuthRefused,
    Page,
    PlatformDown,
    PlatformRefused,
    RateLimited,
)
from jobs.handlers.sync.credentials import Credentials
from jobs.handlers.sync.paging import Answer, OnePage, Paging, at_pointer

if TYPE_CHECKING:
    import urllib3

PAGE_MAX_BYTES: Final = 32 * 1024 * 1024
LATER_SECONDS: Final = 60.0
"""How long a platform is left alone that says "later" and not when."""
LATEST_SECONDS: Final = 6 * 3600.0
"""The longest that a platform is waited for before it is asked again."""
_CONNECT_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 20.0
_READ_BYTES: Final = 64 * 1024
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Window:
    """The parameters that bound a sync in time; as ISO 8601 in UTC, or as `unix` seconds."""

    since: str
    until: str | None = None
    unix: bool = False

    def parameters(self, since: datetime | None, until: datetime | None) -> dict[str, str]:
        """Return what to add to the query."""
        named = ((self.since, since), (self.until, until))
        return {name: self._written(at) for name, at in named if name and at is not None}

    def _written(self, at: datetime) -> str:
        if self.unix:
            return str(int(at.timestamp()))
        return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class RestConnector:
    """Reads a list from a REST API; see the module's text.

    url: of the list, without a query
    items: JSON pointer to the array of items; "" when the answer is the array
    paging: how the next page is found
    credentials: who asks; over `http://` only to this machine
    window: the parameters for since and until; None if the API has none, and every sync is full
    parameters: of every first page, and of each page where the paging does not give a whole URL
    timeout_seconds: how long a page may take in all
    """

    url: str
    items: str = ""
    paging: Paging = field(default_factory=OnePage)
    credentials: Credentials | None = None
    window: Window | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.username:
            raise ConfigurationError(
                "a connector's URL is https://host/path, with neither query nor password in it"
            )
        if self.credentials and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise ConfigurationError(f"credentials for {parts.hostname} need https://")
        if self.items and not self.items.startswith("/"):
            raise ConfigurationError(f"items is a JSON pointer, as in /data, not {self.items!r}")

    def page(self, cursor: str | None, since: datetime | None, until: datetime | None) -> Page:
        """Ask for a page; see Connector."""
        answer = self._ask(self._address(cursor, since, until))
        return Page(answer.items, self.paging.next_cursor(answer, cursor))

    def _address(self, cursor: str | None, since: datetime | None, until: datetime | None) -> str:
        if cursor is not None and self.paging.cursor_is_url:
            url = urljoin(self.url, cursor)
            if _origin(urlsplit(url)) != _origin(urlsplit(self.url)):
                raise PlatformRefused(
                    f"{self._place} names a next page on another host, which gets no credentials"
                )
            return url
        window = self.window.parameters(since, until) if self.window else {}
        query = {**self.parameters, **window, **self.paging.parameters(cursor)}
        return f"{self.url}?{urlencode(query)}" if query else self.url

    @property
    def _place(self) -> str:
        """How errors name the platform: without a query, which may hold secrets."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}{parts.path}"

    def _ask(self, url: str) -> Answer:
        import urllib3  # late: only where something is asked for

        headers = {
            "Accept": "application/json",
            "User-Agent": "tickwork-sync",
            **(self.credentials.headers() if self.credentials else {}),
        }
        deadline = time.monotonic() + self.timeout_seconds
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=self._silence_seconds)
        try:
            with urllib3.PoolManager(timeout=timeout) as pool:
                response = pool.request(
                    "GET",
                    url,
                    headers=headers,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                )
                try:
                    self._check_status(response)
                    body = self._read(response, deadline)
                finally:
                    response.close()
        except urllib3.exceptions.HTTPError as error:
            raise PlatformDown(
                f"{self._place} cannot be read: {type(error).__name__}"
            ) from None  # the error's text holds the URL
        document = self._parsed(body)
        items = at_pointer(document, self.items)
        if not isinstance(items, list):
            raise PlatformDown(f"{self._place}: {self.items or 'the answer'} is no array")
        named = {name.lower(): value for name, value in response.headers.items()}
        return Answer(document, items, named)

    @property
    def _silence_seconds(self) -> float:
        return min(_SILENCE_SECONDS, self.timeout_seconds)

    def _check_status(self, response: urllib3.BaseHTTPResponse) -> None:
        status, said = response.status, f"{self._place} answered {response.status}"
        if 200 <= status < 300:
            return
        waits = "retry-after" in response.headers
        is_spent = response.headers.get("x-ratelimit-remaining") == "0"
        if status == 429 or (status == 503 and waits) or (status == 403 and (waits or is_spent)):
            raise RateLimited(said, _retry_after(response.headers.get("retry-after")))
        if status in (401, 403):
            raise AuthRefused(said)
        if 300 <= status < 400:
            raise PlatformRefused(f"{said}: redirects are not followed, write the URL it leads to")
        if 400 <= status < 500 and status not in (408, 425):
            raise PlatformRefused(said)
        raise PlatformDown(said)

    def _read(self, response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
        body = bytearray()
        while block := response.read1(_READ_BYTES):
            body += block
            if len(body) > PAGE_MAX_BYTES:
                raise PlatformRefused(
                    f"{self._place} sends pages over {PAGE_MAX_BYTES:,} bytes: ask for fewer items"
                )
            if time.monotonic() > deadline:
                raise PlatformDown(f"{self._place} took over {self.timeout_seconds:g} s for a page")
        return bytes(body)

    def _parsed(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise PlatformDown(f"{self._place} sent no JSON ({len(body):,} bytes)") from None


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme, parts.hostname, port or _PORTS.get(parts.scheme)


def _retry_after(said: str | None) -> float:
    """Seconds to wait, of a `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3)."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    if said is None:
        return LATER_SECONDS
    try:
        seconds = Retry().parse_retry_after(said)
    except InvalidHeader:
        return LATER_SECONDS
    return min(max(float(seconds), 1.0), LATEST_SECONDS)
