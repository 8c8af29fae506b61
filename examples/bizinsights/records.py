"""What platforms have said, as rows: the same item again changes its row, and makes no other."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .tables import records

_INSERT: Final[dict[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Record(NamedTuple):
    """One item of a platform.

    platform_id: what the platform calls it
    measure: `sales`, `payments`, `visits` or `ad-spend`
    updated_at: when the platform last changed it; an older version never overwrites a newer one
    """

    platform_id: str
    measure: str
    day: dt.date
    amount: Decimal
    updated_at: dt.datetime


def save_records(
    connection: sa.Connection, organization_id: str, integration_id: str, found: Sequence[Record]
) -> None:
    """Insert or change the rows of one integration, in the caller's transaction."""
    if not found:
        return
    insert = _INSERT[connection.dialect.name](records)
    new = insert.excluded
    upsert = insert.on_conflict_do_update(
        index_elements=[each.name for each in records.primary_key],
        set_={name: new[name] for name in ("day", "amount", "updated_at")},
        # A webhook may overtake a sync, and the other way round.
        where=new.updated_at >= records.c.updated_at,
    )
    whose = {"organization_id": organization_id, "integration_id": integration_id}
    connection.execute(upsert, [{**whose, **each._asdict()} for each in found])
