"""Claim: due rows into a runner's hands, in one short transaction, in each database's best way.

All three go by lanes (priority/queue/kind/flow). The heads of the lanes are merged without locks to
learn how many of the best rows each lane holds; then exactly that many are taken from each. Two
claims at once thus get disjoint rows, and nobody locks rows that it does not take. Where there are
limits, or tenants that take turns, the quotas are worked out in ``limits/`` and only taken here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, Connection, TextClause, bindparam, text

from jobs.core.job import Claimed
from jobs.stores.sql.rows import read_claimed
from jobs.stores.sql.statements import Statements

# Looked at in one statement: below SQLite's 500 terms of a compound select.
MOST_LANES = 400
_LISTS: tuple[BindParameter[Any], ...] = (
    bindparam("ids", expanding=True),
    bindparam("kinds", expanding=True),
)


def wanted_lanes(
    lanes: Sequence[str], kinds: Collection[str], queues: Collection[str] | None
) -> list[str]:
    """The lanes whose kind is handled here (and whose queue is asked for), best priority first."""
    found = []
    for lane in sorted(lanes):
        _, queue, kind, _ = lane.split("/", 3)
        if kind in kinds and (queues is None or queue in queues):
            found.append(lane)
    return found


def in_chunks(lanes: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many lanes at a time as one statement looks at, the best priority first."""
    for begin in range(0, len(lanes), MOST_LANES):
        yield lanes[begin : begin + MOST_LANES]


class Claimer:
    """The claim of one store; keeps the statements it has built."""

    def __init__(self, statements: Statements) -> None:
        self.statements = statements
        self._built: dict[Any, Any] = {}

    def claim(
        self, connection: Connection, lanes: Sequence[str], limit: int, parameters: dict[str, Any]
    ) -> list[Claimed]:
        """The best ``limit`` due rows of these lanes."""
        claimed: list[Claimed] = []
        mark = parameters["mark"]
        for chunk in in_chunks(lanes):
            left, more = limit - len(claimed), max(0, mark - len(claimed))
            claimed += self._claim(connection, chunk, left, {**parameters, "mark": more})
            if len(claimed) >= limit:
                break
        return claimed

    def _claim(
        self, connection: Connection, lanes: Sequence[str], limit: int, parameters: dict[str, Any]
    ) -> list[Claimed]:
        take = {"postgresql": self._postgresql, "sqlite": self._sqlite}.get(
            self.statements.sql.name, self._mysql
        )
        mark = parameters["mark"]
        claimed = self._sorted(take(connection, lanes, limit, parameters), mark)
        if len(claimed) < limit and self._is_contended(connection, lanes, parameters):
            # The best rows are in another claim's hands: take what is free, lane by lane.
            for lane in lanes:
                left, more = limit - len(claimed), max(0, mark - len(claimed))
                if left:
                    rows = take(connection, [lane], left, {**parameters, "mark": more})
                    claimed += self._sorted(rows, more)
            claimed.sort(key=lambda job: (job.priority, job.run_at, job.id))
        return claimed

    def take_quotas(
        self, connection: Connection, quotas: Mapping[str, int], parameters: dict[str, Any]
    ) -> list[Claimed]:
        """Up to so many of the first due rows of each lane, those that nobody else holds."""
        rows: Sequence[Any]
        lanes, numbers = list(quotas), list(quotas.values())
        match self.statements.sql.name:
            case "postgresql":
                statement = self._once("quotas", self._postgresql_quotas)
                given = {"lanes": lanes, "quotas": numbers, "limit": sum(numbers)}
                rows = connection.execute(statement, {**parameters, **given}).all()
            case "sqlite":
                statement = self._once(
                    ("sqlite quotas", len(lanes)), lambda: self._sqlite_statement(len(lanes), True)
                )
                given = {**numbered("lane", lanes), **numbered("quota", numbers)}
                rows = connection.execute(
                    statement, {**parameters, **given, "limit": sum(numbers)}
                ).all()
            case _:
                rows = self._mysql_take(connection, quotas, parameters)
        return self._sorted(rows, parameters["mark"])

    def _is_contended(
        self, connection: Connection, lanes: Sequence[str], parameters: dict[str, Any]
    ) -> bool:
        """Whether due rows are left, after a claim that did not get as many as it wanted.

        Lanes are weighed by rows that others may hold already; one lane alone is not weighed.
        """
        if len(lanes) == 1 or not self.statements.sql.concurrent_writers:
            return False
        if self.statements.sql.name == "postgresql":
            statement = self._once("any", self._postgresql_any)
            found = connection.execute(statement, {**parameters, "lanes": list(lanes)})
            return found.first() is not None
        heads = self._once(("heads", len(lanes)), lambda: self._mysql_heads(len(lanes)))
        found = connection.execute(heads, {**parameters, **numbered("lane", lanes), "limit": 1})
        return found.first() is not None

    def claim_ids(
        self,
        connection: Connection,
        ids: Sequence[str],
        kinds: Collection[str],
        limit: int,
        parameters: dict[str, Any],
    ) -> list[Claimed]:
        """Those of ``ids`` that are due and handled here."""
        wanted = {**parameters, "ids": list(ids), "kinds": list(kinds), "limit": limit}
        take = {"postgresql": self._postgresql_ids, "sqlite": self._sqlite_ids}.get(
            self.statements.sql.name
        )
        if take is None:
            return self._mysql_ids(connection, wanted)
        return self._sorted(connection.execute(take(), wanted).all(), parameters["mark"])

    @property
    def claims_ids_at_once(self) -> bool:
        """Whether a claim by ids is one statement."""
        return self.statements.sql.name != "mysql"

    def _among_ids(self, columns: str, more: str = "") -> str:
        """The rows among ``:ids`` that may be claimed, best first, up to ``:limit``."""
        s = self.statements
        return (
            f"SELECT {columns} FROM {s.jobs} j {s.sql.by_key} "
            f"WHERE j.id IN :ids AND j.namespace = :namespace AND {s.sql.still_pending} "
            f"AND j.kind IN :kinds AND j.run_at <= {s.due_by} AND {s.not_paused} "
            f"ORDER BY j.priority, j.run_at, j.id LIMIT :limit{more}"
        )

    def _postgresql_ids(self) -> Any:
        taken = self._among_ids("j.id, j.priority, j.run_at", " FOR UPDATE SKIP LOCKED")
        return self._once(
            "ids",
            lambda: text(
                f"WITH taken AS MATERIALIZED ({taken}), {self._postgresql_take}"
            ).bindparams(*_LISTS),
        )

    def _sqlite_ids(self) -> Any:
        among = self._among_ids("j.id, j.priority, j.run_at")
        return self._once("ids", lambda: text(self._sqlite_take(among)).bindparams(*_LISTS))

    def _mysql_ids(self, connection: Connection, parameters: dict[str, Any]) -> list[Claimed]:
        chosen = self._lock_ids(connection, parameters)
        if not chosen:
            return []
        marked = chosen[: parameters["mark"]] or [""]
        self._take(connection, chosen, marked, parameters)
        read = self._once(
            "ids-read",
            lambda: text(
                f"SELECT {self.statements.claimed_columns} "
                f"FROM {self.statements.jobs} j WHERE j.id IN :ids"
            ).bindparams(_LISTS[0]),
        )
        rows = connection.execute(read, {**parameters, "ids": chosen}).all()
        return self._sorted(rows, parameters["mark"])

    def _lock_ids(self, connection: Connection, parameters: dict[str, Any]) -> list[str]:
        """Up to ``limit`` of these ids, locked, best first.

        MySQL locks all that it reads and sorts, not only what it returns: it is led to the rows by
        their key, and asked for no more than may stay.
        """

        def pick(among: list[str], limit: int, locks: str = "") -> list[str]:
            statement = self._once(
                ("ids", locks),
                lambda: text(self._among_ids("j.id", locks)).bindparams(*_LISTS),
            )
            values = {**parameters, "ids": among, "limit": limit}
            return list(connection.execute(statement, values).scalars())

        ids, limit = parameters["ids"], parameters["limit"]
        ordered = pick(ids, len(ids)) if len(ids) > limit else ids
        taken: list[str] = []
        while ordered and len(taken) < limit:
            left = limit - len(taken)
            taken += pick(ordered[:left], left, " FOR UPDATE SKIP LOCKED")
            ordered = ordered[left:]
        return taken

    # -- one statement: heads, quotas, locks and update ------------------------------------------

    def _postgresql(
        self, connection: Connection, lanes: Sequence[str], limit: int, parameters: dict[str, Any]
    ) -> Sequence[Any]:
        statement = self._once(
            ("postgresql", len(lanes) == 1), lambda: self._postgresql_statement(len(lanes) == 1)
        )
        return connection.execute(
            statement, {**parameters, "lanes": list(lanes), "limit": limit}
        ).all()

    def _postgresql_statement(self, only_lane: bool) -> Any:
        # The rows to update are named by an array: joined instead, the planner's guesses about the
        # row counts above lead it to hash the whole table. The last LIMIT cuts nothing off; it
        # keeps the guessed cost below the point where PostgreSQL compiles a query, for 20 ms.
        s = self.statements
        heads = f"""
            SELECT l.lane, h.priority, h.run_at, h.id
            FROM unnest(CAST(:lanes AS text[])) AS l(lane)
            CROSS JOIN LATERAL ({s.due_in("l.lane", ":limit")}) AS h
            ORDER BY h.priority, h.run_at, h.id LIMIT :limit"""
        quotas = f"SELECT lane, count(*) AS quota FROM ({heads}) AS heads GROUP BY lane"
        if only_lane:
            quotas = "SELECT (CAST(:lanes AS text[]))[1] AS lane, CAST(:limit AS bigint) AS quota"
        return self._postgresql_update(quotas)

    def _postgresql_quotas(self) -> TextClause:
        return self._postgresql_update(
            "SELECT lane, quota FROM unnest(CAST(:lanes AS text[]), CAST(:quotas AS bigint[])) "
            "AS q(lane, quota)"
        )

    def _postgresql_update(self, quotas: str) -> TextClause:
        s = self.statements
        return text(f"""
            WITH quotas AS ({quotas}), taken AS MATERIALIZED (
                SELECT t.id, t.priority, t.run_at FROM quotas CROSS JOIN LATERAL (
                    {s.due_in("quotas.lane", "quotas.quota")} FOR UPDATE SKIP LOCKED) AS t
                LIMIT :limit
            ), {self._postgresql_take}""")

    @property
    def _postgresql_take(self) -> str:
        """What follows once the rows to take stand in ``taken``, locked."""
        s = self.statements
        return f"""last_marked AS (
                SELECT priority, run_at, id FROM (
                    SELECT priority, run_at, id FROM taken
                    ORDER BY priority, run_at, id LIMIT :mark) AS marked
                ORDER BY priority DESC, run_at DESC, id DESC LIMIT 1
            )
            UPDATE {s.jobs} AS j SET {s.take},
                started_at = CASE WHEN :mark >= :limit OR (j.priority, j.run_at, j.id)
                    <= (SELECT priority, run_at, id FROM last_marked)
                    THEN {s.sql.now} ELSE NULL END
            WHERE j.id = ANY(ARRAY(SELECT id FROM taken))
            RETURNING {s.claimed_columns}
            """

    def _postgresql_any(self) -> TextClause:
        due = self.statements.due_in("l.lane", "1")
        return text(
            "SELECT 1 FROM unnest(CAST(:lanes AS text[])) AS l(lane) "
            f"CROSS JOIN LATERAL ({due}) AS h LIMIT 1"
        )

    # -- the only writer: heads and update -------------------------------------------------------

    def _sqlite(
        self, connection: Connection, lanes: Sequence[str], limit: int, parameters: dict[str, Any]
    ) -> Sequence[Any]:
        statement = self._once(("sqlite", len(lanes)), lambda: self._sqlite_statement(len(lanes)))
        return connection.execute(
            statement, {**parameters, **numbered("lane", lanes), "limit": limit}
        ).all()

    def _sqlite_statement(self, lanes: int, quotas: bool = False) -> Any:
        s = self.statements
        heads = " UNION ALL ".join(
            f"SELECT * FROM ({s.due_in(f':lane_{n}', f':quota_{n}' if quotas else ':limit')})"
            for n in range(lanes)
        )
        return text(self._sqlite_take(heads))

    def _sqlite_take(self, candidates: str) -> str:
        """Take the best ``:limit`` of the rows that a select yields."""
        s = self.statements
        return f"""
            UPDATE {s.jobs} AS j SET {s.take},
                started_at = CASE WHEN taken.place <= :mark THEN {s.sql.now} ELSE NULL END
            FROM (
                SELECT id, row_number() OVER (ORDER BY priority, run_at, id) AS place
                FROM ({candidates}) ORDER BY priority, run_at, id LIMIT :limit
            ) AS taken
            WHERE j.id = taken.id
            RETURNING {s.claimed_columns}
            """

    # -- no RETURNING: quotas, a locking read, an update by key ----------------------------------

    def _mysql(
        self, connection: Connection, lanes: Sequence[str], limit: int, parameters: dict[str, Any]
    ) -> Sequence[Any]:
        if len(lanes) == 1:
            quotas = {lanes[0]: limit}
        else:
            heads = self._once(("heads", len(lanes)), lambda: self._mysql_heads(len(lanes)))
            quotas = Counter(
                connection.execute(
                    heads, {**parameters, **numbered("lane", lanes), "limit": limit}
                ).scalars()
            )
        return self._mysql_take(connection, quotas, parameters) if quotas else []

    def _mysql_take(
        self, connection: Connection, quotas: Mapping[str, int], parameters: dict[str, Any]
    ) -> Sequence[Any]:
        locking = self._once(("locking", len(quotas)), lambda: self._mysql_locking(len(quotas)))
        rows = connection.execute(
            locking,
            {
                **parameters,
                **numbered("lane", list(quotas)),
                **numbered("quota", list(quotas.values())),
            },
        ).all()
        if not rows:
            return []
        rows = sorted(rows, key=lambda row: (row.priority, row.run_at, row.id))
        ids = [row.id for row in rows]
        self._take(connection, ids, ids[: parameters["mark"]] or [""], parameters)
        # Attempts and fence as the update has just written them.
        return [(*row[:5], row[5] + 1, row[6], row[7] + 1, *row[8:]) for row in rows]

    def _mysql_heads(self, lanes: int) -> TextClause:
        heads = " UNION ALL ".join(
            f"({self.statements.due_in(f':lane_{n}', ':limit', 'id, priority, run_at, lane')})"
            for n in range(lanes)
        )
        return text(f"SELECT lane FROM ({heads}) AS h ORDER BY priority, run_at, id LIMIT :limit")

    def _mysql_locking(self, lanes: int) -> Any:
        s = self.statements
        parts = []
        for number in range(lanes):
            due = s.due_in(f":lane_{number}", f":quota_{number}", s.claimed_columns)
            aliased = due.replace(f"FROM {s.jobs} WHERE", f"FROM {s.jobs} j WHERE", 1)
            parts.append(f"({aliased} FOR UPDATE SKIP LOCKED)")
        return text(" UNION ALL ".join(parts))

    def _take(
        self,
        connection: Connection,
        ids: Sequence[str],
        marked: Sequence[str],
        parameters: dict[str, Any],
    ) -> None:
        statement = self._once(
            "take",
            lambda: text(
                f"UPDATE {self.statements.jobs} AS j {self.statements.sql.by_key} "
                f"SET {self.statements.take}, "
                f"started_at = CASE WHEN id IN :marked THEN {self.statements.sql.now} "
                "ELSE NULL END WHERE id IN :ids"
            ).bindparams(bindparam("ids", expanding=True), bindparam("marked", expanding=True)),
        )
        connection.execute(statement, {**parameters, "ids": sorted(ids), "marked": list(marked)})

    def _sorted(self, rows: Sequence[Any], mark: int) -> list[Claimed]:
        return read_claimed(rows, self.statements.sql, mark=mark)

    def _once(self, key: Any, build: Any) -> Any:
        statement = self._built.get(key)
        if statement is None:
            statement = self._built[key] = build()
        return statement


def numbered(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Parameters ``name_0``, ``name_1`` and so on."""
    return {f"{name}_{number}": value for number, value in enumerate(values)}
