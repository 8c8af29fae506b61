"""What a person has to decide, one at a time.

A review is a job that gives itself up with its reason until somebody has decided: so it stands
among the dead letters, where people look, and nothing but a decision puts it back. It then does
what was decided.
"""

from __future__ import annotations

from typing import Any, TypedDict

import sqlalchemy as sa

from jobs import Discard, JobContext, JobStateConflict, State, Tickwork, handler

from .states import move
from .steps import cancel, give_back, go_on
from .tables import new_id, orders, payments, reviews


class ReviewRef(TypedDict):
    """Which review."""

    reviewId: str


class NotDecidedError(Exception):
    """The decision cannot be taken, or not now; the text says why."""


# The preset limits the lane to one. A decision may take longer than a dead letter lives.
_LANE: Any = {"queue": "manual-review", "remove_on_fail": False}


@handler("high-value-order", **_LANE)
def high_value_order(payload: ReviewRef, ctx: JobContext) -> str:
    """An order of more than Rs 50,000."""
    return _payment_decided(high_value_order.system, payload)


@handler("suspicious-payment", **_LANE)
def suspicious_payment(payload: ReviewRef, ctx: JobContext) -> str:
    """A payment that the rules find odd."""
    return _payment_decided(suspicious_payment.system, payload)


@handler("return-request", **_LANE)
def return_request(payload: ReviewRef, ctx: JobContext) -> str:
    """A customer wants to send an order back."""
    tickwork = return_request.system
    with tickwork.engine.begin() as connection:
        review = look(connection, payload)
        if review.decision == "refuse":
            return "the order stays"
        if not move(connection, review.order_id, "refunding"):
            return "the money went back before"
        order = sa.select(orders.c.payment_id).where(orders.c.id == review.order_id)
        give_back(tickwork, connection, connection.scalar(order))
    return "the money goes back"


def ask(tickwork: Tickwork, connection: Any, kind: str, order_id: str, because: str) -> str:
    """Let somebody decide; returns the review's id. One of a kind for each order.

    connection: the transaction that has found the reason
    """
    review_id = new_id()
    connection.execute(
        sa.insert(reviews).values(id=review_id, kind=kind, order_id=order_id, because=because)
    )
    tickwork.enqueue(
        kind, {"reviewId": review_id}, job_id=f"review-{review_id}", session=connection
    )
    return review_id


def decide(tickwork: Tickwork, review_id: str, decision: str, by: str) -> None:
    """Write a decision down, and let the review's job do it. The same again is harmless.

    decision: `approve` or `refuse`
    by: who decides, for the job's history
    Raises NotDecidedError.
    """
    with tickwork.engine.begin() as connection:
        written = connection.execute(
            sa.update(reviews)
            .where(
                reviews.c.id == review_id,
                sa.or_(reviews.c.decision.is_(None), reviews.c.decision == decision),
            )
            .values(decision=decision)
        )
    if written.rowcount == 0:
        raise NotDecidedError("There is no such review, or it was decided otherwise")
    try:
        tickwork.retry(f"review-{review_id}", by=by)
    except JobStateConflict as conflict:
        if conflict.state != State.COMPLETED:
            # It may have looked before the decision was there.
            raise NotDecidedError("The review is being looked at: decide again") from conflict


def look(connection: sa.Connection, payload: ReviewRef) -> sa.Row[Any]:
    """The review; gives the job up while nobody has decided."""
    of_id = sa.select(reviews).where(reviews.c.id == payload["reviewId"])
    review = connection.execute(of_id).one()
    if review.decision is None:
        raise Discard(f"somebody has to look: {review.because}")
    return review


def _payment_decided(tickwork: Tickwork, payload: ReviewRef) -> str:
    with tickwork.engine.begin() as connection:
        review = look(connection, payload)
        order = connection.execute(
            sa.select(orders).where(orders.c.id == review.order_id).with_for_update()
        ).one()
        if order.status != "review":
            return f"the order is {order.status} already"
        if review.decision == "refuse":
            cancel(tickwork, connection, order.id, "refused by review")
            return "refused"
        others = sa.select(sa.func.count()).where(
            reviews.c.order_id == order.id, reviews.c.decision.is_(None)
        )
        if connection.scalar(others):
            return "approved; another review of the order goes on"
        paid = sa.select(payments.c.status).where(payments.c.id == order.payment_id)
        return go_on(tickwork, connection, order.id, order.payment_id, connection.scalar(paid))
