"""Ring: say "look now" for committed rows, and again for those that nobody came for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice

from jobs.core.doorbell import Ring
from jobs.core.job import State
from jobs.core.store import Unrung, Verdict
from jobs.runtime.base import Runtime

log = logging.getLogger("tickwork.ring")
RINGS_PER_STATEMENT = 200
STATEMENTS_PER_TICK = 10
# Rows whose ring failed are due to be rung after a grace anyway: a few are brought forward, and a
# bulk that could not be rung costs no more statements than one.
MOST_BROUGHT_FORWARD = 1000


def ring(runtime: Runtime, rings: Sequence[Ring]) -> bool:
    """Ring for rows that are committed; never raises. Returns whether all that was to go went.

    What could not be rung is left to the next tick.
    """
    try:
        unsent = runtime.doorbell.ring(rings) or ()
    except Exception:
        log.exception("a doorbell raised; ticks find the jobs")
        unsent = [each.job_id for each in rings]
    if not unsent:
        return True
    if runtime.rules is not None:
        try:
            runtime.store.ring_again(list(islice(unsent, MOST_BROUGHT_FORWARD)))
        except Exception:
            log.warning("jobs could not be noted for the next tick to ring", exc_info=True)
    return False


def ring_due(runtime: Runtime) -> int:
    """Ring the rows whose time to be rung has come, in bounded batches; returns how many.

    Safe when ticks overlap: a row is taken by one of them.
    """
    rung = 0
    for _ in range(STATEMENTS_PER_TICK):
        taken = runtime.store.take_rings(RINGS_PER_STATEMENT)
        if not taken:
            break
        if not ring(runtime, [_again(runtime, row) for row in taken]):
            break  # they are due again, and would be taken again
        rung += len(taken)
        if len(taken) < RINGS_PER_STATEMENT:
            break
    if rung:
        log.info("rang for %d waiting jobs", rung)
    return rung


def _again(runtime: Runtime, row: Unrung) -> Ring:
    delay = row.delay_seconds
    if runtime.rules is not None:
        # A message that comes early is kept until its job is due; one not sent would be missed.
        delay = min(delay, runtime.rules.longest_delay_seconds)
    # The enqueue was the first send.
    key = row.concurrency_key or ""
    return Ring(row.id, row.kind, delay, tenant=row.tenant, send=row.rings + 1, key=key)


def with_rings(runtime: Runtime, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts, those of pending rows with the time when a tick rings them."""
    rules = runtime.rules
    if rules is None:
        return list(verdicts)
    timed = []
    for verdict in verdicts:
        if verdict.state == State.PENDING:
            delay = verdict.delay_seconds or 0.0
            if not runtime.rings_settled:
                after = rules.kept_after(delay)
            else:
                after = 0.0 if rules.rings_at_once(delay) else rules.ring_after(delay)
            verdict = verdict._replace(ring_after_seconds=after)
        timed.append(verdict)
    return timed


def ring_settled(runtime: Runtime, verdicts: Sequence[Verdict]) -> None:
    """Ring for the rows that these written verdicts made due to be rung; never raises."""
    if not runtime.rings_settled or not any(each.ring_after_seconds == 0 for each in verdicts):
        return
    try:
        ring_due(runtime)
    except Exception:
        log.warning("jobs that wait again were not rung for; the next tick is", exc_info=True)
