"""Steps that several lead to: an order goes on, is cancelled, its money goes back.

Each is taken in the transaction that found it due, and with it the jobs that follow.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from jobs import Tickwork

from .states import move
from .tables import payments


def go_on(tickwork: Tickwork, connection: Any, order_id: str, payment_id: str, status: str) -> str:
    """Take the money if it is only held; if it is taken, the order is paid.

    status: of the payment, `authorised` or `captured`
    """
    if status == "authorised":
        if move(connection, order_id, "capturing", payment_id=payment_id):
            tickwork.enqueue("retry-payment-capture", {"paymentId": payment_id}, session=connection)
        return "capturing"
    if move(connection, order_id, "paid", payment_id=payment_id):
        for kind in ("generate-invoice", "sync-with-erp"):
            tickwork.enqueue(kind, {"orderId": order_id}, session=connection)
    return "paid"


def cancel(
    tickwork: Tickwork,
    connection: Any,
    order_id: str,
    because: str,
    *,
    start: tuple[str, ...] = (),
    release: str = "cancellation",
) -> bool:
    """Cancel an order: its goods are free again, its money goes back. False if it is too late.

    connection: the transaction of it, a connection or a session
    start: as for `states.move`
    release: what the job that releases the goods is told
    """
    if not move(connection, order_id, "cancelled", start=start, because=because):
        return False
    tickwork.enqueue(
        "release-inventory", {"orderId": order_id, "because": release}, session=connection
    )
    held = sa.select(payments.c.id).where(
        payments.c.order_id == order_id, payments.c.status.in_(("authorised", "captured"))
    )
    for payment_id in connection.execute(held).scalars().all():
        give_back(tickwork, connection, payment_id)
    return True


def give_back(tickwork: Tickwork, connection: Any, payment_id: str) -> None:
    """Enqueue the refund of a payment, in the transaction that has found it due."""
    tickwork.enqueue(
        "retry-refund",
        {"paymentId": payment_id},
        session=connection,
        dedupe_key=payment_id,
    )
