"""What a payment does to its order: one function, whoever tells of the payment.

A provider's webhook, the reconciliation and our own capture all end here, in any order and as often
as they like. What is known already changes nothing.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from jobs import Tickwork

from . import reviews, rules
from .states import move
from .steps import cancel, give_back, go_on
from .tables import orders, payments, utc

# A payment only goes on; a card that was refused may be tried again.
RANK: Final = ("failed", "authorised", "captured", "given back")


class Told(NamedTuple):
    """What is said of a payment: of which order, how many paise, in which of the states of RANK."""

    provider: str
    payment_id: str
    order_id: str
    amount: int
    status: str


def hear(tickwork: Tickwork, connection: Any, told: Told) -> str:
    """Write a payment down, and do what follows for its order, in the caller's transaction."""
    order = connection.execute(
        sa.select(orders).where(orders.c.id == told.order_id).with_for_update()
    ).first()
    if order is None:
        return "no order of this shop"
    if not _note(tickwork, connection, told):
        return "known already"
    if told.status == "failed":
        return _failed(tickwork, connection, order)
    if told.status == "given back":
        return _given_back(connection, order)
    if order.status == "cancelled" or order.payment_id not in (None, told.payment_id):
        give_back(tickwork, connection, told.payment_id)
        return "nobody waits for this money: it goes back"
    if order.status == "pending" and _needs_review(tickwork, connection, order, told):
        move(connection, order.id, "review", payment_id=told.payment_id)
        return "somebody has to look"
    if order.status == "review":
        return "the review goes on"
    return go_on(tickwork, connection, order.id, told.payment_id, told.status)


def _note(tickwork: Tickwork, connection: Any, told: Told) -> bool:
    known = connection.scalar(sa.select(payments.c.status).where(payments.c.id == told.payment_id))
    if known is None:
        connection.execute(
            sa.insert(payments).values(
                id=told.payment_id,
                provider=told.provider,
                order_id=told.order_id,
                amount=told.amount,
                status=told.status,
                heard_at=utc(tickwork),
            )
        )
        return True
    if RANK.index(told.status) <= RANK.index(known):
        return False
    connection.execute(
        sa.update(payments)
        .where(payments.c.id == told.payment_id)
        .values(status=told.status, amount=told.amount, heard_at=utc(tickwork))
    )
    return True


def _failed(tickwork: Tickwork, connection: Any, order: sa.Row[Any]) -> str:
    cancelled = cancel(
        tickwork,
        connection,
        order.id,
        "the payment failed",
        start=("pending",),
        release="payment failure",
    )
    return "the order is cancelled" if cancelled else "the order goes by another payment"


def _given_back(connection: Any, order: sa.Row[Any]) -> str:
    refunded = move(connection, order.id, "refunded")
    return "refunded" if refunded else "given back"


def _needs_review(tickwork: Tickwork, connection: Any, order: sa.Row[Any], told: Told) -> bool:
    found = rules.suspicions(_facts(tickwork, connection, order, told))
    if found:
        reviews.ask(tickwork, connection, "suspicious-payment", order.id, "; ".join(found))
    is_high = rules.is_high_value(order.total)
    if is_high:
        because = f"{order.number} is above Rs 50,000"
        reviews.ask(tickwork, connection, "high-value-order", order.id, because)
    return is_high or bool(found)


def _facts(tickwork: Tickwork, connection: Any, order: sa.Row[Any], told: Told) -> rules.Facts:
    now = utc(tickwork)
    own = orders.c.customer_id == order.customer_id
    return rules.Facts(
        total=order.total,
        paid=told.amount,
        failures_of_day=connection.scalar(
            sa.select(sa.func.count())
            .select_from(payments.join(orders, orders.c.id == payments.c.order_id))
            .where(
                own,
                payments.c.status == "failed",
                payments.c.heard_at > now - dt.timedelta(days=1),
            )
        ),
        orders_of_hour=connection.scalar(
            sa.select(sa.func.count())
            .select_from(orders)
            .where(own, orders.c.created_at > now - dt.timedelta(hours=1))
        ),
    )
