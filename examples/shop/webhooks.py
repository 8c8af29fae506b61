"""What Stripe and Razorpay tell: checked, enqueued once and answered by `/webhooks/<provider>`.

An intent of Stripe bears the order in `metadata.orderId`, a payment of Razorpay in `notes.orderId`.
Razorpay proves the body and not the event's id: the payment's own state makes a repeat harmless.
"""

from __future__ import annotations

from typing import Any

from jobs.handlers.incoming import on_webhook

from .orders import keep
from .payments import Told, hear

_QUEUE = "payment-webhook"


def told_by_stripe(intent: dict[str, Any], status: str) -> Told:
    """What a PaymentIntent says, in the state that its event names."""
    order_id = (intent.get("metadata") or {}).get("orderId", "")
    return Told("stripe", intent["id"], order_id, intent["amount"], status)


def told_by_razorpay(payment: dict[str, Any], status: str) -> Told:
    """The same of a payment of Razorpay, whose empty notes are a list."""
    order_id = dict(payment.get("notes") or {}).get("orderId", "")
    return Told("razorpay", payment["id"], order_id, payment["amount"], status)


@on_webhook("stripe", "payment_intent.amount_capturable_updated", queue=_QUEUE)
def stripe_authorised(event: dict[str, Any]) -> str:
    """The money is held."""
    return _stripe(event, "authorised")


@on_webhook("stripe", "payment_intent.succeeded", queue=_QUEUE)
def stripe_captured(event: dict[str, Any]) -> str:
    """The money is ours."""
    return _stripe(event, "captured")


@on_webhook("stripe", "payment_intent.payment_failed", queue=_QUEUE)
def stripe_failed(event: dict[str, Any]) -> str:
    """There is no money."""
    return _stripe(event, "failed")


@on_webhook("razorpay", "payment.authorized", queue=_QUEUE)
def razorpay_authorized(event: dict[str, Any]) -> str:
    """The money is held."""
    return _razorpay(event, "authorised")


@on_webhook("razorpay", "payment.captured", queue=_QUEUE)
def razorpay_captured(event: dict[str, Any]) -> str:
    """The money is ours."""
    return _razorpay(event, "captured")


@on_webhook("razorpay", "payment.failed", queue=_QUEUE)
def razorpay_failed(event: dict[str, Any]) -> str:
    """There is no money."""
    return _razorpay(event, "failed")


def _stripe(event: dict[str, Any], status: str) -> str:
    return _hear(told_by_stripe(event["payload"]["data"]["object"], status))


def _razorpay(event: dict[str, Any], status: str) -> str:
    return _hear(told_by_razorpay(event["payload"]["payload"]["payment"]["entity"], status))


def _hear(told: Told) -> str:
    tickwork = stripe_authorised.system
    with tickwork.engine.begin() as connection:
        said = hear(tickwork, connection, told)
    # Not within: the job's row is the queue's to lock. Who dies here leaves a job that will find
    # the order paid.
    keep(tickwork, told.order_id)
    return said
