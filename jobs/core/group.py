"""Groups: jobs that end together, and what is enqueued when the last of them has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct, field

from jobs.core.job import TERMINAL, NewJob, State
from jobs.core.steps import from_step

# How often a tick looks at a group by itself, for the end that nobody told it of.
GROUP_CHECK_SECONDS = 300.0
# How long a group that has ended can be looked at.
GROUP_KEEP_SECONDS = 7 * 86_400.0
OPEN = "open"


class NewGroup(NamedTuple):
    """A group on its way into a store; its callbacks are steps as JSON text."""

    id: str
    tenant: str = ""
    name: str | None = None
    on_success: str | None = None
    on_failure: str | None = None
    on_done: str | None = None


class Group(Struct, frozen=True):
    """A group as it stands: ``state`` is open, completed or failed.

    ``counts`` are its jobs by stored state, those that were purged since it ended left out.
    """

    id: str
    tenant: str
    name: str | None
    state: str
    created_at: datetime
    finished_at: datetime | None
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many jobs it has."""
        return sum(self.counts.values())

    @property
    def unfinished(self) -> int:
        """How many of them have not come to their end."""
        return sum(count for state, count in self.counts.items() if state not in TERMINAL)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values, times as ISO 8601 in UTC."""
        at = {"created_at": self.created_at, "finished_at": self.finished_at}
        shown = {
            name: None if time is None else time.isoformat().replace("+00:00", "Z")
            for name, time in at.items()
        }
        plain = {"id": self.id, "tenant": self.tenant, "name": self.name, "state": self.state}
        return {**plain, **shown, "counts": dict(self.counts), "total": self.total}


class Member(NamedTuple):
    """The group's job whose handler runs here; jobs that it enqueues in ``store`` join it."""

    store: object
    group_id: str
    job_id: str


current_member: ContextVar[Member | None] = ContextVar("tickwork_member", default=None)


def state_at_end(counts: Mapping[str, int]) -> str:
    """The state of a group whose jobs have all ended so."""
    broken = counts.get(State.FAILED, 0) + counts.get(State.CANCELLED, 0)
    return str(State.FAILED if broken else State.COMPLETED)


def callbacks(group: NewGroup, counts: Mapping[str, int]) -> list[NewJob]:
    """The jobs to enqueue at the end of a group: those of its state, then ``on_done``.

    Each finds in its payload, as ``group``, which one ended and how, unless it says that itself.
    """
    state = state_at_end(counts)
    told: dict[str, Any] = {"id": group.id, "name": group.name, "state": state}
    told |= {str(each): counts.get(each, 0) for each in sorted(TERMINAL)}
    wanted = (group.on_success if state == State.COMPLETED else group.on_failure, group.on_done)
    jobs = []
    for text in wanted:
        if text is not None:
            step = json.loads(text)
            payload = {"group": told, **step["payload"]}
            # Its own payload was within the limit; what is told may not break the group's end.
            jobs.append(from_step(step, payload, len(text) * 4 + 10_000)._replace(parent_id=None))
    return jobs
