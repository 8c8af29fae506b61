"""One execution of one handler: its deadline, its context, and how it ended."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jobs.core.codec import decode, encode
from jobs.core.context import CURSOR_MAX_BYTES, JobContext
from jobs.core.deadline import Budget
from jobs.core.errors import (
    UNCHANGED,
    Continue,
    Discard,
    JobCancelled,
    LeaseLost,
    LockedPayload,
    NeverEnds,
    NewerPayload,
    PayloadError,
    StoreUnavailable,
)
from jobs.core.events import current_tick
from jobs.core.group import Member, current_member
from jobs.core.job import Claimed, State
from jobs.core.outcome import (
    Ending,
    NotStarted,
    Outcome,
    Raised,
    Returned,
    TimedOut,
    decide,
    outlived,
)
from jobs.core.payload import load
from jobs.core.registry import Handler
from jobs.core.sealed import is_sealed
from jobs.core.settings import Settings
from jobs.core.store import StoreTransaction, Touch
from jobs.runtime.base import Runtime
from jobs.runtime.enqueue import announce_inserted
from jobs.runtime.loop import Escaped, Submission
from jobs.runtime.ring import ring_settled, with_rings
from jobs.runtime.terms import Terms
from jobs.runtime.tracing import Processing, begin

log = logging.getLogger("tickwork.run")
# How long a job waits that is for newer code: a deployment may be under way.
NEWER_PAYLOAD_SECONDS = 60.0
LOCKED_PAYLOAD_SECONDS = 60.0


class NotBegun(Exception):
    """The transaction, or the event loop, came too late for its handler to begin."""


class Run:
    """A job in execution, in one thread; the batch watches it from another.

    ``deadline`` is in monotonic seconds; while a transactional handler waits for its transaction,
    it is when nothing may start any more. ``given_up`` is set by the batch: from then on nothing
    this run does counts.
    """

    __slots__ = (
        "_lock",
        "begun",
        "budget",
        "cancelled",
        "claimed",
        "cursor",
        "cut_off",
        "deadline",
        "ends_with_process",
        "given_up",
        "handler",
        "progress",
        "progress_written",
        "runtime",
        "span",
        "started",
        "submission",
        "terms",
        "thread",
        "tick",
        "timeout",
        "transaction",
    )

    def __init__(
        self,
        runtime: Runtime,
        claimed: Claimed,
        handler: Handler,
        terms: Terms,
        *,
        now: float,
        timeout: float,
        cut_off: bool,
        thread: threading.Thread,
        budget: Budget,
    ) -> None:
        self.runtime = runtime
        self.claimed = claimed
        self.handler = handler
        self.terms = terms
        self.started = now
        self.timeout = timeout
        self.cut_off = cut_off
        self.ends_with_process = False
        self.deadline = budget.start_deadline if handler.transactional else now + timeout
        self.begun = not handler.transactional
        self.thread = thread
        self.tick = current_tick.get()
        self.budget = budget
        self._lock = threading.Lock()
        self.progress: tuple[float, str | None] | None = None
        self.progress_written: tuple[float, str | None] | None = None
        self.cursor: str | None = None  # of a transactional handler, to be committed with it
        self.cancelled = False
        self.given_up = False
        self.submission: Submission | None = None
        self.transaction: StoreTransaction | None = None
        self.span: Processing | None = None

    # -- executing ---------------------------------------------------------------------------

    def execute(self) -> Ending:
        """Call the handler; whatever it raises is an ending."""
        try:
            return Returned(self._call())
        except BaseException as error:  # noqa: BLE001 - SystemExit too must not end the runner
            return Raised(error)

    def execute_and_settle(
        self, monotonic: Callable[[], float], on_overdue: Callable[[], None]
    ) -> tuple[Ending, Outcome | None]:
        """Call a transactional handler and write its completion in the same transaction.

        Returns its ending, and the outcome if that is already committed. ``None`` for the outcome
        of a handler that returned means that the row was no longer held: all was rolled back.
        Where it holds the only writer, ``on_overdue`` is called at its deadline from a thread of
        its own: whoever watches deadlines may be waiting for that writer.
        """
        outcome: Outcome | None = None
        alarm: threading.Timer | None = None
        try:
            with self.runtime.store.transaction() as transaction:
                self._begin(transaction, monotonic())
                if self.runtime.store.writer_busy():
                    alarm = threading.Timer(self.deadline - self.started, on_overdue)
                    alarm.daemon = True
                    alarm.start()
                ending = self._ending_to_commit()
                candidate = self.decide(ending, monotonic())
                self._refuse_to_commit(candidate)
                if candidate.name == "continued":
                    (verdict,) = with_rings(self.runtime, [candidate.verdict])
                    candidate = candidate._replace(verdict=verdict)
                if not transaction.settle(candidate.verdict):
                    if candidate.verdict.continue_within_seconds is not None:
                        raise NeverEnds(outlived(candidate).verdict.error or "")
                    raise LeaseLost("another runner or a cancel came between")
                outcome = candidate
            announce_inserted(self.runtime, transaction.inserted)
            ring_settled(self.runtime, [candidate.verdict])
            return ending, outcome
        except NotBegun:
            return NotStarted(), None
        except StoreUnavailable as error:
            return Raised(error) if self.begun else NotStarted(), None
        except BaseException as error:  # noqa: BLE001 - as in execute()
            if outcome is not None and self._did_commit(outcome):
                return Returned(None), outcome
            return Raised(error), None
        finally:
            if alarm is not None:
                alarm.cancel()
            self.transaction = None

    def _ending_to_commit(self) -> Ending:
        """Call a transactional handler: it returned, or goes on later with what it has done."""
        try:
            return Returned(self._call())
        except Continue as more:
            if more.state is not UNCHANGED:
                encode(more.state, CURSOR_MAX_BYTES)  # refused here, its writes are rolled back
            return Raised(more)

    def _refuse_to_commit(self, candidate: Outcome) -> None:
        """Raise, so that the handler's writes are rolled back, unless it got somewhere."""
        if candidate.name in ("completed", "continued"):
            return
        if candidate.verdict.state == State.CANCELLED:
            raise JobCancelled("somebody asked to cancel this job")
        # What the next step of a chain cannot be made of, a job put off too often.
        raise Discard((candidate.verdict.error or "").removeprefix("Discard: "))

    def _begin(self, transaction: StoreTransaction, now: float) -> None:
        """Start the handler's time now that it has its transaction, if there is any left."""
        with self._lock:
            if self.given_up or now >= self.budget.start_deadline:
                raise NotBegun
            self.begun = True
            self.transaction = transaction
            self.started = now
            self.timeout = min(self.timeout, self.budget.give_up_deadline - now)
            self.deadline = now + self.timeout

    def _begin_on_loop(self) -> None:
        """Start an async handler's time now that the loop has come to it."""
        now = self.runtime.clock.monotonic()
        with self._lock:
            if self.given_up:
                raise NotBegun
            self.begun = True
            if self.handler.transactional:
                return  # its time began with its transaction
            left = self.budget.give_up_deadline - now
            self.started = now
            self.cut_off = self.cut_off or left < self.timeout
            self.timeout = min(self.timeout, left)
            self.deadline = now + self.timeout

    def _did_commit(self, outcome: Outcome) -> bool:
        """After a commit whose answer was lost: the row tells."""
        try:
            job = self.runtime.store.get(self.claimed.id)
        except Exception:  # noqa: BLE001 - any driver's error
            log.warning("job %s: cannot tell whether it was committed", self.claimed.id)
            return False
        return (
            job is not None
            and job.fence == self.claimed.fence
            and job.state == outcome.verdict.state
        )

    def _call(self) -> Any:
        handler, claimed = self.handler, self.claimed
        arguments: list[Any] = []
        if handler.takes_payload:
            try:
                payload = decode(claimed.payload)
                if is_sealed(payload):
                    log.error("job %s: no key here opens its payload; it waits", claimed.id)
                    raise LockedPayload(LOCKED_PAYLOAD_SECONDS)
                if claimed.version != handler.version:
                    payload = _upgraded(handler, payload, claimed.version)
                arguments.append(load(payload, handler.payload_type))
            except PayloadError as error:
                # The row will not change: trying again cannot help.
                raise Discard(
                    f"the payload does not fit {handler.payload_type}: {error}"
                ) from error
        if handler.takes_context:
            arguments.append(JobContext(claimed, self))
        traced = begin(claimed, self.tick)
        if traced is None:
            return self._called(arguments)
        self.span, current = traced
        failure: BaseException | None = None
        try:
            with current:
                return self._called(arguments)
        except BaseException as raised:
            failure = raised
            raise
        finally:
            self.span.end(failure)

    def _called(self, arguments: list[Any]) -> Any:
        handler, claimed = self.handler, self.claimed
        if claimed.group_id is None:
            return self._value(handler.function(*arguments))
        member = Member(self.runtime.store, claimed.group_id, claimed.id)
        joined = current_member.set(member)
        try:
            return self._value(handler.function(*arguments))
        finally:
            current_member.reset(joined)

    def _value(self, value: Any) -> Any:
        # A plain function may hand back a coroutine, as a decorator around an async one does.
        if not inspect.iscoroutine(value):
            return value
        with self._lock:
            self.begun = False
        self.submission = self.runtime.loop.submit(value, self._begin_on_loop)
        try:
            return self.submission.future.result()
        except Escaped as escaped:
            raise escaped.error from None

    def decide(self, ending: Ending, now: float) -> Outcome:
        """The outcome of this run's ending, with what is known of its duration and progress."""
        claimed = self.claimed
        if self.cancelled:
            claimed = claimed._replace(cancel_requested=True)
        outcome = decide(
            claimed,
            ending,
            self.terms.policy,
            at=self.runtime.clock.now(),
            duration_ms=round((now - self.started) * 1000, 3),
            progress=self.progress,
        )
        verdict = outcome.verdict
        if outcome.name == "continued" and verdict.cursor is None and self.cursor is not None:
            outcome = outcome._replace(verdict=verdict._replace(cursor=self.cursor))
        return outcome._replace(started=self.started)

    def timed_out(self, now: float) -> Outcome:
        """The outcome of a run that did not end by its deadline."""
        if self.ends_with_process:
            because = "this process was told to end"
            return self.decide(TimedOut(now - self.started, because), now)
        declared = self.claimed.timeout_seconds or self.terms.timeout
        if not self.cut_off:
            because = f"its timeout is {self.timeout:g} s"
        elif declared is None:
            because = "the tick that ran it ends there"
        else:
            because = f"the tick that ran it ends there (its timeout is {declared:g} s)"
        return self.decide(TimedOut(self.timeout, because), now)

    def is_stranded(self) -> bool:
        """Whether it waits on an event loop that another handler blocks."""
        submission = self.submission
        if submission is None or not submission.lane.abandoned or submission.future.done():
            return False
        culprit = submission.lane.culprit
        return culprit is not submission and (culprit is not None or not self.begun)

    def give_up(self) -> bool:
        """Stop counting on this run: cancel it where that is possible, cut its transaction.

        Returns whether the handler had its chance: it began, and nobody took its loop from it.
        """
        with self._lock:
            self.given_up = True
        if self.span is not None:
            self.span.end(because=f"given up after {self.timeout:.3g} s")
        submission = self.submission
        if submission is not None:
            thread = self.runtime.loop.replace_if_blocked(submission.lane)
            if thread is not None:
                self.runtime.abandoned.add(thread)
        had_its_chance = self.begun and not self.is_stranded()
        if submission is not None:
            submission.future.cancel()
        if self.transaction is not None:
            self.transaction.abort()
        return had_its_chance

    # -- what the context asks ---------------------------------------------------------------

    def report_progress(self, percent: float, note: str | None) -> None:
        if note is None and self.progress is not None:
            note = self.progress[1]
        self.progress = (percent, note)
        self.runtime.tell("progress", self.claimed, percent=percent)

    def checkpoint(self, cursor: str | None = None) -> None:
        claimed = self.claimed
        if self.given_up:
            raise LeaseLost("this attempt was given up; nothing it does counts any more")
        if self.handler.transactional:
            self.cursor = self.cursor if cursor is None else cursor
        else:
            # A transactional handler is not touched from outside: its own commit is the fence.
            progress = self.progress
            percent, note = progress or (None, None)
            report = self.runtime.store.touch(
                [Touch(claimed.id, claimed.fence, None, percent, note, cursor)],
                lease_seconds=max(self.time_left(), 0.0) + self.budget.lease_margin_seconds,
            )
            self.progress_written = progress
            if claimed.id in report.lost:
                raise LeaseLost("another runner has taken this job over")
            self.cancelled = self.cancelled or claimed.id in report.cancelled
        if self.cancelled:
            raise JobCancelled("somebody asked to cancel this job")

    def time_left(self) -> float:
        return self.deadline - self.runtime.clock.monotonic()

    @property
    def is_stopping(self) -> bool:
        return self.runtime.stopping.is_set()

    @property
    def session(self) -> Any:
        return None if self.transaction is None else self.transaction.session

    @property
    def slot(self) -> datetime | None:
        job = self.runtime.store.get(self.claimed.id)
        return None if job is None else job.slot

    @property
    def settings(self) -> Settings:
        return self.runtime.settings


def _upgraded(handler: Handler, payload: dict[str, Any], version: int) -> dict[str, Any]:
    """The payload of another version in today's shape; raises what is to become of the job."""
    if version > handler.version:
        raise NewerPayload(version, handler.version, NEWER_PAYLOAD_SECONDS)
    if handler.upgrade is None:
        return payload
    try:
        upgraded = handler.upgrade(payload, version)
    except Exception as error:
        raise Discard(
            f"the payload of version {version} could not be upgraded to {handler.version}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(upgraded, dict):
        raise Discard(
            f"upgrade() of kind {handler.kind!r} returns the payload, a dict, and not "
            f"{type(upgraded).__name__}"
        )
    return upgraded
