"""Who asks: a user, by e-mail address and password. It decides as well whose jobs may be seen."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from flask import Request, abort, current_app, request
from werkzeug.security import check_password_hash, generate_password_hash

from jobs import Tickwork
from jobs.http import Identity, Role

from .tables import users

# Checked where there is no such user, so that the time it takes tells nobody who is one.
_NOBODYS = generate_password_hash("nobody")


def load_user(asking: Request) -> sa.Row[Any] | None:
    """The user whose credentials the request brings."""
    given = asking.authorization
    if given is None or given.type != "basic":
        return None
    tickwork: Tickwork = current_app.extensions["tickwork"]
    with tickwork.engine.connect() as connection:
        user = connection.execute(sa.select(users).where(users.c.email == given.username)).first()
    known = user.password_hash if user is not None else None
    genuine = check_password_hash(known or _NOBODYS, given.password or "")
    return user if known and genuine else None


def authenticate() -> sa.Row[Any]:
    """The user of this request; 401 where there is none."""
    user = load_user(request)
    if user is None:
        abort(401, "Send e-mail address and password (HTTP Basic).")
    return user


def identify(asking: Request) -> Identity | None:
    """For `create_app`: a user manages the jobs of the own organisation, and sees no others."""
    user = load_user(asking)
    return user and Identity(user.email, Role.OPERATOR, tenant=user.organization_id)
