"""The doorbell contract: what says "look now" after a commit. A lost ring is never a lost job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Ring(NamedTuple):
    """A committed job to look at: its id, its kind (for logs), and how many seconds until due."""

    job_id: str
    kind: str
    delay_seconds: float


class Doorbell(Protocol):
    """Rung after the enqueuing transaction has committed, never before.

    An implementation must not raise for a ring that failed, and must not block for long: the row
    is the truth, and the next tick finds it anyway.
    """

    def ring(self, rings: Sequence[Ring]) -> None: ...


class SilentDoorbell:
    """Rings nobody: ticks and polls find the rows."""

    def ring(self, rings: Sequence[Ring]) -> None:
        return None
