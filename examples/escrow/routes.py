"""`POST /api/escrow/release | refund | dispute` with `{"transactionId"}` and a user's token."""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa
from flask import Blueprint, abort, current_app, request
from flask.typing import ResponseReturnValue

from jobs import Tickwork

from . import machine, service, stripe
from .tables import users

blueprint = Blueprint("escrow", __name__, url_prefix="/api/escrow")


@blueprint.post("/<any(release, refund, dispute):action>")
def act(action: str) -> ResponseReturnValue:
    """200 when it is done; 202 when the money is asked for and a job will tell how it ended."""
    tickwork: Tickwork = current_app.extensions["tickwork"]
    user = authenticate(tickwork)
    body: Any = request.get_json(silent=True)
    transaction_id = body.get("transactionId") if isinstance(body, dict) else None
    if not isinstance(transaction_id, str):
        abort(400, 'The body is {"transactionId": "..."}.')
    try:
        status = service.act(tickwork, action, transaction_id, user)
    except service.NotFoundError:
        abort(404, "There is no escrow of that id.")
    except machine.NotAllowedError as error:
        abort(409, f"{error}.")
    except stripe.DeclinedError as error:
        # Problem documents of create_app carry the text; nothing was changed, nobody is told.
        return {"success": False, "error": str(error)}, 402
    except stripe.OutcomeUnknownError:
        moving = machine.MOVING[action]
        return {"success": True, "transactionId": transaction_id, "status": moving}, 202
    return {"success": True, "transactionId": transaction_id, "status": status}


def authenticate(tickwork: Tickwork) -> service.User:
    """Whose bearer token it is; 401 for nobody's. Only digests of tokens are kept."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
    with tickwork.engine.connect() as connection:
        found = connection.execute(sa.select(users).where(users.c.token_sha256 == digest)).first()
    if scheme.lower() != "bearer" or found is None:
        abort(401, "A user's token is needed.")
    return service.User(found.id, found.email, found.is_arbiter)
