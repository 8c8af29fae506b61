"""What is used of limits: what runs, what was taken, and what that leaves free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from jobs.core.flow import flow_of
from jobs.core.ids import new_id
from jobs.core.job import Claimed
from jobs.core.limits import BreakerState, Limit, Use
from jobs.stores.sql.dialects import NUMBER, TEXT
from jobs.stores.sql.limits.rows import LimitRows

# One claim in so many deletes old takings, at most so many: more than claims write.
TIDY_EVERY, TIDIED = 8, 100
RATED = (("name", TEXT), ("seconds", NUMBER))
PROCESSING = "namespace = :namespace AND state = 'processing'"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Usage(LimitRows):
    """Counts of what runs, and of what was taken in each window."""

    def _free(
        self,
        connection: Connection,
        limits: Mapping[str, Limit],
        states: Mapping[str, BreakerState],
        running: Mapping[str, int],
        taken: Mapping[str, int],
        parameters: dict[str, Any],
    ) -> dict[str, float]:
        """How many more of each name may be claimed."""
        opened = any(states[name].open_until for name, limit in limits.items() if limit.breaker)
        now = self._now(connection, parameters) if opened else _LONG_AGO
        return {
            name: Use(running.get(name, 0), taken.get(name, 0), states[name]).free(limit, now)
            for name, limit in limits.items()
        }

    def _now(self, connection: Connection, parameters: dict[str, Any]) -> datetime:
        sql = self._statements.sql
        value = connection.execute(self._once("now", f"SELECT {sql.now}"), parameters).scalar_one()
        now: datetime = sql.read_instant(value)
        return now

    def _running(self, connection: Connection, parameters: dict[str, Any]) -> dict[str, int]:
        """What is in processing by name; as many rows as are in flight are looked at."""
        s = self._statements
        statement = self._once(
            "running",
            f"SELECT queue, kind, flow, count(*) FROM {s.jobs} {s.sql.by_index(s.held_index)} "
            f"WHERE {PROCESSING} GROUP BY queue, kind, flow",
        )
        found: Counter[str] = Counter()
        for queue, kind, flow, count in connection.execute(statement, parameters):
            count_running(found, queue, kind, flow, count)
        return found

    def _taken(
        self, connection: Connection, limits: Mapping[str, Limit], parameters: dict[str, Any]
    ) -> dict[str, int]:
        """What was taken of names with a rate, each in its window."""
        rated = [(name, each.rate.seconds) for name, each in limits.items() if each.rate]
        if not rated:
            return {}
        sql = self._statements.sql
        packed = sql.pack(RATED, list(zip(*rated, strict=True)))
        statement = self._once("taken", f"SELECT v.name, {self._sum_of_takings}")
        rows = connection.execute(statement, {**parameters, **packed})
        return {row[0]: int(row[1] or 0) for row in rows}

    @property
    def _sum_of_takings(self) -> str:
        s = self._statements
        name = "v.name"
        if s.sql.name == "mysql":
            name = "CONVERT(v.name USING ascii) COLLATE ascii_bin"
        return (
            f"(SELECT sum(t.taken) FROM {s.takings} t WHERE t.namespace = :namespace "
            f"AND t.name = {name} AND t.taken_at > {s.sql.later('-v.seconds')}) "
            f"FROM {s.sql.rows(RATED)}"
        )

    def _spent(
        self,
        claimed: Sequence[Claimed],
        lanes: Mapping[str, tuple[str, ...]],
        rates: Collection[str],
    ) -> Counter[str]:
        return Counter(
            name for job in claimed for name in lanes.get(lane_of(job), ()) if name in rates
        )

    def _note(
        self,
        connection: Connection,
        spent: Mapping[str, int],
        rates: Mapping[str, Any],
        parameters: dict[str, Any],
    ) -> None:
        """Write down what was taken, and now and then delete what no window sees any more."""
        if not spent:
            return
        s = self._statements
        insert = self._once(
            "take",
            f"INSERT INTO {s.takings} (namespace, name, taken_at, id, taken) "
            f"VALUES (:namespace, :name, {s.sql.now}, :id, :taken)",
        )
        rows = [
            {**parameters, "name": name, "taken": taken, "id": new_id()}
            for name, taken in sorted(spent.items())
        ]
        connection.execute(insert, rows if len(rows) > 1 else rows[0])
        if self.lot() * TIDY_EVERY < 1:
            name = self._drawn(list(spent))
            seconds = rates[name].seconds
            self._tidy(connection, {**parameters, "name": name, "seconds": seconds})

    def _drawn(self, names: list[str]) -> str:
        return names[int(self.lot() * len(names))]

    def _tidy(self, connection: Connection, parameters: dict[str, Any]) -> None:
        s = self._statements
        old = (
            f"namespace = :namespace AND name = :name "
            f"AND taken_at <= {s.sql.later('-' + s.sql.number('seconds'))}"
        )
        if s.sql.name == "mysql":
            delete = f"DELETE FROM {s.takings} WHERE {old} ORDER BY taken_at LIMIT {TIDIED}"
        else:
            delete = (
                f"DELETE FROM {s.takings} WHERE namespace = :namespace AND name = :name "
                f"AND id IN (SELECT id FROM {s.takings} WHERE {old} "
                f"ORDER BY taken_at LIMIT {TIDIED})"
            )
        connection.execute(self._once("tidy", delete), parameters)


def counts_matter(limits: Mapping[str, Limit], states: Mapping[str, BreakerState]) -> bool:
    """Whether it matters what is running."""
    return any(
        limit.at_once is not None or (limit.breaker and states[name].open_until)
        for name, limit in limits.items()
    )


def count_running(counter: Counter[str], queue: str, kind: str, flow: str, count: int) -> None:
    """Add rows in processing under each name that may have a limit."""
    counter[f"queue/{queue}"] += count
    counter[f"kind/{kind}"] += count
    if flow:
        counter[f"key/{kind}/{flow}"] += count


def lane_of(job: Claimed) -> str:
    """The lane that a claimed job waited in."""
    flow = flow_of(job.tenant, job.concurrency_key)
    return f"{job.priority}/{job.queue}/{job.kind}/{flow}"
