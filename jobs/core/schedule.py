"""A schedule: when jobs of a kind are made, and what becomes of the times when nobody came.

The rules themselves (cron expressions, intervals, zones) are read in :mod:`jobs.core.slots`, which
only deployments with schedules load.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from jobs.core.errors import ConfigurationError
from jobs.core.job import NewJob

# Declared in a deployment's code, or made at run time by the API or the command line.
Source = Literal["code", "user"]
BY_CODE = "code"
# With `missed="none"` a slot counts as missed when the tick came later than this.
MISSED_AFTER_SECONDS = 300.0
MOST_MISSED = 100
LONGEST_JITTER_SECONDS = 86_400.0
_MISSED = re.compile(r"latest|none|all:([1-9][0-9]{0,2})")


class Schedule(Struct, frozen=True):
    """A schedule as it stands in the store.

    ``rule`` is a cron expression, ``every SECONDS`` (optionally ``from INSTANT``) or ``at
    INSTANT``. ``next_at`` is the slot to come: ``None`` once a one-off is over, and while the
    schedule is switched off. ``last_at`` and ``last_job_id`` are of the last slot that made a job.
    ``source`` is ``code`` or ``user``; ``changed_by`` says who changed it last.
    """

    name: str
    tenant: str
    kind: str
    rule: str
    payload: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    timezone: str = "UTC"
    jitter_seconds: float = 0.0
    missed: str = "latest"
    source: str = "user"
    enabled: bool = True
    next_at: datetime | None = None
    last_at: datetime | None = None
    last_job_id: str | None = None
    created_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    changed_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    changed_by: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Tenant and name: what tells it from the others of its namespace."""
        return (self.tenant, self.name)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values, times as ISO 8601 in UTC."""
        shown: dict[str, Any] = {}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, datetime):
                value = value.isoformat().replace("+00:00", "Z")
            shown[name] = value
        return shown

    def is_as_seen(self, seen: Schedule) -> bool:
        """Whether nobody has changed it since it was seen so."""
        return all(getattr(self, name) == getattr(seen, name) for name in SEEN)

    def with_last_job(self, job_id: str) -> Schedule:
        """The same, with the job that its last slot made."""
        return replace(self, last_job_id=job_id)

    def defines_the_same(self, other: Schedule) -> bool:
        """Whether both make the same jobs at the same times."""
        return all(getattr(self, name) == getattr(other, name) for name in DEFINITION)


# What is compared before a row is written over: all that somebody else may have changed shows here.
SEEN = ("rule", "enabled", "next_at", "last_at", "changed_at", "changed_by")
# What a declaration says; the rest is what became of it.
DEFINITION = (
    *("kind", "rule", "payload", "options", "timezone"),
    *("jitter_seconds", "missed", "source"),
)


def defined_as(row: Schedule, declared: Schedule) -> Schedule:
    """``row`` with the definition of ``declared``."""
    return replace(row, **{name: getattr(declared, name) for name in DEFINITION})


class Declared:
    """The schedules that the code of this deployment declares; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._schedules: dict[tuple[str, str], Schedule] = {}
        self._changes = 0
        self._synchronised = 0

    def add(self, schedule: Schedule) -> None:
        """Declare; a second, different one of the same name is a ConfigurationError."""
        with self._lock:
            present = self._schedules.get(schedule.key)
            if present is not None:
                if present.defines_the_same(schedule):
                    return  # a module imported twice
                raise ConfigurationError(
                    f"schedule {schedule.name!r} is declared twice, as {present.rule!r} for kind "
                    f"{present.kind!r} and as {schedule.rule!r} for kind {schedule.kind!r}; "
                    "rename one"
                )
            self._schedules[schedule.key] = schedule
            self._changes += 1

    def find(self, key: tuple[str, str]) -> Schedule | None:
        """The declaration with this tenant and name, if there is one."""
        return self._schedules.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._schedules

    @property
    def is_new(self) -> bool:
        """Whether something was declared that the store has not been told of."""
        return self._changes != self._synchronised

    def snapshot(self) -> tuple[int, Collection[Schedule]]:
        """All declarations, and the number to give :meth:`synchronised` when they are written."""
        with self._lock:
            return self._changes, list(self._schedules.values())

    def synchronised(self, changes: int) -> None:
        """The store has been told of everything up to that number."""
        with self._lock:
            self._synchronised = max(self._synchronised, changes)


def check_missed(missed: object) -> str:
    """The policy, or a ConfigurationError: ``latest``, ``all:N`` or ``none``."""
    found = _MISSED.fullmatch(missed) if isinstance(missed, str) else None
    if found is None or (found[1] is not None and int(found[1]) > MOST_MISSED):
        raise ConfigurationError(
            f"missed is 'latest' (one job for all missed slots), 'all:N' (one for each, N at most, "
            f"1 to {MOST_MISSED}) or 'none', not {missed!r}"
        )
    return found[0]


def most_jobs(missed: str) -> int:
    """How many jobs at most a policy makes of the slots that have passed."""
    return int(missed.removeprefix("all:")) if missed.startswith("all:") else 1


def is_missed(missed: str, slot: datetime, now: datetime) -> bool:
    """Whether the policy leaves out a slot that is fired only now."""
    return missed == "none" and now - slot > timedelta(seconds=MISSED_AFTER_SECONDS)


def check_jitter(jitter: object) -> float:
    """The jitter in seconds, or a ConfigurationError: 0 to a day."""
    seconds = jitter.total_seconds() if isinstance(jitter, timedelta) else jitter
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ConfigurationError(f"jitter is a number of seconds or a timedelta, not {jitter!r}")
    if not 0 <= seconds <= LONGEST_JITTER_SECONDS:
        raise ConfigurationError(
            f"jitter is from 0 to {LONGEST_JITTER_SECONDS:g} s, not {jitter!r}"
        )
    return float(seconds)


def jitter_of(schedule: Schedule, slot: datetime) -> float:
    """How many seconds after its slot a job becomes due: by chance, but the same for all who ask.

    >>> jitter_of(Schedule("a", "", "k", "@daily"), datetime(2026, 1, 1, tzinfo=UTC))
    0.0
    """
    if not schedule.jitter_seconds:
        return 0.0
    named = f"{schedule.tenant}\0{schedule.name}@{slot_text(slot)}"
    drawn = int.from_bytes(blake2b(named.encode(), digest_size=8).digest(), "big") / 2**64
    return round(drawn * schedule.jitter_seconds, 3)


def slot_text(slot: datetime) -> str:
    """A slot as its jobs bear it.

    >>> slot_text(datetime(2026, 1, 5, 8, tzinfo=UTC))
    '2026-01-05T08:00:00Z'
    """
    return slot.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def read_slot(text: str | None) -> datetime | None:
    """The slot that a job bears, if it bears one."""
    return None if text is None else datetime.fromisoformat(text)


def slot_name(job: NewJob) -> str:
    """The name that only one job of a tenant may hold: a slot of a schedule makes one job."""
    return f"{job.schedule}@{job.slot}"
