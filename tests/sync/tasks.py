"""The platform of these tests, as a process of its own reads it: where the shop is, is told."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from jobs.handlers.sync import (
    Bearer,
    DataSync,
    NextCursor,
    Platform,
    RestConnector,
    Window,
    add_platform,
)

URL = "SYNC_TEST_URL"
ORDERS = sa.Table(
    "shop_orders",
    sa.MetaData(),
    sa.Column("organization", sa.String(50), primary_key=True),
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("writes", sa.Integer, nullable=False),
)


def save(connection: sa.Connection, items: Sequence[Any], request: DataSync) -> None:
    """Upsert in words that every database knows; `writes` counts how often a row was written."""
    for item in items:
        mine = sa.and_(ORDERS.c.organization == request.organizationId, ORDERS.c.id == item["id"])
        values = {"total": item["total"], "writes": ORDERS.c.writes + 1}
        if connection.execute(sa.update(ORDERS).where(mine).values(values)).rowcount == 0:
            connection.execute(
                sa.insert(ORDERS).values(
                    organization=request.organizationId,
                    id=item["id"],
                    total=item["total"],
                    writes=1,
                )
            )


def connect(request: DataSync) -> RestConnector:
    return RestConnector(
        f"{os.environ[URL]}/orders",
        items="/data",
        paging=NextCursor("cursor", "/meta/next"),
        credentials=Bearer("env:SHOP_TOKEN"),
        window=Window("since", "until"),
        timeout_seconds=5,
    )


SHOPIFY = add_platform(Platform("shopify", connect, save))
