"""What is asked for by the hour: the ERP's stock, and payments that no webhook told of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from jobs import JobContext, handler
from jobs.handlers.sync import (
    Basic,
    Bearer,
    DataSync,
    LastItem,
    Offset,
    Platform,
    RestConnector,
    Window,
    add_platform,
    data_sync,
    queue_data_sync,
)

from .payments import Told, hear
from .providers import RAZORPAY_STATES, STRIPE_STATES
from .tables import products
from .webhooks import told_by_razorpay, told_by_stripe

SHOP = "shop"
DAY_SECONDS = 86_400.0
STOCK_SYNC: dict[str, Any] = {
    "integrationId": "erp-stock",
    "organizationId": SHOP,
    "platform": "erp-stock",
    "syncType": "full",
}
"""The payload of the schedule `stock-sync`."""
_KEYS = {"stripe": "STRIPE_SECRET_KEY", "razorpay": "RAZORPAY_KEY_ID"}


@handler("payment-reconciliation", queue="payment-webhook", transactional=True)
def payment_reconciliation(payload: dict[str, Any], ctx: JobContext) -> list[str]:
    """Read the payments of a day from each provider, one sync for each that has its key here."""
    asked = [name for name, key in _KEYS.items() if os.environ.get(key)]
    for name in asked:
        queue_data_sync(
            integration_id=f"{name}-payments",
            organization_id=SHOP,
            platform=f"{name}-payments",
            session=ctx.session,
            tickwork=payment_reconciliation.system,
        )
    return asked


def declare() -> None:
    """Make the three platforms known to the sync battery."""
    add_platform(Platform("erp-stock", _erp, _save_stock))
    # A payment may take its time, and is listed by when it was begun.
    add_platform(Platform("stripe-payments", _stripe, _hear_stripe, overlap_seconds=DAY_SECONDS))
    add_platform(
        Platform("razorpay-payments", _razorpay, _hear_razorpay, overlap_seconds=DAY_SECONDS)
    )


def _erp(request: DataSync) -> RestConnector:
    return RestConnector(
        f"{os.environ['ERP_URL']}/stock",
        items="/products",
        paging=Offset(),
        credentials=Bearer("env:ERP_TOKEN"),
    )


def _save_stock(connection: sa.Connection, items: Sequence[Any], request: DataSync) -> None:
    for item in sorted(items, key=lambda item: item["sku"]):
        of_sku = sa.update(products).where(products.c.sku == item["sku"])
        connection.execute(of_sku.values(stock=item["onHand"]))


def _stripe(request: DataSync) -> RestConnector:
    base = os.environ.get("STRIPE_API_URL", "https://api.stripe.com")
    return RestConnector(
        f"{base}/v1/payment_intents",
        items="/data",
        paging=LastItem("starting_after", "/id", "/has_more"),
        credentials=Bearer("env:STRIPE_SECRET_KEY"),
        window=Window("created[gte]", unix=True),
        parameters={"limit": "100"},
    )


def _razorpay(request: DataSync) -> RestConnector:
    base = os.environ.get("RAZORPAY_API_URL", "https://api.razorpay.com")
    return RestConnector(
        f"{base}/v1/payments",
        items="/items",
        paging=Offset("skip", "count"),
        credentials=Basic("env:RAZORPAY_KEY_ID", "env:RAZORPAY_KEY_SECRET"),
        window=Window("from", unix=True),
    )


def _hear_stripe(connection: sa.Connection, items: Sequence[Any], request: DataSync) -> None:
    known = [item for item in items if item["status"] in STRIPE_STATES]
    _hear(connection, [told_by_stripe(item, STRIPE_STATES[item["status"]]) for item in known])


def _hear_razorpay(connection: sa.Connection, items: Sequence[Any], request: DataSync) -> None:
    known = [item for item in items if item["status"] in RAZORPAY_STATES]
    _hear(connection, [told_by_razorpay(item, RAZORPAY_STATES[item["status"]]) for item in known])


def _hear(connection: sa.Connection, told: Sequence[Told]) -> None:
    for each in sorted(told, key=lambda one: one.order_id):
        hear(data_sync.system, connection, each)


declare()
