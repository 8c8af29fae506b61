"""A customer whom sales brought: the steps of the kind `tenant-onboarding`.

A step may run twice, when a process dies after it and before that is written down. So each finds
again what it made, by `step.idempotency_key`.
"""

from __future__ import annotations

import sqlalchemy as sa

from jobs import Tickwork
from jobs.handlers.email import queue_email
from jobs.handlers.onboarding import Step, TenantOnboarding, onboarding_step, tenant_onboarding

from .tables import organizations, stations, users


@onboarding_step("create-organization")
def create_organization(onboarding: TenantOnboarding, step: Step) -> dict[str, str]:
    """The organisation, its admin (who has no password yet) and its first station."""
    with _system().engine.begin() as connection:
        made_by = organizations.c.made_by == step.idempotency_key
        found = connection.scalar(sa.select(organizations.c.id).where(made_by))
        if found is not None:
            return {"organizationId": found}
        made = sa.insert(organizations).values(
            name=onboarding.organizationName,
            admin_email=onboarding.adminEmail,
            tier=onboarding.tier,
            stripe_customer_id=onboarding.stripeCustomerId,
            made_by=step.idempotency_key,
        )
        organization_id = connection.execute(made).inserted_primary_key[0]
        connection.execute(
            sa.insert(users).values(
                organization_id=organization_id,
                email=onboarding.adminEmail,
                name=onboarding.adminName,
            )
        )
        connection.execute(
            sa.insert(stations).values(organization_id=organization_id, title="Headquarters")
        )
    return {"organizationId": organization_id}


@onboarding_step("welcome-admin")
def welcome_admin(onboarding: TenantOnboarding, step: Step) -> None:
    """One mail, however often this runs: the key is the step's."""
    queue_email(
        to=onboarding.adminEmail,
        template="welcome",
        data={
            "name": onboarding.adminName,
            "message": f"{onboarding.organizationName} is set up ({onboarding.tier}).",
        },
        organization_id=step.results["create-organization"]["organizationId"],
        dedupe_key=step.idempotency_key,
        tickwork=_system(),
    )


def _system() -> Tickwork:
    tickwork: Tickwork = tenant_onboarding.system
    return tickwork
