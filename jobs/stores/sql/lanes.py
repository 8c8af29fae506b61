"""The lanes that hold pending rows, found by steps down the index.

All base lanes (``priority/queue/kind/``) are found, but of their flows only a bounded number, from
starting points that change: so the cost is the same for ten tenants and for a hundred thousand,
and every flow gets its turn.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, text

from jobs.core.flow import FLOW_CHARS, KEY_CHARS, PAST_FLOWS, TENANT_CHARS
from jobs.stores.sql.dialects import DialectSql

# Of each base lane, in each direction from where the steps begin.
MOST_FLOWS, MOST_TENANTS = 64, 32


def spread_parameters(spread: Callable[[], float]) -> dict[str, str]:
    """Where the steps begin; ``spread`` gives numbers from 0 to 1."""
    return {
        "spread_tenant": f"{int(spread() * 16**TENANT_CHARS):0{TENANT_CHARS}x}",
        "spread_key": f"{int(spread() * 16**KEY_CHARS):0{KEY_CHARS}x}",
    }


def random_spread() -> float:
    """What a store spreads by, but for tests."""
    return random.random()


def bases(jobs: str, sql: DialectSql) -> str:
    """The table expression ``lanes``: of each base lane the one without a flow, and the first."""
    past = _joined(sql, f"substr(lanes.lane, 1, length(lanes.lane) - {FLOW_CHARS})", _PAST)
    step = _first(jobs, f"j.lane > CASE WHEN {_PLAIN} THEN lanes.lane ELSE {past} END")
    return f"""
        lanes(lane) AS (
            SELECT (SELECT min(lane) FROM {jobs} WHERE {_PENDING})
            UNION ALL
            SELECT {step} FROM lanes WHERE lanes.lane IS NOT NULL
        )"""


def flows(jobs: str, sql: DialectSql) -> str:
    """As :func:`bases`, and more of the flows, in the table expression ``live``.

    Steps by flow begin at a key of a tenant's, both by lot, and go on from the first when the end
    is reached; steps by tenant likewise, and take each tenant's first flow and one by lot.
    """

    def joined(*parts: str) -> str:
        return _joined(sql, *parts)

    base = f"substr(lanes.lane, 1, length(lanes.lane) - {FLOW_CHARS})"
    chosen = _first(
        jobs,
        f"j.lane > {joined('b.base', ':spread_tenant')} AND j.lane < {joined('b.base', _PAST)}",
    )
    first = _first(jobs, f"j.lane > b.base AND j.lane < {joined('b.base', _PAST)}")
    tenant = "substr({0}, 1, length({0}) - " + str(KEY_CHARS) + ")"
    at_flow = joined(tenant.format("p.lane"), ":spread_key")
    at_tenant = joined("p.base", ":spread_tenant")
    end = joined("p.base", _PAST)
    past_tenant = joined(tenant.format("flows.lane"), _PAST)
    step = _first(
        jobs,
        f"j.lane > CASE flows.by_tenant WHEN 1 THEN {past_tenant} ELSE flows.lane END "
        "AND j.lane < flows.upto",
    )
    of_tenant = tenant.format("flows.lane")
    by_lot = _first(
        jobs,
        f"j.lane > {joined(of_tenant, ':spread_key')} AND j.lane < {joined(of_tenant, _PAST)}",
    )
    return f"""
        {bases(jobs, sql)},
        pivots(base, lane) AS (
            SELECT b.base, coalesce({chosen}, {first}) FROM (
                SELECT {base} AS base FROM lanes WHERE lanes.lane IS NOT NULL AND NOT {_PLAIN}
            ) AS b
        ),
        ranges(began, upto, by_tenant) AS (
            SELECT {at_flow}, {end}, 0 FROM pivots p WHERE p.lane IS NOT NULL
            UNION ALL SELECT p.base, {at_flow}, 0 FROM pivots p WHERE p.lane IS NOT NULL
            UNION ALL SELECT {at_tenant}, {end}, 1 FROM pivots p WHERE p.lane IS NOT NULL
            UNION ALL SELECT p.base, {at_tenant}, 1 FROM pivots p WHERE p.lane IS NOT NULL
        ),
        flows(lane, upto, by_tenant, place) AS (
            SELECT {_first(jobs, "j.lane > r.began AND j.lane < r.upto")},
                r.upto, r.by_tenant, 1 FROM ranges r
            UNION ALL
            SELECT {step}, flows.upto, flows.by_tenant, flows.place + 1 FROM flows
            WHERE flows.lane IS NOT NULL AND flows.place <
                CASE flows.by_tenant WHEN 1 THEN {MOST_TENANTS} ELSE {MOST_FLOWS} END
        ),
        live(lane) AS (
            SELECT lane FROM lanes UNION ALL SELECT lane FROM flows
            UNION ALL SELECT {by_lot} FROM flows
            WHERE flows.by_tenant = 1 AND flows.lane IS NOT NULL
        )"""


def has_flow(lane: str) -> bool:
    """Whether the lane is a tenant's or a key's."""
    return not lane.endswith("/")


_PENDING = "namespace = :namespace AND state = 'pending'"
_PLAIN = "substr(lanes.lane, length(lanes.lane)) = '/'"
_PAST = f"'{PAST_FLOWS}'"


def _first(jobs: str, where: str) -> str:
    return (
        f"(SELECT min(j.lane) FROM {jobs} j WHERE j.namespace = :namespace "
        f"AND j.state = 'pending' AND {where})"
    )


def _joined(sql: DialectSql, *parts: str) -> str:
    if sql.name == "mysql":
        return f"CONCAT({', '.join(parts)})"
    return f"({' || '.join(parts)})"


class SteppedLanes:
    """The lanes on MySQL, which finds the next one by a constant alone.

    With anything else it reads the index from its beginning, backlog and all. So each statement
    steps on from the lanes that the last one found: as long as no base lane appears, one statement
    tells all. Of flows it tells those after the ones known, and after points by lot.
    """

    def __init__(self, jobs: str, spread: Callable[[], float]) -> None:
        self.jobs = jobs
        self.spread = spread
        self._known: frozenset[str] = frozenset()

    def find(
        self, connection: Connection, parameters: dict[str, Any], also: str | None = None
    ) -> tuple[list[str], list[Any]]:
        """The lanes, and the rows that the SELECTs in ``also`` found."""
        points = self._points(self._known)
        found: set[str] = set()
        others: list[Any] = []
        bases = set(map(base_of, self._known))
        for turn in range(MOST_TURNS):
            rows = self._step(connection, sorted(points), parameters, None if turn else also)
            lanes = {row[1] for row in rows if row[0] == "lane" and row[1] is not None}
            others += [row for row in rows if row[0] != "lane"]
            new = lanes - found
            found |= lanes
            fresh = {lane for lane in new if base_of(lane) not in bases}
            if turn < MOST_TURNS_FOR_FLOWS:
                seen = Counter(base_of(lane) for lane in found)
                fresh |= {
                    lane
                    for lane in new - self._known
                    if has_flow(lane) and seen[base_of(lane)] < MOST_REMEMBERED
                }
            bases |= set(map(base_of, new))
            points = self._points(frozenset(fresh))
            if not fresh:
                break
        self._known = frozenset(found)
        return sorted(found), others

    def _points(self, known: frozenset[str]) -> set[tuple[str, str]]:
        """Where to step on from, and how far at most."""
        points = {(str(priority), _BEHIND) for priority in range(1, 6)} if not known else set()
        points.add(("", _BEHIND))
        flows: dict[str, list[str]] = {}
        for lane in known:
            points.add((lane, _BEHIND))
            if has_flow(lane):
                flows.setdefault(base_of(lane), []).append(lane)
        for base, lanes in flows.items():
            points.add((base, _BEHIND))
            points.add((base + PAST_FLOWS, _BEHIND))
            points.difference_update((lane, _BEHIND) for lane in lanes)
            chosen = sorted(lanes, key=lambda _: self.spread())[:MOST_REMEMBERED]
            points.update((lane, base + PAST_FLOWS) for lane in chosen)
            for number in range(MOST_BY_LOT):
                drawn = spread_parameters(self.spread)
                at = base + drawn["spread_tenant"]
                if number % 2:
                    at = chosen[number % len(chosen)][:-KEY_CHARS] + drawn["spread_key"]
                points.add((at, base + PAST_FLOWS))
        return points

    def _step(
        self,
        connection: Connection,
        points: list[tuple[str, str]],
        parameters: dict[str, Any],
        also: str | None,
    ) -> Sequence[Any]:
        steps = " UNION ALL ".join(
            f"SELECT 'lane' AS what, min(lane) AS lane FROM {self.jobs} WHERE {_PENDING} "
            f"AND lane > :after_{n} AND lane < :upto_{n}"
            for n in range(len(points))
        )
        given = {f"after_{n}": after for n, (after, _) in enumerate(points)}
        given |= {f"upto_{n}": upto for n, (_, upto) in enumerate(points)}
        statement = text(steps if also is None else f"{steps} UNION ALL {also}")
        return connection.execute(statement, {**parameters, **given}).all()


def base_of(lane: str) -> str:
    """The lane without its flow."""
    return lane[: lane.rindex("/") + 1]


# Of the flows known of a base lane, those to step on from, and the points by lot beside them.
MOST_REMEMBERED, MOST_BY_LOT = 48, 16
# Statements of one look at most; each finds at least one more base lane, or is the last. Where few
# flows are known, new ones are stepped on from as well.
MOST_TURNS, MOST_TURNS_FOR_FLOWS = 5000, 8
_BEHIND = "9"  # sorts after every priority
