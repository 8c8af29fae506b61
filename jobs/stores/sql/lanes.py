"""The lanes that hold pending rows, found by steps down the index.

All base lanes (``priority/queue/kind/``) are found, but of their flows only a bounded number, from
starting points that change: so the cost is the same for ten tenants and for a hundred thousand,
and every flow gets its turn.
"""

from __future__ import annotations

import random
from collections.abc import Callable

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
