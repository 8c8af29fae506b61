"""What every step of a running system shares."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from jobs.core.clock import Clock
from jobs.core.codec import decode
from jobs.core.doorbell import Doorbell
from jobs.core.errors import PayloadError
from jobs.core.events import EventName, Events, JobEvent, current_tick
from jobs.core.job import DEFAULT_QUEUE, Claimed
from jobs.core.limits import Limits
from jobs.core.look import EVERY_SECONDS
from jobs.core.outcome import Policy
from jobs.core.registry import Registry
from jobs.core.ring import RingRules
from jobs.core.schedule import Declared
from jobs.core.settings import Settings
from jobs.core.store import Store
from jobs.runtime.gate import Gate
from jobs.runtime.loop import LoopThread
from jobs.runtime.recorder import Recorder
from jobs.runtime.terms import Terms, TermsBook

if TYPE_CHECKING:
    from jobs.core.rules import RuleBook


class LateRules:
    """The rules of alerts, made by who first wants them: most ticks do not."""

    @cached_property
    def book(self) -> RuleBook:
        from jobs.core.rules import RuleBook

        return RuleBook()


# Given-up threads cannot be killed; past this many a process only hands its jobs back.
MOST_ABANDONED = 20


class Runtime(Struct):
    """One system's parts, and the little it learns while it runs.

    ``starts_per_second`` is the pace of the last batch (for start marks); ``abandoned`` are the
    threads of sync handlers that were given up on and still run, and those of blocked event loops.
    Once ``stopping`` is set no job starts any more: none is claimed, and what was claimed and has
    not begun goes back. ``give_up_at`` (monotonic seconds) is when what runs is given up on, so
    that its end is written before the process is killed.

    ``rules`` say when rows are rung, where the doorbell is a queue that needs it; ticks then only
    ring, and run what has been due for ``overdue_seconds``. A job that goes back to waiting is rung
    by whoever settles it, but for a runner with ``rings_settled`` false: a consumer that keeps the
    job's message on the queue. Such a one runs with ``replace(runtime,
    rings_settled=False)``, which shares everything else. ``queues`` is what is said of queues.
    ``recorder`` writes records of ticks; ``heartbeat`` tells a watchdog outside whether one ended
    well. ``alert_rules`` say what is an alert. ``drafts`` rises when something is enqueued here.
    """

    store: Store
    registry: Registry
    settings: Settings
    events: Events
    clock: Clock
    doorbell: Doorbell
    rules: RingRules | None = None
    rings_settled: bool = True
    queues: TermsBook = field(default_factory=TermsBook)
    loop: LoopThread = field(default_factory=LoopThread)
    gate: Gate = field(default_factory=Gate)
    starts_per_second: float = 0.0
    drafts: int = 0
    abandoned: set[threading.Thread] = field(default_factory=set)
    stopping: threading.Event = field(default_factory=threading.Event)
    give_up_at: float = math.inf
    declared: Declared = field(default_factory=Declared)
    recorder: Recorder = field(default_factory=Recorder)
    heartbeat: Callable[[bool], None] | None = None
    alert_rules: LateRules = field(default_factory=LateRules)
    _looked_at: float = -math.inf
    _took: dict[str, deque[float]] = field(default_factory=dict)

    @property
    def overdue_seconds(self) -> float:
        """How long a row must have been due for a tick to run it."""
        return 0.0 if self.rules is None else self.settings.sqs_overdue

    def terms(self, kind: str, queue: str | None = None) -> Terms:
        """What holds for jobs of a kind in a queue; in the kind's own if none is named."""
        handler = self.registry.find(kind)
        if queue is None:
            queue = DEFAULT_QUEUE if handler is None else handler.queue
        return self.queues.terms(kind, queue, handler, self.settings)

    @property
    def limits(self) -> Limits:
        """The limits over all processes of the kinds and queues known here."""
        return self.queues.limits(self.registry)

    def policy(self, kind: str, queue: str | None = None) -> Policy:
        """What holds for the ends of such jobs."""
        return self.terms(kind, queue).policy

    def timeout(self, claimed: Claimed) -> float | None:
        """The seconds that somebody said this job may take; ``None`` if nobody did."""
        return claimed.timeout_seconds or self.terms(claimed.kind, claimed.queue).timeout

    def tell(self, name: EventName, job: Claimed, **facts: Any) -> None:
        """Tell the listeners of a claimed job, if there are any of that name."""
        if not self.events.wanted(name):
            return
        context, tick = self.logged(job.kind, job.payload), current_tick.get()
        self.events.emit(JobEvent.of(name, job, tick=tick, context=context, **facts))

    def logged(self, kind: str, payload: str) -> dict[str, Any] | None:
        """What the kind's handler lets logs show of a stored payload."""
        handler = self.registry.find(kind)
        if handler is None or handler.log_context is None:
            return None
        try:
            return handler.logged(decode(payload))
        except PayloadError:
            return None  # its run will tell

    def may_look(self, now: float) -> bool:
        """Whether it is a minute (of monotonic seconds) since this was asked and so answered: for
        runners that have no probe to tell when alerts are to be looked at."""
        if not self.settings.alerts or now - self._looked_at < EVERY_SECONDS:
            return False
        self._looked_at = now
        return True

    def note_duration(self, kind: str, seconds: float) -> None:
        """Remember how long a job of this kind took, for the next one that has to fit."""
        self._took.setdefault(kind, deque(maxlen=20)).append(seconds)

    def usual_seconds(self, kind: str) -> float | None:
        """What a kind usually takes: the longest of its last twenty in this process, if any."""
        took = self._took.get(kind)
        return max(took.copy()) if took else None

    @property
    def is_clogged(self) -> bool:
        """Whether so many given-up handlers still run that this process starts no more."""
        return len(self.abandoned) >= MOST_ABANDONED and self.still_abandoned() >= MOST_ABANDONED

    def still_abandoned(self) -> int:
        """How many given-up threads are still running."""
        # Overlapping ticks add to the same set meanwhile: a copy is looked at, ours never replaced.
        for thread in list(self.abandoned):
            if not thread.is_alive():
                self.abandoned.discard(thread)
        return len(self.abandoned)
