"""A job, as its states, as what is asked for, as what a runner holds, and as what is shown."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from msgspec import Struct, field


class State(StrEnum):
    """The stored states. What depends on the clock is computed (see :func:`shown_state`)."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})

HIGHEST_PRIORITY, LOWEST_PRIORITY, DEFAULT_PRIORITY = 1, 5, 3
DEFAULT_QUEUE = "default"


class NewJob(NamedTuple):
    """A validated job on its way into a store. Durations are seconds from the store's now.

    ``ring_after_seconds`` is when a tick is to ring it; ``None`` where rows are not rung.
    What most jobs leave at its default stands at the end, from ``flow`` on (see :attr:`is_plain`).
    ``flow`` is :func:`jobs.core.flow.flow_of` its tenant and key; ``slot`` the instant
    that its schedule made it for, as text; ``chain`` the JSON of the steps still to follow;
    ``version`` that of its payload, ``trace`` the W3C traceparent of its enqueue. ``replaces`` is
    what a waiting job of the same key or alias takes over from this one, ``debounce_max_seconds``
    how long after its own enqueue that job may be put off by it.
    """

    id: str
    kind: str
    payload: str
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    max_attempts: int = 3
    delay_seconds: float = 0.0
    run_at: datetime | None = None
    timeout_seconds: float | None = None
    backoff: str | None = None
    expires_in_seconds: float | None = None
    tenant: str = ""
    ring_after_seconds: float | None = None
    flow: str = ""
    concurrency_key: str | None = None
    dedupe_key: str | None = None
    dedupe_window_seconds: float | None = None
    alias: str | None = None
    group_id: str | None = None
    parent_id: str | None = None
    schedule: str | None = None
    slot: str | None = None
    chain: str | None = None
    version: int = 1
    replaces: tuple[str, ...] = ()
    debounce_max_seconds: float | None = None
    trace: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is said that only few jobs say; most inserts leave those columns out."""
        return self[13:] == _PLAIN


_PLAIN = NewJob("", "", "")[13:]


class Claimed(NamedTuple):
    """A job in a runner's hands: the row as claimed, in the order every store returns it.

    ``attempt`` counts this execution, ``fence`` must match at every later write, ``marked`` says
    that its start mark is already committed, ``expired`` that ``expires_in`` ran out unstarted.
    """

    id: str
    kind: str
    queue: str
    payload: str
    priority: int
    attempt: int
    max_attempts: int
    fence: int
    timeout_seconds: float | None
    backoff: str | None
    tenant: str
    run_at: datetime
    errors: str | None
    marked: bool
    expired: bool
    cancel_requested: bool
    concurrency_key: str | None = None
    group_id: str | None = None
    chain: str | None = None
    cursor: str | None = None
    continues: int = 0
    version: int = 1
    trace: str | None = None


class Job(Struct, frozen=True):
    """A job as it stands in the store: a snapshot, never written back."""

    id: str
    kind: str
    queue: str
    tenant: str
    state: State
    priority: int
    payload: dict[str, Any]
    result: Any
    error: str | None
    errors: list[dict[str, Any]]
    attempts: int
    max_attempts: int
    fence: int
    progress: float
    progress_note: str | None
    timeout_seconds: float | None
    backoff: str | None
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    lease_until: datetime | None
    expires_at: datetime | None
    cancel_requested: bool
    duration_ms: float | None
    keep_until: datetime | None = None
    existing: bool = False
    concurrency_key: str | None = None
    dedupe_key: str | None = None
    alias: str | None = None
    group_id: str | None = None
    parent_id: str | None = None
    schedule: str | None = None
    slot: datetime | None = None
    chain: list[dict[str, Any]] = field(default_factory=list)
    cursor: Any = None
    continues: int = 0
    version: int = 1
    trace: str | None = None

    def __repr__(self) -> str:
        # Tracebacks and what follows would drown the rest.
        shown = (name for name in self.__struct_fields__ if name not in ("errors", "chain"))
        return f"Job({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    @property
    def status(self) -> str:
        """The stored state as plain text: forerunners' ``getJob(id).status``."""
        return str(self.state)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values, times as ISO 8601 in UTC."""
        shown: dict[str, Any] = {}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, datetime):
                value = value.isoformat().replace("+00:00", "Z")
            elif isinstance(value, State):
                value = str(value)
            shown[name] = value
        if self.backoff:
            shown["backoff"] = json.loads(self.backoff)
        return shown


def shown_state(
    state: str,
    *,
    attempts: int,
    run_at: datetime,
    lease_until: datetime | None,
    now: datetime,
    paused: bool = False,
) -> str:
    """What a person is told: the stored state, refined by the clock and by pauses.

    ``delayed`` is pending with ``run_at`` ahead, ``retrying`` is that with attempts used,
    ``stalled`` is processing with an expired lease, ``paused`` is pending, due and held back.
    """
    if state == State.PENDING and run_at > now:
        return "retrying" if attempts else "delayed"
    if state == State.PENDING and paused:
        return "paused"
    if state == State.PROCESSING and lease_until is not None and lease_until < now:
        return "stalled"
    return str(state)


# In the order of a job's life.
SHOWN_STATES = (
    *("pending", "paused", "delayed", "retrying", "processing", "stalled"),
    *("completed", "failed", "cancelled"),
)


def stored_state(shown: str) -> State:
    """The stored state behind a shown one.

    >>> stored_state("stalled")
    <State.PROCESSING: 'processing'>
    """
    if shown in ("paused", "delayed", "retrying"):
        return State.PENDING
    return State.PROCESSING if shown == "stalled" else State(shown)


_BULL_WORDS = {
    "pending": "waiting",
    "paused": "paused",
    "delayed": "delayed",
    "retrying": "delayed",
    "processing": "active",
    "stalled": "active",
}


def bull_state(shown: str) -> str:
    """The word the REST layer uses (waiting, active, delayed, ...) for a shown state."""
    return _BULL_WORDS.get(shown, shown)
