"""The stub's limits: what was taken, and the breakers' states, under the store's one lock."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from jobs.core.flow import Lane
from jobs.core.limits import (
    BreakerState,
    Head,
    Limits,
    LimitStatus,
    LimitUse,
    Tally,
    Use,
    allocate,
    refills_at,
)


class MemoryLimits:
    """Not thread-safe by itself."""

    def __init__(self) -> None:
        self.states: defaultdict[str, BreakerState] = defaultdict(BreakerState)
        self._taken: defaultdict[str, list[tuple[datetime, int]]] = defaultdict(list)
        self._labels: dict[str, str] = {}

    def choose(
        self,
        heads: Iterable[Head],
        limit: int,
        limits: Limits,
        *,
        running: Iterable[str],
        now: datetime,
        places: int | None,
    ) -> list[str]:
        """The ids to take; ``running`` are the lanes of what is in processing, ``places`` those
        that jobs with a rate may have."""
        waiting = list(heads)
        of_lane = {lane: limits.of_lane(Lane(lane)) for lane in {head.lane for head in waiting}}
        by_name = {name: each for found in of_lane.values() for name, each in found.items()}
        uses = self._uses(by_name, running, now, limits)
        free = {name: uses[name].free(by_name[name], now) for name in by_name}
        rates = [name for name, each in by_name.items() if each.rate]
        chosen = allocate(
            waiting,
            limit,
            names={lane: tuple(found) for lane, found in of_lane.items()},
            free=free,
            rated={} if places is None else dict.fromkeys(rates, places),
        )
        spent = Counter(name for head in chosen for name in of_lane[head.lane] if name in rates)
        for name, count in spent.items():
            self._taken[name].append((now, count))
        return [head.id for head in chosen]

    def _uses(
        self, names: Iterable[str], running: Iterable[str], now: datetime, limits: Limits
    ) -> dict[str, Use]:
        counts: Counter[str] = Counter()
        for lane in map(Lane, running):
            counts.update(
                (f"queue/{lane.queue}", f"kind/{lane.kind}", f"key/{lane.kind}/{lane.flow}")
            )
        found = {}
        for name in names:
            rate, taken = limits.of_name(name).rate, 0
            if rate is not None:
                began = now - timedelta(seconds=rate.seconds)
                kept = [(at, count) for at, count in self._taken[name] if at > began]
                self._taken[name] = kept
                taken = sum(count for _, count in kept)
            found[name] = Use(counts[name], taken, self.states[name])
        return found

    def note(self, results: Sequence[Tally], now: datetime) -> None:
        """Count ends of attempts."""
        for name, breaker, successes, failures in results:
            self.states[name] = self.states[name].after(breaker, successes, failures, now)

    def label(self, name: str, label: str) -> None:
        """What a key's digest stands for."""
        self._labels[name] = label

    def statuses(self, limits: Limits, running: Sequence[str], now: datetime) -> list[LimitStatus]:
        """Every limit as it stands."""
        names = {f"queue/{each}" for each in limits.queues}
        names |= {f"kind/{each}" for each in limits.kinds}
        names |= {name for name in self.states if limits.of_name(name)}
        uses = self._uses(names, running, now, limits)
        return [
            LimitStatus.of(name, self._labels.get(name), limits.of_name(name), uses[name], now)
            for name in sorted(names)
        ]

    def uses(
        self, lane: str, limits: Limits, running: Sequence[str], now: datetime
    ) -> list[LimitUse]:
        """The limits on the jobs of a lane."""
        by_name = limits.of_lane(Lane(lane))
        found = []
        for name, use in self._uses(by_name, running, now, limits).items():
            rate = by_name[name].rate
            free_at = None if rate is None else refills_at(self._taken[name], use.taken, rate)
            found.append(LimitUse(name, by_name[name], use, free_at))
        return found

    def clear(self) -> None:
        """Forget everything."""
        self.states.clear()
        self._taken.clear()
        self._labels.clear()
