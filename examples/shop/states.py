"""The states of an order, and the one statement that changes them.

    pending -> capturing -> paid -> shipped -> delivered
            -> review    -> capturing | paid
            -> cancelled             (from capturing and review as well)
    paid, shipped, delivered -> refunding -> refunded

Whoever comes second changes nothing: a payment and the cancellation at its heels cannot both win.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from .tables import orders

FROM: Final = {
    "review": ("pending",),
    "capturing": ("pending", "review"),
    "paid": ("pending", "review", "capturing"),
    "cancelled": ("pending", "review", "capturing"),
    "shipped": ("paid",),
    "delivered": ("paid", "shipped"),
    "refunding": ("paid", "shipped", "delivered"),
    "refunded": ("refunding",),
}


def move(
    connection: Any, order_id: str, target: str, *, start: tuple[str, ...] = (), **values: Any
) -> bool:
    """Take an order to a state; false, and nothing is written, if it is not where that begins.

    connection: a SQLAlchemy connection or session
    start: the states that it may come from, where those are fewer than usual
    values: further columns of the order
    """
    changed = connection.execute(
        sa.update(orders)
        .where(orders.c.id == order_id, orders.c.status.in_(start or FROM[target]))
        .values(status=target, **values)
    )
    return bool(changed.rowcount)
