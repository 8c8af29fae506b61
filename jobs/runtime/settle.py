"""Settle: outcomes onto rows that are still held, so that no finish can fail for ever."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from jobs.core.errors import StoreUnavailable
from jobs.core.job import State
from jobs.core.outcome import Outcome
from jobs.core.store import Verdict
from jobs.runtime.base import Runtime
from jobs.runtime.ring import ring_settled, with_rings

log = logging.getLogger("tickwork.settle")


def settle_all(
    runtime: Runtime, outcomes: Sequence[Outcome], *, stalled_only: bool = False
) -> frozenset[str]:
    """Write the outcomes in one statement; returns the ids that came late.

    If the database refuses the batch, each is written alone, and one that is refused even then is
    written without what the handler brought: a finish that cannot be written would run for ever.
    Jobs that go back to waiting are then rung for, where that is done.
    """
    verdicts = with_rings(runtime, [outcome.verdict for outcome in outcomes])
    late = _settle(runtime, verdicts, stalled_only=stalled_only)
    ring_settled(runtime, [verdict for verdict in verdicts if verdict.id not in late])
    return late


def _settle(runtime: Runtime, verdicts: Sequence[Verdict], *, stalled_only: bool) -> frozenset[str]:
    try:
        return runtime.store.settle(verdicts, stalled_only=stalled_only)
    except StoreUnavailable:
        raise
    except Exception:
        log.exception("a batch of results was refused; writing them one by one")
    late: set[str] = set()
    for verdict in verdicts:
        try:
            late |= runtime.store.settle([verdict], stalled_only=stalled_only)
        except StoreUnavailable:
            raise
        except Exception as error:
            log.exception("job %s: its result was refused; writing the bare end", verdict.id)
            late |= runtime.store.settle([_bare(verdict, error)], stalled_only=stalled_only)
    return frozenset(late)


def _bare(verdict: Verdict, error: Exception) -> Verdict:
    reason = f"result unavailable: the database refused it ({type(error).__name__})"
    return verdict._replace(
        result=None,
        errors=None,
        error=reason if verdict.state == State.COMPLETED else "error unavailable",
        progress_note=None,
    )
