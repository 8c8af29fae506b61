"""Why a job is not running now: the one reason, and all that stand behind it.

The reasons are the claim's own conditions, asked one by one: where none of them holds a job back,
the next tick takes it. They are looked at one after the other while everything goes on, so an
answer is as of now and may be out of date a moment later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from jobs.core.controls import EVERYTHING
from jobs.core.job import Job, State
from jobs.ops.words import age, instant, many
from jobs.runtime.base import Runtime

AHEAD_CAP = 10_000
# A job that could run and has been due for longer tells of ticks that do not come.
LATE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: a stable code, a sentence, what it rests on, and what mends it.

    ``holds`` says that ticks pass the job by for it.
    """

    reason: str
    sentence: str
    facts: dict[str, Any]
    mend: str
    holds: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values, times as ISO 8601 in UTC."""
        facts = {name: _plain(value) for name, value in self.facts.items()}
        return {
            "reason": self.reason,
            "sentence": self.sentence,
            "facts": facts,
            "mend": self.mend,
            "holds": self.holds,
        }


@dataclass(frozen=True, slots=True)
class Why:
    """Why a job is not running: ``reasons`` in order, of which the first is *the* reason."""

    job_id: str
    state: str
    reasons: tuple[Reason, ...]

    @property
    def reason(self) -> str:
        """The code of the first reason."""
        return self.reasons[0].reason

    @property
    def sentence(self) -> str:
        """The first reason in words."""
        return self.reasons[0].sentence

    @property
    def facts(self) -> dict[str, Any]:
        """What the first reason rests on."""
        return self.reasons[0].facts

    @property
    def mend(self) -> str:
        """What mends the first reason."""
        return self.reasons[0].mend

    @property
    def claimable(self) -> bool:
        """Whether a tick of this deployment would take the job now, with room enough for it."""
        return not any(each.holds for each in self.reasons)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values."""
        return {
            "id": self.job_id,
            "state": self.state,
            "claimable": self.claimable,
            **self.reasons[0].as_dict(),
            "reasons": [each.as_dict() for each in self.reasons],
        }


def why(runtime: Runtime, job: Job) -> Why:
    """The reasons why a job, just read, is not running as of now."""
    now = runtime.store.now()
    if job.state is State.PENDING:
        reasons = [*_held_back(runtime, job, now)]
        reasons += [] if reasons else [_next(runtime, job, now)]
    elif job.state is State.PROCESSING:
        reasons = [_processing(job, now)]
    else:
        reasons = [_ended(job, now)]
    return Why(job.id, str(job.state), tuple(reasons))


# -- what has begun --------------------------------------------------------------------------------


def _ended(job: Job, now: datetime) -> Reason:
    at = job.finished_at
    ago = "" if at is None else f" {age((now - at).total_seconds())} ago"
    facts = {"finished_at": at, "attempts": job.attempts, "error": job.error}
    match job.state:
        case State.COMPLETED:
            sentence = f"it has completed{ago}, at attempt {job.attempts}"
            mend = "nothing is to be done; `tickwork retry --force` runs it once more"
        case State.FAILED:
            sentence = (
                f"it failed for good{ago}, after {many(job.attempts, 'attempt')} of "
                f"{job.max_attempts}: {_first_line(job.error)}"
            )
            mend = f"mend the cause (`tickwork show {job.id}`), then `tickwork retry {job.id}`"
        case _:
            sentence = f"it was cancelled{ago}: {_first_line(job.error)}"
            mend = f"`tickwork retry {job.id}` puts it back, if that was a mistake"
    return Reason(str(job.state), sentence, facts, mend)


def _processing(job: Job, now: datetime) -> Reason:
    facts: dict[str, Any] = {
        "attempt": job.attempts,
        "max_attempts": job.max_attempts,
        "started_at": job.started_at,
        "lease_until": job.lease_until,
        "cancel_requested": job.cancel_requested,
    }
    attempt = f"attempt {job.attempts} of {job.max_attempts}"
    lease = job.lease_until
    if lease is not None and lease < now:
        began = "that had begun it" if job.started_at is not None else "that had not begun it"
        return Reason(
            "stalled",
            f"its lease ran out {age((now - lease).total_seconds())} ago: the runner {began} "
            f"({attempt}) is dead; the next tick puts it back, or ends it if that was the last "
            "attempt",
            facts,
            "let a tick come, or run `tickwork reclaim`",
        )
    until = "" if lease is None else f"; its lease is held until {instant(lease)}"
    if job.started_at is None:
        return Reason(
            "claimed",
            f"a runner has claimed it ({attempt}) and is about to start it{until}",
            facts,
            "nothing is to be done: should the runner die, a tick puts it back after the lease",
        )
    stopping = ", and was asked to stop" if job.cancel_requested else ""
    return Reason(
        "running",
        f"it is running, since {age((now - job.started_at).total_seconds())} ({attempt})"
        f"{stopping}{until}",
        facts,
        "nothing is to be done: should the runner die, a tick puts it back after the lease",
    )


# -- what holds a pending job back, in the order in which it is told -------------------------------


def _held_back(runtime: Runtime, job: Job, now: datetime) -> Iterator[Reason]:
    yield from _no_handler(runtime, job)
    yield from _paused(runtime, job, now)
    yield from _not_due(job, now)
    if job.run_at <= now:
        yield from _left_to_message(runtime, job, now)


def _no_handler(runtime: Runtime, job: Job) -> Iterator[Reason]:
    known = sorted(runtime.registry.kinds)
    if job.kind in runtime.registry.kinds:
        return
    listed = ", ".join(known) or "none"
    yield Reason(
        "no-handler",
        f"kind {job.kind!r} has no handler in this deployment (it knows {listed}); it waits for "
        "one that has",
        {"kind": job.kind, "known": known},
        "name its module in JOBS_HANDLERS, deploy the code that handles it, or cancel the job",
    )


def _paused(runtime: Runtime, job: Job, now: datetime) -> Iterator[Reason]:
    holding = {EVERYTHING, f"queue/{job.queue}", f"kind/{job.kind}"}
    for control in runtime.store.controls():
        if control.subject not in holding or control.paused_at is None:
            continue
        what, _, name = control.subject.partition("/")
        subject = "everything" if control.subject == EVERYTHING else f"{what} {name!r}"
        by = f" by {control.paused_by}" if control.paused_by else ""
        because = f": {control.paused_because}" if control.paused_because else ""
        option = f"--kind {name}" if what == "kind" else name
        yield Reason(
            "paused",
            f"{subject} was paused {age((now - control.paused_at).total_seconds())} ago"
            f"{by}{because}",
            {
                "subject": control.subject,
                "paused_at": control.paused_at,
                "paused_by": control.paused_by,
                "paused_because": control.paused_because,
            },
            f"`tickwork resume {option}`",
        )


def _not_due(job: Job, now: datetime) -> Iterator[Reason]:
    if job.run_at <= now:
        return
    ahead = age((job.run_at - now).total_seconds())
    facts = {"run_at": job.run_at, "attempts": job.attempts, "error": job.error}
    mend = f"wait, or `tickwork retry {job.id}` to make it due now"
    if job.attempts:
        yield Reason(
            "retrying",
            f"attempt {job.attempts} of {job.max_attempts} failed ({_first_line(job.error)}); the "
            f"next is due in {ahead}, at {instant(job.run_at)}",
            facts,
            mend,
        )
    else:
        yield Reason(
            "delayed", f"it is not due until {instant(job.run_at)}, in {ahead}", facts, mend
        )


def _left_to_message(runtime: Runtime, job: Job, now: datetime) -> Iterator[Reason]:
    due_by_tick = job.run_at + timedelta(seconds=runtime.overdue_seconds)
    if due_by_tick <= now:
        return
    yield Reason(
        "left-to-message",
        "its message in the queue brings it to a runner; ticks ring for it again, and run it "
        f"themselves once it has been due for {age(runtime.overdue_seconds)}, at "
        f"{instant(due_by_tick)}",
        {"run_at": job.run_at, "overdue_at": due_by_tick},
        "look at the queue's consumer if such jobs are many: is it throttled, or failing?",
    )


# -- what a tick takes -----------------------------------------------------------------------------


def _next(runtime: Runtime, job: Job, now: datetime) -> Reason:
    facts: dict[str, Any] = {"run_at": job.run_at, "expires_at": job.expires_at}
    waited = (now - job.run_at).total_seconds()
    if _is_expired(job, now):
        return Reason(
            "expired",
            "it was to start before its expiry and did not: the next tick cancels it",
            facts,
            "give such jobs a longer expires_in, or let ticks come more often",
            holds=False,
        )
    ahead = runtime.store.ahead(job, runtime.registry.kinds, AHEAD_CAP)
    facts["ahead"] = ahead
    if ahead >= runtime.settings.batch_size:
        more = f"{ahead:,} or more jobs" if ahead == AHEAD_CAP else many(ahead, "job")
        return Reason(
            "behind",
            f"{more} of better priority, or due earlier, come first; a tick takes "
            f"{runtime.settings.batch_size}",
            facts,
            "raise JOBS_BATCH_SIZE, let ticks come more often, or run `tickwork tick --drain`",
            holds=False,
        )
    if waited > LATE_SECONDS:
        return Reason(
            "ticks-missing",
            f"the next tick takes it, but it has been due for {age(waited)}: no tick has come "
            "since, or none that could take it",
            facts,
            "look at the platform's cron log, and run `tickwork doctor`; `tickwork tick` runs one "
            "by hand",
            holds=False,
        )
    return Reason(
        "next-tick", "the next tick takes it", facts, "`tickwork tick` runs one now", holds=False
    )


def _is_expired(job: Job, now: datetime) -> bool:
    """As the claim has it: past its expiry, and never started."""
    return (
        job.expires_at is not None
        and job.expires_at <= now
        and job.attempts == 0
        and job.duration_ms is None
    )


def _first_line(text: str | None) -> str:
    lines = (line.strip() for line in (text or "").splitlines())
    return next(filter(None, lines), "no reason was given")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value
