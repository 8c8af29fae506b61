"""The pulse: whether ticks come, from their records."""

from __future__ import annotations

from jobs.core.measure import CADENCE_TICKS, REGULAR, Pulse, take_pulse
from jobs.core.store import Store


def read_pulse(store: Store, every_seconds: float | None = None) -> Pulse:
    """Whether ticks come as often as they should: ``every_seconds``, or as they used to."""
    regular = store.ticks(CADENCE_TICKS, triggers=REGULAR)
    last = regular[0] if regular else store.last_tick()
    return take_pulse(store.now(), last, regular, every_seconds)
