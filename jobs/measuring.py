"""What ticks did, and whether they come: records, measures and the pulse."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from jobs.core.measure import Bucket, Depth, Measures, Pulse, TickRecord
from jobs.parts import Parts
from jobs.runtime.pulse import read_pulse

DEPTH_CAP = 10_000
FAILED_CAP = 10_000


class Measuring(Parts):
    """What a system tells of its own ticks."""

    def ticks(
        self,
        limit: int = 20,
        *,
        before: tuple[datetime, str] | None = None,
        triggers: Collection[str] | None = None,
    ) -> list[TickRecord]:
        """The last ticks, newest first, of these triggers (cron, kick, chain, ...) if given.

        ``before`` is ``(ended_at, id)`` of the last one seen, to go on from there.
        """
        return self.store.ticks(limit, before=before, triggers=triggers)

    def measures(
        self,
        since_seconds: float = 3600.0,
        bucket_seconds: float = 60.0,
        *,
        tenant: str | None = None,
        queue: str | None = None,
        kind: str | None = None,
    ) -> list[Bucket]:
        """What ticks of the last ``since_seconds`` did, by stretches of ``bucket_seconds``.

        Each bucket tells of one tenant, queue and kind: how many jobs completed, failed, were
        retried, and how long they ran and had waited. ``None`` means any.
        """
        return self.store.measures(
            since_seconds, bucket_seconds, tenant=tenant, queue=queue, kind=kind
        )

    def totals(self) -> Measures:
        """What ticks did since the beginning, by queue and kind; ticks themselves by trigger."""
        return self.store.totals()

    def depths(self, cap: int = DEPTH_CAP) -> list[Depth]:
        """How many unfinished jobs there are by queue, kind and state, counted up to ``cap``."""
        return self.store.depths(cap)

    def dead_letter_counts(self, cap: int = FAILED_CAP) -> dict[str, int]:
        """How many jobs of each kind handled here failed for good, counted up to ``cap``."""
        return self.store.failed_counts(self.registry.kinds, cap)

    def pulse(self) -> Pulse:
        """Whether ticks come as often as they should: ``JOBS_TICK_EVERY``, or as they used to."""
        return read_pulse(self.store, self.settings.tick_every)
