"""A customer signs up, and gets a new password by a link that nobody but the mail has.

SHOP_URL     where the shop is, for links in mails
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import os
from typing import Any, TypedDict

import sqlalchemy as sa
from werkzeug.security import generate_password_hash

from jobs import Discard, JobContext, Tickwork, handler
from jobs.handlers.email import EmailJob, email, queue_email

from .orders import MAIL
from .tables import customers, new_id, password_resets, utc

RESET_SECONDS = 3600


class ResetRequest(TypedDict):
    """Whose password is forgotten. The job holds no token: it makes one when it runs."""

    email: str


class TakenError(Exception):
    """There is a customer of that address."""


def sign_up(tickwork: Tickwork, name: str, address: str, password: str) -> str:
    """Save a customer and enqueue the welcome; returns the id. Raises TakenError."""
    customer_id = new_id()
    password_hash = generate_password_hash(password)  # slow on purpose: before the lock
    try:
        with tickwork.engine.begin() as connection:
            connection.execute(
                sa.insert(customers).values(
                    id=customer_id,
                    email=address.lower(),
                    name=name,
                    password_hash=password_hash,
                )
            )
            queue_email(
                to=address,
                template="welcome",
                data={"name": name},
                session=connection,
                tickwork=tickwork,
                **MAIL,
            )
    except sa.exc.IntegrityError as error:
        raise TakenError(address) from error
    return customer_id


# Whoever asks for another's mails gets one a minute out of it.
@handler(
    "send-password-reset",
    queue="email",
    dedupe_key=lambda payload: payload["email"],
    dedupe_window=60,
    **MAIL,
)
def send_password_reset(payload: ResetRequest, ctx: JobContext) -> Any:
    """Make a token, keep its digest, mail the token; the same token at every attempt."""
    tickwork = send_password_reset.system
    secret = ctx.settings.secret_key
    if not secret:
        raise Discard("SECRET_KEY is not set: it makes the tokens")
    said = f"password-reset:{ctx.idempotency_key}".encode()
    token = hmac.new(secret.encode("utf-8", "surrogateescape"), said, hashlib.sha256).hexdigest()
    with tickwork.engine.begin() as connection:
        of_email = sa.select(customers).where(customers.c.email == payload["email"])
        customer = connection.execute(of_email).first()
        if customer is None:
            return "nobody has this address"
        if connection.scalar(_of_token(token)) is None:
            connection.execute(
                sa.insert(password_resets).values(
                    token_sha256=_digest(token),
                    customer_id=customer.id,
                    expires_at=utc(tickwork) + dt.timedelta(seconds=RESET_SECONDS),
                )
            )
    url = os.environ.get("SHOP_URL", "http://127.0.0.1:5000")
    mail = EmailJob(
        to=customer.email,
        template="password-reset",
        data={
            "name": customer.name,
            "resetUrl": f"{url}/password?token={token}",
            "expiresIn": "one hour",
        },
    )
    return email(mail, ctx)


def set_password(tickwork: Tickwork, token: str, password: str) -> bool:
    """Set a password by a token that is neither old nor used; false for every other."""
    password_hash = generate_password_hash(password)
    with tickwork.engine.begin() as connection:
        used = connection.execute(
            sa.update(password_resets)
            .where(
                password_resets.c.token_sha256 == _digest(token),
                password_resets.c.used.is_(False),
                password_resets.c.expires_at > utc(tickwork),
            )
            .values(used=True)
        )
        if used.rowcount == 0:
            return False
        of_token = customers.c.id == _of_token(token).scalar_subquery()
        connection.execute(sa.update(customers).where(of_token).values(password_hash=password_hash))
    return True


def _of_token(token: str) -> sa.Select[tuple[str]]:
    return sa.select(password_resets.c.customer_id).where(
        password_resets.c.token_sha256 == _digest(token)
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
