"""Jobs as JSON: the steps of a chain that are still to come, the callbacks of a group."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.core.codec import DEFAULT_MAX_BYTES, decode, encode, encode_payload
from jobs.core.ids import new_id
from jobs.core.job import Claimed, NewJob

# What a job says beside its kind and payload, where it differs from what a job says by default.
_SAID = (
    *("queue", "priority", "max_attempts", "delay_seconds", "timeout_seconds", "backoff"),
    *("expires_in_seconds", "tenant", "ring_after_seconds", "flow", "concurrency_key"),
    *("version", "trace"),
)
_DEFAULT = NewJob("", "", "")


def to_step(job: NewJob) -> dict[str, Any]:
    """A job as a JSON object; its id, its group and what follows it are left out."""
    said = {name: getattr(job, name) for name in _SAID}
    differing = {name: value for name, value in said.items() if value != getattr(_DEFAULT, name)}
    return {"kind": job.kind, "payload": decode(job.payload), **differing}


def from_step(
    step: Mapping[str, Any], payload: Mapping[str, Any], max_bytes: int = DEFAULT_MAX_BYTES
) -> NewJob:
    """The job of a step, with this payload in place of its own.

    Raises :class:`~jobs.core.errors.PayloadError` if the payload cannot be stored.
    """
    said = {name: step[name] for name in _SAID if name in step}
    return NewJob(new_id(), step["kind"], encode_payload(dict(payload), max_bytes), **said)


def handed_on(payload: Mapping[str, Any], result: Any) -> dict[str, Any]:
    """A step's payload with the result of the step before: an object updates it key by key, any
    other value is its ``previous``, and none leaves it as it is."""
    if result is None:
        return dict(payload)
    if isinstance(result, dict):
        return {**payload, **result}
    return {**payload, "previous": result}


def to_chain(steps: Sequence[Mapping[str, Any]], max_bytes: int) -> str | None:
    """The steps still to come as a job carries them, or ``None`` if there is none."""
    return encode(list(steps), max_bytes) if steps else None


def next_step(claimed: Claimed, result: Any, max_bytes: int = DEFAULT_MAX_BYTES) -> NewJob:
    """The job that follows a completed one of a chain, in the same group.

    Raises :class:`~jobs.core.errors.PayloadError` if what it is handed cannot be stored.
    """
    step, *rest = json.loads(claimed.chain or "[]")
    job = from_step(step, handed_on(step["payload"], result), max_bytes)
    left = json.dumps(rest, ensure_ascii=False, separators=(",", ":")) if rest else None
    return job._replace(chain=left, group_id=claimed.group_id, parent_id=claimed.id)
