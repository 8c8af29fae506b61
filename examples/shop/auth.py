"""Who asks: a customer by e-mail address and password, the shop's people by ADMIN_TOKEN."""

from __future__ import annotations

import hmac
from typing import Any

import sqlalchemy as sa
from flask import abort, current_app, request
from werkzeug.security import check_password_hash, generate_password_hash

from jobs import Tickwork

from .tables import customers

# Checked where there is no such customer, so that the time it takes tells nobody who is one.
_NOBODYS = generate_password_hash("nobody")


def system() -> Tickwork:
    tickwork: Tickwork = current_app.extensions["tickwork"]
    return tickwork


def customer() -> sa.Row[Any]:
    """The customer of this request; 401 where there is none."""
    given = request.authorization
    email = given.username if given is not None and given.type == "basic" else None
    found = None
    if given is not None and email:
        with system().engine.connect() as connection:
            of_email = sa.select(customers).where(customers.c.email == email.lower())
            found = connection.execute(of_email).first()
        known = found.password_hash if found is not None else _NOBODYS
        if not check_password_hash(known, given.password or ""):
            found = None
    if found is None:
        abort(401, "Send e-mail address and password (HTTP Basic).")
    return found


def admin() -> str:
    """Who of the shop's people asks; 401 for anybody else."""
    token = system().settings.admin_token
    presented = request.headers.get("Authorization", "").encode("latin-1", "replace")
    expected = b"Bearer " + (token or "").encode("utf-8", "surrogateescape")
    if not token or not hmac.compare_digest(presented, expected):
        abort(401, "Send ADMIN_TOKEN as a bearer token.")
    return "admin"
