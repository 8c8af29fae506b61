"""Decide: what one ended execution means for its job. Pure: a run and its policy give a verdict."""

from __future__ import annotations

import json
import random
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct

from jobs.core.backoff import Backoff, BackoffCallable, next_delay
from jobs.core.codec import DEFAULT_MAX_BYTES, clean_result, cut, decode, encode
from jobs.core.context import CURSOR_MAX_BYTES
from jobs.core.errors import (
    LONGEST_DELAY_SECONDS,
    UNCHANGED,
    Continue,
    Discard,
    JobCancelled,
    LockedPayload,
    NeverEnds,
    NewerPayload,
    PayloadError,
    Retry,
    Snooze,
)
from jobs.core.job import Claimed, NewJob, State
from jobs.core.steps import next_step
from jobs.core.store import Verdict

MESSAGE_MAX_BYTES = 2_000
TRACEBACK_MAX_BYTES = 8_000
NAME_MAX_BYTES = 200
HISTORY_MAX_ENTRIES = 10
MAX_CONTINUES = 1_000
MAX_AGE_SECONDS = 7 * 86_400.0
# Entries of the error history that are no attempt: what a person did to the job.
RETRIED, RESET, DISCARDED = "Retried", "Reset", "Discarded"
NOTES = frozenset({RETRIED, RESET, DISCARDED})


class Policy(Struct, frozen=True):
    """What a kind says about its ends: its backoff, and how many seconds finished rows stay.

    ``max_continues`` is how often a job may be put off by Snooze and Continue, ``max_age_seconds``
    how old it may be then.
    """

    backoff: Backoff | BackoffCallable
    keep_completed_seconds: float | None = 86_400.0
    keep_failed_seconds: float | None = 7 * 86_400.0
    result_max_bytes: int = DEFAULT_MAX_BYTES
    max_continues: int = MAX_CONTINUES
    max_age_seconds: float = MAX_AGE_SECONDS


# How an execution can end. ``Raised`` covers everything a handler raises, steering included. These
# are tuples because one is made for every job: a frozen dataclass takes several times as long.


class Returned(NamedTuple):
    value: object


class Raised(NamedTuple):
    error: BaseException


class TimedOut(NamedTuple):
    seconds: float
    because: str


class RunnerLost:
    """The lease ran out: the runner died, was frozen or was cut off."""

    __slots__ = ()


class NotStarted:
    """Claimed, not begun: handed back with its attempt."""

    __slots__ = ()


class Expired:
    """``expires_in`` ran out before the first start."""

    __slots__ = ()


Ending = Returned | Raised | TimedOut | RunnerLost | NotStarted | Expired


class Outcome(NamedTuple):
    """A verdict to write, and its name for counters, events and logs.

    ``name`` is one of completed, retried, failed, snoozed, continued, cancelled, released;
    ``started`` is when the handler started, in the runner's monotonic seconds, if it did.
    """

    name: str
    verdict: Verdict
    kind: str = ""
    value: object = None
    discarded: bool = False  # it failed because the handler gave the job up
    started: float | None = None

    @property
    def may_be_followed(self) -> bool:
        """Whether its end enqueues others, or may: the next step, what a group is followed by."""
        return bool(self.verdict.follow) or self.verdict.group_id is not None

    @property
    def is_due_again(self) -> bool:
        """Whether the job waits again, and not for a time to come."""
        return self.verdict.state == "pending" and not self.verdict.delay_seconds


def decide(
    claimed: Claimed,
    ending: Ending,
    policy: Policy,
    *,
    at: datetime,
    duration_ms: float | None = None,
    progress: tuple[float, str | None] | None = None,
    spread: Callable[[], float] = random.random,
    started: float | None = None,
) -> Outcome:
    """The outcome of an execution of ``claimed`` that ended so.

    ``at`` is the time noted in the error history, ``duration_ms`` how long the handler ran since
    ``started`` (monotonic seconds),
    ``progress`` the last progress not yet written, ``spread`` the source of jitter (0 to 1).
    """
    percent, note = progress or (None, None)
    if isinstance(ending, Returned):
        return _completed(claimed, ending.value, policy, at, duration_ms, percent, note, started)
    outcome = _decide(claimed, ending, policy, at, duration_ms, percent, note, spread)
    return outcome if started is None else outcome._replace(started=started)


def _decide(
    claimed: Claimed,
    ending: Ending,
    policy: Policy,
    at: datetime,
    duration_ms: float | None,
    percent: float | None,
    note: str | None,
    spread: Callable[[], float],
) -> Outcome:
    tail: dict[str, Any] = {
        "duration_ms": duration_ms,
        "progress": percent,
        "progress_note": note,
        "group_id": claimed.group_id,
    }
    match ending:
        case NotStarted():
            keep = policy.keep_failed_seconds
            verdict = Verdict(
                claimed.id,
                claimed.fence,
                State.PENDING,
                attempts_back=1,
                keep_seconds=keep,
                group_id=claimed.group_id,
            )
            return Outcome("released", verdict, claimed.kind)
        case Expired():
            return _cancelled(claimed, "expired: not started within expires_in", policy, tail, 1)
        case Raised(Snooze() | Continue() as steering) if not claimed.cancel_requested:
            try:
                return _put_off(claimed, steering, policy, tail)
            except (PayloadError, NeverEnds) as problem:
                return _unsuccessful(claimed, Raised(problem), policy, at, tail, spread)
        case Raised(JobCancelled()):
            return _cancelled(claimed, "cancelled while running", policy, tail)
        case _:
            return _unsuccessful(claimed, ending, policy, at, tail, spread)


def _completed(
    claimed: Claimed,
    value: object,
    policy: Policy,
    at: datetime,
    duration_ms: float | None,
    percent: float | None,
    note: str | None,
    started: float | None,
) -> Outcome:
    result = error = errors = None
    if value is not None:
        try:
            result = encode(value, policy.result_max_bytes)
        except Exception:  # noqa: BLE001 - a value may raise anything when it is looked at
            result, error = _encode_cleaned(value, policy.result_max_bytes)
            if error is not None:
                entry = _entry(claimed, at, "result unavailable", error, "", duration_ms)
                errors = _history(claimed.errors, entry)
    follow: tuple[NewJob, ...] = ()
    if claimed.chain is not None:
        try:
            if error is not None:
                raise PayloadError("$", error)
            handed = None if result is None else decode(result)
            follow = (next_step(claimed, handed, policy.result_max_bytes),)
        except PayloadError as problem:
            tail = {
                "duration_ms": duration_ms,
                "progress": percent,
                "progress_note": note,
                "group_id": claimed.group_id,
            }
            return _stopped_chain(claimed, problem, policy, at, tail)._replace(started=started)
    # Not through a dict, as the other ends are: this is what becomes of nearly every job.
    verdict = Verdict(
        claimed.id,
        claimed.fence,
        State.COMPLETED,
        result=result,
        error=error,
        errors=errors,
        keep_seconds=policy.keep_completed_seconds,
        duration_ms=duration_ms,
        progress=None if percent is None else 100.0,
        progress_note=note,
        group_id=claimed.group_id,
        follow=follow,
    )
    return Outcome("completed", verdict, claimed.kind, value, started=started)


def _stopped_chain(
    claimed: Claimed, problem: PayloadError, policy: Policy, at: datetime, tail: dict[str, Any]
) -> Outcome:
    """A step whose result cannot be handed on fails, so that the chain is seen to stop there."""
    kind = json.loads(claimed.chain or "[]")[0]["kind"]
    reason = Discard(
        f"the next step of the chain ({kind}) cannot be made of this result: {problem}; return "
        "less, or a reference, and retry this job"
    )
    return _unsuccessful(claimed, Raised(reason), policy, at, tail, random.random)


def _put_off(
    claimed: Claimed, steering: Snooze | Continue, policy: Policy, tail: dict[str, Any]
) -> Outcome:
    """Pending again, the attempt given back; raises for a state that cannot be kept, and
    :class:`NeverEnds` for a job that was put off too often."""
    put_off = Verdict(
        claimed.id,
        claimed.fence,
        State.PENDING,
        attempts_back=1,
        keep_seconds=policy.keep_failed_seconds,
        **tail,
    )
    if isinstance(steering, NewerPayload | LockedPayload):
        # Like a kind without a handler here: it waits for as long as it takes.
        waits = put_off._replace(delay_seconds=steering.seconds, error=steering.reason)
        return Outcome("snoozed", waits, claimed.kind)
    if claimed.continues >= policy.max_continues:
        raise NeverEnds(
            f"put off {claimed.continues:,} times and still not done: max_continues of kind "
            f"{claimed.kind!r} is {policy.max_continues:,}"
        )
    put_off = put_off._replace(continue_within_seconds=policy.max_age_seconds)
    if isinstance(steering, Snooze):
        delay = min(steering.seconds, LONGEST_DELAY_SECONDS)
        return Outcome("snoozed", put_off._replace(delay_seconds=delay), claimed.kind)
    state = steering.state
    cursor = None if state is UNCHANGED else encode(state, CURSOR_MAX_BYTES)
    put_off = put_off._replace(delay_seconds=steering.after, cursor=cursor)
    return Outcome("continued", put_off, claimed.kind)


def outlived(outcome: Outcome) -> Outcome:
    """In place of a job put off once more: it is too old for that, and has failed."""
    verdict = outcome.verdict
    days = (verdict.continue_within_seconds or 0.0) / 86_400
    error = (
        f"NeverEnds: put off again {days:g} days after it was enqueued and still not done: that "
        f"is max_age of kind {outcome.kind!r}"
    )
    failed = verdict._replace(
        state=State.FAILED,
        error=error,
        delay_seconds=None,
        attempts_back=0,
        ring_after_seconds=None,
        continue_within_seconds=None,
    )
    return Outcome("failed", failed, outcome.kind)


def _encode_cleaned(value: object, max_bytes: int) -> tuple[str | None, str | None]:
    """The result with its texts made storable, or the reason why it cannot be kept.

    The work is done and its effects stand, so an unfit result never makes the job run again.
    """
    try:
        return encode(clean_result(value), max_bytes), None
    except PayloadError as problem:
        return None, cut(f"result unavailable: {problem}", MESSAGE_MAX_BYTES)
    except Exception as problem:  # noqa: BLE001 - as above
        why = f"{type(problem).__name__}: {_text(problem)}"
        return None, cut(f"result unavailable: {why}", MESSAGE_MAX_BYTES)


def _unsuccessful(
    claimed: Claimed,
    ending: Ending,
    policy: Policy,
    at: datetime,
    tail: dict[str, Any],
    spread: Callable[[], float],
) -> Outcome:
    kind, message, trace = describe(ending)
    errors = _history(
        claimed.errors, _entry(claimed, at, kind, message, trace, tail["duration_ms"])
    )
    error = cut(f"{kind}: {message}" if kind else message, MESSAGE_MAX_BYTES)
    if claimed.cancel_requested:
        return _cancelled(claimed, f"cancelled; its last attempt: {error}", policy, tail)
    steering = ending.error if isinstance(ending, Raised) else None
    if isinstance(steering, Discard) or claimed.attempt >= claimed.max_attempts:
        verdict = Verdict(
            claimed.id,
            claimed.fence,
            State.FAILED,
            error=error,
            errors=errors,
            keep_seconds=policy.keep_failed_seconds,
            **tail,
        )
        discarded = isinstance(steering, Discard)
        return Outcome("failed", verdict, claimed.kind, discarded=discarded)
    if isinstance(steering, Retry) and steering.after is not None:
        delay = max(0.0, steering.after)
    else:
        own = Backoff.from_json(claimed.backoff) if claimed.backoff else policy.backoff
        delay = next_delay(own, claimed, spread)
    verdict = Verdict(
        claimed.id,
        claimed.fence,
        State.PENDING,
        error=error,
        errors=errors,
        delay_seconds=min(delay, LONGEST_DELAY_SECONDS),
        keep_seconds=policy.keep_failed_seconds,
        **tail,
    )
    return Outcome("retried", verdict, claimed.kind)


def _cancelled(
    claimed: Claimed, reason: str, policy: Policy, tail: dict[str, Any], attempts_back: int = 0
) -> Outcome:
    verdict = Verdict(
        claimed.id,
        claimed.fence,
        State.CANCELLED,
        error=cut(reason, MESSAGE_MAX_BYTES),
        attempts_back=attempts_back,
        keep_seconds=policy.keep_failed_seconds,
        **tail,
    )
    return Outcome("cancelled", verdict, claimed.kind)


def describe(ending: Ending) -> tuple[str, str, str]:
    """Type, message and traceback of an unsuccessful end, each bounded in bytes and storable."""
    match ending:
        case TimedOut(seconds, because):
            return "TimedOut", f"gave up after {seconds:.3g} s: {because}", ""
        case RunnerLost():
            return "RunnerLost", "runner lost: its lease ran out while this job was running", ""
        case Raised(Retry(reason=reason) | Discard(reason=reason) as steering):
            return _name(steering), cut(_text(reason), MESSAGE_MAX_BYTES), ""
        case Raised(error):
            return _name(error), cut(_text(error), MESSAGE_MAX_BYTES), _trace(error)
    return type(ending).__name__, "", ""


def _name(error: BaseException) -> str:
    return cut(type(error).__name__, NAME_MAX_BYTES)


def _text(value: object) -> str:
    try:
        return str(value)
    except BaseException as problem:  # noqa: BLE001 - a hostile __str__ may even exit
        return f"(its text could not be made: {type(problem).__name__})"


def _trace(error: BaseException) -> str:
    """Frames of the error and of up to two causes, each under a short message, oldest first.

    Built by hand because the standard rendering repeats the whole message, however large.
    """
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < 3:
        frames = "".join(traceback.format_list(traceback.extract_tb(current.__traceback__, -20)))
        parts.append(f"{frames}{_name(current)}: {cut(_text(current), 300)}")
        suppressed = current.__suppress_context__
        current = current.__cause__ or (None if suppressed else current.__context__)
    return cut("\n\nwhich led to:\n\n".join(reversed(parts)), TRACEBACK_MAX_BYTES)


def _entry(
    claimed: Claimed, at: datetime, kind: str, message: str, trace: str, duration_ms: float | None
) -> dict[str, Any]:
    return {
        "attempt": claimed.attempt,
        "at": at.isoformat().replace("+00:00", "Z"),
        "type": kind,
        "message": message,
        "traceback": trace,
        "duration_ms": duration_ms,
    }


def with_note(
    earlier: str | Sequence[dict[str, Any]] | None,
    attempt: int,
    at: datetime,
    kind: str,
    message: str,
) -> str:
    """The error history with a note of what a person did: no attempt, but part of its story."""
    entry = {
        "attempt": attempt,
        "at": at.isoformat().replace("+00:00", "Z"),
        "type": kind,
        "message": cut(message, MESSAGE_MAX_BYTES),
        "traceback": "",
        "duration_ms": None,
    }
    return _history(earlier, entry)


def _history(earlier: str | Sequence[dict[str, Any]] | None, entry: dict[str, Any]) -> str:
    """The error history with one more entry; the newest :data:`HISTORY_MAX_ENTRIES` stay."""
    known = json.loads(earlier) if isinstance(earlier, str) and earlier else earlier or ()
    entries = [*known, entry]
    return json.dumps(entries[-HISTORY_MAX_ENTRIES:], ensure_ascii=False, separators=(",", ":"))


def pace_marks(started: int, elapsed_seconds: float, slots: int, interval_seconds: float) -> int:
    """How many jobs to mark as starting before the next flush, from the pace just seen.

    At least one per slot. The elapsed time is floored at a millisecond, so that one instant burst
    does not promise the world.
    """
    rate = started / max(elapsed_seconds, 0.001)
    return max(slots, int(rate * interval_seconds))
