"""A parcel has left, or has arrived."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

import sqlalchemy as sa

from jobs import Discard, JobContext, handler
from jobs.handlers.email import queue_email

from . import stock
from .orders import MAIL
from .states import move
from .tables import customers, orders


class StatusUpdate(TypedDict):
    """What became of a parcel."""

    orderId: str
    status: Literal["shipped", "delivered"]
    carrier: NotRequired[str]
    trackingNumber: NotRequired[str]


@handler("update-order-status", queue="order", transactional=True)
def update_order_status(payload: StatusUpdate, ctx: JobContext) -> str:
    """A parcel has left or has arrived; the customer hears of it in the same transaction."""
    session, order_id, status = ctx.session, payload["orderId"], payload["status"]
    if not move(session, order_id, status):
        found = session.scalar(sa.select(orders.c.status).where(orders.c.id == order_id))
        if found in ("shipped", "delivered"):
            return f"it is {found} already"
        raise Discard(f"an order that is {found or 'unknown'} cannot be {status}")
    stock.take(session, order_id)
    if status == "shipped":
        _tell_of_parcel(session, payload)
    return status


def _tell_of_parcel(session: Any, payload: StatusUpdate) -> None:
    order = session.execute(
        sa.select(orders.c.number, customers.c.name, customers.c.email)
        .join(customers, customers.c.id == orders.c.customer_id)
        .where(orders.c.id == payload["orderId"])
    ).one()
    told = {name: payload[name] for name in ("carrier", "trackingNumber") if name in payload}
    queue_email(
        to=order.email,
        template="shipping-notification",
        data={"orderNumber": order.number, "name": order.name, **told},
        session=session,
        tickwork=update_order_status.system,
        **MAIL,
    )
