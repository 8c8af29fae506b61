"""The five mails, each a kind of its own with three attempts."""

from __future__ import annotations

from typing import Any, TypedDict

from jobs import JobContext, exponential, handler
from jobs.handlers.email import EmailJob, email


class EscrowMail(TypedDict):
    """About one escrow, to one person; `amount` in cents."""

    transactionId: str
    recipientEmail: str
    amount: int
    currency: str
    status: str


_MAIL: Any = {
    "queue": "emails",
    "max_attempts": 3,
    "backoff": exponential(10),
    "timeout": 30,
    "log_context": ["transactionId", "recipientEmail"],
}


@handler("send_release_email", **_MAIL)
def send_release_email(payload: EscrowMail, ctx: JobContext) -> dict[str, Any]:
    """Tell the seller that the money is on its way."""
    return _send(payload, ctx, "Payment released", "The buyer has released {money} to you.")


@handler("send_refund_email", **_MAIL)
def send_refund_email(payload: EscrowMail, ctx: JobContext) -> dict[str, Any]:
    """Tell the buyer that the money comes back."""
    return _send(payload, ctx, "Payment refunded", "{money} goes back to your card.")


@handler("send_dispute_email", **_MAIL)
def send_dispute_email(payload: EscrowMail, ctx: JobContext) -> dict[str, Any]:
    """Tell one of the two that there is a dispute; the other gets a mail of his own."""
    return _send(payload, ctx, "Dispute opened", "{money} stay held until the dispute is resolved.")


@handler("send_payment_confirmed_email", **_MAIL)
def send_payment_confirmed_email(payload: EscrowMail, ctx: JobContext) -> dict[str, Any]:
    """Tell the buyer that the money is held."""
    return _send(payload, ctx, "Payment received", "We hold {money} until you release it.")


@handler("notify_dispute_resolved", **_MAIL)
def notify_dispute_resolved(payload: EscrowMail, ctx: JobContext) -> dict[str, Any]:
    """Tell one of the two how the dispute ended."""
    return _send(payload, ctx, "Dispute resolved", "The dispute is over: {money} {status}.")


def _send(payload: EscrowMail, ctx: JobContext, subject: str, text: str) -> dict[str, Any]:
    money = f"{payload['currency']} {payload['amount'] / 100:,.2f}"
    mail = EmailJob(
        to=payload["recipientEmail"],
        subject=f"{subject} ({payload['transactionId']})",
        text=text.format(money=money, status=payload["status"]) + "\n",
    )
    # The battery's handler: every attempt of this job has the same Message-ID.
    sent: dict[str, Any] = email(mail, ctx)
    return sent
