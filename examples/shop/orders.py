"""An order is placed, and cancelled when nobody pays within an hour."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypedDict

import sqlalchemy as sa

from jobs import JobContext, JobNotFound, JobStateConflict, Tickwork, exponential, handler

from . import stock
from .steps import cancel
from .tables import CURRENCY, new_id, order_lines, orders, utc

UNPAID_SECONDS = 3600
"""After this an order that nobody has paid is cancelled."""
MAIL: Any = {"max_attempts": 3, "backoff": exponential(2)}


class OrderRef(TypedDict):
    """Which order."""

    orderId: str


def place(tickwork: Tickwork, customer: sa.Row[Any], wanted: Mapping[str, int]) -> dict[str, Any]:
    """Save an order, reserve its goods, enqueue its mail and its end: all of it, or nothing.

    wanted: quantities by SKU
    Raises stock.OutOfStockError.
    """
    order_id = new_id()
    number = f"ORD-{order_id[:8].upper()}"
    with tickwork.engine.begin() as connection:
        lines = stock.reserve(connection, wanted)
        total = sum(line["price"] * line["quantity"] for line in lines)
        connection.execute(
            sa.insert(orders).values(
                id=order_id,
                number=number,
                customer_id=customer.id,
                total=total,
                created_at=utc(tickwork),
            )
        )
        connection.execute(
            sa.insert(order_lines), [{"order_id": order_id, **line} for line in lines]
        )
        tickwork.enqueue(
            "send-order-confirmation",
            {
                "to": customer.email,
                "subject": "Order Confirmed",
                "template": "order_confirmation",
                "data": {
                    "orderNumber": number,
                    "items": [
                        {
                            "name": line["name"],
                            "quantity": line["quantity"],
                            "price": line["price"] / 100,
                        }
                        for line in lines
                    ],
                    "total": total / 100,
                    "currency": CURRENCY,
                },
            },
            session=connection,
            **MAIL,
        )
        auto_cancel.enqueue(
            {"orderId": order_id},
            delay=UNPAID_SECONDS,
            job_id=f"cancel-{order_id}",
            session=connection,
        )
    return {"orderId": order_id, "orderNumber": number, "total": total, "status": "pending"}


def keep(tickwork: Tickwork, order_id: str) -> None:
    """Take the automatic cancellation back; for after the commit that made it needless."""
    # Where it has run, or runs now, it goes by the order's state.
    with suppress(JobNotFound, JobStateConflict):
        tickwork.cancel(f"cancel-{order_id}")


@handler("auto-cancel", queue="order", transactional=True)
def auto_cancel(payload: OrderRef, ctx: JobContext) -> str:
    """Cancel an order that nobody has paid; one that was paid meanwhile stays as it is."""
    is_mine = cancel(
        auto_cancel.system,
        ctx.session,
        payload["orderId"],
        "nobody paid within an hour",
        start=("pending",),
    )
    return "cancelled" if is_mine else "somebody has paid, or cancelled it before"
