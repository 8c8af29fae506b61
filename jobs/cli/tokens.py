"""``tickwork tokens`` and ``audit``: who may manage jobs over HTTP, and who changed what."""

from __future__ import annotations

from typing import Any

import click

from jobs.cli.base import JsonCommand
from jobs.cli.desk import desk
from jobs.cli.schedules import ListsByDefault
from jobs.cli.system import opened
from jobs.cli.text import say, span, table
from jobs.cli.values import duration
from jobs.core.access import ChangeFilter, Role


@click.group("tokens", cls=ListsByDefault)
def tokens() -> None:
    """Tokens of the management API and the dashboard; alone, it lists."""


@tokens.command("create", cls=JsonCommand)
@click.option("--role", type=click.Choice([str(each) for each in Role]), required=True)
@click.option("--tenant", help="Whose jobs it opens; '' is those of no tenant.")
@click.option("--all-tenants", is_flag=True, help="It opens every tenant's jobs.")
@click.option("--name", help="What the audit log calls it.")
@click.option(
    "--expires", callback=duration, metavar="DURATION", help="How long it lives: 12h, 90d."
)
def create(
    role: str,
    tenant: str | None,
    all_tenants: bool,
    name: str | None,
    expires: float | None,
    as_json: bool,
) -> dict[str, Any] | None:
    """Make a token. It is shown this once, and only its hash is kept."""
    if (tenant is None) != all_tenants:
        raise click.UsageError("say whose jobs it opens: --tenant NAME, or --all-tenants")
    with opened() as tickwork:
        secret, token = desk(tickwork).create_token(
            role, tenant=tenant, name=name, expires_in=expires
        )
        state = token.state(tickwork.store.now())
    if as_json:
        return {**token.as_dict(), "state": state, "token": secret}
    # Alone on stdout, so that it can go straight to where it is kept.
    click.echo(secret)
    say(f"Token {token.name} ({token.role}, {_whose(token.tenant)}): keep it, ", err=True)
    say("it is not shown again. Send it as `Authorization: Bearer <token>`.", err=True)
    return None


@tokens.command("list", cls=JsonCommand)
@click.option("--tenant", help="Only this tenant's.")
def list_tokens(tenant: str | None, as_json: bool) -> dict[str, Any] | None:
    """List tokens, those that are over included."""
    with opened() as tickwork:
        found, now = tickwork.store.tokens(tenant), tickwork.store.now()
    if as_json:
        return {"tokens": [{**each.as_dict(), "state": each.state(now)} for each in found]}
    if not found:
        say("No tokens. Make one: tickwork tokens create --role operator --all-tenants")
        return None
    rows = []
    for each in found:
        used = "" if each.last_used_at is None else f"{_ago(now, each.last_used_at)} ago"
        left = "" if each.expires_at is None else f"in {_ago(each.expires_at, now)}"
        state = each.state(now)
        rows.append(
            [
                *(each.id, each.name, each.role, _whose(each.tenant), state),
                *(left if state == "live" else "", used),
            ]
        )
    table(["ID", "NAME", "ROLE", "TENANT", "STATE", "EXPIRES", "USED"], rows)
    return None


@tokens.command("revoke", cls=JsonCommand)
@click.argument("token_id", metavar="ID")
def revoke(token_id: str, as_json: bool) -> dict[str, Any] | None:
    """End a token at once; a session that was begun with it ends as well."""
    with opened() as tickwork:
        token = desk(tickwork).revoke_token(token_id)
    if as_json:
        return token.as_dict()
    say(f"Revoked {token.name}.")
    return None


@click.command(cls=JsonCommand)
@click.option("--tenant", help="Only what concerned this tenant.")
@click.option("--by", help="Only what this one did, as listed.")
@click.option("--action", help="Only this, such as job.retry.")
@click.option("--subject", help="Only what was done to this.")
@click.option("--before", metavar="ID", help="Continue a listing after this entry.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
def audit(
    tenant: str | None,
    by: str | None,
    action: str | None,
    subject: str | None,
    before: str | None,
    limit: int,
    as_json: bool,
) -> dict[str, Any] | None:
    """Show who changed what, the newest first: by API, dashboard and command line."""
    where = ChangeFilter(tenant, by, action, subject, before)
    with opened() as tickwork:
        found = tickwork.store.changes(where, limit + 1)
    more, found = len(found) > limit, found[:limit]
    if as_json:
        return {"changes": [each.as_dict() for each in found], "more": more}
    if not found:
        say("No changes.")
        return None
    rows = [
        [
            *(f"{each.at:%Y-%m-%d %H:%M:%S}", each.by, each.action, each.subject),
            *(each.tenant or "", str(each.concerned), each.reason or ""),
        ]
        for each in found
    ]
    table(["AT (UTC)", "BY", "ACTION", "SUBJECT", "TENANT", "JOBS", "REASON"], rows)
    if more:
        say(f"There are more: --before {found[-1].id}", err=True)
    return None


def _whose(tenant: str | None) -> str:
    return "every tenant" if tenant is None else tenant or "no tenant"


def _ago(later: Any, earlier: Any) -> str:
    return span((later - earlier).total_seconds())
