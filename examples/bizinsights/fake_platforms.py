"""The five platforms for a laptop: one server that pages as each of them does, and fails as told.

with FakePlatforms() as fake:
    shop = fake.open("shopify", "acme", "the-secret")
    shop.facts.append(Fact(1, at, Decimal("12.50")))
    os.environ["BIZINSIGHTS_PLATFORMS"] = fake.url
"""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlencode, urlsplit

Query = dict[str, str]


class Fact(NamedTuple):
    """An order, a charge, or a day: what an account has. It is seen from `changed_at` on."""

    number: int
    at: datetime
    amount: Decimal
    changed_at: datetime | None = None

    @property
    def version(self) -> datetime:
        return self.changed_at or self.at


@dataclass
class Account:
    """One customer of a platform.

    secret: the credentials it takes
    trouble: what happens to the next requests, one each: a status, or `(429, seconds)`
    is_down: every request is answered 503, as long as that lasts
    begun: how often a first page was asked for and given
    """

    secret: str
    facts: list[Fact] = field(default_factory=list)
    trouble: list[int | tuple[int, int]] = field(default_factory=list)
    is_down: bool = False
    begun: int = 0


class FakePlatforms:
    """Serves while the block runs.

    now: what the platforms take for the time
    page_size: how many items a page has
    """

    def __init__(
        self, now: Callable[[], datetime] = lambda: datetime.now(UTC), page_size: int = 100
    ) -> None:
        self.accounts: dict[tuple[str, str], Account] = {}
        self._now, self._page_size = now, page_size
        self._lock = threading.Lock()
        fake = self

        class Door(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake._serve(self)

            do_POST = do_GET  # noqa: N815 - the base's name

            def log_message(self, *_: object) -> None:
                """Not a line for each request."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def open(self, platform: str, account: str, secret: str) -> Account:
        """A customer joins a platform."""
        opened = self.accounts[platform, account] = Account(secret)
        return opened

    def _serve(self, door: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(door.path)
        _, platform, name, *_rest = parts.path.split("/")
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        length = int(door.headers.get("Content-Length", 0))
        body = json.loads(door.rfile.read(length)) if length else {}
        with self._lock:
            account = self.accounts[platform, name]
            status, document, headers = self._answer(
                platform, account, door, {**query, **body}, parts.path
            )
        raw = json.dumps(document).encode()
        door.send_response(status)
        for key, value in headers.items():
            door.send_header(key, value)
        door.send_header("Content-Length", str(len(raw)))
        door.end_headers()
        door.wfile.write(raw)

    def _answer(
        self,
        platform: str,
        account: Account,
        door: BaseHTTPRequestHandler,
        query: dict[str, Any],
        path: str,
    ) -> tuple[int, Any, dict[str, str]]:
        if account.is_down:
            return 503, {}, {}
        if account.trouble:
            trouble = account.trouble.pop(0)
            if isinstance(trouble, tuple):
                return trouble[0], {}, {"Retry-After": str(trouble[1])}
            return trouble, {}, {}
        if door.headers.get(_HEADER.get(platform, "Authorization")) != _shown(platform, account):
            return 401, {"error": "who are you?"}, {}
        seen = [fact for fact in account.facts if fact.version <= self._now()]
        document, headers, is_first = _SPEAKS[platform](
            _Asked(seen, query, f"{self.url}{path}", self._page_size)
        )
        account.begun += is_first
        return 200, document, headers

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


_HEADER = {"shopify": "X-Shopify-Access-Token"}


def _shown(platform: str, account: Account) -> str:
    """What the header of who asks has to say."""
    if platform == "shopify":
        return account.secret
    if platform == "woocommerce":
        return f"Basic {b64encode(account.secret.encode()).decode()}"
    return f"Bearer {account.secret}"


# --- how each of them speaks: the document, its headers, and whether it is a first page


class _Asked(NamedTuple):
    facts: list[Fact]
    query: dict[str, Any]
    url: str
    page_size: int


Spoken = tuple[Any, dict[str, str], bool]


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _since(asked: _Asked, name: str) -> list[Fact]:
    """What changed since, the oldest change first."""
    since = asked.query.get(name, "")
    found = [fact for fact in asked.facts if _text(fact.version) >= since]
    return sorted(found, key=lambda fact: (fact.version, fact.number))


def _shopify(asked: _Asked) -> Spoken:
    begin = int(asked.query.get("page_info", 0))
    found, end = _since(asked, "updated_at_min"), begin + asked.page_size
    headers = {}
    if end < len(found):
        more = {"page_info": end, "updated_at_min": asked.query.get("updated_at_min", "")}
        headers["Link"] = f'<{asked.url}?{urlencode(more)}>; rel="next"'
    orders = [shopify_document(fact) for fact in found[begin:end]]
    return {"orders": orders}, headers, "page_info" not in asked.query


def shopify_document(fact: Fact, shop: str = "") -> dict[str, Any]:
    """An order as Shopify writes it, in lists and in webhooks."""
    return {
        "id": fact.number,
        "created_at": _text(fact.at),
        "updated_at": _text(fact.version),
        "cancelled_at": None,
        "current_total_price": str(fact.amount),
        "order_status_url": f"https://{shop}.myshopify.com/1/orders/{fact.number}",
    }


def _woocommerce(asked: _Asked) -> Spoken:
    page = int(asked.query["page"])
    begin = (page - 1) * asked.page_size
    orders = [
        {
            "id": fact.number,
            "status": "completed",
            "total": str(fact.amount),
            "date_created_gmt": _text(fact.at).removesuffix("Z"),
            "date_modified_gmt": _text(fact.version).removesuffix("Z"),
        }
        for fact in _since(asked, "modified_after")[begin : begin + asked.page_size]
    ]
    return orders, {}, page == 1


def _stripe(asked: _Asked) -> Spoken:
    """The newest first."""
    since = int(asked.query.get("created[gte]", 0))
    found = [fact for fact in asked.facts if int(fact.at.timestamp()) >= since]
    found.sort(key=lambda fact: (fact.at, fact.number), reverse=True)
    after, begin = asked.query.get("starting_after"), 0
    if after is not None:
        begin = 1 + next(i for i, fact in enumerate(found) if f"ch_{fact.number}" == after)
    end = begin + asked.page_size
    charges = [
        {
            "id": f"ch_{fact.number}",
            "created": int(fact.at.timestamp()),
            "amount": int(fact.amount * 100),
            "amount_refunded": 0,
            "status": "succeeded",
        }
        for fact in found[begin:end]
    ]
    return {"data": charges, "has_more": end < len(found)}, {}, after is None


def _analytics(asked: _Asked) -> Spoken:
    (span,) = asked.query["dateRanges"]
    found = [fact for fact in asked.facts if fact.at.date().isoformat() >= span["startDate"]]
    begin = int(asked.query["offset"])
    rows = [
        {
            "dimensionValues": [{"value": f"{fact.at:%Y%m%d}"}],
            "metricValues": [{"value": str(int(fact.amount))}],
        }
        for fact in found[begin : begin + min(asked.page_size, asked.query["limit"])]
    ]
    return {"rows": rows, "rowCount": len(found)}, {}, begin == 0


def _facebook(asked: _Asked) -> Spoken:
    is_all = asked.query["date_preset"] == "maximum"
    found = asked.facts if is_all else asked.facts[-30:]
    begin = int(asked.query.get("after", 0))
    end = begin + asked.page_size
    days = [
        {"date_start": fact.at.date().isoformat(), "spend": str(fact.amount)}
        for fact in found[begin:end]
    ]
    more = urlencode({"date_preset": asked.query["date_preset"], "after": end})
    paging = {"next": f"{asked.url}?{more}"} if end < len(found) else {}
    return {"data": days, "paging": paging}, {}, begin == 0


_SPEAKS: dict[str, Callable[[_Asked], Spoken]] = {
    "shopify": _shopify,
    "woocommerce": _woocommerce,
    "stripe": _stripe,
    "google-analytics": _analytics,
    "facebook-ads": _facebook,
}
