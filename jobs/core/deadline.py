"""How much time there is, and whether a job fits into it. Instants are monotonic seconds."""

from __future__ import annotations

import math
import re
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from msgspec import Struct

# What is kept back at the end of a tick to write results down.
SETTLE_MARGIN_SECONDS = 1.0
# How much longer than the platform's limit a lease lasts: a dead sandbox cannot write, and this
# covers the way from its clock to the database's.
LEASE_MARGIN_SECONDS = 5.0
HEARTBEAT_LEASE_SECONDS = 30.0
# A worker may be moved or stopped for a while by the machine it shares; its jobs wait that long for
# another runner only if it is killed.
WORKER_LEASE_SECONDS = 60.0
# What a tick is given at least, whatever a deadline says.
LEAST_LIMIT_SECONDS = 2.0
_INSTANT = re.compile(
    r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})", re.ASCII
)


class Budget(Struct, frozen=True):
    """The time of one tick.

    After ``start_deadline`` nothing starts; at ``give_up_deadline`` what still runs is given up on,
    so that its end can be written before the platform kills the process. A runner without a limit
    (a laptop, a worker) has infinite deadlines and renews a short lease instead.
    """

    begun: float
    start_deadline: float
    give_up_deadline: float
    lease_seconds: float
    heartbeat_lease_seconds: float | None = None
    lease_margin_seconds: float = LEASE_MARGIN_SECONDS


def tick_budget(begun: float, now: float, time_budget: float, tick_limit: float) -> Budget:
    """The budget of a tick whose invocation began at ``begun``; all durations in seconds."""
    limit_at = begun + tick_limit
    margin = min(SETTLE_MARGIN_SECONDS, tick_limit / 10)
    return Budget(
        begun=begun,
        start_deadline=min(begun + time_budget, limit_at - margin),
        give_up_deadline=limit_at - margin,
        lease_seconds=max(limit_at - now, 0.0) + LEASE_MARGIN_SECONDS,
    )


def start_seconds(left_seconds: float, room_seconds: float) -> float:
    """For how long an invocation with so much time left starts jobs.

    ``room_seconds`` is what jobs that say nothing of their time are left to end, at most half.
    """
    return left_seconds - min(room_seconds, left_seconds / 2)


def invocation_budget(now: float, left_seconds: float, room_seconds: float) -> Budget:
    """The budget of an invocation that the platform kills in ``left_seconds``.

    More is kept back than in a tick: beside the results, the queue is to be told.
    """
    margin = min(2 * SETTLE_MARGIN_SECONDS, left_seconds / 10)
    give_up = now + left_seconds - margin
    return Budget(
        begun=now,
        start_deadline=min(now + start_seconds(left_seconds, room_seconds), give_up),
        give_up_deadline=give_up,
        lease_seconds=left_seconds + LEASE_MARGIN_SECONDS,
    )


def unlimited_budget(
    now: float,
    time_budget: float = math.inf,
    *,
    lease_seconds: float = HEARTBEAT_LEASE_SECONDS,
) -> Budget:
    """The budget of a runner that nobody kills: it heartbeats for as long as a handler runs."""
    return Budget(
        begun=now,
        start_deadline=now + time_budget,
        give_up_deadline=math.inf,
        lease_seconds=lease_seconds,
        heartbeat_lease_seconds=lease_seconds,
    )


class Fit(Enum):
    """Whether to start a job now."""

    START = "start"
    START_WITH_WARNING = "start with a warning"
    NOT_NOW = "not now"
    RELEASE = "release"


class Fitting(NamedTuple):
    """The answer, how long the attempt may run, and whether the tick's end cuts it off there."""

    verdict: Fit
    timeout_seconds: float
    cut_off: bool = False

    @property
    def starts(self) -> bool:
        """Whether the job starts now."""
        # By identity: hashing a member of an Enum costs a call, and this is asked for every job.
        return self.verdict is Fit.START or self.verdict is Fit.START_WITH_WARNING


def fit(
    declared_timeout: float | None,
    default_timeout: float,
    budget: Budget,
    *,
    now: float,
    first: bool,
    usual_seconds: float | None = None,
) -> Fitting:
    """Whether a job that may take its timeout fits the time left.

    A declared timeout is taken at its word: the job starts only if that much time is left, or if
    what its kind usually takes is known and fits. One that no tick could ever give starts only as
    the first of a tick, with a warning. A kind that declared nothing may start until the tick stops
    starting, and is cut off with the tick.
    """
    if now >= budget.start_deadline:
        return Fitting(Fit.RELEASE, 0.0)
    left = budget.give_up_deadline - now
    timeout = declared_timeout if declared_timeout is not None else default_timeout
    if timeout <= left:
        return Fitting(Fit.START, timeout)
    if declared_timeout is None:
        return Fitting(Fit.START, left, cut_off=True)
    if usual_seconds is not None and usual_seconds <= left:
        return Fitting(Fit.START, left, cut_off=True)
    if first:
        return Fitting(Fit.START_WITH_WARNING, left, cut_off=True)
    return Fitting(Fit.NOT_NOW, 0.0)


def until_deadline(
    limit_seconds: float, gone_seconds: float, now: datetime, deadline: datetime | None
) -> float:
    """The platform's limit of an invocation that is ``gone_seconds`` old and has a deadline.

    It only ever shortens ``limit_seconds``, and never below ``LEAST_LIMIT_SECONDS``: a clock that
    is wrong, or a header that somebody made up, costs a tick its length and nothing more.
    """
    if deadline is None:
        return limit_seconds
    left = (deadline - now).total_seconds()
    return min(limit_seconds, max(gone_seconds + left, LEAST_LIMIT_SECONDS))


def parse_deadline(value: str | None) -> datetime | None:
    """An instant as a platform's header writes it (RFC 3339); ``None`` for all else."""
    if value is None or not _INSTANT.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:  # a thirteenth month
        return None
