"""The doorbell contract: what says "look now" after a commit. A lost ring is never a lost job."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable


class Ring(NamedTuple):
    """A committed job to look at: its id, its kind (for logs), and how many seconds until due.

    ``send`` counts the rings of this row from 1; ``key`` is the job's concurrency key, if any.
    """

    job_id: str
    kind: str
    delay_seconds: float
    tenant: str = ""
    send: int = 1
    key: str = ""


class Doorbell(Protocol):
    """Rung after the enqueuing transaction has committed, never before.

    An implementation must not raise for a ring that failed, and must not block for long: the row
    is the truth, and the next tick finds it anyway. One that can tell returns the ids it could not
    ring for, so that the next tick does. One with an attribute ``rules``
    (:class:`~jobs.core.ring.RingRules`) has somebody run what it rings for: ticks then ring again
    for what stays waiting, and run only what has been due for long.
    """

    def ring(self, rings: Sequence[Ring]) -> Collection[str] | None: ...


@runtime_checkable
class Kicker(Doorbell, Protocol):
    """A doorbell that starts a tick of this application, so that ticks can start the next one."""

    def kick(self, headers: Mapping[str, str]) -> bool:
        """Have a tick started now, its request carrying these headers; whether it was asked for."""
        ...


class SilentDoorbell:
    """Rings nobody: ticks and polls find the rows."""

    def ring(self, rings: Sequence[Ring]) -> None:
        return None
