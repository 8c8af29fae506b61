"""How the helpers `queue_...` and the producers' paths make jobs: what is payload, what an option.

The names of a helper are Python's (`notify_email`), those of a payload forerunners'
(`notifyEmail`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from jobs.core.errors import ConfigurationError, PayloadError
from jobs.core.job import Job
from jobs.core.registry import Handler
from jobs.runtime.enqueue import EnqueueOptions

Produced = tuple[str, dict[str, Any], dict[str, Any]]


def camel_case(name: str) -> str:
    """Return `notify_email` as `notifyEmail`."""
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


def enqueue(kind: Handler, said: Mapping[str, Any], *, session: Any, tickwork: Any) -> Job:
    """Enqueue a job from what a helper was given.

    kind: the handler
    said: the payload's fields in snake case, and options of `Tickwork.enqueue`; what is None is
        left out, `organization_id` is the tenant
    session: the caller's session or connection, or None
    tickwork: the system, or None for the one that the handler is registered with
    """
    payload, options = split(said)
    if tickwork is None:
        return kind.enqueue(payload, session=session, **options)
    job: Job = tickwork.enqueue(kind.kind, payload, session=session, **options)
    return job


def from_outside(kind: Handler, fields: Collection[str]) -> Callable[[dict[str, Any]], Produced]:
    """Return a producer for `producers = {path: ...}`: what a caller with a token may say.

    fields: the payload's fields that are taken from the body; the tenant is the token's
    """

    def produce(body: dict[str, Any]) -> Produced:
        for name in body:
            if name not in fields:
                raise PayloadError(f"$.{name}", f"there is no such field; use {', '.join(fields)}")
        return kind.kind, body, {}

    return produce


def split(
    said: Mapping[str, Any], name_of: Callable[[str], str] = camel_case
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the payload and the options of what a helper was given.

    name_of: the payload's name of what Python calls so
    Raises ConfigurationError when organization_id and tenant are given and differ.
    """
    names = EnqueueOptions.__annotations__.keys()
    options = {name: value for name, value in said.items() if name in names}
    payload = {
        name_of(name): value
        for name, value in said.items()
        if name not in names and value is not None
    }
    tenant = payload.get("organizationId")
    if tenant is not None:
        if options.get("tenant") not in (None, tenant):
            raise ConfigurationError("organization_id and tenant are the same: say one of them")
        options["tenant"] = tenant
    return payload, options
