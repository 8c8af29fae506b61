"""Money that moves: captures and refunds, three attempts each, an hour apart.

The provider is asked between two transactions. Whoever dies there is followed by an attempt that
looks first and asks with the same key, so the money moves once.
"""

from __future__ import annotations

from typing import Any, TypedDict

import sqlalchemy as sa

from jobs import Discard, JobContext, handler

from . import providers
from .payments import Told, hear
from .steps import cancel
from .tables import orders, payments


class PaymentRef(TypedDict):
    """Which payment, as its provider calls it."""

    paymentId: str


_MONEY: Any = {"queue": "payment-retry", "timeout": 30, "log_context": ["paymentId"]}


@handler("retry-payment-capture", **_MONEY)
def retry_payment_capture(payload: PaymentRef, ctx: JobContext) -> str:
    """Take the money of an order; a refusal cancels it, and its goods are free again."""
    tickwork = retry_payment_capture.system
    payment = _payment(tickwork, payload)
    if payment.order_status != "capturing":
        return "nothing was left to do"
    try:
        providers.capture(payment.provider, payment.id, payment.amount)
    except providers.DeclinedError as error:
        _declined(tickwork, payment)
        raise Discard(str(error)) from error
    return _hear(tickwork, payment, "captured")


@handler("retry-refund", **_MONEY)
def retry_refund(payload: PaymentRef, ctx: JobContext) -> str:
    """Send the money back, or let it go where it was only held."""
    tickwork = retry_refund.system
    payment = _payment(tickwork, payload)
    if payment.status == "given back":
        return "nothing was left to do"
    try:
        providers.give_back(payment.provider, payment.id, payment.amount)
    except providers.DeclinedError as error:
        raise Discard(str(error)) from error  # a person has to ask the provider
    return _hear(tickwork, payment, "given back")


def _payment(tickwork: Any, payload: PaymentRef) -> sa.Row[Any]:
    with tickwork.engine.connect() as connection:
        found: sa.Row[Any] = connection.execute(
            sa.select(payments, orders.c.status.label("order_status"))
            .join(orders, orders.c.id == payments.c.order_id)
            .where(payments.c.id == payload["paymentId"])
        ).one()
    return found


def _hear(tickwork: Any, payment: sa.Row[Any], status: str) -> str:
    told = Told(payment.provider, payment.id, payment.order_id, payment.amount, status)
    with tickwork.engine.begin() as connection:
        return hear(tickwork, connection, told)


def _declined(tickwork: Any, payment: sa.Row[Any]) -> None:
    with tickwork.engine.begin() as connection:
        connection.execute(
            sa.update(payments).where(payments.c.id == payment.id).values(status="failed")
        )
        because = "the payment could not be captured"
        cancel(
            tickwork,
            connection,
            payment.order_id,
            because,
            start=("capturing",),
            release="payment failure",
        )
