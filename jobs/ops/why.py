"""Why a job is not running now: the one reason, and all that stand behind it.

The reasons are the claim's own conditions, asked one by one: where none of them holds a job back,
the next tick takes it. They are looked at one after the other while everything goes on, so an
answer is as of now and may be out of date a moment later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from jobs.core.controls import EVERYTHING
from jobs.core.flow import flow_of
from jobs.core.job import Job, State
from jobs.core.limits import LimitUse, Rate, key_label
from jobs.core.store import JobFilter
from jobs.ops.words import age, instant, many
from jobs.runtime.base import Runtime
from jobs.runtime.pulse import read_pulse
from jobs.runtime.steer import learn_queues

AHEAD_CAP = 10_000
_LISTED, _HOLDERS, _LOOKED_AT = 3, 20, 1000
# A job that could run and has been due for longer tells of ticks that do not come.
LATE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: a stable code, a sentence, what it rests on, and what mends it.

    ``holds`` says that ticks pass the job by for it, or hand it back as it was.
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
    # What was set at run time holds for this answer as it does for the next tick.
    learn_queues(runtime, at_once=True)
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
    yield from _newer_payload(runtime, job)
    yield from _paused(runtime, job, now)
    yield from _not_due(job, now)
    if job.run_at <= now:
        yield from _left_to_message(runtime, job, now)
        yield from _limited(runtime, job, now)


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


def _newer_payload(runtime: Runtime, job: Job) -> Iterator[Reason]:
    handler = runtime.registry.find(job.kind)
    if handler is None or job.version <= handler.version:
        return
    yield Reason(
        "newer-payload",
        f"its payload is version {job.version}, the handler of kind {job.kind!r} in this "
        f"deployment knows up to {handler.version}; it waits for newer code",
        {"kind": job.kind, "version": job.version, "known": handler.version},
        f"deploy the code of version {job.version}, or cancel the job",
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


# -- limits ----------------------------------------------------------------------------------------


def _uses(runtime: Runtime, job: Job) -> list[LimitUse]:
    """The limits on a job, as the claim sees them."""
    limits = runtime.limits
    if not limits:
        return []
    flow = flow_of(job.tenant, job.concurrency_key)
    return runtime.store.limits_of(f"{job.priority}/{job.queue}/{job.kind}/{flow}", limits)


def _limited(runtime: Runtime, job: Job, now: datetime) -> Iterator[Reason]:
    """The limits that leave no place for the job."""
    for each in _uses(runtime, job):
        if each.use.free(each.limit, now) > 0:
            continue
        subject = _subject(each.name, job)
        limit, use = each.limit, each.use
        if limit.breaker is not None and not use.state.lets_through(now, use.running):
            yield _breaker(each, subject, now)
        if limit.rate is not None and use.taken >= limit.rate.most:
            yield _rate(each, limit.rate, subject, now)
        if limit.at_once is not None and use.running >= limit.at_once:
            yield _full(runtime, job, each, limit.at_once, subject)


def _breaker(each: LimitUse, subject: str, now: datetime) -> Reason:
    state = each.use.state
    facts = {
        "limit": each.name,
        "opened_at": state.opened_at,
        "open_until": state.open_until,
        "successes": state.successes,
        "failures": state.failures,
    }
    mend = f"mend what it calls; `tickwork limits reset {each.name}` closes the breaker at once"
    if state.word(now) == "open" and state.open_until is not None:
        until = f"{instant(state.open_until)}, in {age((state.open_until - now).total_seconds())}"
        sentence = (
            f"the circuit breaker of {subject} is open until {until}: of the last "
            f"{many(state.successes + state.failures, 'attempt')} {state.failures} failed"
        )
    else:
        sentence = f"the circuit breaker of {subject} lets one job try, and that one is running"
    return Reason("breaker-open", sentence, facts, mend)


def _rate(each: LimitUse, rate: Rate, subject: str, now: datetime) -> Reason:
    refills = each.refills_at
    when = (
        ""
        if refills is None
        else f"; the next may start in {age((refills - now).total_seconds())}, at "
        f"{instant(refills)}"
    )
    return Reason(
        "rate-limited",
        f"{subject} may start {rate}, and {each.use.taken} have been taken{when}",
        {
            "limit": each.name,
            "rate_limit": str(rate),
            "taken": each.use.taken,
            "refills_at": refills,
        },
        "wait, or raise its rate limit",
    )


def _full(runtime: Runtime, job: Job, each: LimitUse, at_once: int, subject: str) -> Reason:
    holders = _holders(runtime, job, each.name)
    listed = ", ".join(holders[:_LISTED])
    more = f" and {each.use.running - _LISTED} more" if each.use.running > _LISTED else ""
    return Reason(
        "limit-full",
        f"{subject} may run {at_once} at once, and {each.use.running} "
        f"{'runs' if each.use.running == 1 else 'run'}: {listed}{more}",
        {
            "limit": each.name,
            "max_concurrency": at_once,
            "running": each.use.running,
            "held_by": holders,
        },
        "wait for them, raise its max_concurrency, or see `tickwork why` of one of them",
    )


def _holders(runtime: Runtime, job: Job, name: str) -> list[str]:
    """The jobs in processing that count for a name, the first to begin first."""
    what = name.partition("/")[0]
    where = JobFilter(
        State.PROCESSING,
        kind=None if what == "queue" else job.kind,
        queue=job.queue if what == "queue" else None,
        tenant=job.tenant if what == "key" else None,
    )
    found = runtime.store.list(where, _LOOKED_AT)
    if what == "key":
        found = [each for each in found if each.concurrency_key == job.concurrency_key]
    return [each.id for each in reversed(found)][:_HOLDERS]


def _subject(name: str, job: Job) -> str:
    what, _, rest = name.partition("/")
    if what != "key":
        return f"{what} {rest!r}"
    label = key_label(job.tenant, job.concurrency_key)
    return f"kind {job.kind!r} of {label}"


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
    scarce = _scarce(runtime, job, now, ahead)
    if scarce is not None:
        facts["free"] = scarce[1]
        return Reason(
            "behind",
            f"{many(ahead, 'job')} of better priority, or due earlier, may come first, and "
            f"{scarce[0]} has {many(scarce[1], 'place')} left: whoever comes first has them",
            facts,
            "wait for the next ticks, or raise that limit",
            holds=False,
        )
    missing = _missing(runtime, waited, facts)
    if missing:
        return Reason(
            "ticks-missing",
            f"the next tick takes it, but {missing}",
            facts,
            "look at the platform's cron log, and run `tickwork doctor`; `tickwork tick` runs one "
            "by hand",
            holds=False,
        )
    return Reason(
        "next-tick", "the next tick takes it", facts, "`tickwork tick` runs one now", holds=False
    )


def _missing(runtime: Runtime, waited: float, facts: dict[str, Any]) -> str:
    """What the records say of ticks that should have come; "" if none is missing."""
    pulse = read_pulse(runtime.store, runtime.settings.tick_every)
    last = runtime.store.last_tick()
    # Of any trigger: a kick would have taken the job as well.
    since = None if last is None else (runtime.store.now() - last.ended_at).total_seconds()
    facts["last_tick_at"] = None if last is None else last.ended_at
    facts["cadence_seconds"] = pulse.cadence_seconds
    if since is not None and since > pulse.allowed_seconds:
        every = age(pulse.cadence_seconds)
        return f"there was no tick for {age(since)}; they are to come every {every}"
    if waited <= LATE_SECONDS:
        return ""
    if since is None:
        return f"it has been due for {age(waited)}: no tick has ever been recorded"
    if since >= waited:
        return f"there was no tick for {age(since)}, and it has been due for {age(waited)}"
    return (
        f"it has been due for {age(waited)}: ticks come, the last {age(since)} ago, but none "
        "that could take it"
    )


def _scarce(runtime: Runtime, job: Job, now: datetime, ahead: int) -> tuple[str, int] | None:
    """The limit with the fewest places left, if the jobs ahead may take them all."""
    free = [(each.use.free(each.limit, now), each.name) for each in _uses(runtime, job)]
    least, name = min(free, default=(math.inf, ""))
    return None if least > ahead else (_subject(name, job), int(least))


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
