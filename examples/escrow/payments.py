"""Money as jobs: what finishes an action that its request could not, and what Stripe tells us."""

from __future__ import annotations

from typing import Any, TypedDict

import sqlalchemy as sa

from jobs import Discard, JobContext, exponential, handler
from jobs.handlers.incoming import on_webhook

from . import effects, service, stripe
from .tables import escrows


class Movement(TypedDict):
    """An action that was begun, and by whom."""

    transactionId: str
    actor: str


_MONEY: Any = {
    "queue": "payments",
    "max_attempts": 3,
    "backoff": exponential(30),
    "timeout": 30,
    "log_context": ["transactionId"],
}


@handler("stripe_capture_payment", **_MONEY)
def stripe_capture_payment(payload: Movement, ctx: JobContext) -> str:
    """Finish a release."""
    return _finish(stripe_capture_payment.system, "release", payload)


@handler("stripe_refund_payment", **_MONEY)
def stripe_refund_payment(payload: Movement, ctx: JobContext) -> str:
    """Finish a refund."""
    return _finish(stripe_refund_payment.system, "refund", payload)


def _finish(tickwork: Any, action: str, payload: Movement) -> str:
    try:
        done = service.finish(tickwork, action, payload["transactionId"], payload["actor"])
    except stripe.DeclinedError as error:
        raise Discard(str(error)) from error  # another attempt would hear the same
    except service.NotFoundError:
        raise Discard("the escrow is gone") from None
    return f"{action} finished" if done else "nothing was left to do"


@on_webhook("stripe", "payment_intent.amount_capturable_updated", transactional=True)
def payment_authorised(event: dict[str, Any], ctx: JobContext) -> str:
    """The buyer has paid and the money is held. Repeated by Stripe, it changes nothing."""
    intent = event["payload"]["data"]["object"]["id"]
    session = ctx.session
    funded = session.execute(
        sa.update(escrows)
        .where(escrows.c.payment_intent == intent, escrows.c.status == "created")
        .values(status="funded")
    )
    if funded.rowcount == 0:
        return "nothing waits for this payment"
    escrow = session.execute(sa.select(escrows).where(escrows.c.payment_intent == intent)).one()
    effects.tell(payment_authorised.system, session, escrow, "fund", "stripe")
    return "funded"
