"""``tickwork db``: the tables."""

from __future__ import annotations

from typing import Any

import click

from jobs.cli.base import CarefulGroup, JsonCommand
from jobs.cli.system import opened, sql_store
from jobs.cli.text import say
from jobs.core.settings import mask_url


@click.group("db", cls=CarefulGroup)
def database() -> None:
    """Make, upgrade and check the tables."""


@database.command(cls=JsonCommand)
def upgrade(as_json: bool) -> dict[str, Any] | None:
    """Make the tables, or bring them to what this version needs.

    Safe to run at every deployment, and by several at once.
    """
    from jobs.stores.sql import schema  # late, as all of SQLAlchemy
    from jobs.stores.sql.tables import HEAD_REVISION

    with opened(prepared=False) as tickwork:
        store = sql_store(tickwork)
        found = schema.upgrade(store.engine, store.tables)
        store.check_schema()
        name = store.tables.jobs.name
    if as_json:
        return {"from": found, "to": HEAD_REVISION, "changed": found != HEAD_REVISION}
    if found == HEAD_REVISION:
        say(f"{name} is at revision {HEAD_REVISION} already.")
    elif found is None:
        say(f"Made {name} at revision {HEAD_REVISION}.")
    else:
        say(f"Upgraded {name} from revision {found} to {HEAD_REVISION}.")
    return None


@database.command(cls=JsonCommand)
def check(as_json: bool) -> dict[str, Any] | None:
    """Tell whether the tables are what this version needs; exit code 1 if not."""
    from jobs.stores.sql import schema
    from jobs.stores.sql.tables import HEAD_REVISION

    with opened(prepared=False) as tickwork:
        store = sql_store(tickwork)
        store.check_schema()
        noted = schema.noted_revision(store.engine, store.tables)
        name = store.tables.jobs.name
        url = mask_url(tickwork.settings.database_url or "")
    if as_json:
        return {"ok": True, "revision": noted, "head": HEAD_REVISION, "database": url}
    made = f"at revision {noted}" if noted else "made by other migrations"
    say(f"{name} in {url} has what this version needs ({made}).")
    return None
