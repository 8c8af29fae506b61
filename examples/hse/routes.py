"""`POST /api/auth/signup` and `POST /api/incidents`: a row, and the jobs that follow from it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from flask import Blueprint, abort, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.security import generate_password_hash

from jobs import PayloadError, Tickwork
from jobs.handlers.email import queue_email
from jobs.handlers.webhook import queue_webhook

from .auth import authenticate
from .tables import incidents, new_id, organizations, users, webhooks

blueprint = Blueprint("hse", __name__, url_prefix="/api")
_SEVERITIES = ("Low", "Medium", "High", "Critical")


@blueprint.post("/auth/signup")
def signup() -> ResponseReturnValue:
    """`{organizationName, name, email, password}`: an organisation, its first user, a welcome."""
    body = _texts("organizationName", "name", "email", "password")
    if len(body["password"]) < 10:
        abort(400, "password: ten characters or more.")
    organization_id = new_id()
    password_hash = generate_password_hash(body["password"])  # slow on purpose: before the lock
    try:
        with _system().engine.begin() as connection:
            connection.execute(
                sa.insert(organizations).values(
                    id=organization_id,
                    name=body["organizationName"],
                    admin_email=body["email"],
                    tier="free",
                )
            )
            connection.execute(
                sa.insert(users).values(
                    organization_id=organization_id,
                    email=body["email"],
                    name=body["name"],
                    password_hash=password_hash,
                )
            )
            queue_email(
                to=body["email"],
                template="welcome",
                data={"name": body["name"]},
                organization_id=organization_id,
                session=connection,
            )
    except sa.exc.IntegrityError:
        abort(409, "There is a user of that e-mail address.")
    except PayloadError as error:
        abort(400, f"{error}.")
    return {"success": True}


@blueprint.post("/incidents")
def create_incident() -> ResponseReturnValue:
    """`{title, severity}`; whoever of the organisation subscribed is told by webhook."""
    user = authenticate()
    body = _texts("title", "severity")
    if body["severity"] not in _SEVERITIES:
        abort(400, f"severity: one of {', '.join(_SEVERITIES)}.")
    tickwork = _system()
    incident = {
        "id": new_id(),
        "title": body["title"],
        "severity": body["severity"],
        "status": "Open",
        "day": tickwork.clock.now().date(),
    }
    told = {**incident, "day": incident["day"].isoformat()}
    with tickwork.engine.begin() as connection:
        connection.execute(
            sa.insert(incidents).values(**incident, organization_id=user.organization_id)
        )
        subscribers = sa.select(webhooks).where(webhooks.c.organization_id == user.organization_id)
        for webhook in connection.execute(subscribers).all():
            if "incident.created" in webhook.events:
                queue_webhook(
                    url=webhook.url,
                    payload={"event": "incident.created", "data": told},
                    secret=webhook.secret,  # encrypted in the job
                    event_type="incident.created",
                    organization_id=user.organization_id,
                    session=connection,
                )
    return told, 201


def _texts(*names: str) -> dict[str, str]:
    body: Any = request.get_json(silent=True)
    for name in names:
        text = body.get(name) if isinstance(body, dict) else None
        if not isinstance(text, str) or not 0 < len(text.strip()) <= 200:
            abort(400, f"{name}: a text of 1 to 200 characters is needed.")
    return {name: body[name].strip() for name in names}


def _system() -> Tickwork:
    tickwork: Tickwork = current_app.extensions["tickwork"]
    return tickwork
