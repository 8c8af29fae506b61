"""What becomes of a delivery that names a job: pure, from how the row stands or how its run ended.

A delivery is a hint, so its fate says nothing of the job: *ack* takes the message off the queue
because it has no more to say, *keep* leaves it there to come back when there is something to do.
"""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from jobs.core.job import TERMINAL, Claimed, State
from jobs.core.outcome import NOTES, Outcome
from jobs.core.store import Standing

# The longest a queue hides a message, counted from when it handed it out.
LONGEST_VISIBILITY_SECONDS = 43_200
# Longer than the differences between clocks, so that the lease has run out when it comes back.
LEASE_MARGIN_SECONDS = 2
# A job that nobody here can run may be for a deployment that is still under way.
WAIT_FOR_HANDLER_SECONDS = 60
WAIT_FOR_RESUME_SECONDS = 60
# A limit may hold the job back for long, and each look at it is a receive; ticks find it too.
WAIT_FOR_PLACE_SECONDS = 10
# A message that cannot be read goes to the dead-letter queue once it was received often enough.
MALFORMED_AGAIN_SECONDS = 60
# What another runner holds for a moment only, or what did not fit into this one's time.
SOON_SECONDS = 2


class Fate(NamedTuple):
    """What to do with a message, and the reason as a word for counters and logs.

    ``visible_in_seconds`` is when a kept message is to come back; ``None`` leaves that to the
    queue. ``keep`` false takes the message off the queue.
    """

    keep: bool
    reason: str
    visible_in_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """How far ahead a kept message can come back.

    ``seconds`` is what is left of the queue's limit. What comes due later is acked and left to a
    tick, unless the queue is ``ordered``: there the message keeps its place as long as it can, or
    the later ones of its group would overtake it.
    """

    seconds: int = LONGEST_VISIBILITY_SECONDS
    ordered: bool = False


def ack(reason: str) -> Fate:
    """The message has no more to say."""
    return Fate(False, reason)


def keep(reason: str, seconds: float, reach: Reach) -> Fate:
    """The message comes back after at least ``seconds``, if the queue can hide it for so long."""
    whole = math.ceil(max(seconds, 0.0))
    if whole <= reach.seconds:
        return Fate(True, reason, whole)
    if reach.ordered:
        return Fate(True, reason, reach.seconds)
    return ack(f"{reason}, left to a tick")


def fate_unclaimed(
    standing: Standing | None, *, handled: bool, reach: Reach, paused: bool = False
) -> Fate:
    """The fate of a message whose row was not claimed for it.

    ``handled`` says whether this deployment runs the row's kind, ``paused`` whether its queue is.
    ``standing`` is ``None`` where there is no such row here: deleted, foreign or of another
    namespace.
    """
    if standing is None:
        return ack("unknown")
    if standing.state in TERMINAL:
        return ack("ended")
    if standing.state == State.PROCESSING:
        left = standing.lease_left_seconds
        if left is None or left < 0:  # reclaimed by somebody at this moment
            return keep("stalled", SOON_SECONDS, reach)
        return keep("held", left + LEASE_MARGIN_SECONDS, reach)
    if standing.due_in_seconds > 0:
        return keep("not due", standing.due_in_seconds, reach)
    if not handled:
        return keep("no handler", WAIT_FOR_HANDLER_SECONDS, reach)
    if paused:
        return keep("paused", WAIT_FOR_RESUME_SECONDS, reach)
    return keep("no place", WAIT_FOR_PLACE_SECONDS, reach)


def fate_of_outcome(outcome: Outcome, reach: Reach) -> Fate:
    """The fate of a message whose job was claimed for it and has an outcome that is written."""
    verdict = outcome.verdict
    if verdict.state in TERMINAL:
        return ack(outcome.name)
    if verdict.delay_seconds is not None:
        return keep(outcome.name, verdict.delay_seconds, reach)
    return keep(outcome.name, SOON_SECONDS, reach)


def has_lost_a_runner(job: Claimed) -> bool:
    """Whether the last failure of this job was that its runner died: it may have killed it."""
    if not job.errors:
        return False
    failures = (each for each in json.loads(job.errors) if each.get("type") not in NOTES)
    last = deque(failures, maxlen=1)
    return bool(last and last[0].get("type") == "RunnerLost")
