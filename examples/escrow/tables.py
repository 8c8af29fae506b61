"""The tables of the escrow; amounts are in the smallest unit of the currency (cents)."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

users = sa.Table(
    "escrow_users",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("email", sa.String(254), nullable=False),
    sa.Column("token_sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("is_arbiter", sa.Boolean, nullable=False, default=False),
)

escrows = sa.Table(
    "escrows",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("buyer_id", sa.ForeignKey(users.c.id), nullable=False),
    sa.Column("seller_id", sa.ForeignKey(users.c.id), nullable=False),
    sa.Column("amount", sa.Integer, nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("payment_intent", sa.String(80), nullable=False, unique=True),
    sa.Column("status", sa.String(16), nullable=False, default="created"),
    sa.Column("was_disputed", sa.Boolean, nullable=False, default=False),
    # Counts the times that money was asked to move: a new try after a refusal needs a new key.
    sa.Column("moves", sa.Integer, nullable=False, default=0),
)

audit_log = sa.Table(
    "escrow_audit_log",
    metadata,
    # The job's id: whoever writes an entry twice is refused by the key.
    sa.Column("job_id", sa.String(36), primary_key=True),
    sa.Column("transaction_id", sa.String(36), nullable=False),
    sa.Column("action", sa.String(40), nullable=False),
    sa.Column("actor", sa.String(254), nullable=False),
)
