"""Deliver: the jobs that a batch of messages names, run as far as their rows allow.

One claim for the whole batch. What it does not get is looked at once, and a row whose runner is
gone is reclaimed on the spot: the message that comes back is enough to have it tried again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jobs.core.deadline import Budget
from jobs.core.delivery import (
    SOON_SECONDS,
    Fate,
    Reach,
    ack,
    fate_of_outcome,
    fate_unclaimed,
    keep,
)
from jobs.core.events import ticking
from jobs.core.job import Claimed
from jobs.core.outcome import NotStarted, decide, pace_marks
from jobs.core.ring import current_hops
from jobs.core.store import Standing
from jobs.runtime.apart import Line, run_apart, suspects_apart
from jobs.runtime.base import Runtime
from jobs.runtime.execute import FLUSH_SECONDS, tell
from jobs.runtime.record import Note, written_down
from jobs.runtime.settle import settle_all
from jobs.runtime.steer import learn_queues
from jobs.runtime.upkeep import reclaim
from jobs.runtime.watch import look_at_alerts


class Delivery(NamedTuple):
    """A message, and the job that it names.

    ``key`` tells it from the others of its batch. Those of one ``group`` run in their order, one at
    a time. ``hops`` is how long a chain of rings led to it. One that names no job to look at brings
    its ``fate`` along.
    """

    key: int
    job_id: str = ""
    reach: Reach = Reach()
    group: str | None = None
    hops: int = 0
    fate: Fate | None = None


@ticking()
def run_deliveries(
    runtime: Runtime, deliveries: Sequence[Delivery], budget: Budget, *, slots: int | None = None
) -> dict[int, Fate]:
    """Run what these messages name; returns the fate of each by its key.

    Of several messages that name the same job the first decides and the others are acked. In a
    group, everything behind a message that is kept is kept too, and not run. A job whose last
    runner died while it ran is run alone, after the ends of all others are written.

    Raises :class:`~jobs.core.errors.StoreUnavailable`; then nothing is known of any of them.
    """
    firsts: dict[str, Delivery] = {}
    for each in deliveries:
        if each.fate is None:
            firsts.setdefault(each.job_id, each)
    if runtime.stopping.is_set() or not firsts:
        fates = {
            job_id: keep("stopping", SOON_SECONDS, each.reach) for job_id, each in firsts.items()
        }
        return _fates_in_order(deliveries, firsts, fates)
    now = runtime.clock.monotonic()
    note = Note("sqs", len(firsts), min(budget.begun, now))
    # No probe tells the store's time here; on such platforms the machine's own is kept in step.
    note.see(runtime.clock.now(), now)
    with written_down(runtime, note):
        fates = _run_all(runtime, deliveries, firsts, budget, slots, note)
    if runtime.may_look(runtime.clock.monotonic()):
        look_at_alerts(runtime)
    return _fates_in_order(deliveries, firsts, fates)


def _run_all(
    runtime: Runtime,
    deliveries: Sequence[Delivery],
    firsts: Mapping[str, Delivery],
    budget: Budget,
    slots: int | None,
    note: Note,
) -> dict[str, Fate]:
    """Run the jobs; returns what becomes of the first message of each, by the job's id."""
    learn_queues(runtime)
    slots = runtime.settings.concurrency if slots is None else slots
    groups = Counter(each.group for each in deliveries if each.group is not None)
    # What stands behind another of its group may not be marked before its turn.
    most_marks = 0 if any(size > 1 for size in groups.values()) else slots
    claimed, others = _claim(runtime, list(firsts), budget, most_marks, note)
    note.claimed = len(claimed)
    fates = {
        job_id: _fate_of_row(runtime, others.get(job_id), each)
        for job_id, each in firsts.items()
        if job_id not in claimed
    }
    lines, blocked = _lines(deliveries, firsts, claimed, fates)
    if blocked:
        _hand_back(runtime, blocked)
    hops = current_hops.set(max((each.hops for each in firsts.values()), default=0))
    try:
        batches = suspects_apart(runtime, lines)
        reports = run_apart(runtime, batches, budget, slots=slots, note=note)
    finally:
        current_hops.reset(hops)
    for report in reports:
        late = runtime.store.standing(report.late) if report.late else {}
        for outcome in report.outcomes:
            each = firsts[outcome.verdict.id]
            if each.job_id in report.late:
                fates[each.job_id] = _fate_of_row(runtime, late.get(each.job_id), each)
            else:
                fates[each.job_id] = fate_of_outcome(outcome, each.reach)
    return fates


def _claim(
    runtime: Runtime, ids: list[str], budget: Budget, most_marks: int, note: Note
) -> tuple[dict[str, Claimed], dict[str, Standing]]:
    """What was claimed of these ids, and how the rows of the others stand."""
    claimed = _claim_once(runtime, ids, budget, most_marks)
    left = [job_id for job_id in ids if job_id not in claimed]
    standing = runtime.store.standing(left) if left else {}
    stalled = [job_id for job_id, row in standing.items() if row.is_stalled]
    if stalled:
        reclaim(runtime, len(stalled), stalled, note)
        # Those that had not begun are due at once.
        claimed |= _claim_once(runtime, stalled, budget, most_marks - len(claimed))
        again = [job_id for job_id in stalled if job_id not in claimed]
        standing |= runtime.store.standing(again) if again else {}
    return claimed, standing


def _claim_once(
    runtime: Runtime, ids: list[str], budget: Budget, most_marks: int
) -> dict[str, Claimed]:
    starts = pace_marks(round(runtime.starts_per_second), 1.0, most_marks, FLUSH_SECONDS)
    jobs = runtime.store.claim(
        len(ids),
        kinds=runtime.registry.kinds,
        lease_seconds=budget.lease_seconds,
        mark=min(starts, len(ids)) if most_marks > 0 else 0,
        ids=ids,
        limits=runtime.limits,
    )
    return {job.id: job for job in jobs}


def _fate_of_row(runtime: Runtime, standing: Standing | None, delivery: Delivery) -> Fate:
    handled = standing is not None and standing.kind in runtime.registry.kinds
    paused = standing is not None and standing.paused
    return fate_unclaimed(standing, handled=handled, reach=delivery.reach, paused=paused)


def _lines(
    deliveries: Iterable[Delivery],
    firsts: Mapping[str, Delivery],
    claimed: Mapping[str, Claimed],
    fates: Mapping[str, Fate],
) -> tuple[list[Line], list[Claimed]]:
    """What runs after what, and what may not run: it stands behind a message that is kept."""
    lines: list[Line] = []
    blocked: list[Claimed] = []
    by_group: dict[str, Line] = {}
    stopped: set[str] = set()
    for each in deliveries:
        first = firsts.get(each.job_id) is each
        job = claimed.get(each.job_id) if first else None
        fate = each.fate or (fates.get(each.job_id) if first else None)
        if each.group is None:
            if job is not None:
                lines.append([job])
        elif fate is not None and fate.keep:
            stopped.add(each.group)
        elif job is not None and each.group in stopped:
            blocked.append(job)
        elif job is not None and each.group in by_group:
            by_group[each.group].append(job)
        elif job is not None:
            by_group[each.group] = [job]
            lines.append(by_group[each.group])
    order = {job_id: place for place, job_id in enumerate(claimed)}
    lines.sort(key=lambda line: order[line[0].id])  # as claimed: the best first
    return lines, blocked


def _hand_back(runtime: Runtime, jobs: Sequence[Claimed]) -> None:
    outcomes = [
        decide(job, NotStarted(), runtime.policy(job.kind, job.queue), at=runtime.clock.now())
        for job in jobs
    ]
    late = settle_all(runtime, outcomes)
    for job, outcome in zip(jobs, outcomes, strict=True):
        if job.id not in late:
            tell(runtime, job, outcome)


def _fates_in_order(
    deliveries: Iterable[Delivery], firsts: Mapping[str, Delivery], fates: Mapping[str, Fate]
) -> dict[int, Fate]:
    """The fate of every message, those behind a kept one of their group included."""
    found: dict[int, Fate] = {}
    stopped: dict[str, Fate] = {}
    for each in deliveries:
        if each.group in stopped:
            # Back together with the one they wait for: a group is locked while one is hidden.
            found[each.key] = stopped[each.group]._replace(reason="behind")
            continue
        if each.fate is not None:
            fate = each.fate
        elif firsts[each.job_id] is not each:
            fate = ack("duplicate")
        else:
            fate = fates[each.job_id]
        found[each.key] = fate
        if each.group is not None and fate.keep:
            stopped[each.group] = fate
    return found
