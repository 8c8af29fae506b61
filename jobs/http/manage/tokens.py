"""Access: tokens, and the log of what people changed."""

from __future__ import annotations

from typing import Any

from jobs.core.access import ChangeFilter, Token
from jobs.core.errors import ConfigurationError
from jobs.http.manage.models import (
    AuditQuery,
    AuditTold,
    NewTokenBody,
    NewTokenTold,
    TokensTold,
    TokenTold,
)
from jobs.http.manage.operations import Answer, Call, operation


@operation("List tokens", "access", answers={200: TokensTold})
def list_tokens(call: Call) -> dict[str, Any]:
    """Newest first, those that are over included; what a token is itself is never told again."""
    return {"tokens": [_told(call, token) for token in call.desk.tokens()]}


@operation(
    "Make a token", "access", body=NewTokenBody, answers={201: NewTokenTold}, problems=(403, 404)
)
def create_token(call: Call, body: NewTokenBody) -> Answer:
    """The answer tells it this once. It is one tenant's, unless ``all_tenants`` is said."""
    if call.desk.tenant is None and (body.tenant is None) != body.all_tenants:
        raise ConfigurationError("say whose the token is: tenant, or all_tenants: true")
    secret, token = call.desk.create_token(
        body.role, tenant=body.tenant, name=body.name, expires_in=body.expires_in, most=call.role
    )
    return Answer({**_told(call, token), "token": secret}, 201)


@operation("Revoke a token", "access", answers={200: TokenTold}, problems=(404,))
def revoke_token(call: Call, token_id: str) -> dict[str, Any]:
    """At once, and for good."""
    return _told(call, call.desk.revoke_token(token_id))


@operation(
    "Read the audit log", "access", query=AuditQuery, answers={200: AuditTold}, problems=(404,)
)
def list_audit(call: Call, query: AuditQuery) -> dict[str, Any]:
    """Newest first."""
    where = ChangeFilter(query.tenant, query.by, query.action, query.subject, query.cursor)
    found = call.desk.changes(where, query.limit + 1)
    page = found[: query.limit]
    return {
        "changes": [each.as_dict() for each in page],
        "next_cursor": page[-1].id if len(found) > query.limit else None,
    }


def _told(call: Call, token: Token) -> dict[str, Any]:
    return {**token.as_dict(), "state": token.state(call.tickwork.store.now())}
