"""The critical path: check, move the money, write it down. What can wait is enqueued with it.

One action is two short transactions with the provider's call between them:

1. the row goes to `releasing`, and with it a job that will finish what this process may not;
2. the provider is asked, with a key that makes a repeat harmless;
3. the row goes to `released`, and with it every side effect, as jobs. Both commit, or neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from jobs import Tickwork

from . import effects, machine, stripe
from .tables import escrows

TAKES_OVER_SECONDS = 60
"""After this a job finishes an action whose request did not."""
_TAKES_OVER = {"release": "stripe_capture_payment", "refund": "stripe_refund_payment"}


class NotFoundError(Exception):
    """There is no such escrow, or it is none of the caller's business."""


@dataclass(frozen=True)
class User:
    """Who asks."""

    id: str
    email: str
    is_arbiter: bool


def act(tickwork: Tickwork, action: str, transaction_id: str, user: User) -> str:
    """Release, refund or dispute; returns the state that the escrow is in then.

    Raises NotFoundError, machine.NotAllowedError, stripe.DeclinedError; and
    stripe.OutcomeUnknownError when only the job can tell how it ends.
    """
    begin(tickwork, action, transaction_id, user)
    done = machine.DONE[action]
    if action not in machine.MOVING or finish(tickwork, action, transaction_id, user.email):
        return done
    with tickwork.engine.connect() as connection:
        status: str = find(connection, transaction_id).status
    if status != done:  # the same action, asked for twice at once, was declined
        raise machine.NotAllowedError(f"the escrow is {status} now")
    return done


def begin(tickwork: Tickwork, action: str, transaction_id: str, user: User) -> None:
    """Write down that the action has begun; a dispute moves no money, so it is done with this."""
    with tickwork.engine.begin() as connection:
        escrow = find(connection, transaction_id)
        begins = machine.check(action, _role(escrow, user), escrow.status)
        if not begins:
            return
        moving = machine.MOVING.get(action)
        changed = {"moves": escrow.moves + 1} if moving else {"was_disputed": True}
        target = moving or machine.DONE[action]
        if not _go(connection, escrow, escrow.status, target, **changed):
            raise machine.NotAllowedError("somebody else was faster: look at the escrow again")
        if moving:
            tickwork.enqueue(
                _TAKES_OVER[action],
                {"transactionId": transaction_id, "actor": user.email},
                session=connection,
                delay=TAKES_OVER_SECONDS,
                dedupe_key=f"escrow-{transaction_id}-{action}-{escrow.moves + 1}",
            )
        else:
            effects.tell(tickwork, connection, escrow, action, user.email)


def finish(tickwork: Tickwork, action: str, transaction_id: str, actor: str) -> bool:
    """Move the money and write it down; false when it was written down before.

    The request calls this, and so does the job that takes over: either may come second. A refusal
    of the provider takes the row back to where it came from.
    """
    moving, done = machine.MOVING[action], machine.DONE[action]
    with tickwork.engine.connect() as connection:
        escrow = find(connection, transaction_id)
    if escrow.status != moving:
        return False
    key = f"escrow-{transaction_id}-{action}-{escrow.moves}"
    try:
        stripe.move_money(action, escrow.payment_intent, key)
    except stripe.DeclinedError:
        with tickwork.engine.begin() as connection:
            _go(connection, escrow, moving, "disputed" if escrow.was_disputed else "funded")
        raise
    with tickwork.engine.begin() as connection:
        went = _go(connection, escrow, moving, done)
        if went:
            effects.tell(tickwork, connection, escrow, action, actor)
    return went


def find(connection: sa.Connection, transaction_id: str) -> sa.Row[Any]:
    """The escrow; raises NotFoundError."""
    found = connection.execute(sa.select(escrows).where(escrows.c.id == transaction_id)).first()
    if found is None:
        raise NotFoundError
    return found


def _go(
    connection: sa.Connection, escrow: sa.Row[Any], start: str, target: str, **more: Any
) -> bool:
    """Change the state, if it and its try are still what was read: of two, one comes second."""
    moved = connection.execute(
        sa.update(escrows)
        .where(
            escrows.c.id == escrow.id,
            escrows.c.status == start,
            escrows.c.moves == escrow.moves,
        )
        .values(status=target, **more)
    )
    return moved.rowcount == 1


def _role(escrow: sa.Row[Any], user: User) -> str:
    roles = {escrow.buyer_id: "buyer", escrow.seller_id: "seller"}
    if user.id in roles:
        return roles[user.id]
    if user.is_arbiter:
        return "arbiter"
    raise NotFoundError
