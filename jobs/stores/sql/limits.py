"""Claims with limits, and in turns over the tenants: quotas from what runs, then the usual taking.

What runs is counted from the rows themselves, so that no crash can leak a place. A row in
``limits`` is only something to lock: claims that share a limit go one after the other, each seeing
what the one before has committed. Queues and kinds are waited for; a key that another claim is
looking at is left to it.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, TextClause, bindparam, text

from jobs.core.flow import flow_of, parsed
from jobs.core.ids import new_id
from jobs.core.job import Claimed
from jobs.core.limits import (
    BreakerState,
    Head,
    Limit,
    Limits,
    LimitStatus,
    LimitUse,
    Rate,
    Tally,
    Use,
    allocate,
    key_label,
    quotas,
    refills_at,
)
from jobs.stores.sql.claim import MOST_LANES, Claimer, in_chunks, numbered
from jobs.stores.sql.dialects import NUMBER, TEXT
from jobs.stores.sql.lanes import has_flow

# A key's row that nobody used for so long is deleted; who uses one says so at half that time.
KEY_SECONDS = 86_400.0
# One claim in so many deletes old takings, at most so many: more than claims write.
TIDY_EVERY, TIDIED = 8, 100
# The rows made known to a process: past that many it asks anew.
MOST_KNOWN = 50_000
MOST_MISSED = 5
MOST_LISTED = 1000
# Lanes looked at in one statement: MySQL takes a fifth of a millisecond to plan each.
MOST_LANES_MYSQL = 32
_RATED = (("name", TEXT), ("seconds", NUMBER))


class Wanted(NamedTuple):
    """What a claim looks at: lanes with the limits on each, and all of those by name.

    With ``ids`` only those rows of the lanes.
    """

    lanes: dict[str, tuple[str, ...]]
    limits: dict[str, Limit]
    ids: list[str] | None = None

    @classmethod
    def of(cls, lanes: Collection[str], limits: Limits, ids: list[str] | None = None) -> Wanted:
        """Everything that holds for these lanes."""
        names: dict[str, tuple[str, ...]] = {}
        by_name: dict[str, Limit] = {}
        for lane in lanes:
            found = limits.of_lane(parsed(lane))
            names[lane] = tuple(found)
            by_name.update(found)
        return cls(names, by_name, ids)


def need_turns(lanes: Collection[str], limits: Limits | None) -> bool:
    """Whether a claim of these lanes is more than taking the best rows."""
    if any(map(has_flow, lanes)):
        return True
    return bool(limits) and any(limits.of_lane(parsed(lane)) for lane in lanes)  # type: ignore[union-attr]


class Turns:
    """Claims in turns and within limits, over the statements of one store."""

    def __init__(self, claimer: Claimer, lot: Callable[[], float] = random.random) -> None:
        self.claimer = claimer
        self.lot = lot
        self._known: dict[str, float] = {}
        self._missed: Counter[str] = Counter()
        self._built: dict[Any, TextClause] = {}

    # -- the rows to lock ----------------------------------------------------------------------

    def unknown(self, wanted: Wanted) -> dict[str, str]:
        """The names whose rows this process has not seen lately, each with a lane that has it."""
        since = time.time() - KEY_SECONDS / 2
        if all(self._known.get(name, 0) > since for name in wanted.limits):
            return {}
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        return {
            name: lane
            for lane, names in wanted.lanes.items()
            for name in names
            if self._known.get(name, 0) <= since
        }

    def make(
        self, connection: Connection, unknown: Mapping[str, str], parameters: dict[str, Any]
    ) -> None:
        """Make the rows that are missing, and delete as many of keys no longer used."""
        s = self._statements
        aged = s.sql.later(f"-{KEY_SECONDS / 2}")
        read = self._once(
            "present",
            f"SELECT name, CASE WHEN used_at < {aged} THEN 1 ELSE 0 END AS aged FROM {s.limits} "
            "WHERE namespace = :namespace AND name IN :names",
        )
        rows = connection.execute(read, {**parameters, "names": list(unknown)})
        present = {row.name: row.aged for row in rows}
        if old := sorted(name for name, is_aged in present.items() if is_aged):
            refresh = self._once(
                "refresh",
                f"UPDATE {s.limits} SET used_at = {s.sql.now} "
                "WHERE namespace = :namespace AND name IN :names",
            )
            connection.execute(refresh, {**parameters, "names": old})
        missing = {name: lane for name, lane in unknown.items() if name not in present}
        if missing:
            self._insert(connection, missing, parameters)
            self._delete_idle(connection, missing, parameters)
        self._known.update(dict.fromkeys(unknown, time.time()))

    def _insert(
        self, connection: Connection, missing: Mapping[str, str], parameters: dict[str, Any]
    ) -> None:
        s = self._statements
        labels = self._labels(connection, missing, parameters)
        verb, rest = ("INSERT IGNORE", "") if s.sql.name == "mysql" else ("INSERT", _DO_NOTHING)
        insert = self._once(
            "make",
            f"{verb} INTO {s.limits} (namespace, name, label, used_at) "
            f"VALUES (:namespace, :name, :label, {s.sql.now}){rest}",
        )
        connection.execute(
            insert,
            [{**parameters, "name": name, "label": labels.get(name)} for name in sorted(missing)],
        )

    def _delete_idle(
        self, connection: Connection, missing: Mapping[str, str], parameters: dict[str, Any]
    ) -> None:
        s = self._statements
        old = self._once(
            "old",
            f"SELECT name FROM {s.limits} WHERE namespace = :namespace "
            f"AND used_at < {s.sql.later(f'-{KEY_SECONDS}')} AND name LIKE 'key/%' "
            "AND opened_at IS NULL ORDER BY used_at LIMIT :many",
        )
        names = connection.execute(old, {**parameters, "many": 2 * len(missing)}).scalars()
        if gone := sorted(set(names) - missing.keys()):
            self._delete_keys(connection, gone, parameters)

    def _delete_keys(
        self, connection: Connection, names: list[str], parameters: dict[str, Any]
    ) -> None:
        s = self._statements
        skip = "" if s.sql.name == "sqlite" else " FOR UPDATE SKIP LOCKED"
        lock = self._once(
            "idle keys",
            f"SELECT name FROM {s.limits} WHERE namespace = :namespace AND name IN :names "
            f"AND opened_at IS NULL ORDER BY name{skip}",
        )
        idle = list(connection.execute(lock, {**parameters, "names": names}).scalars())
        if idle:
            delete = self._once(
                "delete keys",
                f"DELETE FROM {s.limits} WHERE namespace = :namespace AND name IN :names",
            )
            connection.execute(delete, {**parameters, "names": idle})

    def _labels(
        self, connection: Connection, unknown: Mapping[str, str], parameters: dict[str, Any]
    ) -> dict[str, str]:
        """What the digests of keys stand for, from a row of each lane."""
        keys = {name: lane for name, lane in unknown.items() if name.startswith("key/")}
        s, labels = self._statements, {}
        for chunk in in_chunks(list(keys)):
            each = (
                f"SELECT * FROM (SELECT lane, tenant, concurrency_key FROM {s.jobs} "
                "WHERE namespace = :namespace AND state = 'pending' "
                f"AND lane = :lane_{number} LIMIT 1) AS lane_{number}"
                for number in range(len(chunk))
            )
            found = connection.execute(
                self._once(("labels", len(chunk)), " UNION ALL ".join(each)),
                {**parameters, **numbered("lane", [keys[name] for name in chunk])},
            )
            by_lane = {row.lane: (row.tenant, row.concurrency_key) for row in found}
            for name in chunk:
                tenant, key = by_lane.get(keys[name], ("", None))
                labels[name] = key_label(tenant, key)
        return labels

    def _lock(
        self, connection: Connection, names: Collection[str], parameters: dict[str, Any]
    ) -> dict[str, BreakerState]:
        """The rows of these names, locked in their order; of keys, those that are free."""
        keys = sorted(name for name in names if name.startswith("key/"))
        others = sorted(name for name in names if not name.startswith("key/"))
        found = {**self._read_locked(connection, keys, parameters, " SKIP LOCKED")}
        found.update(self._read_locked(connection, others, parameters, ""))
        for name in names:
            if name in found:
                self._missed.pop(name, None)
                continue
            # Another's just now; if it is so again and again, perhaps the row is gone.
            self._missed[name] += 1
            if self._missed[name] >= MOST_MISSED or not name.startswith("key/"):
                self._known.pop(name, None)
        return found

    def _read_locked(
        self, connection: Connection, names: list[str], parameters: dict[str, Any], skip: str
    ) -> dict[str, BreakerState]:
        if not names:
            return {}
        s = self._statements
        lock = "" if s.sql.name == "sqlite" else f" FOR UPDATE{skip}"
        statement = self._once(
            ("lock", skip),
            "SELECT name, window_at, successes, failures, opened_at, open_until "
            f"FROM {s.limits} WHERE namespace = :namespace AND name IN :names ORDER BY name{lock}",
        )
        rows = connection.execute(statement, {**parameters, "names": names})
        return {row[0]: self._state(row[1:]) for row in rows}

    def _state(self, row: Sequence[Any]) -> BreakerState:
        def instant(value: Any) -> datetime | None:
            return None if value is None else self._statements.sql.read_instant(value)

        return BreakerState(instant(row[0]), row[1], row[2], instant(row[3]), instant(row[4]))

    # -- the claim -----------------------------------------------------------------------------

    def claim(
        self, connection: Connection, wanted: Wanted, limit: int, parameters: dict[str, Any]
    ) -> list[Claimed]:
        """Up to ``limit`` due rows of the wanted lanes, within their limits and in turns."""
        states = self._lock(connection, wanted.limits.keys(), parameters)
        limits = {name: wanted.limits[name] for name in states}
        lanes = {n: names for n, names in wanted.lanes.items() if states.keys() >= set(names)}
        ahead, asked = None, few(limit, lanes)
        if wanted.ids is None and 1 < len(lanes) <= MOST_LANES and self._postgresql:
            ahead, running, taken = self._look(connection, lanes, limits, states, limit, parameters)
            free = self._free(connection, limits, states, running, taken, parameters)
        else:
            running = self._running(connection, parameters) if _counts(limits, states) else {}
            taken = self._taken(connection, limits, parameters)
            free = self._free(connection, limits, states, running, taken, parameters)
        lanes = {lane: names for lane, names in lanes.items() if _may(names, free)}
        if not lanes:
            return []
        mark = parameters["mark"]
        rates = {name: limit.rate for name, limit in limits.items() if limit.rate is not None}
        last = dict.fromkeys(rates, mark) if mark else {}
        if wanted.ids is not None:
            heads = self._heads_by_id(connection, wanted.ids, lanes, parameters)
            chosen = allocate(heads, limit, names=lanes, free=free, lot=self.lot)
            ids = [head.id for head in chosen]
            kinds = {parsed(head.lane).kind for head in chosen}
            claimed = (
                self.claimer.claim_ids(connection, ids, kinds, limit, parameters) if ids else []
            )
        else:
            claimed = self._claim(connection, lanes, limit, free, last, ahead, asked, parameters)
        if rates:
            self._note(connection, self._spent(claimed, lanes, rates), rates, parameters)
        return claimed

    def _claim(
        self,
        connection: Connection,
        lanes: Mapping[str, tuple[str, ...]],
        limit: int,
        free: dict[str, float],
        last: Mapping[str, int],
        seen: list[Head] | None,
        asked: Mapping[str, int],
        parameters: dict[str, Any],
    ) -> list[Claimed]:
        """``seen`` are the heads if they have been looked at already, ``asked`` how many of each
        lane were then asked for."""
        claimed: list[Claimed] = []
        if len(lanes) == 1:  # nothing to weigh
            ((lane, names),) = lanes.items()
            places = (last[name] for name in names if name in last)
            quota = int(min([limit, *(free[name] for name in names), *places]))
            self._take_quotas(connection, {lane: quota}, claimed, lanes, free, parameters)
            return claimed
        heads: list[Head] = []
        for chunk in self._in_chunks(lanes):
            # Whether a lane has more is told by how many of it were asked for.
            each = few(limit, chunk) if seen is None else {lane: asked[lane] for lane in chunk}
            while each and len(claimed) < limit:
                if seen is None:
                    heads = self._heads(connection, each, lanes, free, parameters)
                else:
                    heads, seen = [head for head in seen if head.lane in lanes], None
                before = len(claimed)
                self._take(connection, heads, limit, claimed, lanes, free, last, parameters)
                # Some lanes may have more than was looked at.
                found, left = Counter(head.lane for head in heads), limit - len(claimed)
                full = [lane for lane, most in each.items() if most <= found[lane]]
                each = dict.fromkeys((n for n in full if _may(lanes[n], free)), left)
                if len(claimed) == before:
                    break
            if len(claimed) < limit and self._statements.sql.concurrent_writers:
                self._take_rest(connection, heads, limit, claimed, lanes, free, last, parameters)
        claimed.sort(key=lambda job: (job.priority, job.run_at, job.id))
        return claimed

    def _in_chunks(self, lanes: Collection[str]) -> Iterator[Sequence[str]]:
        """The best priority first, then a lane of each tenant, a second of each; else by lot."""
        places: Counter[str] = Counter()
        order: list[tuple[int, int, float, str]] = []
        for lane, drawn in sorted(((n, self.lot()) for n in lanes), key=lambda each: each[1]):
            apart = parsed(lane)
            place = places[f"{apart.priority} {apart.owner}"]
            places[f"{apart.priority} {apart.owner}"] += 1
            order.append((apart.priority, place, drawn, lane))
        ordered = [each[3] for each in sorted(order)]
        most = MOST_LANES_MYSQL if self._statements.sql.name == "mysql" else MOST_LANES
        for begin in range(0, len(ordered), most):
            yield ordered[begin : begin + most]

    def _take(
        self,
        connection: Connection,
        heads: Sequence[Head],
        limit: int,
        claimed: list[Claimed],
        lanes: Mapping[str, tuple[str, ...]],
        free: dict[str, float],
        last: Mapping[str, int],
        parameters: dict[str, Any],
    ) -> None:
        """Take what :func:`allocate` says, and count it."""
        done = len(claimed)
        rated = {name: max(0, place - done) for name, place in last.items()}
        chosen = allocate(heads, limit - done, names=lanes, free=free, rated=rated, lot=self.lot)
        if chosen:
            self._take_quotas(connection, quotas(chosen), claimed, lanes, free, parameters)

    def _take_quotas(
        self,
        connection: Connection,
        quotas: Mapping[str, int],
        claimed: list[Claimed],
        lanes: Mapping[str, tuple[str, ...]],
        free: dict[str, float],
        parameters: dict[str, Any],
    ) -> None:
        mark = max(0, parameters["mark"] - len(claimed))
        rows = self.claimer.take_quotas(connection, quotas, {**parameters, "mark": mark})
        for job in rows:
            for name in lanes.get(lane_of(job), ()):
                free[name] -= 1
        claimed += rows

    def _take_rest(
        self,
        connection: Connection,
        heads: Sequence[Head],
        limit: int,
        claimed: list[Claimed],
        lanes: Mapping[str, tuple[str, ...]],
        free: dict[str, float],
        last: Mapping[str, int],
        parameters: dict[str, Any],
    ) -> None:
        """The heads were in another claim's hands: take what is free, lane by lane."""
        mine = Counter(map(lane_of, claimed))
        seen = Counter(head.lane for head in heads)
        for lane in sorted(seen):
            left = limit - len(claimed)
            for name in lanes[lane]:
                left = min(left, int(min(left, free[name])))
                if name in last:
                    left = min(left, last[name] - len(claimed))
            if left > 0 and seen[lane] > mine[lane]:
                self._take_quotas(connection, {lane: left}, claimed, lanes, free, parameters)

    def _heads(
        self,
        connection: Connection,
        among: Mapping[str, int],
        lanes: Mapping[str, tuple[str, ...]],
        free: Mapping[str, float],
        parameters: dict[str, Any],
    ) -> list[Head]:
        """The first due rows of the lanes, of each no more than asked for and its limits leave."""
        s, chosen = self._statements, list(among)
        numbers = [
            int(min([most, *(free[name] for name in lanes[lane])])) for lane, most in among.items()
        ]
        if s.sql.name == "postgresql":
            statement = self._once("heads", f"SELECT h.run_at, h.id, q.lane {self._lateral}")
            given: dict[str, Any] = {"lanes": chosen, "quotas": numbers}
        else:
            each = (
                f"SELECT * FROM ({s.due_in(f':lane_{n}', f':quota_{n}', 'run_at, id, lane')}) "
                f"AS lane_{n}"
                for n in range(len(chosen))
            )
            statement = self._once(("heads", len(chosen)), " UNION ALL ".join(each))
            given = {**numbered("lane", chosen), **numbered("quota", numbers)}
        return [Head._make(row) for row in connection.execute(statement, {**parameters, **given})]

    def _heads_by_id(
        self,
        connection: Connection,
        ids: list[str],
        lanes: Mapping[str, tuple[str, ...]],
        parameters: dict[str, Any],
    ) -> list[Head]:
        s = self._statements
        statement = self._once(
            "heads by id",
            f"SELECT j.run_at, j.id, j.lane FROM {s.jobs} j {s.sql.by_key} WHERE j.id IN :ids "
            f"AND j.namespace = :namespace AND j.state = 'pending' AND j.run_at <= {s.due_by}",
        )
        rows = connection.execute(statement, {**parameters, "ids": ids})
        return [Head._make(row) for row in rows if row.lane in lanes]

    def lanes_of_ids(
        self, connection: Connection, ids: list[str], parameters: dict[str, Any]
    ) -> list[str]:
        """The lanes of those ids that wait."""
        s = self._statements
        statement = self._once(
            "lanes of ids",
            f"SELECT DISTINCT j.lane FROM {s.jobs} j {s.sql.by_key} WHERE j.id IN :ids "
            "AND j.namespace = :namespace AND j.state = 'pending'",
        )
        return list(connection.execute(statement, {**parameters, "ids": ids}).scalars())

    # -- what is used --------------------------------------------------------------------------

    def _look(
        self,
        connection: Connection,
        lanes: Mapping[str, tuple[str, ...]],
        limits: Mapping[str, Limit],
        states: Mapping[str, BreakerState],
        limit: int,
        parameters: dict[str, Any],
    ) -> tuple[list[Head], Mapping[str, int], dict[str, int]]:
        """On PostgreSQL, the heads and all that is counted in one statement."""
        s = self._statements
        first = few(limit, lanes)
        at_once = {name: each.at_once or limit for name, each in limits.items()}
        given: dict[str, Any] = {
            "lanes": list(lanes),
            "quotas": [
                min([first[lane], *(at_once[n] for n in names)]) for lane, names in lanes.items()
            ],
        }
        rated = [(name, each.rate.seconds) for name, each in limits.items() if each.rate]
        counts = _counts(limits, states)
        parts = [f"SELECT 'head' AS what, h.run_at, h.id, q.lane, 0 AS number {self._lateral}"]
        if counts:
            parts.append(
                f"SELECT 'running', NULL, flow, queue || '/' || kind, count(*) FROM {s.jobs} "
                f"WHERE {_PROCESSING} GROUP BY queue, kind, flow"
            )
        if rated:
            given |= s.sql.pack(_RATED, list(zip(*rated, strict=True)))
            parts.append(f"SELECT 'taken', NULL, NULL, v.name, {self._sum_of_takings}")
        statement = self._once(("look", len(parts), counts), " UNION ALL ".join(parts))
        heads: list[Head] = []
        running: Counter[str] = Counter()
        taken: dict[str, int] = {}
        for what, run_at, text_id, name, number in connection.execute(
            statement, {**parameters, **given}
        ):
            if what == "head":
                heads.append(Head(run_at, text_id, name))
            elif what == "taken":
                taken[name] = int(number or 0)
            else:
                queue, kind = name.split("/")
                _count_running(running, queue, kind, text_id, number)
        return heads, running, taken

    @property
    def _postgresql(self) -> bool:
        return bool(self._statements.sql.name == "postgresql")

    @property
    def _lateral(self) -> str:
        return (
            "FROM unnest(CAST(:lanes AS text[]), CAST(:quotas AS bigint[])) AS q(lane, quota) "
            f"CROSS JOIN LATERAL ({self._statements.due_in('q.lane', 'q.quota')}) AS h"
        )

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
        statement = self._once(
            "running",
            f"SELECT queue, kind, flow, count(*) FROM {self._statements.jobs} "
            f"WHERE {_PROCESSING} GROUP BY queue, kind, flow",
        )
        found: Counter[str] = Counter()
        for queue, kind, flow, count in connection.execute(statement, parameters):
            _count_running(found, queue, kind, flow, count)
        return found

    def _taken(
        self, connection: Connection, limits: Mapping[str, Limit], parameters: dict[str, Any]
    ) -> dict[str, int]:
        """What was taken of names with a rate, each in its window."""
        rated = [(name, each.rate.seconds) for name, each in limits.items() if each.rate]
        if not rated:
            return {}
        sql = self._statements.sql
        packed = sql.pack(_RATED, list(zip(*rated, strict=True)))
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
            f"FROM {s.sql.rows(_RATED)}"
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

    # -- parts ---------------------------------------------------------------------------------

    @property
    def _statements(self) -> Any:
        return self.claimer.statements

    def _once(self, key: Any, statement: str) -> TextClause:
        built = self._built.get(key)
        if built is None:
            built = text(statement)
            for name in ("names", "ids"):
                if f":{name} " in f"{statement} ":
                    built = built.bindparams(bindparam(name, expanding=True))
            self._built[key] = built
        return built


_PROCESSING = "namespace = :namespace AND state = 'processing'"
_DO_NOTHING = " ON CONFLICT DO NOTHING"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def few(limit: int, lanes: Collection[str]) -> dict[str, int]:
    """How many rows of each lane to look at first: a tenant of many is not likely to get all."""
    of_owner = Counter(parsed(lane).owner for lane in lanes)
    return {
        lane: min(limit, 2 * limit // len(of_owner) // of_owner[parsed(lane).owner] + 2)
        for lane in lanes
    }


def _counts(limits: Mapping[str, Limit], states: Mapping[str, BreakerState]) -> bool:
    """Whether it matters what is running."""
    return any(
        limit.at_once is not None or (limit.breaker and states[name].open_until)
        for name, limit in limits.items()
    )


def _count_running(counter: Counter[str], queue: str, kind: str, flow: str, count: int) -> None:
    counter[f"queue/{queue}"] += count
    counter[f"kind/{kind}"] += count
    if flow:
        counter[f"key/{kind}/{flow}"] += count


def _may(names: Sequence[str], free: Mapping[str, float]) -> bool:
    return all(free[name] > 0 for name in names)


def lane_of(job: Claimed) -> str:
    """The lane that a claimed job waited in."""
    flow = flow_of(job.tenant, job.concurrency_key)
    return f"{job.priority}/{job.queue}/{job.kind}/{flow}"
