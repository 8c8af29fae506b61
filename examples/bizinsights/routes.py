"""What people ask for: each route is closed but for a token, and a token is one organisation's.

The tokens are those of the management API (`tickwork tokens create --tenant ORGANISATION`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import sqlalchemy as sa
from flask import Blueprint, abort, current_app, request
from flask.typing import ResponseReturnValue

from jobs import PayloadError, State, Tickwork
from jobs.handlers.email import queue_email
from jobs.handlers.sync import integrations_of, queue_data_sync
from jobs.handlers.sync.schedules import TIERS
from jobs.http import Role
from jobs.http.access import current

from .credentials import seal
from .platforms import check_account
from .tables import alerts, integrations, new_id, organizations

blueprint = Blueprint("bizinsights", __name__, url_prefix="/api")
P = ParamSpec("P")
View = Callable[P, ResponseReturnValue]


def _for(role: Role) -> Callable[[View[P]], View[P]]:
    """Let those of at least this role into a view."""

    def guard(view: View[P]) -> View[P]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
            access = current_app.extensions["tickwork.access"]
            found: ResponseReturnValue = access.guards(role, view)(*args, **kwargs)
            return found

        return guarded

    return guard


# --- of our own people


@blueprint.post("/organizations")
@_for(Role.ADMIN)
def create_organization() -> ResponseReturnValue:
    """`{name, adminEmail, tier}`: a customer, who is welcomed."""
    _only_ours()
    body = _texts("name", "adminEmail", "tier")
    _check_tier(body["tier"])
    organization_id = new_id()
    try:
        with _system().engine.begin() as connection:
            connection.execute(
                sa.insert(organizations).values(
                    id=organization_id,
                    name=body["name"],
                    admin_email=body["adminEmail"],
                    tier=body["tier"],
                )
            )
            queue_email(
                to=body["adminEmail"],
                template="welcome",
                data={"name": body["name"]},
                organization_id=organization_id,
                session=connection,
            )
            _follow(organization_id, connection)
    except PayloadError as error:
        abort(400, f"{error}.")
    return {"id": organization_id}, 201


@blueprint.put("/organizations/<organization_id>/plan")
@_for(Role.ADMIN)
def change_plan(organization_id: str) -> ResponseReturnValue:
    """`{tier}`: how often everything of the organisation is synced from now on."""
    _only_ours()
    tier = _texts("tier")["tier"]
    _check_tier(tier)
    with _system().engine.begin() as connection:
        changed = sa.update(organizations).where(organizations.c.id == organization_id)
        if connection.execute(changed.values(tier=tier)).rowcount == 0:
            abort(404, "There is no such organisation.")
        _follow(organization_id, connection)
    return {"id": organization_id, "tier": tier}


# --- of an organisation


@blueprint.post("/invitations")
@_for(Role.OPERATOR)
def invite() -> ResponseReturnValue:
    """`{email, inviterName, inviteUrl}`: a mail to somebody who shall join."""
    organization_id = _organization_id()
    body = _texts("email", "inviterName", "inviteUrl")
    try:
        with _system().engine.begin() as connection:
            own = sa.select(organizations.c.name).where(organizations.c.id == organization_id)
            queue_email(
                to=body["email"],
                template="team-invitation",
                data={
                    "inviterName": body["inviterName"],
                    "inviteUrl": body["inviteUrl"],
                    "teamName": connection.scalar(own),
                },
                organization_id=organization_id,
                session=connection,
            )
    except PayloadError as error:
        abort(400, f"{error}.")
    return {"success": True}


@blueprint.get("/integrations")
@_for(Role.VIEWER)
def list_integrations() -> ResponseReturnValue:
    """Each with its status: `connecting` before the first sync, `active`, or `auth_error`."""
    organization_id = _organization_id()
    with _system().engine.connect() as connection:
        found = connection.execute(
            sa.select(integrations)
            .where(integrations.c.organization_id == organization_id)
            .order_by(integrations.c.platform, integrations.c.account)
        ).all()
    known = {
        each.integration_id: each.as_dict()
        for each in integrations_of(_system()).list(organization_id)
    }
    return {
        "integrations": [
            {
                "integrationId": each.id,
                "platform": each.platform,
                "account": each.account,
                **(known.get(each.id) or {"status": "connecting"}),
            }
            for each in found
        ]
    }


@blueprint.post("/integrations")
@_for(Role.OPERATOR)
def connect() -> ResponseReturnValue:
    """`{platform, account, credentials}`: its row, its first sync and its schedule, or none."""
    organization_id = _organization_id()
    body = _texts("platform", "account", "credentials")
    try:
        check_account(body["platform"], body["account"])
    except ValueError as error:
        abort(400, f"{error}.")
    integration_id = new_id()
    try:
        with _system().engine.begin() as connection:
            connection.execute(
                sa.insert(integrations).values(
                    id=integration_id,
                    organization_id=organization_id,
                    platform=body["platform"],
                    account=body["account"],
                    sealed_credentials=seal(body["credentials"], _system()),
                )
            )
            queue_data_sync(
                integration_id=integration_id,
                organization_id=organization_id,
                platform=body["platform"],
                sync_type="full",
                session=connection,
            )
            _follow(organization_id, connection)
    except sa.exc.IntegrityError:
        abort(409, "This account is connected already.")
    return {"integrationId": integration_id}, 201


@blueprint.put("/integrations/<integration_id>/credentials")
@_for(Role.OPERATOR)
def reconnect(integration_id: str) -> ResponseReturnValue:
    """`{credentials}`: new ones. Its syncs go on from where they were."""
    organization_id = _organization_id()
    sealed = seal(_texts("credentials")["credentials"], _system())
    own = sa.and_(
        integrations.c.organization_id == organization_id, integrations.c.id == integration_id
    )
    with _system().engine.begin() as connection:
        platform = connection.scalar(sa.select(integrations.c.platform).where(own))
        if platform is None:
            abort(404, "There is no such integration.")
        connection.execute(sa.update(integrations).where(own).values(sealed_credentials=sealed))
    integrations_of(_system()).reconnect(organization_id, integration_id)
    with _system().engine.begin() as connection:
        queue_data_sync(
            integration_id=integration_id,
            organization_id=organization_id,
            platform=platform,
            session=connection,
        )
        _follow(organization_id, connection)
    return {"integrationId": integration_id, "status": "active"}


@blueprint.get("/insights")
@_for(Role.VIEWER)
def newest_insights() -> ResponseReturnValue:
    """The newest ones; `POST /api/jobs/insights {period, forceRegenerate}` asks for others."""
    found = _system().list(
        kind="insights", tenant=_organization_id(), state=State.COMPLETED, limit=1
    )
    if not found:
        abort(404, "There are no insights yet.")
    return {"insights": found[0].result}


@blueprint.get("/alerts")
@_for(Role.VIEWER)
def list_alerts() -> ResponseReturnValue:
    """What was raised, the newest first."""
    chosen = (
        sa.select(alerts)
        .where(alerts.c.organization_id == _organization_id())
        .order_by(alerts.c.key.desc())  # ids of jobs sort by when they were made
        .limit(100)
    )
    with _system().engine.connect() as connection:
        return {
            "alerts": [
                {
                    "alertType": each.alert_type,
                    "severity": each.severity,
                    "message": each.message,
                    "metadata": each.metadata,
                }
                for each in connection.execute(chosen)
            ]
        }


def _follow(organization_id: str, connection: sa.Connection) -> None:
    """The schedules follow what this transaction changes."""
    _system().enqueue(
        "timetable",
        {"organizationId": organization_id},
        tenant=organization_id,
        session=connection,
    )


def _organization_id() -> str:
    found = current().tenant
    if not found:
        abort(403, "This takes the token of an organisation.")
    return found


def _only_ours() -> None:
    if current().tenant is not None:
        abort(403, "This takes a token of all organisations.")


def _check_tier(tier: str) -> None:
    if tier not in TIERS:
        abort(400, f"tier: one of {', '.join(TIERS)}.")


def _texts(*names: str) -> dict[str, str]:
    body: Any = request.get_json(silent=True)
    for name in names:
        text = body.get(name) if isinstance(body, dict) else None
        if not isinstance(text, str) or not 0 < len(text.strip()) <= 500:
            abort(400, f"{name}: a text of 1 to 500 characters is needed.")
    return {name: body[name].strip() for name in names}


def _system() -> Tickwork:
    tickwork: Tickwork = current_app.extensions["tickwork"]
    return tickwork
