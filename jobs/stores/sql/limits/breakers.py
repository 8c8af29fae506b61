"""Breakers: results counted into them; and how every limit stands, for people to read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from jobs.core.flow import parsed
from jobs.core.limits import (
    BreakerState,
    Limits,
    LimitStatus,
    LimitUse,
    Rate,
    Tally,
    Use,
    refills_at,
)
from jobs.stores.sql.limits.usage import Usage

MOST_LISTED = 1000


class Breakers(Usage):
    """What settles write into the rows, and what is told of them."""

    # -- breakers ------------------------------------------------------------------------------

    def note_results(
        self, connection: Connection, results: Sequence[Tally], parameters: dict[str, Any]
    ) -> list[str]:
        """Count ends of attempts for breakers; returns the names whose rows are missing."""
        by_name = {result.name: result for result in sorted(results)}
        states = self._read_locked(connection, list(by_name), parameters, "")
        s, now = self._statements, None
        changed = []
        for name, state in states.items():
            now = now or self._now(connection, parameters)
            _, breaker, successes, failures = by_name[name]
            new = state.after(breaker, successes, failures, now)
            if new != state:
                changed.append({**parameters, "name": name, **self._bound(new)})
        if changed:
            write = self._once(
                "breakers",
                f"UPDATE {s.limits} SET window_at = :window_at, successes = :successes, "
                "failures = :failures, opened_at = :opened_at, open_until = :open_until "
                "WHERE namespace = :namespace AND name = :name",
            )
            connection.execute(write, changed if len(changed) > 1 else changed[0])
        return [name for name in by_name if name not in states]

    def _bound(self, state: BreakerState) -> dict[str, Any]:
        bind = self._statements.sql.bind_instant
        return {
            "window_at": bind(state.window_at),
            "successes": state.successes,
            "failures": state.failures,
            "opened_at": bind(state.opened_at),
            "open_until": bind(state.open_until),
        }

    def reset(self, connection: Connection, name: str, parameters: dict[str, Any]) -> bool:
        """Close a breaker and forget its counts; whether there is such a row."""
        if not self._read_locked(connection, [name], parameters, ""):
            return False
        write = self._once(
            "reset",
            f"UPDATE {self._statements.limits} SET window_at = NULL, successes = 0, failures = 0, "
            "opened_at = NULL, open_until = NULL WHERE namespace = :namespace AND name = :name",
        )
        connection.execute(write, {**parameters, "name": name})
        return True

    # -- look ----------------------------------------------------------------------------------

    def statuses(
        self, connection: Connection, limits: Limits, parameters: dict[str, Any]
    ) -> list[LimitStatus]:
        """Every limit as it stands; of keys the newest."""
        s = self._statements
        read = self._once(
            "statuses",
            "SELECT name, label, window_at, successes, failures, opened_at, open_until "
            f"FROM {s.limits} WHERE namespace = :namespace ORDER BY used_at DESC "
            f"LIMIT {MOST_LISTED}",
        )
        labels: dict[str, str | None] = {}
        states: defaultdict[str, BreakerState] = defaultdict(BreakerState)
        for name, label, *state in connection.execute(read, parameters):
            labels[name], states[name] = label or None, self._state(state)
        names = {f"queue/{each}" for each in limits.queues} | {
            f"kind/{each}" for each in limits.kinds
        }
        names |= {name for name in labels if limits.of_name(name)}
        by_name = {name: limits.of_name(name) for name in names}
        running = self._running(connection, parameters)
        taken = self._taken(connection, by_name, parameters)
        now = self._now(connection, parameters)
        return [
            LimitStatus.of(
                name,
                labels.get(name),
                by_name[name],
                Use(running.get(name, 0), taken.get(name, 0), states[name]),
                now,
            )
            for name in sorted(names)
        ]

    def uses(
        self, connection: Connection, lane: str, limits: Limits, parameters: dict[str, Any]
    ) -> list[LimitUse]:
        """The limits on the jobs of a lane; nothing is locked."""
        by_name = limits.of_lane(parsed(lane))
        if not by_name:
            return []
        read = self._once(
            "states of",
            "SELECT name, window_at, successes, failures, opened_at, open_until "
            f"FROM {self._statements.limits} WHERE namespace = :namespace AND name IN :names",
        )
        rows = connection.execute(read, {**parameters, "names": list(by_name)})
        states = {name: self._state(state) for name, *state in rows}
        running = self._running(connection, parameters)
        taken = self._taken(connection, by_name, parameters)
        found = []
        for name, limit in by_name.items():
            state = states.get(name, BreakerState())
            use = Use(running.get(name, 0), taken.get(name, 0), state)
            free_at = self._refill(connection, name, limit.rate, use.taken, parameters)
            found.append(LimitUse(name, limit, use, free_at))
        return found

    def _refill(
        self,
        connection: Connection,
        name: str,
        rate: Rate | None,
        taken: int,
        parameters: dict[str, Any],
    ) -> datetime | None:
        if rate is None or taken < rate.most:
            return None
        s = self._statements
        aged = s.sql.later(f"-{s.sql.number('seconds')}")
        oldest = self._once(
            "oldest takings",
            f"SELECT taken_at, taken FROM {s.takings} WHERE namespace = :namespace "
            f"AND name = :name AND taken_at > {aged} "
            "ORDER BY taken_at LIMIT :many",
        )
        # Each counts for one at least, so no more of them stand in the way.
        many = taken - rate.most + 1
        values = {**parameters, "name": name, "seconds": rate.seconds, "many": many}
        rows = connection.execute(oldest, values)
        return refills_at([(s.sql.read_instant(at), count) for at, count in rows], taken, rate)
