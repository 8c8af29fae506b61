"""Who is told of what: the side effects of a change, enqueued in the transaction that makes it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from jobs import Tickwork

from .machine import DONE
from .tables import users

_MAIL = {
    "release": ("send_release_email", ("seller",)),
    "refund": ("send_refund_email", ("buyer",)),
    "dispute": ("send_dispute_email", ("buyer", "seller")),
    "fund": ("send_payment_confirmed_email", ("buyer",)),
}


def tell(
    tickwork: Tickwork, connection: sa.Connection, escrow: sa.Row[Any], action: str, actor: str
) -> None:
    """Enqueue the mails, the partner's webhook and the audit entry of one change.

    connection: the transaction that makes the change; the jobs commit with it or not at all
    escrow: the row as it was before
    actor: who did it
    """
    kind, roles = _MAIL[action]
    to_tell = [(kind, role) for role in roles]
    if action in ("release", "refund") and escrow.was_disputed:
        to_tell += [("notify_dispute_resolved", role) for role in ("buyer", "seller")]
    status = DONE.get(action, "funded")
    for mail, role in to_tell:
        user_id = escrow.buyer_id if role == "buyer" else escrow.seller_id
        tickwork.enqueue(
            mail,
            {
                "transactionId": escrow.id,
                "recipientEmail": connection.scalar(
                    sa.select(users.c.email).where(users.c.id == user_id)
                ),
                "amount": escrow.amount,
                "currency": escrow.currency,
                "status": status,
            },
            session=connection,
            dedupe_key=f"escrow-{escrow.id}-{action}-email-{role}",
        )
    tickwork.enqueue(
        "webhook_escrow_status_changed",
        {"transactionId": escrow.id, "status": status},
        session=connection,
        dedupe_key=f"escrow-{escrow.id}-{status}-webhook",
    )
    # Nobody's release is to fail because the audit's job would not be taken.
    tickwork.try_enqueue(
        "audit_log_created",
        {"transactionId": escrow.id, "action": f"escrow.{status}", "actor": actor},
        session=connection,
    )
