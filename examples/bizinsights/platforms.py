"""The five platforms: where each is asked, how it pages, and what of an item is kept."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from jobs.handlers.errors import TargetRefused
from jobs.handlers.sync import (
    Basic,
    Bearer,
    Connector,
    DataSync,
    HeaderToken,
    LastItem,
    LinkHeader,
    NextUrl,
    PageNumber,
    Platform,
    PlatformRefused,
    RestConnector,
    Window,
    add_platform,
    data_sync,
)
from jobs.handlers.targets import Allowed, check_target, read_target

from .analytics import GoogleAnalytics
from .credentials import unseal
from .records import Record, save_records
from .tables import integrations

INSTEAD: Final = "BIZINSIGHTS_PLATFORMS"
"""A variable: the address of a server that stands in for all platforms, on a laptop."""

HOSTS: Final = {
    "shopify": "https://{account}.myshopify.com",
    "woocommerce": "https://{account}",
    "stripe": "https://api.stripe.com",
    "google-analytics": "https://analyticsdata.googleapis.com",
    "facebook-ads": "https://graph.facebook.com",
}
_ACCOUNT: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


def check_account(platform: str, account: str) -> None:
    """Raise ValueError for a platform that is not known, and an account that cannot be one.

    A WooCommerce shop stands wherever its owner says: no name of a private network is let in.
    """
    if platform not in HOSTS:
        raise ValueError(f"platform: one of {', '.join(HOSTS)}")
    if not _ACCOUNT.fullmatch(account):
        raise ValueError("account: small letters, digits, '.', '_' and '-'")
    try:
        check_target(read_target(HOSTS[platform].format(account=account)), Allowed())
    except TargetRefused as error:
        raise ValueError(f"account: {error}") from error


def _base(platform: str, account: str) -> str:
    instead = os.environ.get(INSTEAD)
    if instead:
        return f"{instead}/{platform}/{account}"
    return HOSTS[platform].format(account=account)


Connect = Callable[[str, str, Callable[[], str], DataSync], Connector]


def _connect(make: Connect, request: DataSync) -> Connector:
    """The connector of an integration: its row says which account, and holds the credentials."""
    tickwork = data_sync.system
    own = sa.select(integrations).where(
        integrations.c.organization_id == request.organizationId,
        integrations.c.id == request.integrationId,
        integrations.c.platform == request.platform,
    )
    with tickwork.engine.connect() as connection:
        found = connection.execute(own).first()
    if found is None:
        raise PlatformRefused(f"this organisation has no such integration of {request.platform}")
    return make(
        _base(request.platform, found.account),
        found.account,
        partial(unseal, found.sealed_credentials, tickwork),
        request,
    )


# --- how they are asked


def _shopify(base: str, _: str, secret: Callable[[], str], __: DataSync) -> Connector:
    return RestConnector(
        f"{base}/admin/api/2025-01/orders.json",
        items="/orders",
        paging=LinkHeader(),
        credentials=HeaderToken("X-Shopify-Access-Token", secret),
        window=Window("updated_at_min", "updated_at_max"),
        parameters={"limit": "250", "status": "any"},
    )


def _woocommerce(base: str, _: str, secret: Callable[[], str], __: DataSync) -> Connector:
    """Its credentials are `consumer key:consumer secret`."""
    return RestConnector(
        f"{base}/wp-json/wc/v3/orders",
        paging=PageNumber(),
        credentials=Basic(
            lambda: secret().partition(":")[0],
            lambda: secret().partition(":")[2],
        ),
        window=Window("modified_after", "modified_before"),
        parameters={"per_page": "100", "dates_are_gmt": "true"},
    )


def _stripe(base: str, _: str, secret: Callable[[], str], __: DataSync) -> Connector:
    return RestConnector(
        f"{base}/v1/charges",
        items="/data",
        paging=LastItem("starting_after", "/id", "/has_more"),
        credentials=Bearer(secret),
        window=Window("created[gte]", "created[lt]", unix=True),
        parameters={"limit": "100"},
    )


def _analytics(base: str, account: str, secret: Callable[[], str], _: DataSync) -> Connector:
    return GoogleAnalytics(f"{base}/v1beta/properties/{account}", Bearer(secret))


def _facebook(base: str, account: str, secret: Callable[[], str], request: DataSync) -> Connector:
    """Spending is corrected for weeks, so an incremental sync asks for the last thirty days."""
    return RestConnector(
        f"{base}/v21.0/act_{account}/insights",
        items="/data",
        paging=NextUrl("/paging/next"),
        credentials=Bearer(secret),
        parameters={
            "fields": "spend",
            "time_increment": "1",
            "date_preset": "maximum" if request.syncType == "full" else "last_30d",
        },
    )


# --- what is kept


def shopify_order(item: Any) -> Record:
    """A cancelled order counts as an order of nothing."""
    is_sale = item.get("cancelled_at") is None
    return Record(
        str(item["id"]),
        "sales",
        _instant(item["created_at"]).date(),
        Decimal(item["current_total_price"]) if is_sale else Decimal(0),
        _instant(item["updated_at"]),
    )


def _woocommerce_order(item: Any) -> Record:
    is_sale = item["status"] not in ("cancelled", "failed", "refunded")
    return Record(
        str(item["id"]),
        "sales",
        _instant(item["date_created_gmt"]).date(),
        Decimal(item["total"]) if is_sale else Decimal(0),
        _instant(item["date_modified_gmt"]),
    )


def _stripe_charge(item: Any) -> Record:
    at = dt.datetime.fromtimestamp(item["created"], dt.UTC)
    cents = item["amount"] - item["amount_refunded"] if item["status"] == "succeeded" else 0
    return Record(item["id"], "payments", at.date(), Decimal(cents) / 100, at)


def _visits_of_a_day(item: Any) -> Record:
    day = dt.datetime.strptime(item["dimensionValues"][0]["value"], "%Y%m%d").replace(tzinfo=dt.UTC)
    visits = Decimal(item["metricValues"][0]["value"])
    return Record(day.date().isoformat(), "visits", day.date(), visits, day)


def _spending_of_a_day(item: Any) -> Record:
    day = _instant(item["date_start"])
    return Record(item["date_start"], "ad-spend", day.date(), Decimal(item["spend"]), day)


def _instant(text: str) -> dt.datetime:
    """In UTC, which is what the platforms mean where they name no offset."""
    found = dt.datetime.fromisoformat(text)
    return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)


def _save(
    read: Callable[[Any], Record],
    connection: sa.Connection,
    items: Sequence[Any],
    request: DataSync,
) -> None:
    found = [read(item) for item in items]
    save_records(connection, request.organizationId, request.integrationId, found)


def declare() -> None:
    """Make the five platforms known to the kind `data-sync`."""
    for name, make, read in (
        ("shopify", _shopify, shopify_order),
        ("woocommerce", _woocommerce, _woocommerce_order),
        ("stripe", _stripe, _stripe_charge),
        ("google-analytics", _analytics, _visits_of_a_day),
        ("facebook-ads", _facebook, _spending_of_a_day),
    ):
        add_platform(Platform(name, partial(_connect, make), partial(_save, read)))
