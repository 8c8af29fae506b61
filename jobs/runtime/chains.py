"""Chains: jobs that run one after the other, each handed the result of the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from jobs.core.errors import ConfigurationError
from jobs.core.ids import new_id
from jobs.core.job import NewJob
from jobs.core.steps import to_chain, to_step
from jobs.runtime.base import Runtime
from jobs.runtime.enqueue import UNIQUE, Draft, EnqueueOptions, draft

MOST_STEPS = 1_000
CHAIN_MAX_BYTES = 1_000_000
JobLike = tuple[str, Any] | tuple[str, Any, Mapping[str, Any]] | Mapping[str, Any]


def as_parts(job: Any) -> tuple[str, Any, Mapping[str, Any]]:
    """Kind, payload and options of what a caller gives for a job."""
    if isinstance(job, Mapping) and "kind" in job:
        rest = {name: value for name, value in job.items() if name not in ("kind", "payload")}
        return job["kind"], job.get("payload"), rest
    if isinstance(job, Sequence) and not isinstance(job, str) and len(job) in (2, 3):
        return job[0], job[1], job[2] if len(job) == 3 else {}
    raise ConfigurationError(
        "a job of enqueue_many is (kind, payload), (kind, payload, options) or a dict with kind, "
        f"payload and options, not {type(job).__name__}"
    )


def build_later(runtime: Runtime, job: Any, options: Mapping[str, Any]) -> NewJob:
    """A job that is to be enqueued by another's end: checked now, but for its typed payload, part
    of which it is handed then."""
    kind, payload, own = (job, None, {}) if isinstance(job, str) else as_parts(job)
    if own.get("run_at") is not None:
        raise ConfigurationError(
            f"kind {kind!r}: run_at says nothing of a job that comes after another; use delay"
        )
    made = unkeyed(draft(runtime, kind, cast(EnqueueOptions, {**options, **own})), own)
    return made._replace(payload_type=None, concurrency_key_of=None).job(new_id(), payload)


def unkeyed(made: Draft, own: Mapping[str, Any]) -> Draft:
    """The draft without unique keys: of jobs that belong together none can be left out."""
    asked = sorted(name for name in UNIQUE & own.keys() if own[name] is not None)
    if asked:
        raise ConfigurationError(
            f"kind {made.template.kind!r}: {', '.join(asked)} is for jobs that stand alone, or "
            "the first of a chain; others of a chain or group cannot be left out"
        )
    return made._replace(key_of=None)


def build_chain(
    runtime: Runtime, steps: Sequence[JobLike | str], options: EnqueueOptions
) -> NewJob:
    """The first job of a chain, which carries the others.

    Raises :class:`~jobs.core.errors.ConfigurationError` for what is no chain, and
    :class:`~jobs.core.errors.PayloadError` for payloads that cannot be stored.
    """
    if isinstance(steps, str | Mapping) or not 1 <= len(steps) <= MOST_STEPS:
        raise ConfigurationError(
            f"a chain is a list of 1 to {MOST_STEPS:,} steps, each a kind, (kind, payload) or "
            "(kind, payload, options)"
        )
    first, *others = steps
    # Only the first waits by the options of the chain; each step may have a delay of its own.
    first_alone = {"delay", "run_at", *UNIQUE}
    shared = {name: each for name, each in options.items() if name not in first_alone}
    later = [to_step(build_later(runtime, step, shared)) for step in others]
    kind, payload, own = (first, None, {}) if isinstance(first, str) else as_parts(first)
    made = draft(runtime, kind, cast(EnqueueOptions, {**options, **own}))
    chain = to_chain(later, max(CHAIN_MAX_BYTES, runtime.settings.payload_max_bytes))
    return made.job(new_id(), payload)._replace(chain=chain)
