"""The claim in turns: heads of lanes, shared out within quotas, then the usual taking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from jobs.core.flow import parsed
from jobs.core.job import Claimed
from jobs.core.limits import BreakerState, Head, Limit, allocate, in_reach, quotas
from jobs.stores.sql.claim import MOST_LANES, numbered
from jobs.stores.sql.limits.breakers import Breakers
from jobs.stores.sql.limits.usage import PROCESSING, RATED, count_running, counts_matter, lane_of
from jobs.stores.sql.limits.wanted import Wanted

# Lanes looked at in one statement: MySQL takes a fifth of a millisecond to plan each.
MOST_LANES_MYSQL = 32


class Turns(Breakers):
    """Claims in turns and within limits, over the statements of one store."""

    def claim(
        self, connection: Connection, wanted: Wanted, limit: int, parameters: dict[str, Any]
    ) -> list[Claimed]:
        """Up to ``limit`` due rows of the wanted lanes, within their limits and in turns."""
        states = self._lock(connection, wanted.limits.keys(), parameters)
        limits = {name: wanted.limits[name] for name in states}
        lanes = {n: names for n, names in wanted.lanes.items() if states.keys() >= set(names)}
        ahead: list[Head] | None = None
        asked: dict[str, int] = {}
        if wanted.ids is None and 1 < len(lanes) <= MOST_LANES and self._postgresql:
            asked = few(limit, lanes)
            ahead, running, taken = self._look(
                connection, lanes, asked, limits, states, limit, parameters
            )
        else:
            running = self._running(connection, parameters) if counts_matter(limits, states) else {}
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
                # Some lanes may have more than was looked at: what sorts behind that waits.
                near, far = in_reach(heads, _cut(heads, each, limit))
                self._take(connection, near, limit, claimed, lanes, free, last, parameters)
                found, left = Counter(head.lane for head in heads), limit - len(claimed)
                again = {lane for lane, most in each.items() if most <= found[lane]}
                again |= {head.lane for head in far}
                each = dict.fromkeys((n for n in sorted(again) if _may(lanes[n], free)), left)
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

    def _look(
        self,
        connection: Connection,
        lanes: Mapping[str, tuple[str, ...]],
        asked: Mapping[str, int],
        limits: Mapping[str, Limit],
        states: Mapping[str, BreakerState],
        limit: int,
        parameters: dict[str, Any],
    ) -> tuple[list[Head], Mapping[str, int], dict[str, int]]:
        """On PostgreSQL, the heads (``asked`` of each lane) and all that is counted, in one."""
        s = self._statements
        at_once = {name: each.at_once or limit for name, each in limits.items()}
        given: dict[str, Any] = {
            "lanes": list(lanes),
            "quotas": [
                min([asked[lane], *(at_once[n] for n in names)]) for lane, names in lanes.items()
            ],
        }
        rated = [(name, each.rate.seconds) for name, each in limits.items() if each.rate]
        counts = counts_matter(limits, states)
        parts = [f"SELECT 'head' AS what, h.run_at, h.id, q.lane, 0 AS number {self._lateral}"]
        if counts:
            parts.append(
                f"SELECT 'running', NULL, flow, queue || '/' || kind, count(*) FROM {s.jobs} "
                f"WHERE {PROCESSING} GROUP BY queue, kind, flow"
            )
        if rated:
            given |= s.sql.pack(RATED, list(zip(*rated, strict=True)))
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
                count_running(running, queue, kind, text_id, number)
        return heads, running, taken

    @property
    def _lateral(self) -> str:
        return (
            "FROM unnest(CAST(:lanes AS text[]), CAST(:quotas AS bigint[])) AS q(lane, quota) "
            f"CROSS JOIN LATERAL ({self._statements.due_in('q.lane', 'q.quota')}) AS h"
        )


def _cut(heads: Sequence[Head], asked: Mapping[str, int], limit: int) -> dict[str, Head]:
    """The last head of each lane that may have more than was asked for, and than is wanted."""
    found = Counter(head.lane for head in heads)
    lasts = {head.lane: head for head in sorted(heads, key=lambda head: (head.run_at, head.id))}
    return {lane: lasts[lane] for lane, count in found.items() if asked[lane] <= count < limit}


def few(limit: int, lanes: Collection[str]) -> dict[str, int]:
    """How many rows of each lane to look at first: a tenant of many is not likely to get all."""
    of_owner = Counter(parsed(lane).owner for lane in lanes)
    return {
        lane: min(limit, 2 * limit // len(of_owner) // of_owner[parsed(lane).owner] + 2)
        for lane in lanes
    }


def _may(names: Sequence[str], free: Mapping[str, float]) -> bool:
    return all(free[name] > 0 for name in names)
