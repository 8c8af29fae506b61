"""The chain: a tick over HTTP that leaves work behind starts the next one, by a kick."""

from __future__ import annotations

import logging

from jobs.core.chain import CHAIN_HEADER, Hold, Link, next_link
from jobs.core.doorbell import Kicker
from jobs.runtime.base import Runtime
from jobs.runtime.tick import TickResult

log = logging.getLogger("tickwork.chain")
# How much longer than the platform's limit a chain is held: a tick that was killed cannot free it.
HOLD_MARGIN_SECONDS = 5.0


def can_chain(runtime: Runtime) -> bool:
    """Whether a tick here could start the next one at all."""
    return isinstance(runtime.doorbell, Kicker) and runtime.settings.chain_limit > 0


def chain_on(runtime: Runtime, result: TickResult, link: Link | None) -> Link | None:
    """Start the next tick if this one, ``link`` of its chain if any, left work; never raises.

    Returns the link that was started. One that got nowhere starts none, nor does a chain of
    ``JOBS_CHAIN_LIMIT`` ticks, nor one past ``JOBS_CHAIN_PER_HOUR`` of the namespace's, nor one
    beside another chain: which looks once more before it ends.
    """
    try:
        return _chain_on(runtime, result, link)
    except Exception:
        log.warning("the next tick was not started; the cron's is", exc_info=True)
        return None


def _chain_on(runtime: Runtime, result: TickResult, link: Link | None) -> Link | None:
    doorbell, settings = runtime.doorbell, runtime.settings
    if not isinstance(doorbell, Kicker) or settings.chain_limit < 1:
        return None
    if link is None and not result.remaining:
        return None
    stuck = bool(result.remaining) and not _got_somewhere(result)
    ahead = next_link(link)
    if link is not None and (stuck or not result.remaining or ahead.length > settings.chain_limit):
        if ahead.length > settings.chain_limit:
            log.info("a chain ends after %d ticks; %d jobs wait", link.length, result.remaining)
        if runtime.store.free_chain(link.chain_id) or stuck:
            return None
        # Somebody left work to this chain meanwhile: it looks once more, or a new one does.
        ahead = ahead if ahead.length <= settings.chain_limit else next_link(None)
    elif stuck:
        return None
    hold = runtime.store.hold_chain(
        ahead.chain_id,
        seconds=settings.tick_limit + HOLD_MARGIN_SECONDS,
        per_hour=settings.chain_per_hour,
    )
    if hold is not Hold.GRANTED:
        if hold is Hold.SPENT:
            log.warning(
                "this hour's %d chained ticks are spent; %d jobs wait for the cron "
                "(JOBS_CHAIN_PER_HOUR)",
                settings.chain_per_hour,
                result.remaining,
            )
        return None
    if not doorbell.kick({CHAIN_HEADER: ahead.to_header()}):
        runtime.store.free_chain(ahead.chain_id)
        return None
    return ahead


def _got_somewhere(result: TickResult) -> bool:
    """Whether the tick brought the backlog nearer to its end; snoozing and releasing do not."""
    return result.succeeded + result.failed + result.retried + result.cancelled > 0
