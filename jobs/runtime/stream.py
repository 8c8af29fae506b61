"""The stream: a batch that goes on and on, for a runner that lives as long as its process.

Whoever finishes a job takes the next one: a slow job keeps one slot and holds up no other. Small
jobs are claimed ahead, as many as will start soon by the pace just seen, so that statements grow
with time and not with jobs. What was claimed ahead and has found no slot for a while goes back.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from jobs.core.deadline import WORKER_LEASE_SECONDS, unlimited_budget
from jobs.core.delivery import has_lost_a_runner
from jobs.core.ids import new_id
from jobs.core.job import Claimed
from jobs.core.outcome import NotStarted, Outcome
from jobs.runtime.apart import without_marks
from jobs.runtime.base import Runtime
from jobs.runtime.execute import FLUSH_SECONDS, Batch, BatchReport
from jobs.runtime.record import Note
from jobs.runtime.recorder import GATHER_SECONDS
from jobs.runtime.trouble import Trouble
from jobs.runtime.upkeep import run_upkeep, trim_finished
from jobs.runtime.watch import look_at_alerts

log = logging.getLogger("tickwork.worker")
# How far ahead of their start small jobs are claimed, and at most how many at once.
AHEAD_SECONDS = 2 * FLUSH_SECONDS
MOST_AT_ONCE = 500
# Claimed ahead and not started for so long: somebody else may have a slot for it.
STALE_SECONDS = 2.0
# While more is due than fits, new lanes (of a higher priority, say) are looked for so often.
BUSY_LOOK_SECONDS = 1.0
# What is due and held back by a limit is tried again after this, then twice this, and so on.
HELD_BACK_SECONDS = 0.1
LEAST_LOOK_SECONDS = 0.02
# How long a schedule that another process made may be unknown to the sleep between two polls.
ASK_AGAIN_SECONDS = 60.0
FIRST_REST_SECONDS = 1.0
LONGEST_REST_SECONDS = 15.0
# A worker that had nothing to do says so often that it lives.
IDLE_RECORD_SECONDS = 30.0
# The watchdog outside is told so often, and at once of other news.
HEARTBEAT_SECONDS = 60.0


@dataclass(slots=True)
class Tallied:
    """What a stream did since it was last asked, and how it stands."""

    ended: Counter[str] = field(default_factory=Counter)
    late: int = 0
    started: int = 0
    reclaimed: int = 0
    scheduled: int = 0


class Stream(Batch):
    """Claims and runs until the runtime is ``stopping`` and all that was claimed has ended."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        slots: int,
        kinds: Collection[str] | None = None,
        queues: Collection[str] | None = None,
        lease_seconds: float = WORKER_LEASE_SECONDS,
    ) -> None:
        """``kinds`` and ``queues`` are those to claim from; all that are handled here by default.

        ``lease_seconds`` is renewed while jobs run: that long they wait if this process dies.
        """
        now = runtime.clock.monotonic()
        super().__init__(
            runtime,
            [],
            unlimited_budget(now, lease_seconds=lease_seconds),
            slots=slots,
            fresh=False,  # there is no tick whose first one a job could be
        )
        self.slots = slots
        self._tick = self._tick or new_id()  # its jobs' lines bear one id, as those of a tick do
        self._note = Note("worker", slots, now, ticks=0)
        self._tally = Tallied()
        self._tally_lock = threading.Lock()
        self._starts_told = 0
        self._starts_forgotten = 0
        self.is_clogged = False
        self._kinds = None if kinds is None else frozenset(kinds)
        self._queues = None if queues is None else frozenset(queues)
        self._lease_seconds = lease_seconds
        self._taken_at: dict[str, float] = {}
        # What may kill its runner waits until nothing else runs; and whose turn it is, by its id.
        self._apart: deque[Claimed] = deque()
        self._alone: str | None = None
        self._lanes: tuple[str, ...] = ()
        self._woken = True
        self._look_at = now
        self._looked_at = -math.inf
        self._ask_again_at = now
        self._expected_at = math.inf
        self._started_at_watch = 0
        self._no_claim_before = now
        self._more_is_due = False
        self._held_back_seconds = HELD_BACK_SECONDS
        self._rest_seconds = FIRST_REST_SECONDS
        self._trouble = Trouble(log, "a look for jobs failed; the next one comes in any case")
        self._beat_at = -math.inf
        self._said_well: bool | None = None
        self._last_claim = now
        self._started_at_last_claim = 0
        self._claimed_last = slots
        self._pace = 0.0  # starts in a second

    # -- for other threads ---------------------------------------------------------------------

    def wake(self) -> None:
        """Look for due jobs now, or see that the runtime is stopping. Not for signal handlers."""
        with self._wake_coordinator:
            self._woken = True
            self._wake_coordinator.notify()

    @property
    def running(self) -> int:
        """How many handlers run now."""
        return len(self._running)

    @property
    def trouble(self) -> str | None:
        """Why jobs wait, if the last look at the database failed."""
        return self._trouble.said

    def take_tally(self) -> Tallied:
        """What was done since the last call."""
        with self._tally_lock:
            taken, self._tally = self._tally, Tallied()
            started = self._started
            taken.started, self._starts_told = started - self._starts_told, started
        return taken

    # -- the coordinator -----------------------------------------------------------------------

    def run(self) -> BatchReport:
        """Run until told to stop; raises StoreUnavailable if the last ends could not be written."""
        for _ in range(self.slots):
            self._add_slot()
        try:
            self._coordinate()
        finally:
            self._close()
            self._record(self._monotonic())
            self.runtime.recorder.flush(self.runtime.store)
        return self.report

    def _record(self, now: float) -> None:
        """Write down what was done since the last record, its looks as so many ticks."""
        note, self._note = self._note, Note("worker", self.slots, now, ticks=0)
        self._note.see(note.seen_at, note.seen)
        if note.ticks:
            note.more = self._more_is_due
            self.runtime.recorder.add(self.runtime.store, note.record(now, None), now, gather=False)

    def _record_if_due(self, now: float) -> None:
        has_news = bool(self._note.names or self._note.reclaimed)
        if now - self._note.began >= (GATHER_SECONDS if has_news else IDLE_RECORD_SECONDS):
            self._record(now)
        self._beat(now, well=True)

    def _beat(self, now: float, *, well: bool) -> None:
        """Tell the watchdog outside, as ticks do each; a worker looks many times a second."""
        if self.runtime.heartbeat is not None and (
            well != self._said_well or now - self._beat_at >= HEARTBEAT_SECONDS
        ):
            self._beat_at, self._said_well = now, well
            self.runtime.heartbeat(well)

    def _is_over(self) -> bool:
        return self.runtime.stopping.is_set() and super()._is_over()

    def _nothing_else(self) -> bool:
        return self._is_over()

    def _needs_slots(self) -> bool:
        return not self.runtime.stopping.is_set()

    def _is_idle(self) -> bool:
        return not (self._running or self._ready or self._waiting or self._held)

    def _is_urgent(self) -> bool:
        """As in a batch; and with nothing to run there is nothing to wait for with the last ends.

        A job that follows one of them, or comes back, is then due at once.
        """
        if self._flushed < len(self._ended) and self._is_idle() and not self._flush_failed:
            return not self.runtime.store.writer_busy()
        return super()._is_urgent()

    def _rest_until(self) -> float:
        # Under the lock, so that no wake is lost between this and the rest.
        if self._woken or self._can_take_turns():
            return self._monotonic()
        if self.runtime.stopping.is_set():
            return super()._rest_until()
        wake = self._look_at
        if not self._is_idle() or self._flushed < len(self._ended):
            wake = min(wake, super()._rest_until())
        if self._wants() > 0:
            wake = self._monotonic()
        return wake

    def _take_more(self, now: float) -> None:
        with self._wake_coordinator:
            woken, self._woken = self._woken, False
        if self.runtime.stopping.is_set():
            return
        if self.runtime.is_clogged:
            self._end_clogged()
            return
        self._take_turns(now)
        self._hand_back_stale(now)
        is_due = now >= self._look_at
        if woken:
            self._ask_again_at = now
            self._looked_at = -math.inf  # what was rung for may be in lanes that are not known yet
            if self._free() > 0:
                is_due = True
            else:
                self._more_is_due = True  # for the first slot that is free
        if not is_due and not self._wants():
            return
        if self.runtime.store.writer_busy():  # a claim would wait for the handler that holds it
            self._no_claim_before = now + FLUSH_SECONDS
            if is_due:
                self._look_at = self._no_claim_before
            return
        try:
            is_old = now - self._looked_at > BUSY_LOOK_SECONDS
            self._claim(now, looks=is_due or is_old)
            self._rest_seconds = FIRST_REST_SECONDS
            if self._trouble.end():
                log.warning("the database answers again")
            self._record_if_due(now)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next look must come
            self._trouble.meet(error)
            self._more_is_due = False
            self._look_at = self._monotonic() + self._rest_seconds
            self._rest_seconds = min(2 * self._rest_seconds, LONGEST_REST_SECONDS)
            self._beat(now, well=False)

    def _end_clogged(self) -> None:
        self.is_clogged = True
        log.error(
            "too many threads of handlers that were given up on still run; this process ends in "
            "order, to be started again"
        )
        self.runtime.stopping.set()

    # -- apart ---------------------------------------------------------------------------------

    def _is_apart(self) -> bool:
        """Whether a job that may kill its runner runs, or waits for its turn: none is claimed."""
        return bool(self._apart) or self._alone is not None

    def _can_take_turns(self) -> bool:
        if self._alone is not None:
            return self._alone not in self._claimed_by_id  # its end is written
        return bool(self._apart) and self._is_idle() and self._flushed == len(self._ended)

    def _take_turns(self, now: float) -> None:
        if not self._can_take_turns():
            return
        self._alone = None
        if self._apart:
            job = self._apart.popleft()
            self._alone = job.id
            self._taken_at[job.id] = now
            self._waiting.append(job)
        else:
            self._more_is_due = True
            self._look_at = now

    def _set_apart(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """Keep what may kill its runner for its turn; returns the others."""
        suspects = list(filter(has_lost_a_runner, claimed))
        if not suspects:
            return list(claimed)
        self._apart.extend(without_marks(self.runtime, suspects))
        self.total += len(suspects)
        self._claimed_by_id.update((job.id, job) for job in suspects)
        return [job for job in claimed if job not in suspects]

    def _not_started(self) -> list[Claimed]:
        return [*super()._not_started(), *self._apart]

    def _release_unstarted(self) -> None:
        while self._apart:
            self._end(self._unstarted(self._apart.popleft(), NotStarted()))
        super()._release_unstarted()

    # -- claims --------------------------------------------------------------------------------

    def _queued(self) -> int:
        return len(self._ready) + len(self._waiting)

    def _free(self) -> int:
        """How many slots nobody has a job for."""
        if self._is_apart():
            return 0
        return self.slots - len(self._running) - self._queued()

    def _wants(self) -> int:
        """How many jobs to claim now, if more are known to be due."""
        if not self._more_is_due or self._is_apart() or self._monotonic() < self._no_claim_before:
            return 0
        queued, free = self._queued(), self._free()
        ahead = min(self._pace * AHEAD_SECONDS, MOST_AT_ONCE)
        if ahead <= self.slots:
            return max(free, 0)
        return int(ahead) - queued if free > 0 or queued < ahead / 2 else 0

    def _claim(self, now: float, *, looks: bool) -> None:
        """Claim as many as there is room for, after a look at what is due if ``looks``."""
        runtime = self.runtime
        if looks:
            self._look(now)
        lanes = self._lanes
        self._note_pace(now)
        free = self._free()
        want = max(free, self._wants())
        if want <= 0:
            self._more_is_due = self._more_is_due or bool(lanes)
            self._look_at = self._next_poll(now)
            return
        claimed: list[Claimed] = []
        if lanes:
            soon = int(self._pace * FLUSH_SECONDS) - self._queued()
            claimed = runtime.store.claim(
                want,
                kinds=self._handled(),
                lease_seconds=self._lease_seconds,
                mark=max(0, min(want, max(free, soon))),
                lanes=self._without_full(lanes),
                overdue_seconds=runtime.overdue_seconds,
                limits=runtime.limits,
            )
            at = self._monotonic()
            self._taken_at.update((job.id, at) for job in claimed)
            self._note.claimed += len(claimed)
            self._claimed_last = max(len(claimed), self.slots)
            self._admit(self._set_apart(claimed))
        if claimed:
            self._held_back_seconds = HELD_BACK_SECONDS
        self._more_is_due = len(claimed) >= want
        if self._more_is_due:
            self._look_at = self._next_poll(now)
        elif not looks:
            self._look_at = now  # what came since the lanes were looked for may be in others
        elif not lanes:
            self._look_at = self._next_look_at_nothing(now)
        else:
            self._look_at = self._next_look(now, lanes)

    def _look(self, now: float) -> None:
        """The probe, and the upkeep that it finds due."""
        runtime = self.runtime
        if runtime.declared.is_new:
            from jobs.runtime.schedules import synchronise  # late: most deployments have none

            synchronise(runtime)
        due = runtime.store.probe(rings=runtime.rules is not None)
        self._note.see(due.at, self._monotonic())
        self._note.ticks += 1
        runtime.queues.learn(due.said.settings, now)
        reclaimed = run_upkeep(runtime, due, self._note)
        scheduled = 0
        if due.scheduled:
            from jobs.runtime.schedules import fire_due  # late, as above

            scheduled = fire_due(runtime)
        if reclaimed or scheduled:  # which may have opened lanes that the probe did not see
            with self._tally_lock:
                self._tally.reclaimed += reclaimed
                self._tally.scheduled += scheduled
            due = runtime.store.probe(rings=False)
        self._lanes = tuple(filter(self._is_ours, due.lanes))
        self._looked_at = now
        ran = reclaimed > 0 or self._started > self._started_at_watch
        if due.alerts.is_for(ran=ran, waits=bool(due.lanes)):
            self._started_at_watch = self._started
            look_at_alerts(runtime)

    def _is_ours(self, lane: str) -> bool:
        _, queue, kind, _ = lane.split("/", 3)
        return (self._queues is None or queue in self._queues) and kind in self._handled()

    def _handled(self) -> frozenset[str]:
        known = self.runtime.registry.kinds
        return known if self._kinds is None else known & self._kinds

    def _without_full(self, lanes: Sequence[str]) -> Sequence[str]:
        """The lanes of which this process may run one more: others would only wait here."""
        runtime = self.runtime
        if not runtime.queues.limits_in_process(runtime.registry):
            return lanes
        jobs = list(self._claimed_by_id.values())
        kinds = Counter(job.kind for job in jobs)
        queues = Counter(job.queue for job in jobs)
        left = []
        for lane in lanes:
            _, queue, kind, _ = lane.split("/", 3)
            handler = runtime.registry.find(kind)
            most = None if handler is None else handler.concurrency_in_process
            most_of_queue = runtime.queues.of_queue(queue).concurrency_in_process
            if (most is None or kinds[kind] < most) and (
                most_of_queue is None or queues[queue] < most_of_queue
            ):
                left.append(lane)
        return left

    def _note_pace(self, now: float) -> None:
        elapsed = now - self._last_claim
        seen = (self._started - self._started_at_last_claim) / max(elapsed, 0.001)
        # One instant's burst does not promise the world.
        self._pace = min(seen, 4 * self._claimed_last / AHEAD_SECONDS)
        self._last_claim = now
        self._started_at_last_claim = self._started

    def _next_poll(self, now: float) -> float:
        return now + self.runtime.settings.poll_interval

    def _next_look(self, now: float, lanes: Sequence[str]) -> float:
        """When to look after a claim that took all it could."""
        poll = self._next_poll(now)
        ahead = self.runtime.store.next_due(self._handled(), lanes)
        if ahead.rows_in_seconds == 0:
            # Due, and held back by a limit that other processes may free.
            held_back, self._held_back_seconds = (
                self._held_back_seconds,
                min(2 * self._held_back_seconds, self.runtime.settings.poll_interval),
            )
            return min(poll, now + held_back)
        if ahead.in_seconds is None:
            return poll
        return min(poll, self._monotonic() + max(ahead.in_seconds, LEAST_LOOK_SECONDS))

    def _next_look_at_nothing(self, now: float) -> float:
        """When to look while no job waits: at a poll, or when a schedule fires before it.

        That is asked now and then, not at every poll: an idle worker costs a statement a poll.
        """
        if now >= self._ask_again_at:
            ahead = self.runtime.store.next_due(self._handled(), ())
            at = self._monotonic()
            left = math.inf if ahead.in_seconds is None else ahead.in_seconds
            self._expected_at = at + max(left, LEAST_LOOK_SECONDS)
            self._ask_again_at = min(at + ASK_AGAIN_SECONDS, self._expected_at)
        return min(self._next_poll(now), self._expected_at)

    def _hand_back_stale(self, now: float) -> None:
        """Those claimed ahead that found no slot in time; the slots are all at long jobs."""
        queued = len(self._ready) + len(self._waiting) + len(self._held)
        if not queued:
            return
        before = now - STALE_SECONDS
        with self._held_lock:
            stale = [job for job in self._held if self._taken_at.get(job.id, now) < before]
            for job in stale:
                self._held.remove(job)
                self._held_unmarked.discard(job.id)
        for row in (self._waiting, self._ready):
            while row:
                try:
                    job = row.popleft()
                except IndexError:  # a slot took the last one
                    break
                if self._taken_at.get(job.id, now) >= before:
                    row.appendleft(job)
                    break
                stale.append(job)
        for job in stale:
            self._end(self._unstarted(job, NotStarted()))

    @property
    def _started(self) -> int:
        return self._starts_forgotten + len(self._starts)

    # -- ends ----------------------------------------------------------------------------------

    def _settle_ended(self) -> None:
        super()._settle_ended()
        report = self.report
        if not report.outcomes:
            return
        trim_finished(self.runtime, report)
        self._note.count(report)
        with self._tally_lock:
            self._tally.ended.update(outcome.name for outcome in report.written())
            self._tally.late += len(report.late)
            starts = len(self._starts)
            self._starts_forgotten += starts
            del self._starts[:starts]
        if self._opens_more(report.outcomes):
            self._woken = True
        for outcome in report.outcomes:
            job_id = outcome.verdict.id
            self._claimed_by_id.pop(job_id, None)
            self._places.pop(job_id, None)
            self._taken_at.pop(job_id, None)
            self._committed.discard(job_id)
            self._raised.pop(job_id, None)  # of one that came late, and was not told of
        # It goes on for months: what has ended is forgotten.
        flushed, self._flushed = self._flushed, 0
        del self._ended[:flushed]
        self.total -= flushed
        self.report = BatchReport(self._claimed_by_id)

    def _opens_more(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether these ends made something due, or made room under a limit."""
        if self.runtime.limits or self.runtime.queues.limits_in_process(self.runtime.registry):
            return True
        return any(each.may_be_followed or each.is_due_again for each in outcomes)

    # -- the slots -----------------------------------------------------------------------------

    def _execute(self, claimed: Claimed) -> bool:
        now = self._monotonic()
        held_since = max(self._taken_at.get(claimed.id, now), self._last_renewal)
        if now - held_since > self._lease_seconds:
            # This process was frozen: the job is somebody else's by now.
            self._end(self._unstarted(claimed, NotStarted()))
            return True
        return super()._execute(claimed)
