"""Settle: outcomes onto rows that are still held, so that no finish can fail for ever."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from jobs.core.errors import StoreUnavailable
from jobs.core.job import State
from jobs.core.outcome import Outcome, outlived
from jobs.core.store import Verdict
from jobs.runtime.base import Runtime
from jobs.runtime.enqueue import announce_inserted
from jobs.runtime.ring import ring_settled, with_rings

log = logging.getLogger("tickwork.settle")


def settle_all(
    runtime: Runtime, outcomes: list[Outcome], *, stalled_only: bool = False
) -> frozenset[str]:
    """Write the outcomes in one statement; returns the ids that came late.

    If the database refuses the batch, each is written alone, and one that is refused even then is
    written without what the handler brought: a finish that cannot be written would run for ever.
    Jobs that go back to waiting are then rung for, where that is done, and those that follow are
    told of. A job that was to be put off though it is too old for that has failed: its outcome is
    replaced in the list.
    """
    verdicts = with_rings(runtime, [outcome.verdict for outcome in outcomes])
    late = _settle(runtime, verdicts, stalled_only=stalled_only)
    if late:
        late -= _settle_outlived(runtime, outcomes, late)
    ring_settled(runtime, [verdict for verdict in verdicts if verdict.id not in late])
    return late


def _settle_outlived(
    runtime: Runtime, outcomes: list[Outcome], late: frozenset[str]
) -> frozenset[str]:
    """Fail the jobs that were not put off because of their age; returns their ids."""
    replaced = {
        place: outlived(outcome)
        for place, outcome in enumerate(outcomes)
        if outcome.verdict.id in late and outcome.verdict.continue_within_seconds is not None
    }
    if not replaced:
        return frozenset()
    verdicts = [outcome.verdict for outcome in replaced.values()]
    lost = _settle(runtime, verdicts, stalled_only=False)
    for place, outcome in replaced.items():
        if outcome.verdict.id not in lost:
            outcomes[place] = outcome
    return frozenset(verdict.id for verdict in verdicts) - lost


def _settle(runtime: Runtime, verdicts: Sequence[Verdict], *, stalled_only: bool) -> frozenset[str]:
    try:
        return _write(runtime, verdicts, stalled_only=stalled_only)
    except StoreUnavailable:
        raise
    except Exception:
        log.exception("a batch of results was refused; writing them one by one")
    late: set[str] = set()
    for verdict in verdicts:
        try:
            late |= _write(runtime, [verdict], stalled_only=stalled_only)
        except StoreUnavailable:
            raise
        except Exception as error:
            log.exception("job %s: its result was refused; writing the bare end", verdict.id)
            late |= _write(runtime, [_bare(verdict, error)], stalled_only=stalled_only)
    return frozenset(late)


def _write(runtime: Runtime, verdicts: Sequence[Verdict], *, stalled_only: bool) -> frozenset[str]:
    """Most verdicts stand alone; those with more to them go in a transaction of their own."""
    more = [verdict for verdict in verdicts if verdict.follow or verdict.group_id is not None]
    if not more:
        return runtime.store.settle(verdicts, stalled_only=stalled_only)
    late: frozenset[str] = frozenset()
    if len(more) < len(verdicts):
        alone = [each for each in verdicts if not each.follow and each.group_id is None]
        late = runtime.store.settle(alone, stalled_only=stalled_only)
    settled = runtime.store.settle_more(more, stalled_only=stalled_only)
    announce_inserted(runtime, settled.inserted)
    return late | settled.late


def _bare(verdict: Verdict, error: Exception) -> Verdict:
    """The verdict without what the handler brought, nor what was made of that for the next step."""
    reason = f"result unavailable: the database refused it ({type(error).__name__})"
    completed = verdict.state == State.COMPLETED
    bare = verdict._replace(
        result=None,
        errors=None,
        error=reason if completed else "error unavailable",
        progress_note=None,
        cursor=None,
    )
    if not verdict.follow:
        return bare
    stopped = f"{reason}; the next step of the chain could not be made of it"
    return bare._replace(state=State.FAILED, error=stopped, follow=())
