"""Browsing: pages, counts and boards whose cost does not grow with the table.

The indexes that lead with a state, a kind, a queue or a tenant find ids in order, a range for each
stored state. What else a filter says is asked of a window of those rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Executable, text

from jobs.core.job import State
from jobs.core.names import NAME
from jobs.core.store import JobFilter, is_indexed, needs_looking
from jobs.stores.sql.statements import Statements
from jobs.stores.sql.tables import ENDED

# Far more than people have; those beyond are left out of a board.
MOST_LANES = 150
ERROR_CHARS = 500
_ENDED = ("failed", "cancelled")
_ENDED_WELL = (*_ENDED, "completed")
_SEARCHED = ("alias", "dedupe_key", "error", "payload")
# Ids are made by producers, whose clocks may differ from the database's.
ID_SLACK_SECONDS = 3600.0


class Asked(NamedTuple):
    """A statement and its parameters, beside the namespace and the present."""

    statement: Executable
    parameters: dict[str, Any]
    # Of a board: of how many lanes it counts what waits.
    lanes: int = 0


class Browse:
    """The statements of one store."""

    def __init__(self, statements: Statements) -> None:
        self.statements = statements
        self.sql = statements.sql

    # -- pages and counts ----------------------------------------------------------------------

    def page(self, where: JobFilter, limit: int, *, ids_only: bool) -> Asked:
        """Jobs of a filter with a window, in the order of ids."""
        columns = self.statements.tables.jobs.c
        wanted = [columns.id] if ids_only else list(columns)
        looks = needs_looking(where)
        found, parameters = self._found(where, where.window or limit if looks else limit)
        conditions, more = self.conditions(where, beyond_indexes=True)
        order = "ASC" if where.after_id is not None else "DESC"
        names = ", ".join(f"j.{column.name}" for column in wanted)
        statement = text(
            f"SELECT {names} {self._joined(found)}{''.join(f' AND {each}' for each in conditions)} "
            f"ORDER BY j.id {order} LIMIT {int(limit)}"
        ).columns(*wanted)
        return Asked(statement, {**parameters, **more})

    def survey(self, where: JobFilter, cap: int) -> Asked:
        """How many rows were looked at, how many of them it is, and the last id looked at."""
        if not needs_looking(where):
            ranges, parameters = self._ranges(where)
            parts = [
                f"(SELECT count(*) FROM (SELECT 1 AS one {rows} LIMIT {int(cap) + 1}) "
                f"AS of_{state})"
                for state, rows in ranges
            ]
            total = " + ".join(parts) or "0"
            return Asked(text(f"SELECT n, n, NULL FROM (SELECT {total} AS n) AS c"), parameters)
        found, parameters = self._found(where, where.window or cap)
        conditions, more = self.conditions(where, beyond_indexes=True)
        last = "max" if where.after_id is not None else "min"
        statement = text(
            f"SELECT count(*), sum(CASE WHEN {' AND '.join(conditions) or '1 = 1'} "
            f"THEN 1 ELSE 0 END), {last}(j.id) {self._joined(found)}"
        )
        return Asked(statement, {**parameters, **more})

    def failures(self, where: JobFilter, limit: int) -> Asked:
        """Failed rows in short."""
        found, parameters = self._found(where, limit)
        finished_at = self.statements.tables.jobs.c.finished_at
        names = ("id", "kind", "queue", "tenant", "attempts", "finished_at")
        c = self.statements.tables.jobs.c
        statement = text(
            f"SELECT {', '.join(f'j.{name}' for name in names)}, "
            f"substr(j.error, 1, {ERROR_CHARS}) {self._joined(found)} ORDER BY j.id DESC"
        ).columns(*(c[name] for name in names[:-1]), finished_at, c.error)
        return Asked(statement, parameters)

    def _found(self, where: JobFilter, most: int) -> tuple[str, dict[str, Any]]:
        """The first ``most`` ids by the indexes alone, a range for each stored state."""
        ranges, parameters = self._ranges(where)
        order = "ASC" if where.after_id is not None else "DESC"
        parts = [
            f"SELECT id FROM (SELECT id {rows} ORDER BY id {order} LIMIT {int(most)}) AS of_{state}"
            for state, rows in ranges
        ]
        if not parts:  # a stored state and a shown one that contradict each other
            parts = [f"SELECT id FROM {self.statements.jobs} WHERE 1 = 0"]
        ids = f"SELECT id FROM ({' UNION ALL '.join(parts)}) AS u"
        return f"{ids} ORDER BY id {order} LIMIT {int(most)}", parameters

    def _ranges(self, where: JobFilter) -> tuple[list[tuple[State, str]], dict[str, Any]]:
        """For each stored state, the rows that an index finds: what follows SELECT."""
        bounds, parameters = self._bounds(where)
        ranges = []
        for state in where.states:
            lead = where.lead_in(state)
            conditions = [f"namespace = :namespace AND state = '{state}'", *bounds]
            if lead is not None:
                conditions.append(f"{lead} = :{lead}")
                parameters[lead] = getattr(where, lead)
            table = self.statements.jobs
            # In these words, so that a partial index fits.
            if lead == "tenant":
                conditions.append("tenant <> ''")
            elif state is State.PENDING:
                table += f" {self.sql.by_index(self.statements.waiting_index)}"
            elif state is not State.PROCESSING:
                conditions.append(ENDED)
            ranges.append((state, f"FROM {table} WHERE {' AND '.join(conditions)}"))
        return ranges, parameters

    def _bounds(self, where: JobFilter) -> tuple[list[str], dict[str, Any]]:
        """What a filter says of ids, its times among it."""
        conditions, parameters = list[str](), dict[str, Any]()
        for name, compares in (("before_id", "<"), ("after_id", ">")):
            if (bound := getattr(where, name)) is not None:
                conditions.append(f"id {compares} :{name}")
                parameters[name] = bound
        if not self.sql.frozen:
            for name, compares, slack in (("since", ">=", -1), ("until", "<=", 1)):
                if (instant := getattr(where, name)) is not None:
                    at_ms = int((instant.timestamp() + slack * ID_SLACK_SECONDS) * 1000)
                    head = f"{max(0, at_ms):012x}"
                    conditions.append(f"id {compares} :{name}_id")
                    parameters[f"{name}_id"] = f"{head[:8]}-{head[8:]}"
        return conditions, parameters

    def _joined(self, ids: str) -> str:
        """The rows of those ids as ``j``, each found by its key: nothing else is read."""
        jobs = self.statements.jobs
        match self.sql.name:
            case "postgresql":
                return f"FROM {jobs} AS j WHERE j.id = ANY(ARRAY({ids}))"
            case "sqlite":
                return f"FROM ({ids}) AS w CROSS JOIN {jobs} AS j WHERE j.id = w.id"
        return f"FROM ({ids}) AS w STRAIGHT_JOIN {jobs} AS j WHERE j.id = w.id"

    def conditions(
        self, where: JobFilter, *, beyond_indexes: bool = False
    ) -> tuple[list[str], dict[str, Any]]:
        """What a filter says of ``j`` that :func:`inspect.listing` does not, and its parameters.

        With ``beyond_indexes`` also what it says there, but for what the indexes find.
        """
        sql, conditions, parameters = self.sql, [], dict[str, Any]()
        if where.shown is not None:
            conditions += self._shown(where.shown)
        for name, compares in (("since", ">="), ("until", "<")):
            if (at := getattr(where, name)) is not None:
                conditions.append(f"j.created_at {compares} {sql.instant(name)}")
                parameters[name] = sql.bind_instant(at)
        if where.text is not None:
            # An id is ASCII, and MySQL compares it with nothing else.
            searched = ("id", *_SEARCHED) if where.text.isascii() else _SEARCHED
            held = " OR ".join(sql.holds_text(f"j.{name}", "text") for name in searched)
            conditions.append(f"({held})")
            parameters["text"] = where.text
        if where.parent_id is not None:
            conditions.append("j.parent_id = :parent_id")
            parameters["parent_id"] = where.parent_id
        if where.ids is not None:
            named = {
                f"among_{place}": job_id
                for place, job_id in enumerate(where.ids)
                if NAME.fullmatch(job_id) is not None
            }
            listed = ", ".join(f":{name}" for name in named)
            conditions.append(f"j.id IN ({listed})" if named else "1 = 0")
            parameters.update(named)
        if beyond_indexes:
            for name in ("tenant", "kind", "queue"):
                if (value := getattr(where, name)) is not None and not is_indexed(where, name):
                    conditions.append(f"j.{name} = :{name}")
                    parameters[name] = value
            if where.error is not None:
                conditions.append(sql.holds_text("j.error", "error"))
                parameters["error"] = where.error
            if where.older_than_seconds is not None:
                by = sql.later(f"-{sql.number('older_than_seconds')}")
                conditions.append(f"coalesce(j.finished_at, j.created_at) <= {by}")
                parameters["older_than_seconds"] = where.older_than_seconds
        return conditions, parameters

    def _shown(self, shown: str) -> list[str]:
        now = self.sql.now
        match shown:
            case "delayed":
                return [f"j.run_at > {now}", "j.attempts = 0"]
            case "retrying":
                return [f"j.run_at > {now}", "j.attempts > 0"]
            case "pending":
                return [f"j.run_at <= {now}", self.statements.not_paused]
            case "paused":
                return [f"j.run_at <= {now}", f"NOT {self.statements.not_paused}"]
            case "processing":
                return [f"(j.lease_until IS NULL OR j.lease_until >= {now})"]
            case "stalled":
                return [f"j.lease_until < {now}"]
        return []

    # -- boards --------------------------------------------------------------------------------

    def board(self, lanes: Sequence[str], cap: int, *, completed: bool = False) -> Asked:
        """Rows ``(lane's place, queue, what, count, how many of them again, first instant)``.

        A lane's are ``due`` and ``later``; its place is -1 where a row speaks of a whole queue.
        """
        jobs, now = self.statements.jobs, self.sql.now
        parts = [f"SELECT -1 AS place, '' AS queue, 'now' AS what, 1 AS n, 0 AS again, {now} AS at"]
        parameters = {}
        for place, lane in enumerate(lanes[:MOST_LANES]):
            parameters[f"lane_{place}"] = lane
            waiting = (
                f"FROM {jobs} WHERE namespace = :namespace AND state = 'pending' "
                f"AND lane = :lane_{place} AND run_at"
            )
            parts += [
                f"SELECT {place}, '', 'due', count(*), 0, min(run_at) FROM "
                f"(SELECT run_at {waiting} <= {now} ORDER BY run_at LIMIT {int(cap) + 1}) AS d",
                f"SELECT {place}, '', 'later', count(*), "
                "sum(CASE WHEN attempts > 0 THEN 1 ELSE 0 END), min(run_at) FROM (SELECT attempts, "
                f"run_at {waiting} > {now} ORDER BY run_at LIMIT {int(cap) + 1}) AS l",
            ]
        parts.append(
            f"SELECT -1, queue, what, count(*), 0, min(lease_until) FROM (SELECT queue, "
            f"lease_until, CASE WHEN lease_until < {now} THEN 'stalled' ELSE 'processing' END "
            f"AS what FROM {jobs} WHERE namespace = :namespace AND state = 'processing' "
            f"LIMIT {int(cap) + 1}) AS held GROUP BY queue, what"
        )
        parts += [
            f"SELECT -1, q.queue, '{state}', ({self._count_of(state, cap)}), 0, NULL FROM queues q "
            "WHERE q.queue IS NOT NULL"
            for state in (_ENDED_WELL if completed else _ENDED)
        ]
        first = f"SELECT min(queue) FROM {jobs} WHERE namespace = :namespace"
        if self.sql.has_partial_indexes:  # the index by queue has the queues where anything ended
            first += f" AND {ENDED}"
        queues = (
            f"WITH RECURSIVE queues(queue) AS ({first} UNION ALL SELECT ({first} "
            "AND queue > queues.queue) FROM queues WHERE queues.queue IS NOT NULL) "
        )
        statement = text(queues + " UNION ALL ".join(parts))
        return Asked(statement, parameters, min(len(lanes), MOST_LANES))

    def _count_of(self, state: str, cap: int) -> str:
        rows = (
            f"FROM {self.statements.jobs} j WHERE j.namespace = :namespace "
            f"AND j.queue = q.queue AND j.state = '{state}' AND {ENDED}"
        )
        if self.sql.name == "mysql":  # MariaDB's derived tables know nothing of what is around them
            return f"SELECT count(*) {rows}"
        return f"SELECT count(*) FROM (SELECT 1 AS one {rows} LIMIT {int(cap) + 1}) AS c"

    def board_of(self, tenant: str, cap: int, *, completed: bool = False) -> Asked:
        """Rows as of :meth:`board` without places, for a tenant's newest jobs of each state.

        The jobs of no tenant (``""``) have no index of their own: the newest of all are looked at,
        and those of others come without kind and queue.
        """
        own = "CASE WHEN tenant = :tenant THEN {0} END AS {0}"
        named = "kind, queue" if tenant else f"{own.format('kind')}, {own.format('queue')}"
        jobs, now = self.statements.jobs, self.sql.now
        parts = [f"SELECT '' AS kind, '' AS queue, 'now' AS what, 1 AS n, 0 AS again, {now} AS at"]
        for state in ("pending", "processing", *(_ENDED_WELL if completed else _ENDED)):
            what = {
                "pending": f"CASE WHEN run_at > {now} THEN 'later' ELSE 'due' END",
                "processing": f"CASE WHEN lease_until < {now} THEN 'stalled' ELSE state END",
            }.get(state, "state")
            table, whose = jobs, "AND tenant = :tenant AND tenant <> ''"
            if not tenant:  # in these words, so that the indexes of all fit
                if state == "pending":
                    table += f" {self.sql.by_index(self.statements.waiting_index)}"
                whose = f"AND {ENDED}" if state in _ENDED_WELL else ""
            parts.append(
                "SELECT kind, queue, what, count(*), sum(CASE WHEN attempts > 0 THEN 1 ELSE 0 END),"
                f" min(run_at) FROM (SELECT {named}, {what} AS what, attempts, run_at "
                f"FROM {table} WHERE namespace = :namespace {whose} "
                f"AND state = '{state}' ORDER BY id DESC LIMIT {int(cap) + 1}) AS {state} "
                "GROUP BY kind, queue, what"
            )
        return Asked(text(" UNION ALL ".join(parts)), {"tenant": tenant})
