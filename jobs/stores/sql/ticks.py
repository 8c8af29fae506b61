"""Records of ticks, and what is made of old ones: rows that are only added, deleted and summed up.

No row is ever updated, so that whoever records waits for nobody. A fold deletes rows and inserts
their sums in one transaction: two at once take different rows, and each row is counted once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, TextClause, delete, insert, select, text

from jobs.core.codec import clean_text
from jobs.core.ids import new_ids
from jobs.core.measure import (
    ERROR_CHARS,
    REGULAR,
    Key,
    Measure,
    Measures,
    TickRecord,
    bucket_start,
    measures_from_json,
    measures_to_json,
    plain_measures,
)
from jobs.core.store import (
    HOURS_KEPT_SECONDS,
    KEPT_REGULAR,
    MINUTES_KEPT_SECONDS,
)
from jobs.stores.sql.statements import Statements

MINUTE, HOUR, EVER = 60, 3600, 0
ROWS_PER_PASS = 5000
_BEGINNING = bucket_start(datetime.fromisoformat("1970-01-01T00:00:00+00:00"), 60)
_COUNTS = (
    *("duration_ms", "ticks", "claimed", "processed", "succeeded", "failed"),
    *("retried", "released", "reclaimed", "remaining", "more"),
)
_COLUMNS = ("id", "woken_by", "runner", "claim_limit", *_COUNTS, "error", "measures")
Measured = tuple[datetime, Key, Measure]


class TickTable:
    """The two tables of one store, ``ticks`` and ``measures``."""

    def __init__(self, statements: Statements, namespace: str) -> None:
        self.statements = statements
        self.sql = statements.sql
        self.namespace = namespace

    # -- record, list --------------------------------------------------------------------------

    @cached_property
    def record(self) -> TextClause:
        """One insert; binds :meth:`values`, the namespace and the present."""
        return text(
            f"INSERT INTO {self.statements.ticks} (namespace, ended_at, {', '.join(_COLUMNS)}) "
            f"VALUES (:namespace, {self.sql.now}, {', '.join(f':{name}' for name in _COLUMNS)})"
        )

    @staticmethod
    def values(record: TickRecord) -> dict[str, Any]:
        """What the insert binds."""
        error = record.error
        return {
            **{name: getattr(record, name) for name in ("id", "runner", *_COUNTS)},
            "woken_by": record.trigger,
            "claim_limit": record.limit,
            "error": None if error is None else clean_text(error)[:ERROR_CHARS],
            "measures": measures_to_json(record.measures or {}),
        }

    def listed(
        self,
        connection: Connection,
        limit: int,
        before: tuple[datetime, str] | None,
        triggers: Collection[str] | None,
    ) -> list[TickRecord]:
        """Newest first."""
        table = self.statements.tables.ticks
        c = table.c
        statement = select(table).where(c.namespace == self.namespace)
        if triggers is not None:
            statement = statement.where(c.woken_by.in_(sorted(triggers)))
        if before is not None:
            at, last_id = before
            statement = statement.where(c.ended_at <= at, (c.ended_at < at) | (c.id < last_id))
        statement = statement.order_by(c.ended_at.desc(), c.id.desc()).limit(limit)
        return [to_record(row) for row in connection.execute(statement)]

    # -- fold ----------------------------------------------------------------------------------

    def fold(self, connection: Connection, limit: int, keep: int) -> int:
        """Take the oldest records, and put in their place what they counted."""
        table = self.statements.tables.ticks
        c = table.c
        mine = c.namespace == self.namespace
        newest_first = (c.ended_at.desc(), c.id.desc())
        last_old = select(c.ended_at).where(mine).order_by(*newest_first).offset(keep)
        boundary = connection.execute(last_old.limit(1)).scalar()
        if boundary is None:
            return 0
        regular = select(c.id).where(mine, c.woken_by.in_(REGULAR)).order_by(*newest_first)
        stay = list(connection.execute(regular.limit(KEPT_REGULAR)).scalars())
        oldest = select(table).where(mine, c.ended_at <= boundary, c.id.not_in(stay))
        oldest = oldest.order_by(c.ended_at, c.id).limit(limit).with_for_update(skip_locked=True)
        rows = connection.execute(oldest).all()
        if not rows:
            return 0
        connection.execute(delete(table).where(c.id.in_([row.id for row in rows])))
        records = [to_record(row) for row in rows]
        measured = [
            (bucket_start(record.ended_at, MINUTE), key, measure)
            for record in records
            for key, measure in (record.measures or {}).items()
        ]
        ever = [(_BEGINNING, _untenanted(key), measure) for _, key, measure in measured]
        ever += [(_BEGINNING, *record.own_measure()) for record in records]
        self._insert(connection, MINUTE, measured)
        self._insert(connection, EVER, ever)
        return len(rows)

    def compact(self, connection: Connection, now: datetime) -> None:
        """Sum up the totals, and minutes that are old to hours; delete hours that are older."""
        table = self.statements.tables.measures
        c = table.c
        self._insert(connection, EVER, self._take(connection, c.span_seconds == EVER))
        by = now - timedelta(seconds=MINUTES_KEPT_SECONDS)
        minutes = self._take(connection, (c.span_seconds == MINUTE) & (c.starts_at < by))
        if minutes:
            in_hours = [(bucket_start(at, HOUR), key, measure) for at, key, measure in minutes]
            touched = sorted({at for at, _, _ in in_hours})
            in_hours += self._take(connection, (c.span_seconds == HOUR) & c.starts_at.in_(touched))
            self._insert(connection, HOUR, in_hours)
        gone = now - timedelta(seconds=HOURS_KEPT_SECONDS)
        connection.execute(
            delete(table).where(
                c.namespace == self.namespace, c.span_seconds == HOUR, c.starts_at < gone
            )
        )

    def _take(self, connection: Connection, which: Any) -> list[Measured]:
        """Delete such rows, those that nobody else is taking; returns what they held."""
        table = self.statements.tables.measures
        c = table.c
        found = select(table).where(c.namespace == self.namespace, which).order_by(c.starts_at)
        rows = connection.execute(
            found.limit(ROWS_PER_PASS).with_for_update(skip_locked=True)
        ).all()
        if rows:
            connection.execute(delete(table).where(c.id.in_([row.id for row in rows])))
        return [_measured(row) for row in rows]

    def _insert(self, connection: Connection, span: int, measured: Iterable[Measured]) -> None:
        total: dict[tuple[datetime, Key], Measure] = {}
        for at, key, measure in measured:
            total.setdefault((at, key), Measure()).add(measure)
        if not total:
            return
        connection.execute(
            insert(self.statements.tables.measures),
            [
                {
                    "id": row_id,
                    "namespace": self.namespace,
                    "span_seconds": span,
                    "starts_at": at,
                    **key._asdict(),
                    "measure": measures_to_json({Key("", "", ""): measure}),
                }
                for row_id, ((at, key), measure) in zip(
                    new_ids(len(total)), total.items(), strict=True
                )
            ],
        )

    # -- read ----------------------------------------------------------------------------------
    # One statement for the records and for what was made of those that are gone: a fold that
    # commits between two would be seen by neither or by both.

    def measured(
        self,
        connection: Connection,
        parameters: dict[str, Any],
        bucket_seconds: float,
        **only: str | None,
    ) -> list[Measured]:
        """What was counted since ``:since_seconds`` ago, of this tenant, queue and kind, summed up
        by bucket."""
        wanted = {name: value for name, value in only.items() if value is not None}
        since = self.sql.later(f"-{self.sql.number('since_seconds')}")
        where = "".join(f" AND {name} = :{name}" for name in wanted)
        statement = text(
            f"SELECT ended_at AS at, NULL AS tenant, NULL AS queue, NULL AS kind, "
            f"measures AS measure FROM {self.statements.ticks} WHERE namespace = :namespace "
            f"AND ended_at >= {since} AND measures IS NOT NULL UNION ALL "
            f"SELECT starts_at, tenant, queue, kind, measure FROM {self.statements.measures} "
            f"WHERE namespace = :namespace AND span_seconds IN ({MINUTE}, {HOUR}) "
            f"AND starts_at >= {since}{where}"
        )
        rows = [
            (self.sql.read_instant(at), None if queue is None else Key(tenant, queue, kind), said)
            for at, tenant, queue, kind, said in connection.execute(
                statement, {**parameters, **wanted}
            )
        ]
        return summed(rows, bucket_seconds, **wanted)

    def totals(self, connection: Connection, parameters: dict[str, Any]) -> Measures:
        """By queue and kind, since the beginning; and the ticks by trigger."""
        columns = "woken_by, ticks, duration_ms, error, measures"
        statement = text(
            f"SELECT NULL AS queue, NULL AS kind, {columns} FROM {self.statements.ticks} "
            "WHERE namespace = :namespace UNION ALL "
            f"SELECT queue, kind, NULL, 0, 0, NULL, measure FROM {self.statements.measures} "
            f"WHERE namespace = :namespace AND span_seconds = {EVER}"
        )
        total: Measures = {}
        for queue, kind, woken_by, ticks, duration_ms, error, measures in connection.execute(
            statement, parameters
        ):
            for key, plain in plain_measures(measures):
                of = _untenanted(key) if queue is None else Key("", queue, kind)
                total.setdefault(of, Measure()).add_plain(plain)
            if queue is None:
                record = TickRecord(
                    "", woken_by, "", duration_ms=duration_ms, ticks=ticks, error=error
                )
                own, measure = record.own_measure()
                total.setdefault(own, Measure()).add(measure)
        return total


def summed(
    rows: Iterable[tuple[datetime, Key | None, str | None]], bucket_seconds: float, **only: str
) -> list[Measured]:
    """Measures as JSON by their instants, summed up by bucket and key; of one key where it is
    given, else of all that the JSON names. ``only`` are fields of a key that are wanted."""
    total: dict[tuple[datetime, Key], Measure] = {}
    for at, own, text_of in rows:
        start = bucket_start(at, bucket_seconds)
        for key, plain in plain_measures(text_of):
            of = own or key
            if all(getattr(of, name) == value for name, value in only.items()):
                total.setdefault((start, of), Measure()).add_plain(plain)
    return [(at, key, measure) for (at, key), measure in total.items()]


def _untenanted(key: Key) -> Key:
    return key._replace(tenant="")


def _measured(row: Any) -> Measured:
    (measure,) = measures_from_json(row.measure).values()
    return row.starts_at, Key(row.tenant, row.queue, row.kind), measure


def to_record(row: Any) -> TickRecord:
    """What a row says."""
    counts: dict[str, Any] = {name: getattr(row, name) for name in _COUNTS}
    counts["more"] = bool(counts["more"])
    return replace(
        TickRecord(row.id, row.woken_by, row.runner, **counts),
        limit=row.claim_limit,
        error=row.error,
        ended_at=row.ended_at,
        measures=measures_from_json(row.measures),
    )
