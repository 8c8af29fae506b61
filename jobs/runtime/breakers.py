"""Breakers: the ends of attempts, counted where a kind has a circuit breaker.

A success is a job that completed. A failure is an attempt that was retried or failed, timed out or
lost its runner. What says nothing of the world the handler works with does not count: a job that
was snoozed, cancelled, released, or given up by its handler (``Discard``).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping

from jobs.core.flow import flow_of
from jobs.core.job import Claimed
from jobs.core.limits import Tally
from jobs.core.outcome import Outcome
from jobs.runtime.base import Runtime

log = logging.getLogger("tickwork.breakers")


def note_ends(
    runtime: Runtime,
    claimed: Mapping[str, Claimed],
    outcomes: Iterable[Outcome],
    late: Collection[str],
) -> None:
    """Count the outcomes of ``claimed`` (by id) but the ``late``, where the kind has a breaker.

    A count that cannot be written is lost with a warning: the jobs have ended, and that stands.
    """
    breakers = runtime.limits.breakers
    if not breakers:
        return
    counts: dict[str, Tally] = {}
    for outcome in outcomes:
        breaker = breakers.get(outcome.kind)
        job = claimed.get(outcome.verdict.id)
        counted = _counted(outcome)
        if breaker is None or job is None or counted is None or job.id in late:
            continue
        name = f"kind/{job.kind}"
        if breaker.per_key:
            flow = flow_of(job.tenant, job.concurrency_key)
            if not flow:
                continue
            name = f"key/{job.kind}/{flow}"
        tally = counts.get(name) or Tally(name, breaker, 0, 0)
        counts[name] = tally._replace(
            successes=tally.successes + counted, failures=tally.failures + (not counted)
        )
    if not counts:
        return
    try:
        runtime.store.note_results(list(counts.values()))
    except Exception:
        log.warning("ends of attempts were not counted for their breakers", exc_info=True)


def _counted(outcome: Outcome) -> bool | None:
    """Whether it counts as a success; ``None`` if it does not count."""
    if outcome.name == "completed":
        return True
    if outcome.name in ("retried", "failed") and not outcome.discarded:
        return False
    return None
