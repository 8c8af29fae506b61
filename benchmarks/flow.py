"""Flow control's figures: a claim of ten with each feature on, beside the plain one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.core import Say, _vacuum, fresh
from jobs import Breaker, Tickwork
from jobs.core.flow import flow_of
from jobs.core.ids import new_ids
from jobs.core.job import NewJob
from jobs.core.limits import Limits
from jobs.core.store import Verdict

BACKLOGS = (1_000, 200_000)
CLAIMS = 60
MANY = 1_000_000


def measure(url: str, rows: int, say: Say) -> dict[str, Any]:
    """Median milliseconds of a claim of 10 by feature and backlog, and their ratios to plain.

    Each is taken in turns with a plain claim on jobs of another kind in the same table, which are
    spread over the same tenants: the ratio is what the feature costs. What the spread itself costs
    is "64 tenants" beside the plain claim of the others.
    """
    figures: dict[str, dict[str, float]] = {"plain": {}}
    ratios: dict[str, dict[str, float]] = {}
    for backlog in (BACKLOGS[0], rows):
        plains = []
        for tenants in (0, 64):
            with filled(url, backlog, tenants) as tickwork:
                for name, options in _features(tenants).items():
                    plain, ours = _in_turns(tickwork, options)
                    if tenants:
                        figures.setdefault("64 tenants", {})[str(backlog)] = round(plain, 3)
                    else:
                        plains.append(plain)
                    figures.setdefault(name, {})[str(backlog)] = round(ours, 3)
                    ratios.setdefault(name, {})[str(backlog)] = round(ours / plain, 2)
                    say(f"  {backlog:,} rows, {name}: {ours:.2f} ms, plain {plain:.2f} ms")
        figures["plain"][str(backlog)] = round(statistics.median(plains), 3)
    return {"claim_ms_p50": figures, "claim_vs_plain": ratios}


@contextmanager
def filled(url: str, backlog: int, tenants: int) -> Iterator[Tickwork]:
    """A system with that many due jobs, spread over so many tenants (none: without a tenant)."""
    with fresh(url) as tickwork:
        for kind in ("noop", "plain"):
            tickwork.store.insert_many(_jobs(kind, backlog + CLAIMS * 70, tenants))
        _vacuum(tickwork)
        yield tickwork


def _jobs(kind: str, count: int, tenants: int) -> Iterator[NewJob]:
    named = [f"tenant-{number}" for number in range(tenants)]
    flows = [flow_of(tenant, None) for tenant in named]
    for number, job_id in enumerate(new_ids(count)):
        if tenants:
            which = number % tenants
            yield NewJob(job_id, kind, '{"n":1}', tenant=named[which], flow=flows[which])
        else:
            yield NewJob(job_id, kind, '{"n":1}')


def _features(tenants: int) -> dict[str, dict[str, Any]]:
    if tenants:
        return {"64 keys, max_concurrency_per_key": {"max_concurrency_per_key": MANY}}
    return {
        "max_concurrency": {"max_concurrency": MANY},
        "rate_limit": {"rate_limit": f"{MANY}/d"},
        "breaker": {"breaker": Breaker()},
        "queue max_concurrency": {"queue": MANY},
    }


def _in_turns(tickwork: Tickwork, options: dict[str, Any]) -> tuple[float, float]:
    """Medians of plain claims and of those with the feature, taken in turns."""
    limits, none = _limits_of(options), Limits()
    pairs = []
    for turn in range(CLAIMS):
        lanes = tickwork.store.probe().lanes  # as a tick has it from its probe
        pair = (
            _claim_ms(tickwork, "plain", none, lanes),
            _claim_ms(tickwork, "noop", limits, lanes),
        )
        if turn >= CLAIMS // 6:
            pairs.append(pair)
    return statistics.median(p for p, _ in pairs), statistics.median(o for _, o in pairs)


def _limits_of(options: dict[str, Any]) -> Any:
    system = Tickwork()
    queue = options.pop("queue", None)
    if queue is not None:
        system.queue("default", max_concurrency=queue)
    system.register_handler("noop", lambda payload: None, **options)
    return system._runtime.limits


def _claim_ms(tickwork: Tickwork, kind: str, limits: Limits, lanes: Any) -> float:
    begun = time.perf_counter()
    taken = tickwork.store.claim(
        10, kinds={kind}, lease_seconds=60, mark=10, lanes=lanes, limits=limits
    )
    elapsed = (time.perf_counter() - begun) * 1000
    assert len(taken) == 10, len(taken)
    # Settled at once: in flight is what a tick holds, not what a benchmark piled up.
    tickwork.store.settle([Verdict(job.id, job.fence, "completed") for job in taken])
    return elapsed
