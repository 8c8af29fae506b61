"""Names that only one job may hold: what they are, and when they are free again.

A dedupe key belongs to a tenant and a kind, an alias (the caller's own ``job_id``) to a tenant.
Pure: stores keep the names, and ask here what holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jobs.core.errors import ConfigurationError
from jobs.core.job import Job, NewJob, State

ALIAS_SCOPE = "alias"
KEY_MAX_CHARS = 200
DEFAULT_WINDOW_SECONDS = 3600.0
# A debounced job starts at the latest after so many times its wait.
DEBOUNCE_MAX_TIMES = 10
REPLACEABLE = ("payload", "priority", "run_at")
# How long after its window a key is looked at by upkeep, and how often while its job holds it.
SWEEP_AFTER_SECONDS = 600.0
LOOK_AGAIN_SECONDS = 3600.0
ALIAS_LOOK_SECONDS = 86_400.0

_LIVE = frozenset({State.PENDING, State.PROCESSING})
_DID_NOTHING = frozenset({State.FAILED, State.CANCELLED})
_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Key(NamedTuple):
    """Which name: keys sort alike everywhere, so that two who want several meet in order."""

    scope: str
    tenant: str
    name: str


class Want(NamedTuple):
    """A job that wants a name, and for how long at least (seconds)."""

    key: Key
    job_id: str
    window_seconds: float

    @property
    def look_after_seconds(self) -> float:
        """When upkeep is to look whether the name is still held."""
        alias = self.key.scope == ALIAS_SCOPE
        return ALIAS_LOOK_SECONDS if alias else self.window_seconds + SWEEP_AFTER_SECONDS


def dedupe_key(tenant: str, kind: str, name: str) -> Key:
    """The key of a tenant's jobs of that kind."""
    return Key(f"dedupe/{kind}", tenant, name)


def alias_key(tenant: str, alias: str) -> Key:
    """The key of a tenant's alias."""
    return Key(ALIAS_SCOPE, tenant, alias)


def is_keyed(job: NewJob) -> bool:
    """Whether the job wants a name."""
    return job.dedupe_key is not None or job.alias is not None


def wants_of(job: NewJob) -> list[Want]:
    """The names the job wants, the alias first."""
    wants = []
    if job.alias is not None:
        wants.append(Want(alias_key(job.tenant, job.alias), job.id, 0.0))
    if job.dedupe_key is not None:
        window = job.dedupe_window_seconds
        key = dedupe_key(job.tenant, job.kind, job.dedupe_key)
        wants.append(Want(key, job.id, DEFAULT_WINDOW_SECONDS if window is None else window))
    return wants


def retaken(job: Job) -> Want:
    """The dedupe key of a finished job that is to wait again: held while it lives."""
    assert job.dedupe_key is not None
    return Want(dedupe_key(job.tenant, job.kind, job.dedupe_key), job.id, 0.0)


def holds(scope: str, *, in_window: bool, state: State | None) -> bool:
    """Whether a name is still held by a job in that state (``None``: its row is gone).

    An alias is held while the row is there. A dedupe key is held while its job waits or runs, and
    to the end of its window, but not by a job that failed or was cancelled: its work is not done.
    """
    if scope == ALIAS_SCOPE:
        return state is not None
    return state in _LIVE or (in_window and state not in _DID_NOTHING)


def is_live(state: State | None) -> bool:
    """Whether a job in that state waits or runs."""
    return state in _LIVE


def look_again_seconds(key: Key) -> float:
    """Until upkeep looks again at a name that it found held."""
    return ALIAS_LOOK_SECONDS if key.scope == ALIAS_SCOPE else LOOK_AGAIN_SECONDS


def segments(jobs: Iterable[NewJob], most: int) -> Iterator[list[NewJob]]:
    """The jobs in order, in lists whose names may be taken in one go.

    A job that wants two names, or that replaces, stands alone: what it finds depends on those
    before it.
    """
    together: list[NewJob] = []
    for job in jobs:
        alone = bool(job.replaces) or (job.alias is not None and job.dedupe_key is not None)
        if together and (alone or len(together) >= most):
            yield together
            together = []
        if alone:
            yield [job]
        else:
            together.append(job)
    if together:
        yield together


def looks_like_id(name: str) -> bool:
    """Whether this is an id of ours by its shape, which no alias may have."""
    return _ID.fullmatch(name) is not None


def may_be_key(name: object) -> bool:
    """Whether a dedupe key or an alias can be this."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= KEY_MAX_CHARS
        and name.isprintable()
        and name == name.strip()
    )


def check_dedupe_key(name: object) -> str:
    """The dedupe key, or a ConfigurationError."""
    return _check("dedupe_key", name)


def check_alias(name: object) -> str:
    """The caller's ``job_id``, or a ConfigurationError."""
    alias = _check("job_id", name)
    if looks_like_id(alias):
        raise ConfigurationError(
            f"job_id {alias!r} has the shape of a UUID, as the ids made here have: put a word "
            "before it, as in 'order-...'"
        )
    return alias


def _check(noun: str, name: object) -> str:
    if not may_be_key(name):
        raise ConfigurationError(
            f"{noun} {name!r} must be printable text of 1 to {KEY_MAX_CHARS} characters with no "
            "space at its ends; use a digest of what is longer"
        )
    assert isinstance(name, str)
    return name
