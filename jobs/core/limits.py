"""Limits: how many at once, how many in a while, and circuit breakers; pure rules.

A limit belongs to a name: ``queue/<queue>``, ``kind/<kind>`` or ``key/<kind>/<flow>``. A store
counts what runs and what was taken of each name; :func:`allocate` says which of the waiting jobs
may then be claimed, and in which order.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from msgspec import Struct

from jobs.core.errors import ConfigurationError
from jobs.core.flow import Lane, parsed

LONGEST_WINDOW_SECONDS = 366 * 86_400.0
MOST_AT_ONCE = 1_000_000
# A breaker that fails its probe again and again waits up to so many times its pause.
LONGEST_PAUSES = 10
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_RATE = re.compile(r"\s*(\d{1,9})\s*/\s*(\d{0,9})\s*([smhd])\s*")


class Rate(NamedTuple):
    """At most ``most`` in any ``seconds``."""

    most: int
    seconds: float

    def __str__(self) -> str:
        for unit, seconds in reversed(_UNITS.items()):
            if self.seconds % seconds == 0:
                times = int(self.seconds / seconds)
                return f"{self.most}/{'' if times == 1 else times}{unit}"
        return f"{self.most}/{self.seconds:g}s"


RateLike = str | Rate


def as_rate(name: str, value: object) -> Rate | None:
    """``"100/s"``, ``"1000/h"``, ``"3/10s"`` as a :class:`Rate`; ``None`` stays.

    ``name`` is how the caller calls it, for the ConfigurationError that anything else is.

    >>> as_rate("rate_limit", "3/10s")
    Rate(most=3, seconds=10.0)
    """
    if value is None:
        return None
    if isinstance(value, Rate):
        most, seconds = value
    else:
        found = _RATE.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise ConfigurationError(
                f"{name} is a number per time such as '100/s', '10/m', '1000/h', '5/d' or "
                f"'3/10s', not {value!r}"
            )
        times = int(found[2]) if found[2] else 1
        most, seconds = int(found[1]), times * _UNITS[found[3]]
    if not 1 <= most <= MOST_AT_ONCE:
        raise ConfigurationError(f"{name} lets 1 to {MOST_AT_ONCE:,} jobs start, not {most!r}")
    if not 0 < seconds <= LONGEST_WINDOW_SECONDS:
        raise ConfigurationError(f"{name} is over 1 second to 366 days, not {seconds:g} seconds")
    return Rate(most, float(seconds))


def check_at_once(name: str, value: object) -> int | None:
    """A number of jobs at once: ``None``, or a whole number of 1 or more."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_AT_ONCE:
        hint = " (to stop it altogether, pause it)" if value == 0 else ""
        raise ConfigurationError(f"{name} is a whole number of 1 or more, not {value!r}{hint}")
    return value


@dataclass(frozen=True, slots=True)
class Breaker:
    """A circuit breaker: stops starting jobs of a kind whose attempts keep failing.

    Over each ``window`` (seconds) the ends of attempts are counted; once at least ``minimum`` have
    ended and ``failure_ratio`` of them failed, it opens: for ``pause`` seconds none starts. Then
    one job is let through. Its success closes the breaker; its failure opens it again, for twice as
    long, up to ten times ``pause``. With ``per_key`` each concurrency key has its own.
    """

    failure_ratio: float = 0.5
    minimum: int = 10
    window: float = 60.0
    pause: float = 30.0
    per_key: bool = False

    def __post_init__(self) -> None:
        ratio = self.failure_ratio
        if not _is_number(ratio) or not 0 < ratio <= 1:
            raise ConfigurationError(f"a breaker's failure_ratio is above 0, up to 1: {ratio!r}")
        check_at_once("a breaker's minimum", self.minimum)
        for name, seconds in (("window", self.window), ("pause", self.pause)):
            if not _is_number(seconds) or not 0 < seconds <= LONGEST_WINDOW_SECONDS:
                raise ConfigurationError(
                    f"a breaker's {name} is above 0 seconds, at most 366 days: {seconds!r}"
                )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class BreakerState(NamedTuple):
    """What is kept of a breaker: counts since ``window_at``, and while it is not closed since when
    and until when it is open."""

    window_at: datetime | None = None
    successes: int = 0
    failures: int = 0
    opened_at: datetime | None = None
    open_until: datetime | None = None

    def word(self, now: datetime) -> str:
        """``closed``, ``open`` or ``half-open``."""
        if self.open_until is None:
            return "closed"
        return "open" if self.open_until > now else "half-open"

    def lets_through(self, now: datetime, running: int) -> float:
        """How many more jobs may be claimed."""
        match self.word(now):
            case "closed":
                return math.inf
            case "open":
                return 0
        return max(0, 1 - running)

    def after(self, breaker: Breaker, successes: int, failures: int, now: datetime) -> BreakerState:
        """The state once so many more attempts have ended well and badly.

        While it is open, the ends of jobs that began before count for nothing.
        """
        match self.word(now):
            case "open":
                return self
            case "half-open" if failures:
                return self._open(now, min(2 * self._last_pause(), self._longest(breaker)))
            case "half-open":
                return BreakerState(now) if successes else self
        began = self.window_at
        fresh = began is None or now - began >= timedelta(seconds=breaker.window)
        state = BreakerState(
            now if fresh else began,
            successes + (0 if fresh else self.successes),
            failures + (0 if fresh else self.failures),
        )
        ended = state.successes + state.failures
        if ended >= breaker.minimum and state.failures >= breaker.failure_ratio * ended:
            return state._open(now, breaker.pause)
        return state

    def _open(self, now: datetime, seconds: float) -> BreakerState:
        return self._replace(opened_at=now, open_until=now + timedelta(seconds=seconds))

    def _last_pause(self) -> float:
        assert self.opened_at is not None
        assert self.open_until is not None
        return (self.open_until - self.opened_at).total_seconds()

    def _longest(self, breaker: Breaker) -> float:
        return LONGEST_PAUSES * breaker.pause


class Limit(NamedTuple):
    """What is said of one name; ``None`` where nothing is."""

    at_once: int | None = None
    rate: Rate | None = None
    breaker: Breaker | None = None

    def __bool__(self) -> bool:
        return any(part is not None for part in self)


class Tally(NamedTuple):
    """How many attempts of something with a breaker have ended well and badly."""

    name: str
    breaker: Breaker
    successes: int
    failures: int


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits of a deployment: by queue, by kind, and for each key of a kind."""

    queues: Mapping[str, Limit] = field(default_factory=dict)
    kinds: Mapping[str, Limit] = field(default_factory=dict)
    keys: Mapping[str, Limit] = field(default_factory=dict)
    breakers: Mapping[str, Breaker] = field(init=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Find the breakers by kind, once: they are asked for at every flush."""
        for limits in (self.kinds, self.keys):
            found = {kind: each.breaker for kind, each in limits.items() if each.breaker}
            object.__setattr__(self, "breakers", {**self.breakers, **found})

    def __bool__(self) -> bool:
        return bool(self.queues or self.kinds or self.keys)

    def of_lane(self, lane: Lane) -> dict[str, Limit]:
        """What holds for the jobs of a lane, by name."""
        found: dict[str, Limit] = {}
        if lane.queue in self.queues:
            found[f"queue/{lane.queue}"] = self.queues[lane.queue]
        if lane.kind in self.kinds:
            found[f"kind/{lane.kind}"] = self.kinds[lane.kind]
        if lane.flow and lane.kind in self.keys:
            found[f"key/{lane.kind}/{lane.flow}"] = self.keys[lane.kind]
        return found

    def of_name(self, name: str) -> Limit:
        """What is said of a name."""
        what, _, rest = name.partition("/")
        if what == "key":
            rest = rest.rpartition("/")[0]
        by_name = {"queue": self.queues, "kind": self.kinds, "key": self.keys}.get(what, {})
        return by_name.get(rest, Limit())


def key_label(tenant: str, concurrency_key: str | None) -> str:
    """What a key's digest stands for, for people."""
    key = None if concurrency_key is None else f"key {concurrency_key}"
    return ", ".join(filter(None, (tenant and f"tenant {tenant}", key)))


class Use(NamedTuple):
    """What a store found of one name: running now, taken in the rate's window, the breaker."""

    running: int = 0
    taken: int = 0
    state: BreakerState = BreakerState()

    def free(self, limit: Limit, now: datetime) -> float:
        """How many more jobs of the name may be claimed."""
        left = math.inf
        if limit.at_once is not None:
            left = limit.at_once - self.running
        if limit.rate is not None:
            left = min(left, limit.rate.most - self.taken)
        if limit.breaker is not None:
            left = min(left, self.state.lets_through(now, self.running))
        return max(0, left)


class LimitUse(NamedTuple):
    """One name that counts for a job: what is said of it, what is used of it, and when a rate that
    is used up lets the next job start."""

    name: str
    limit: Limit
    use: Use
    refills_at: datetime | None = None


def refills_at(takings: Iterable[tuple[datetime, int]], taken: int, rate: Rate) -> datetime | None:
    """When so many of the oldest takings have left the window that one more job may start.

    ``taken`` counts all that are in the window; ``None`` if one may start already.
    """
    found = None
    for at, count in sorted(takings):
        if taken < rate.most:
            break
        taken -= count
        found = at + timedelta(seconds=rate.seconds)
    return found


class LimitStatus(Struct, frozen=True):
    """One limit as it stands: what is allowed, and what is used of it.

    ``label`` tells what a key's digest stands for; ``taken`` counts the rate's window; ``breaker``
    is ``None``, ``closed``, ``open`` or ``half-open``, and ``open_until`` when it lets one through.
    """

    name: str
    label: str | None
    max_concurrency: int | None
    running: int
    rate_limit: str | None
    taken: int
    breaker: str | None
    successes: int
    failures: int
    open_until: datetime | None

    @classmethod
    def of(cls, name: str, label: str | None, limit: Limit, use: Use, now: datetime) -> LimitStatus:
        """From what is said of the name and what was found."""
        state = use.state
        return cls(
            name=name,
            label=label,
            max_concurrency=limit.at_once,
            running=use.running,
            rate_limit=None if limit.rate is None else str(limit.rate),
            taken=use.taken,
            breaker=None if limit.breaker is None else state.word(now),
            successes=state.successes,
            failures=state.failures,
            open_until=state.open_until,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values, the instant as ISO 8601 in UTC."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.open_until is not None:
            shown["open_until"] = self.open_until.isoformat().replace("+00:00", "Z")
        return shown


class Head(NamedTuple):
    """One of the first due jobs of a lane; the instant in whatever form the store compares."""

    run_at: Any
    id: str
    lane: str


class _Waiting:
    """A tenant's heads at one priority, in order."""

    __slots__ = ("heads", "place")

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.place = 0

    def next(self, may: Callable[[str], bool]) -> Head | None:
        """The first one left that may run; those that may not are passed by for good."""
        while self.place < len(self.heads):
            head = self.heads[self.place]
            self.place += 1
            if may(head.lane):
                return head
        return None


def in_reach(heads: Iterable[Head], cut: Mapping[str, Head]) -> tuple[list[Head], list[Head]]:
    """The heads that may be weighed already, and those that may not yet.

    ``cut`` are the lanes that may have more jobs than was looked at, each with the last of its
    heads. What sorts behind that one waits for another look: a job of a worse priority, or a later
    one of the same tenant, must not go before what was not seen.
    """
    if not cut:
        return list(heads), []
    ends: dict[str, tuple[Any, str]] = {}
    worst = min(parsed(lane).priority for lane in cut)
    for lane, last in cut.items():
        apart = parsed(lane)
        if apart.priority == worst:
            end = (last.run_at, last.id)
            ends[apart.owner] = min(end, ends.get(apart.owner, end))
    near: list[Head] = []
    far: list[Head] = []
    for head in heads:
        apart = parsed(head.lane)
        behind = apart.priority > worst
        if apart.priority == worst and apart.owner in ends:
            behind = (head.run_at, head.id) > ends[apart.owner]
        (far if behind else near).append(head)
    return near, far


def allocate(
    heads: Iterable[Head],
    limit: int,
    *,
    names: Mapping[str, Sequence[str]],
    free: Mapping[str, float],
    rated: Mapping[str, int] | None = None,
    lot: Callable[[], float] = random.random,
) -> list[Head]:
    """Up to ``limit`` of the heads: by priority, then in turns over the tenants, then by age.

    ``names`` are those that a lane's jobs count for, ``free`` how many more each may have. In a
    round of turns a tenant gives its first job that may run, so that what is held back holds up
    nothing behind it. If a round has more tenants than there are places left, every other place
    goes by lot: however many have old jobs, a new one gets its turn. ``rated`` names those with a
    rate and the last place of a claim they may have, so that what was counted also starts.
    """
    left = dict(free)
    taken: list[Head] = []
    lasts = rated or {}

    def may(lane: str) -> bool:
        place = len(taken)
        return all(
            left[name] > 0 and (name not in lasts or place < lasts[name])
            for name in names.get(lane, ())
        )

    for waiting in _by_priority(heads):
        while waiting and len(taken) < limit:
            offered = []
            for one in list(waiting):
                head = one.next(may)
                if head is None:
                    waiting.remove(one)
                else:
                    offered.append((head, one))
            offered.sort(key=lambda each: each[0])
            if len(offered) > limit - len(taken):
                offered = _every_other_by_lot(offered, lot)
            for head, one in offered:
                if len(taken) == limit:
                    break
                chosen: Head | None = head
                while chosen is not None and not may(chosen.lane):
                    chosen = one.next(may)
                if chosen is None:
                    continue
                for name in names.get(chosen.lane, ()):
                    left[name] -= 1
                taken.append(chosen)
    return taken


def _by_priority(heads: Iterable[Head]) -> list[list[_Waiting]]:
    found: dict[int, dict[str, _Waiting]] = {}
    for head in sorted(heads):
        lane = parsed(head.lane)
        owners = found.setdefault(lane.priority, {})
        owner = owners.get(lane.owner) or owners.setdefault(lane.owner, _Waiting())
        owner.heads.append(head)
    return [list(found[priority].values()) for priority in sorted(found)]


def _every_other_by_lot(offered: list[Any], lot: Callable[[], float]) -> list[Any]:
    rest = list(offered)
    order = []
    while rest:
        order.append(rest.pop(0))
        if rest:
            order.append(rest.pop(int(lot() * len(rest))))
    return order


def quotas(taken: Iterable[Head]) -> dict[str, int]:
    """How many were allocated of each lane."""
    return dict(Counter(head.lane for head in taken))
