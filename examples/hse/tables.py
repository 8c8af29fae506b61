"""The tables; each row but an organisation's belongs to one organisation."""

from __future__ import annotations

import datetime as dt
import uuid

import sqlalchemy as sa

metadata = sa.MetaData()


def new_id() -> str:
    return str(uuid.uuid4())


def _id() -> sa.Column[str]:
    return sa.Column("id", sa.String(36), primary_key=True, default=new_id)


organizations = sa.Table(
    "hse_organizations",
    metadata,
    _id(),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("admin_email", sa.String(254), nullable=False),
    sa.Column("tier", sa.String(20), nullable=False),
    sa.Column("stripe_customer_id", sa.String(80)),
    # Of the onboarding step that made it: a step that runs again finds its row.
    sa.Column("made_by", sa.String(120), unique=True),
)


def _organization() -> sa.Column[str]:
    return sa.Column("organization_id", sa.ForeignKey(organizations.c.id), nullable=False)


users = sa.Table(
    "hse_users",
    metadata,
    _id(),
    _organization(),
    sa.Column("email", sa.String(254), nullable=False, unique=True),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("password_hash", sa.String(200)),  # none: invited, and no password chosen yet
)

webhooks = sa.Table(
    "hse_webhooks",
    metadata,
    _id(),
    _organization(),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("secret", sa.String(120), nullable=False),
    sa.Column("events", sa.JSON, nullable=False),
)

incidents = sa.Table(
    "hse_incidents",
    metadata,
    _id(),
    _organization(),
    sa.Column("title", sa.String(200), nullable=False),
    sa.Column("severity", sa.String(10), nullable=False),
    sa.Column("status", sa.String(20), nullable=False, default="Open"),
    sa.Column("day", sa.Date, nullable=False),
)


def _records(name: str) -> sa.Table:
    """Audits, permits and the like: what was looked at, when, and how it stands."""
    return sa.Table(
        f"hse_{name}",
        metadata,
        _id(),
        _organization(),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("status", sa.String(20), nullable=False, default="Open"),
        sa.Column("day", sa.Date, nullable=False, default=lambda: dt.datetime.now(dt.UTC).date()),
    )


stations = _records("stations")
audits = _records("audits")
work_permits = _records("work_permits")
contractors = _records("contractors")
