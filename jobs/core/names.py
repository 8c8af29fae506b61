"""What may be a name: kinds, queues, namespaces, tenants. One rule each, checked at the edge."""

from __future__ import annotations

import re
from typing import TypeGuard

from jobs.core.errors import ConfigurationError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,99}")
EVERY_QUEUE = "all"  # a queue's name where all of them are meant
RESERVED_QUEUES = frozenset({EVERY_QUEUE, "dashboard", "stats", "monitoring", "process"})
TENANT_MAX_CHARS = 100
KEY_MAX_CHARS = 200


def check_kind(kind: object) -> str:
    """The kind, or a ConfigurationError: ASCII letters, digits and ``_.:@+-``, up to 100."""
    return _check("kind", kind)


def check_queue(queue: object) -> str:
    """The queue, or a ConfigurationError: a name that is not a word of the REST paths."""
    if isinstance(queue, str) and queue in RESERVED_QUEUES:
        listed = ", ".join(sorted(RESERVED_QUEUES))
        raise ConfigurationError(f"queue {queue!r} is reserved ({listed}); choose another name")
    return _check("queue", queue)


def check_schedule(name: object) -> str:
    """The name of a schedule, or a ConfigurationError: made as those of kinds are."""
    return _check("schedule", name)


def check_tenant(tenant: object) -> str:
    """The tenant, or a ConfigurationError: printable text of up to 100 characters."""
    if not _is_text(tenant, TENANT_MAX_CHARS):
        raise ConfigurationError(
            f"tenant {tenant!r} must be printable text of at most {TENANT_MAX_CHARS} characters "
            "with no space at its ends"
        )
    return tenant


def check_concurrency_key(key: object) -> str:
    """The concurrency key, or a ConfigurationError: printable text of 1 to 200 characters."""
    if not _is_text(key, KEY_MAX_CHARS) or not key:
        raise ConfigurationError(
            f"concurrency_key {key!r} must be printable text of 1 to {KEY_MAX_CHARS} characters "
            "with no space at its ends"
        )
    return key


def _is_text(name: object, most: int) -> TypeGuard[str]:
    # To MySQL's collations a name and the same with spaces behind it are one.
    return (
        isinstance(name, str) and len(name) <= most and name.isprintable() and name == name.strip()
    )


def _check(noun: str, name: object) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{noun} {name!r} is not a name: use 1 to 100 ASCII letters, digits and _ . : @ + -, "
            "starting with a letter, a digit or _"
        )
    return name
