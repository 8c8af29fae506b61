"""Enqueue: from what a producer says to a validated row; every refusal before any write."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypedDict

from jobs.core.backoff import BackoffLike, as_backoff
from jobs.core.codec import encode_payload
from jobs.core.doorbell import Ring, SilentDoorbell
from jobs.core.errors import LONGEST_DELAY_SECONDS, ConfigurationError
from jobs.core.events import JobEvent, current_tick
from jobs.core.flow import flow_of
from jobs.core.group import current_member
from jobs.core.ids import new_id
from jobs.core.job import DEFAULT_QUEUE, NewJob
from jobs.core.loglines import LOGGER, MOST_LINES
from jobs.core.names import check_concurrency_key, check_kind, check_queue, check_tenant
from jobs.core.payload import dump, load
from jobs.core.registry import (
    ConcurrencyKey,
    Handler,
    check_max_attempts,
    check_priority,
    check_timeout,
    check_version,
)
from jobs.runtime.base import Runtime
from jobs.runtime.ring import ring
from jobs.runtime.tracing import current_trace
from jobs.runtime.unique import KeyOf, key_of, unique_fields

log = logging.getLogger("tickwork.enqueue")
lines = logging.getLogger(LOGGER)
Seconds = float | int | timedelta


class EnqueueOptions(TypedDict, total=False):
    """What may be said of a job beside its kind and payload; ``None`` is the same as not said."""

    queue: str | None
    priority: int | None
    delay: Seconds | None
    run_at: datetime | None
    max_attempts: int | None
    timeout: Seconds | None
    backoff: BackoffLike | None
    expires_in: Seconds | None
    tenant: str | None
    group: None
    version: int | None
    dedupe_key: str | None
    dedupe_window: Seconds | None
    job_id: str | None
    replace: bool | Iterable[str] | None
    debounce: Seconds | None
    debounce_max: Seconds | None
    concurrency_key: str | None


_OPTIONS = EnqueueOptions.__annotations__.keys()
UNIQUE = frozenset({"dedupe_key", "dedupe_window", "job_id", "replace", "debounce", "debounce_max"})


class Draft(NamedTuple):
    """A kind and its options, validated once; any number of payloads become jobs from it."""

    template: NewJob
    payload_type: type | None
    max_bytes: int
    key_of: KeyOf | None = None
    concurrency_key_of: ConcurrencyKey | None = None  # where the caller gave no key

    def job(self, job_id: str, payload: object) -> NewJob:
        """The job; raises :class:`~jobs.core.errors.PayloadError` for what cannot be stored."""
        plain = dump(payload, self.payload_type, self.max_bytes)
        text = encode_payload(plain, self.max_bytes)
        template = self.template
        if self.key_of is not None:
            template = template._replace(dedupe_key=self.key_of(plain))
        if self.concurrency_key_of is not None:
            template = self._with_key(template, plain, self.concurrency_key_of)
        return NewJob._make((job_id, template[1], text, *template[3:]))

    def _with_key(self, template: NewJob, plain: dict[str, Any], key_of: ConcurrencyKey) -> NewJob:
        key = key_of(load(plain, self.payload_type))
        if key is None:
            return template
        key = check_concurrency_key(key)
        return template._replace(flow=flow_of(template.tenant, key), concurrency_key=key)


def build_job(runtime: Runtime, kind: str, payload: object, options: EnqueueOptions) -> NewJob:
    """A validated job with a new id; refusals as in :func:`draft` and :meth:`Draft.job`."""
    return draft(runtime, kind, options).job(new_id(), payload)


def draft(runtime: Runtime, kind: str, options: EnqueueOptions) -> Draft:
    """What the caller's options say of a job, then what holds for its kind and queue.

    A kind that is not registered here may be enqueued by name: its handler may live in another
    deployment. Raises :class:`~jobs.core.errors.ConfigurationError` for what makes no sense.
    """
    if not options.keys() <= _OPTIONS:
        unknown = ", ".join(sorted(map(str, options.keys() - _OPTIONS)))
        raise ConfigurationError(
            f"no option of enqueue is called {unknown}: there are {', '.join(sorted(_OPTIONS))}"
        )
    if options.get("group") is not None:
        raise ConfigurationError(
            "group=None is all there is to say: jobs join the group of the job that enqueues them "
            "by themselves, others by group.enqueue()"
        )
    runtime.drafts += 1
    settings = runtime.settings
    handler = runtime.registry.find(kind)
    if handler is None:
        check_kind(kind)
        if len(runtime.registry):
            log.warning(
                "kind %r has no handler here; its jobs wait for a deployment with one", kind
            )
    queue, priority = options.get("queue"), options.get("priority")
    attempts, backoff = options.get("max_attempts"), options.get("backoff")
    run_at, delay = options.get("run_at"), options.get("delay")
    timeout = seconds_of("timeout", options.get("timeout"))
    tenant = options.get("tenant")
    tenant = "" if tenant is None else check_tenant(tenant)
    key = options.get("concurrency_key")
    key = None if key is None else check_concurrency_key(key)
    if run_at is not None and delay is not None:
        raise ConfigurationError("give run_at or delay, not both")
    if run_at is not None:
        run_at = in_utc(run_at)
    if queue is not None:
        queue = check_queue(queue)
    else:
        queue = DEFAULT_QUEUE if handler is None else handler.queue
    terms = runtime.terms(kind, queue)
    template = NewJob(
        id="",
        kind=kind,
        payload="",
        queue=queue,
        priority=check_priority(priority) if priority is not None else terms.priority,
        max_attempts=check_max_attempts(attempts) if attempts is not None else terms.max_attempts,
        delay_seconds=seconds_of("delay", delay) or 0.0,
        run_at=run_at,
        timeout_seconds=None if timeout is None else check_timeout(timeout),
        backoff=None if backoff is None else as_backoff(backoff).to_json(),
        expires_in_seconds=seconds_of("expires_in", options.get("expires_in")),
        tenant=tenant,
        flow=flow_of(tenant, key),
        concurrency_key=key,
        version=_version(handler, options.get("version")),
    )
    member = current_member.get()
    if member is not None and member.store is runtime.store and "group" not in options:
        template = template._replace(group_id=member.group_id, parent_id=member.job_id)
    keyed = key_of(handler, options)
    if keyed is not None or not options.keys().isdisjoint(UNIQUE):
        template = template._replace(**unique_fields(handler, options, seconds_of))
    if runtime.rules is not None:
        ahead = _left(run_at, runtime.clock.now()) if run_at else template.delay_seconds
        template = template._replace(ring_after_seconds=runtime.rules.ring_after(ahead))
    if (trace := current_trace()) is not None:
        template = template._replace(trace=trace)
    declared = handler.payload_type if handler is not None else None
    own = handler.concurrency_key if handler is not None and key is None else None
    return Draft(template, declared, settings.payload_max_bytes, keyed, own)


def in_utc(run_at: object) -> datetime:
    """The instant in UTC, or a ConfigurationError for what is none."""
    if not isinstance(run_at, datetime):
        raise ConfigurationError(f"run_at is a datetime, not {run_at!r}")
    if run_at.utcoffset() is None:
        raise ConfigurationError(
            "run_at has no time zone: use datetime.now(timezone.utc) or another aware datetime"
        )
    try:
        return run_at.astimezone(UTC)
    except OverflowError as error:
        raise ConfigurationError(f"run_at {run_at} lies outside the calendar") from error


def seconds_of(name: str, value: Seconds | None) -> float | None:
    """The duration in seconds, or a ConfigurationError that calls it by ``name``."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise ConfigurationError(f"{name} is a number of seconds or a timedelta, not {value!r}")
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not 0 <= seconds <= LONGEST_DELAY_SECONDS:
        raise ConfigurationError(f"{name} is from 0 seconds to 10 years, not {value!r}")
    return float(seconds)


def _version(handler: Handler | None, said: int | None) -> int:
    if said is not None:
        return check_version(said)
    return 1 if handler is None else handler.version


class Enqueued(NamedTuple):
    """What is told of a job once it is committed; ``due_at`` is ``None`` if it was due at once."""

    id: str
    kind: str
    queue: str
    tenant: str
    due_at: datetime | None
    concurrency_key: str | None = None
    context: dict[str, Any] | None = None

    @classmethod
    def of(cls, runtime: Runtime, job: NewJob) -> Enqueued:
        """As of now: a transaction may take long, and the job's delay begins here."""
        due_at = job.run_at
        if due_at is None and job.delay_seconds:
            due_at = runtime.clock.now() + timedelta(seconds=job.delay_seconds)
        told = runtime.events.wanted("enqueued")
        context = runtime.logged(job.kind, job.payload) if told else None
        return cls(job.id, job.kind, job.queue, job.tenant, due_at, job.concurrency_key, context)


def announce_inserted(runtime: Runtime, jobs: Sequence[NewJob]) -> None:
    """Tell of jobs that the system itself enqueued, now that they are committed; never raises."""
    if jobs and is_heard(runtime):
        try:
            announce(runtime, [Enqueued.of(runtime, job) for job in jobs])
        except Exception:
            log.exception("jobs that follow others were not told of; ticks find them")


def is_heard(runtime: Runtime) -> bool:
    """Whether anybody is told of an enqueued job."""
    return runtime.events.wanted("enqueued") or not isinstance(runtime.doorbell, SilentDoorbell)


def announce(runtime: Runtime, jobs: Sequence[Enqueued]) -> None:
    """Tell the listeners of committed jobs, and ring the doorbell."""
    if runtime.events.wanted("enqueued"):
        tick, together = current_tick.get(), len(jobs)
        for job in jobs:
            event = JobEvent("enqueued", job.id, job.kind, job.queue, job.tenant)
            event = event._replace(tick=tick, context=job.context, together=together)
            runtime.events.emit(event)
        if together > MOST_LINES and lines.isEnabledFor(logging.INFO):
            _log_together(jobs)
    if not isinstance(runtime.doorbell, SilentDoorbell):
        now = runtime.clock.now()
        ring(
            runtime,
            [
                Ring(
                    job.id,
                    job.kind,
                    _left(job.due_at, now),
                    tenant=job.tenant,
                    key=job.concurrency_key or "",
                )
                for job in jobs
            ],
        )


def _log_together(jobs: Sequence[Enqueued]) -> None:
    """A line for each kind and queue, where one for each job would be too many."""
    for (kind, queue), count in Counter((job.kind, job.queue) for job in jobs).items():
        fields = {"kind": kind, "queue": queue, "count": count}
        lines.info("%d jobs (%s) added to %s", count, kind, queue, extra=fields)


def _left(due_at: datetime | None, now: datetime) -> float:
    return 0.0 if due_at is None else max(0.0, (due_at - now).total_seconds())
