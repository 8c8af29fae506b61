"""The connector for REST APIs, against a real server."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from jobs import ConfigurationError
from jobs.handlers.sync import (
    AuthRefused,
    Basic,
    Bearer,
    HeaderToken,
    LastItem,
    LinkHeader,
    NextCursor,
    NextUrl,
    Offset,
    OnePage,
    PageNumber,
    PlatformDown,
    PlatformRefused,
    RateLimited,
    RestConnector,
    Window,
)
from jobs.handlers.sync import rest as rest_module
from jobs.handlers.sync.paging import Paging
from tests.sync.shop import TOKEN, Fault, Shop, body, cut_off, dripping, orders, selling, status

BEARER = Bearer("env:SHOP_TOKEN")


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    with selling(orders(10)) as shop:
        yield shop


def connector(shop: Shop, paging: Paging | None = None, **more: Any) -> RestConnector:
    more = {"credentials": BEARER, "items": "/data", **more}
    return RestConnector(shop.list_url, paging=paging or OnePage(), **more)


def read_all(connector: RestConnector, since: datetime | None = None) -> list[int]:
    ids: list[int] = []
    cursor = None
    for _ in range(50):
        page = connector.page(cursor, since, None)
        ids += [item["id"] for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return ids
    raise AssertionError("it never ends")


STYLES: dict[str, tuple[Paging, int]] = {
    "link header": (LinkHeader(), 4),
    "url in the body": (NextUrl("/meta/url"), 4),
    "cursor": (NextCursor("cursor", "/meta/next"), 4),
    "last item": (LastItem("starting_after", "/id", "/has_more"), 4),
    "page": (PageNumber(), 5),  # the fifth is empty
    "offset": (Offset(size=3), 4),
    "offset, all pages full": (Offset(size=5), 3),
}


@pytest.mark.parametrize(("paging", "requests"), STYLES.values(), ids=STYLES)
@pytest.mark.parametrize("since", [None, datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)], ids=str)
def test_every_style_brings_every_item_once(
    shop: Shop, paging: Paging, requests: int, since: datetime | None
) -> None:
    found = read_all(connector(shop, paging, window=Window("since")), since)

    assert found == list(range(1 if since is None else 5, 11))
    assert all(("since" in asked.query) == (since is not None) for asked in shop.asked)
    if since is None:
        assert len(shop.asked) == requests


def test_the_window_is_written_as_the_api_wants_it() -> None:
    since, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    assert Window("a", "b").parameters(since, until) == {
        "a": "2026-01-01T00:00:00Z",
        "b": "2026-02-01T00:00:00Z",
    }
    assert Window("a", unix=True).parameters(since, until) == {"a": "1767225600"}
    assert Window("a", "b").parameters(None, None) == {}


FAULTS: dict[str, tuple[Fault, type[Exception], str]] = {
    "401": (status(401), AuthRefused, "answered 401"),
    "403": (status(403), AuthRefused, "answered 403"),
    "404": (status(404), PlatformRefused, "answered 404"),
    "400": (status(400), PlatformRefused, "answered 400"),
    "500": (status(500), PlatformDown, "answered 500"),
    "503": (status(503), PlatformDown, "answered 503"),
    "408": (status(408), PlatformDown, "answered 408"),
    "redirect": (status(302, Location="http://evil.example/"), PlatformRefused, "redirects"),
    "broken JSON": (body(b'{"data": ['), PlatformDown, "no JSON"),
    "deep JSON": (body(b"[" * 100_000), PlatformDown, "no JSON"),
    "not UTF-8": (body(b"\xff\xfe\x00"), PlatformDown, "no JSON"),
    "no items": (body(b'{"error": 1}'), PlatformDown, "nothing at '/data'"),
    "items are no array": (body(b'{"data": {}}'), PlatformDown, "no array"),
    "cut off": (cut_off, PlatformDown, "cannot be read"),
}


@pytest.mark.parametrize(("fault", "raised", "said"), FAULTS.values(), ids=FAULTS)
def test_what_goes_wrong_is_told_without_secrets(
    shop: Shop, fault: Fault, raised: type[Exception], said: str
) -> None:
    shop.faults[1] = fault
    with pytest.raises(raised, match=said) as caught:
        connector(shop, parameters={"key": "hunter2"}).page(None, None, None)
    assert "hunter2" not in str(caught.value)
    assert TOKEN not in str(caught.value)


LATER: dict[str, tuple[Fault, float]] = {
    "429, seconds": (status(429, Retry_After="7"), 7),
    "429, silent": (status(429), 60),
    "429, nonsense": (status(429, Retry_After="soon"), 60),
    "429, for ever": (status(429, Retry_After="999999999"), 21_600),
    "429, at once": (status(429, Retry_After="0"), 1),
    "429, a date gone by": (status(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), 1),
    "503": (status(503, Retry_After="30"), 30),
    "403 with a time": (status(403, Retry_After="5"), 5),
    "403, spent": (status(403, X_RateLimit_Remaining="0"), 60),
}


@pytest.mark.parametrize(("fault", "seconds"), LATER.values(), ids=LATER)
def test_later_is_told_with_its_time(shop: Shop, fault: Fault, seconds: float) -> None:
    shop.faults[1] = fault
    with pytest.raises(RateLimited) as caught:
        connector(shop).page(None, None, None)
    assert caught.value.after_seconds == seconds


def test_a_slow_body_is_given_up(shop: Shop) -> None:
    shop.faults[1] = dripping(5)
    begun = time.monotonic()
    with pytest.raises(PlatformDown, match=r"took over 0.2 s"):
        connector(shop, timeout_seconds=0.2).page(None, None, None)
    assert time.monotonic() - begun < 3


def test_a_page_is_bounded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_module, "PAGE_MAX_BYTES", 100)
    with pytest.raises(PlatformRefused, match="over 100 bytes"):
        connector(shop).page(None, None, None)


def test_nobody_there(shop: Shop) -> None:
    gone = RestConnector("http://127.0.0.1:9/orders", credentials=BEARER)
    with pytest.raises(PlatformDown, match=r"127.0.0.1/orders cannot be read"):
        gone.page(None, None, None)


@pytest.mark.parametrize(
    "elsewhere",
    ["http://evil.example/x", "https://127.0.0.1/x", "//evil.example/x", "http://127.0.0.1:x/"],
)
def test_credentials_go_to_no_other_host(shop: Shop, elsewhere: str) -> None:
    with pytest.raises(PlatformRefused, match="another host"):
        connector(shop, LinkHeader()).page(elsewhere, None, None)
    assert shop.asked == []


def test_a_relative_next_url_is_followed(shop: Shop) -> None:
    page = connector(shop, LinkHeader()).page("/orders?offset=9", None, None)
    assert [item["id"] for item in page.items] == [10]


def test_credentials_are_sent_as_the_api_wants_them(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER_NAME", "ann")
    shop.faults = {n: body(b"[]") for n in (1, 2)}
    RestConnector(shop.list_url, credentials=Basic("env:USER_NAME", lambda: "s3cret")).page(
        None, None, None
    )
    RestConnector(shop.list_url, credentials=HeaderToken("X-Shop-Token", "env:SHOP_TOKEN")).page(
        None, None, None
    )
    encoded = base64.b64encode(b"ann:s3cret").decode()
    assert shop.asked[0].headers["authorization"] == f"Basic {encoded}"
    assert shop.asked[1].headers["x-shop-token"] == TOKEN


def test_secrets_are_named_and_never_shown(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="env:NAME"):
        Bearer("sk_live_123")
    monkeypatch.delenv("SHOP_TOKEN")
    with pytest.raises(PlatformRefused, match="SHOP_TOKEN is not set"):
        connector(shop).page(None, None, None)
    monkeypatch.setenv("SHOP_TOKEN", "two\r\nlines-of-secret")
    with pytest.raises(PlatformRefused, match="cannot be sent") as caught:
        connector(shop).page(None, None, None)
    assert "lines-of-secret" not in str(caught.value)
    assert "secret" not in repr(Basic("env:A", lambda: "secret"))


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("ftp://example.org/x", {}),
        ("https://example.org/x?key=1", {}),
        ("https://ann:pw@example.org/x", {}),
        ("http://example.org/x", {"credentials": BEARER}),
        ("https://example.org/x", {"items": "data"}),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_at_once(url: str, more: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RestConnector(url, **more)


def test_links_of_every_spelling() -> None:
    from jobs.handlers.sync.paging import Answer

    for header, wanted in {
        '<https://a/1>; rel="next"': "https://a/1",
        "<https://a/1>; rel=next": "https://a/1",
        '<https://a/0>; rel="prev", <https://a/2?x=1,2>; title="t"; REL="last next"': "https://a/2?x=1,2",
        '<https://a/0>; rel="nextish"': None,
        "nonsense": None,
        "": None,
    }.items():
        assert LinkHeader().next_cursor(Answer(None, [], {"link": header}), None) == wanted
