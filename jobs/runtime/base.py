"""What every step of a running system shares."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, field

from jobs.core.backoff import fixed
from jobs.core.clock import Clock
from jobs.core.doorbell import Doorbell
from jobs.core.events import Events
from jobs.core.outcome import Policy
from jobs.core.registry import Handler, Registry, Retention, as_retention
from jobs.core.ring import RingRules
from jobs.core.settings import Settings
from jobs.core.store import Store
from jobs.runtime.loop import LoopThread


@dataclass(slots=True)
class Runtime:
    """One system's parts, and the little it learns while it runs.

    ``starts_per_second`` is the pace of the last batch (for start marks); ``abandoned`` are the
    threads of sync handlers that were given up on and still run, and those of blocked event loops.
    Once ``stopping`` is set no job starts any more: none is claimed, and what was claimed and has
    not begun goes back. ``give_up_at`` (monotonic seconds) is when what runs is given up on, so
    that its end is written before the process is killed.

    ``rules`` say when rows are rung, where the doorbell is a queue that needs it; ticks then only
    ring, and run what has been due for ``overdue_seconds``. A job that goes back to waiting is rung
    by whoever settles it, but for a runner with ``rings_settled`` false: a consumer that keeps the
    job's message on the queue. Such a one runs with ``dataclasses.replace(runtime,
    rings_settled=False)``, which shares everything else.
    """

    store: Store
    registry: Registry
    settings: Settings
    events: Events
    clock: Clock
    doorbell: Doorbell
    rules: RingRules | None = None
    rings_settled: bool = True
    loop: LoopThread = field(default_factory=LoopThread)
    starts_per_second: float = 0.0
    abandoned: set[threading.Thread] = field(default_factory=set)
    stopping: threading.Event = field(default_factory=threading.Event)
    give_up_at: float = math.inf
    _took: dict[str, deque[float]] = field(default_factory=dict)
    _policies: dict[str, tuple[Handler | None, Policy]] = field(default_factory=dict)

    @property
    def overdue_seconds(self) -> float:
        """How long a row must have been due for a tick to run it."""
        return 0.0 if self.rules is None else self.settings.sqs_overdue

    def policy(self, kind: str) -> Policy:
        """What the kind says of its ends; what it leaves unsaid comes from the settings."""
        handler = self.registry.find(kind)
        known = self._policies.get(kind)
        if known is None or known[0] is not handler:
            known = self._policies[kind] = (handler, policy_of(handler, self.settings))
        return known[1]

    def note_duration(self, kind: str, seconds: float) -> None:
        """Remember how long a job of this kind took, for the next one that has to fit."""
        self._took.setdefault(kind, deque(maxlen=20)).append(seconds)

    def usual_seconds(self, kind: str) -> float | None:
        """What a kind usually takes: the longest of its last twenty in this process, if any."""
        took = self._took.get(kind)
        return max(took.copy()) if took else None

    def still_abandoned(self) -> int:
        """How many given-up threads are still running."""
        # Overlapping ticks add to the same set meanwhile: a copy is looked at, ours never replaced.
        for thread in list(self.abandoned):
            if not thread.is_alive():
                self.abandoned.discard(thread)
        return len(self.abandoned)


def policy_of(handler: Handler | None, settings: Settings) -> Policy:
    """A kind's backoff and retention over the settings' defaults."""
    backoff = handler.backoff if handler is not None and handler.backoff is not None else None
    return Policy(
        backoff=backoff if backoff is not None else fixed(settings.retry_delay),
        keep_completed_seconds=completed_retention(handler, settings).age_seconds,
        keep_failed_seconds=failed_retention(handler, settings).age_seconds,
        result_max_bytes=settings.payload_max_bytes,
    )


def completed_retention(handler: Handler | None, settings: Settings) -> Retention:
    """How long, and how many, completed jobs of a kind stay."""
    declared = handler.remove_on_complete if handler is not None else None
    return as_retention(declared, Retention(settings.keep_completed))


def failed_retention(handler: Handler | None, settings: Settings) -> Retention:
    """How long, and how many, failed jobs of a kind stay."""
    declared = handler.remove_on_fail if handler is not None else None
    return as_retention(declared, Retention(settings.keep_failed))
