"""What lies in the warehouse and whose it is: reserved with the order, taken or released once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import sqlalchemy as sa

from jobs import JobContext, handler

from .tables import order_lines, orders, products


class OutOfStockError(Exception):
    """There is not enough of a product; the text says of which."""


class Release(TypedDict):
    """Whose stock is free again, and because of what: `payment failure`, `cancellation`."""

    orderId: str
    because: str


def reserve(connection: sa.Connection, wanted: Mapping[str, int]) -> list[dict[str, Any]]:
    """Reserve so many of each SKU; returns the order's lines.

    Raises OutOfStockError; the caller's transaction then takes back what was reserved.
    """
    lines = []
    for sku in sorted(wanted):  # everybody in one order: two baskets never wait for each other
        quantity = wanted[sku]
        reserved = connection.execute(
            sa.update(products)
            .where(products.c.sku == sku, products.c.stock - products.c.reserved >= quantity)
            .values(reserved=products.c.reserved + quantity)
        )
        if reserved.rowcount == 0:
            raise OutOfStockError(f"There is not enough of {sku}")
        found = connection.execute(sa.select(products).where(products.c.sku == sku)).one()
        lines.append({"sku": sku, "name": found.name, "price": found.price, "quantity": quantity})
    return lines


def take(session: Any, order_id: str) -> None:
    """The goods have left: they are no longer in the warehouse, nor reserved."""
    _settle(session, order_id, "taken")


@handler("release-inventory", queue="inventory-release", transactional=True)
def release_inventory(payload: Release, ctx: JobContext) -> str:
    """Give an order's goods back to the others: once, however many jobs of it run."""
    released = _settle(ctx.session, payload["orderId"], "released")
    return f"released: {payload['because']}" if released else "nothing was reserved any more"


def _settle(session: Any, order_id: str, how: str) -> bool:
    settled = session.execute(
        sa.update(orders)
        .where(orders.c.id == order_id, orders.c.stock == "reserved")
        .values(stock=how)
    )
    if settled.rowcount == 0:
        return False
    lines = sa.select(order_lines.c.sku, order_lines.c.quantity)
    of_order = lines.where(order_lines.c.order_id == order_id).order_by(order_lines.c.sku)
    for sku, quantity in session.execute(of_order).all():
        values = {"reserved": products.c.reserved - quantity}
        if how == "taken":
            values["stock"] = products.c.stock - quantity
        session.execute(sa.update(products).where(products.c.sku == sku).values(values))
    return True
