"""A platform to sync from: a real HTTP server that pages in every style and fails as told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Fault = Callable[["Request"], bool]
"""Answers the request itself, and says whether it did."""

TOKEN = "a-platforms-token"


@dataclass
class Asked:
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class Shop:
    """What it sells, what it was asked, and what goes wrong: a fault for each request by number."""

    items: list[dict[str, Any]]
    size: int = 3
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    faults: dict[int, Fault] = field(default_factory=dict)

    @property
    def list_url(self) -> str:
        return f"{self.url}/orders"


class Request(BaseHTTPRequestHandler):
    shop: Shop

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        shop = self.shop
        shop.asked.append(Asked(parts.path, query, headers))
        fault = shop.faults.pop(len(shop.asked), None)
        if fault is not None and fault(self):
            return
        if headers.get("authorization") != f"Bearer {TOKEN}":
            self.answer(401, {"error": "who are you?"})
            return
        self._list(query)

    def _list(self, query: dict[str, str]) -> None:
        shop = self.shop
        since = query.get("since", "")
        found = [item for item in shop.items if item["updated"] >= since]
        size = int(query.get("limit", shop.size))
        begin = int(query.get("offset", 0))
        if "page" in query:
            begin = (int(query["page"]) - 1) * size
        if "cursor" in query:
            begin = int(query["cursor"].removeprefix("at-"))
        if "starting_after" in query:
            ids = [str(item["id"]) for item in found]
            begin = ids.index(query["starting_after"]) + 1
        page, end = found[begin : begin + size], begin + size
        has_more = end < len(found)
        window = f"&since={since}" if since else ""
        url = f"{shop.list_url}?offset={end}{window}" if has_more else None
        document = {
            "data": page,
            "has_more": has_more,
            "meta": {"next": f"at-{end}" if has_more else None, "url": url},
        }
        link = f'<{shop.list_url}>; rel="first", <{url}>; rel="next"' if url else ""
        self.answer(200, document, {"Link": link} if link else {})

    def answer(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(document).encode(), headers)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass


@contextmanager
def selling(items: list[dict[str, Any]], size: int = 3) -> Iterator[Shop]:
    """A shop that is open until the block ends."""
    shop = Shop(items, size)
    handler = type("Handler", (Request,), {"shop": shop})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    shop.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield shop
    finally:
        server.shutdown()
        server.server_close()


def orders(count: int, day: str = "2026-01-01") -> list[dict[str, Any]]:
    """So many orders, last updated in one second after the other."""
    return [
        {"id": n, "total": n * 10, "updated": f"{day}T00:{n // 60:02}:{n % 60:02}Z"}
        for n in range(1, count + 1)
    ]


# --- what goes wrong


def status(code: int, **headers: str) -> Fault:
    """Answer with a status and headers (`Retry_After` is `Retry-After`)."""

    def fault(request: Request) -> bool:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request.answer(code, {"error": code}, named)
        return True

    return fault


def body(raw: bytes) -> Fault:
    """Answer 200 with these bytes."""

    def fault(request: Request) -> bool:
        request.send(200, raw)
        return True

    return fault


def cut_off(request: Request) -> bool:
    """Promise more than is sent, and hang up."""
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b'{"data": [')
    return True


def dripping(seconds: float) -> Fault:
    """Send a byte now and then, for so long: never silent for long, and never done."""

    def fault(request: Request) -> bool:
        request.send_response(200)
        request.end_headers()
        end = time.monotonic() + seconds
        with suppress(OSError):
            while time.monotonic() < end:
                request.wfile.write(b" ")
                request.wfile.flush()
                time.sleep(0.02)
        return True

    return fault
