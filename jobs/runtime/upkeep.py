"""Upkeep rides in the tick: bounded, due only when the probe says so, safe when ticks overlap."""

from __future__ import annotations

import logging
from collections.abc import Collection

from jobs.core.job import State
from jobs.core.outcome import NotStarted, RunnerLost, decide
from jobs.core.store import Due
from jobs.runtime.base import Runtime
from jobs.runtime.breakers import note_ends
from jobs.runtime.enqueue import announce_inserted
from jobs.runtime.execute import BatchReport, tell
from jobs.runtime.record import Note, count_reclaimed
from jobs.runtime.ring import ring_due
from jobs.runtime.settle import settle_all

log = logging.getLogger("tickwork.upkeep")
RECLAIMS_PER_TICK = 200
PURGES_PER_TICK = 1000
GROUPS_PER_TICK = 50
TICKS_PER_FOLD, FOLDS_PER_TICK = 2000, 10


def run_upkeep(runtime: Runtime, due: Due, note: Note) -> int:
    """Do what the probe found due; returns how many stalled jobs were reclaimed."""
    reclaimed = reclaim(runtime, note=note) if due.stalled else 0
    if due.outstayed:
        runtime.store.purge(PURGES_PER_TICK)
    if due.keys:
        runtime.store.purge_keys(PURGES_PER_TICK)
    if due.unrung:
        ring_due(runtime)
    if due.groups:
        announce_inserted(runtime, runtime.store.check_groups(GROUPS_PER_TICK))
    if due.ticks:
        fold_ticks(runtime)
    return reclaimed


def fold_ticks(runtime: Runtime) -> int:
    """Fold old records of ticks into measures, in bounded passes; returns how many."""
    folded = 0
    for _ in range(FOLDS_PER_TICK):
        count = runtime.store.fold_ticks(TICKS_PER_FOLD)
        folded += count
        if count < TICKS_PER_FOLD:
            break
    return folded


def reclaim(
    runtime: Runtime,
    limit: int = RECLAIMS_PER_TICK,
    ids: Collection[str] | None = None,
    note: Note | None = None,
) -> int:
    """Put back (or end) jobs whose lease ran out, of ``ids`` alone if given; returns how many.

    They are counted in ``note`` if one is given.

    Looks at the rows and the clock alone, never at which runner held them. A job that had started
    keeps its attempt and fails by ``runner lost`` at its last; one that had not gets it back.
    """
    outcomes = []
    stalled = runtime.store.stalled(limit, ids)
    for job in stalled:
        ending = RunnerLost() if job.marked else NotStarted()
        policy = runtime.policy(job.kind, job.queue)
        outcomes.append(decide(job, ending, policy, at=runtime.clock.now()))
    late = settle_all(runtime, outcomes, stalled_only=True) if outcomes else frozenset()
    for job, outcome in zip(stalled, outcomes, strict=True):
        if job.id not in late:
            log.warning("job %s: runner lost; %s", job.id, outcome.name)
            tell(runtime, job, outcome)
    note_ends(runtime, {job.id: job for job in stalled}, outcomes, late)
    count = len(outcomes) - len(late)
    if note is not None:
        note.reclaimed += count
        count_reclaimed(note.measures, stalled, outcomes, late)
    return count


def trim_finished(runtime: Runtime, report: BatchReport) -> None:
    """Keep no more finished jobs of a kind than it asked for; only of kinds that just finished."""
    for kind in {outcome.kind for outcome in report.outcomes}:
        terms = runtime.terms(kind)
        for name, state in (("completed", State.COMPLETED), ("failed", State.FAILED)):
            keep = getattr(terms, name).count
            if keep is not None and any(
                outcome.kind == kind and outcome.name == name for outcome in report.outcomes
            ):
                runtime.store.trim(kind, state, keep, PURGES_PER_TICK)
