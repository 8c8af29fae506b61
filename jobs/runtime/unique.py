"""Uniqueness: what a producer, then the kind, says of dedupe keys, aliases and replacing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jobs.core.errors import ConfigurationError
from jobs.core.job import Job
from jobs.core.keys import (
    DEBOUNCE_MAX_TIMES,
    DEFAULT_WINDOW_SECONDS,
    REPLACEABLE,
    check_alias,
    check_dedupe_key,
    looks_like_id,
)
from jobs.core.payload import load
from jobs.core.registry import Handler
from jobs.core.store import Store

_ONLY_WITH_KEY = ("dedupe_window", "debounce", "debounce_max")
SecondsOf = Callable[[str, Any], float | None]


class KeyOf(NamedTuple):
    """How a kind makes a dedupe key of its payload."""

    kind: str
    make: Callable[[Any], str | None]
    payload_type: type | None

    def __call__(self, plain: dict[str, Any]) -> str | None:
        """The key of a payload, which ``make`` sees as the handler would; ``None`` for no key."""
        key = self.make(load(plain, self.payload_type))
        if key is None:
            return None
        try:
            return check_dedupe_key(key)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"kind {self.kind!r}: its dedupe_key made no key: {error}"
            ) from None


def key_of(handler: Handler | None, options: Mapping[str, Any]) -> KeyOf | None:
    """How the job's key comes from its payload, unless the caller gives one."""
    if handler is None or handler.dedupe_key is None or options.get("dedupe_key") is not None:
        return None
    return KeyOf(handler.kind, handler.dedupe_key, handler.payload_type)


def unique_fields(
    handler: Handler | None, options: Mapping[str, Any], seconds: SecondsOf
) -> dict[str, Any]:
    """The fields of the job that say what it is unique by; raises a ConfigurationError."""
    given = {name for name, value in options.items() if value is not None}
    keyed = "dedupe_key" in given or (handler is not None and handler.dedupe_key is not None)
    for name in _ONLY_WITH_KEY:
        if name in given and not keyed:
            raise ConfigurationError(f"{name} says how long a key holds: give dedupe_key as well")
    if "replace" in given and not keyed and "job_id" not in given:
        raise ConfigurationError("replace needs to know which job: give dedupe_key or job_id")
    fields: dict[str, Any] = {}
    if "job_id" in given:
        fields["alias"] = check_alias(options["job_id"])
    if not keyed:
        return fields | _replacing(options)
    if "dedupe_key" in given:
        fields["dedupe_key"] = check_dedupe_key(options["dedupe_key"])
    window = seconds("dedupe_window", options.get("dedupe_window"))
    if window is None and handler is not None:
        window = handler.dedupe_window
    if window is None:
        # A change that comes when the put-off job is done wants a job of its own.
        window = 0.0 if "debounce" in given else DEFAULT_WINDOW_SECONDS
    fields["dedupe_window_seconds"] = window
    if "debounce" in given or "debounce_max" in given:
        return fields | _debouncing(options, given, seconds)
    return fields | _replacing(options)


def _replacing(options: Mapping[str, Any]) -> dict[str, Any]:
    replace = options.get("replace")
    if replace is None or replace is False:
        return {}
    parts = REPLACEABLE if replace is True else replace
    named = set(parts) if isinstance(parts, Iterable) and not isinstance(parts, str) else set()
    if not named or not named <= set(REPLACEABLE):
        raise ConfigurationError(
            f"replace is True or some of {', '.join(REPLACEABLE)}, not {replace!r}"
        )
    return {"replaces": tuple(sorted(named))}


def _debouncing(options: Mapping[str, Any], given: set[str], seconds: SecondsOf) -> dict[str, Any]:
    if "debounce" not in given:
        raise ConfigurationError("debounce_max is the end of a debounce: give debounce as well")
    for name in ("delay", "run_at", "replace"):
        if name in given and options[name] is not False:
            raise ConfigurationError(f"debounce sets {name} itself: give one of the two")
    wait = seconds("debounce", options["debounce"]) or 0.0
    longest = seconds("debounce_max", options.get("debounce_max"))
    longest = wait * DEBOUNCE_MAX_TIMES if longest is None else longest
    if longest < wait:
        raise ConfigurationError(
            f"debounce_max ({longest:g} s) is not shorter than debounce ({wait:g} s)"
        )
    return {
        "delay_seconds": wait,
        "replaces": ("payload", "run_at"),
        "debounce_max_seconds": longest,
    }


def find_job(store: Store, name: str, tenant: str | None) -> Job | None:
    """A job by its id or its alias; with a tenant, only that tenant's.

    Without one an alias is that of no tenant's job.
    """
    job = store.get(name)
    if job is None and not looks_like_id(name):
        job_id = store.id_of(name, tenant or "")
        job = None if job_id is None else store.get(job_id)
    return None if job is None or tenant not in (None, job.tenant) else job
