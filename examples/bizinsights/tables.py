"""The tables; each row but an organisation's belongs to one organisation."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

metadata = sa.MetaData()


def new_id() -> str:
    return str(uuid.uuid4())


def _id() -> sa.Column[str]:
    return sa.Column("id", sa.String(36), primary_key=True, default=new_id)


organizations = sa.Table(
    "bi_organizations",
    metadata,
    _id(),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("admin_email", sa.String(254), nullable=False),
    sa.Column("tier", sa.String(20), nullable=False),  # a plan of the battery's TIERS
)


def _organization(*, primary_key: bool = False) -> sa.Column[str]:
    own = sa.ForeignKey(organizations.c.id)
    return sa.Column("organization_id", own, nullable=False, primary_key=primary_key)


integrations = sa.Table(
    "bi_integrations",
    metadata,
    _id(),
    _organization(),
    sa.Column("platform", sa.String(40), nullable=False),
    sa.Column("account", sa.String(120), nullable=False),  # what the platform calls the customer
    sa.Column("sealed_credentials", sa.Text, nullable=False),
    # A shop is one organisation's: its webhooks must have one owner.
    sa.UniqueConstraint("platform", "account"),
)

# One row for each order, charge, day of visits and day of advertising.
records = sa.Table(
    "bi_records",
    metadata,
    _organization(primary_key=True),
    sa.Column("integration_id", sa.ForeignKey(integrations.c.id), primary_key=True),
    sa.Column("platform_id", sa.String(80), primary_key=True),
    sa.Column("measure", sa.String(20), nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("amount", sa.Numeric(14, 2), nullable=False),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    sa.Index("bi_records_by_day", "organization_id", "day"),
)

alerts = sa.Table(
    "bi_alerts",
    metadata,
    sa.Column("key", sa.String(80), primary_key=True),  # the same at every attempt to deliver it
    _organization(),
    sa.Column("alert_type", sa.String(60), nullable=False),
    sa.Column("severity", sa.String(10), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
)
