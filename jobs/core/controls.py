"""Controls: what somebody said of a queue or a kind at run time, and what a pause holds back."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from jobs.core.codec import clean_text
from jobs.core.errors import ConfigurationError
from jobs.core.job import Job, shown_state
from jobs.core.names import EVERY_QUEUE, check_kind, check_queue

EVERYTHING = "queue/all"
NAME_MAX_CHARS, REASON_MAX_CHARS = 200, 500


class Control(NamedTuple):
    """One row of controls. ``subject`` is ``queue/<name>`` or ``kind/<name>``.

    ``queue/all`` is the whole namespace. ``settings`` is a JSON object, as it lies in the database.
    """

    subject: str
    paused_at: datetime | None
    paused_by: str | None
    paused_because: str | None
    settings: str | None
    changed_at: datetime
    changed_by: str | None

    @property
    def is_paused(self) -> bool:
        """Whether jobs of this subject are held back."""
        return self.paused_at is not None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values, times as ISO 8601 in UTC."""
        return {
            name: value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
            for name, value in self._asdict().items()
        }


class Said(NamedTuple):
    """What ticks and claims have to know of the controls: who is paused, and who said what.

    ``settings`` are JSON texts by subject.
    """

    paused: frozenset[str]
    settings: Mapping[str, str]


NOTHING_SAID = Said(frozenset(), {})


def subject_of(*, queue: str | None = None, kind: str | None = None) -> str:
    """The subject of a queue or of a kind; the queue ``all`` is every queue.

    Raises :class:`~jobs.core.errors.ConfigurationError` unless exactly one of them is named.
    """
    if (queue is None) == (kind is None):
        raise ConfigurationError("name a queue or a kind, one of them ('all' is every queue)")
    if kind is not None:
        return f"kind/{check_kind(kind)}"
    if queue == EVERY_QUEUE:
        return EVERYTHING
    return f"queue/{check_queue(queue)}"


def checked_text(name: str, value: str | None, most_chars: int) -> str | None:
    """Text about a change, as it fits the database, or a ConfigurationError."""
    if value is None:
        return None
    if len(value) > most_chars:
        raise ConfigurationError(f"{name} is text of at most {most_chars} characters")
    return clean_text(value)


def changed_settings(
    earlier: str | None, changes: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """Settings with changes applied (``None`` takes one away), and their JSON if any are left."""
    try:
        settings = dict(json.loads(earlier or "{}"))
    except (TypeError, ValueError):  # a hand wrote something else there
        settings = {}
    for name, value in changes.items():
        settings.pop(name, None)
        if value is not None:
            settings[name] = value
    return settings, json.dumps(settings, separators=(",", ":")) if settings else None


def holds_back(paused: Collection[str], queue: str, kind: str) -> bool:
    """Whether a pause holds back the jobs of this kind in this queue."""
    return bool(paused) and (
        EVERYTHING in paused or f"queue/{queue}" in paused or f"kind/{kind}" in paused
    )


def state_now(job: Job, now: datetime, paused: Collection[str]) -> str:
    """A job's state as people are told it (:func:`jobs.core.job.shown_state`).

    ``paused`` are the subjects that are; ``now`` is the store's time.
    """
    return shown_state(
        job.state,
        attempts=job.attempts,
        run_at=job.run_at,
        lease_until=job.lease_until,
        now=now,
        paused=holds_back(paused, job.queue, job.kind),
    )


def open_lanes(lanes: Iterable[str], paused: Collection[str]) -> tuple[str, ...]:
    """The lanes (``priority/queue/kind/flow``) that no pause holds back."""
    if not paused:
        return tuple(lanes)
    found = []
    for lane in lanes:
        _, queue, kind, _ = lane.split("/", 3)
        if not holds_back(paused, queue, kind):
            found.append(lane)
    return tuple(found)
