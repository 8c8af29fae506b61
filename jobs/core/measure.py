"""Measures: what ticks did, counted by tenant, queue and kind, and how a tick itself is recorded.

A measure can be added to another, so that ticks add up to minutes, and minutes to hours, without
anything lost but the instants between.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple, Self

from msgspec import Struct, field

from jobs.core.codec import decode

# What a tick was started by. "call" is the application's own code, "local" the stub's runner.
TRIGGERS = ("cron", "kick", "chain", "cli", "worker", "local", "sqs", "call")
# Upper bounds in milliseconds, the same for ever: old counts and new ones are added up.
BOUNDS_MS = (
    *(5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000),
    *(60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000, 21_600_000, 86_400_000),
)
ERROR_CHARS = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The ticks themselves are counted under no queue, by their trigger in place of a kind.
TICKS_QUEUE = ""


class Histogram(Struct):
    """How many values (ms) fell up to each of ``BOUNDS_MS``, and above the last; and their sum."""

    counts: dict[int, int] = field(default_factory=dict)
    sum_ms: float = 0.0

    def note(self, value_ms: float, times: int = 1) -> None:
        """Count a value, ``times`` over; what a skewed clock made negative counts as 0."""
        value_ms = max(value_ms, 0.0)
        place = bisect_left(BOUNDS_MS, value_ms)
        self.counts[place] = self.counts.get(place, 0) + times
        self.sum_ms += value_ms * times

    def note_all(self, values_ms: Sequence[float]) -> None:
        """Count many values: sorted, so that each bound is looked for and not each value."""
        ordered = [max(value, 0.0) for value in sorted(values_ms)]
        self.sum_ms += sum(ordered)
        begin = 0
        for place, bound in enumerate((*BOUNDS_MS, inf)):
            if begin == len(ordered):
                return
            end = bisect_right(ordered, bound, begin)
            if end > begin:
                self.counts[place] = self.counts.get(place, 0) + end - begin
            begin = end

    def add(self, other: Histogram) -> None:
        """Count the other's values as well."""
        for place, count in other.counts.items():
            self.counts[place] = self.counts.get(place, 0) + count
        self.sum_ms += other.sum_ms

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.counts.values())

    @property
    def mean_ms(self) -> float | None:
        """Their mean, ``None`` without a value."""
        count = self.count
        return self.sum_ms / count if count else None

    def quantile_ms(self, part: float) -> float | None:
        """The value (ms) that ``part`` (0 to 1) of them do not exceed; ``None`` without a value.

        Between two bounds it is taken as evenly spread; above the last bound it is that bound.
        """
        count = self.count
        if not count:
            return None
        wanted, seen = part * count, 0
        for place in sorted(self.counts):
            inside = self.counts[place]
            if seen + inside >= wanted:
                if place == len(BOUNDS_MS):
                    return float(BOUNDS_MS[-1])
                low = BOUNDS_MS[place - 1] if place else 0
                return low + (BOUNDS_MS[place] - low) * max(wanted - seen, 0) / inside
            seen += inside
        return float(BOUNDS_MS[-1])  # pragma: no cover - the sum is reached before

    def cumulative(self) -> list[tuple[float | None, int]]:
        """(bound in ms, how many are up to it), the last bound ``None``: as Prometheus has it."""
        found: list[tuple[float | None, int]] = []
        seen = 0
        for place, bound in enumerate((*BOUNDS_MS, None)):
            seen += self.counts.get(place, 0)
            found.append((bound, seen))
        return found

    def add_plain(self, plain: Sequence[Any]) -> None:
        """Add what :meth:`to_plain` gave, without making a histogram of it first."""
        counts, last = self.counts, len(BOUNDS_MS)
        self.sum_ms += plain[0]
        for at in range(1, len(plain), 2):
            place = min(plain[at], last)  # should newer code have more bounds
            counts[place] = counts.get(place, 0) + plain[at + 1]

    def to_plain(self) -> list[Any]:
        """Plain JSON-ready values."""
        places = sorted(self.counts)
        return [round(self.sum_ms, 3), *(part for p in places for part in (p, self.counts[p]))]

    @classmethod
    def from_plain(cls, plain: Sequence[Any]) -> Self:
        """What :meth:`to_plain` gave."""
        made = cls()
        made.add_plain(plain)
        return made


_COUNTS = ("completed", "failed", "retried", "released", "snoozed", "cancelled", "lost")


class Measure(Struct):
    """Ends of attempts, and two histograms in ms: how long handlers ran, how long jobs had waited.

    ``failed`` are dead letters, ``retried`` failures that are tried again. ``snoozed`` counts every
    job put off by its handler (Snooze and Continue). ``lost`` are attempts whose runner died; each
    is retried or failed as well. ``waited`` is from when the job was due to the handler's start.
    """

    completed: int = 0
    failed: int = 0
    retried: int = 0
    released: int = 0
    snoozed: int = 0
    cancelled: int = 0
    lost: int = 0
    ran: Histogram = field(default_factory=Histogram)
    waited: Histogram = field(default_factory=Histogram)

    @property
    def attempts(self) -> int:
        """How many attempts ended well or badly."""
        return self.completed + self.failed + self.retried

    @property
    def failure_ratio(self) -> float | None:
        """The part (0 to 1) of those attempts that failed, for good or not; ``None`` without."""
        attempts = self.attempts
        return (self.failed + self.retried) / attempts if attempts else None

    def count(self, outcome: str, times: int = 1) -> None:
        """Count an outcome by its name (:class:`jobs.core.outcome.Outcome`)."""
        name = "snoozed" if outcome == "continued" else outcome
        setattr(self, name, getattr(self, name) + times)

    def add(self, other: Measure) -> None:
        """Count what the other counted as well."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.ran.add(other.ran)
        self.waited.add(other.waited)

    def add_plain(self, plain: Mapping[str, Any]) -> None:
        """Add what :meth:`to_plain` gave; what newer code counts besides is left out.

        Thousands are added up at a scrape: no measure is made of each.
        """
        for name, value in plain.items():
            if name == "ran":
                self.ran.add_plain(value)
            elif name == "waited":
                self.waited.add_plain(value)
            elif name in _COUNTS:
                setattr(self, name, getattr(self, name) + value)

    def to_plain(self) -> dict[str, Any]:
        """Plain JSON-ready values, without what is 0."""
        plain: dict[str, Any] = {name: value for name in _COUNTS if (value := getattr(self, name))}
        for name in ("ran", "waited"):
            histogram: Histogram = getattr(self, name)
            if histogram.counts:
                plain[name] = histogram.to_plain()
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """What :meth:`to_plain` gave."""
        made = cls()
        made.add_plain(plain)
        return made

    def as_dict(self) -> dict[str, Any]:
        """For people and programs: the counts, and of both histograms count, mean, p50 and p95."""
        shown: dict[str, Any] = {name: getattr(self, name) for name in _COUNTS}
        for name in ("ran", "waited"):
            histogram: Histogram = getattr(self, name)
            shown[name] = {
                "count": histogram.count,
                "mean_ms": _rounded(histogram.mean_ms),
                "p50_ms": _rounded(histogram.quantile_ms(0.5)),
                "p95_ms": _rounded(histogram.quantile_ms(0.95)),
            }
        return shown


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


class Key(NamedTuple):
    """What a measure is of."""

    tenant: str
    queue: str
    kind: str


Measures = dict[Key, Measure]


def add_up(measures: Iterable[tuple[Key, Measure]]) -> Measures:
    """The sum of the measures of each key."""
    total: Measures = {}
    for key, measure in measures:
        total.setdefault(key, Measure()).add(measure)
    return total


def measures_to_json(measures: Mapping[Key, Measure]) -> str | None:
    """``None`` if there is nothing to tell."""
    if not measures:
        return None
    plain = [[*key, measure.to_plain()] for key, measure in measures.items()]
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def measures_from_json(text: str | None) -> Measures:
    """What :func:`measures_to_json` gave."""
    return {key: Measure.from_plain(plain) for key, plain in plain_measures(text)}


def plain_measures(text: str | None) -> list[tuple[Key, dict[str, Any]]]:
    """As :func:`measures_from_json`, each measure still as plain values, to be added to another."""
    if not text:
        return []
    return [(Key(tenant, queue, kind), plain) for tenant, queue, kind, plain in decode(text)]


class TickRecord(Struct, frozen=True):
    """What one tick did, or ``ticks`` of them that a worker or a drain recorded together.

    ``ended_at`` is set by the store. ``duration_ms`` is that of all of them together. ``limit`` is
    how many jobs the tick might claim, ``remaining`` how many due jobs it left (``more``: at
    least), ``error`` what it raised. ``runner`` tells machines and processes apart.
    """

    id: str
    trigger: str
    runner: str
    duration_ms: float = 0.0
    ticks: int = 1
    limit: int = 0
    claimed: int = 0
    processed: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    released: int = 0
    reclaimed: int = 0
    remaining: int = 0
    more: bool = False
    error: str | None = None
    ended_at: datetime = _EPOCH
    measures: Measures | None = None

    @property
    def began_at(self) -> datetime:
        """When it began, by the store's clock."""
        return self.ended_at - timedelta(milliseconds=self.duration_ms)

    def own_measure(self) -> tuple[Key, Measure]:
        """The ticks themselves as a measure: completed, or failed if they raised."""
        measure = Measure(completed=self.ticks)
        if self.error is not None:
            measure = Measure(completed=self.ticks - 1, failed=1)
        measure.ran.note(self.duration_ms / self.ticks, self.ticks)
        return Key("", TICKS_QUEUE, self.trigger), measure

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values, times as ISO 8601 in UTC."""
        shown = {
            name: getattr(self, name)
            for name in self.__struct_fields__
            if name not in _SHOWN_OTHERWISE
        }
        return {
            "id": self.id,
            "began_at": self.began_at.isoformat().replace("+00:00", "Z"),
            **shown,
            "measures": [
                {**key._asdict(), **measure.as_dict()}
                for key, measure in (self.measures or {}).items()
            ],
        }


_SHOWN_OTHERWISE = ("id", "ended_at", "measures")


def join_records(earlier: TickRecord, later: TickRecord) -> TickRecord:
    """Both as one record, with the id of the later one: what it says is left is what is left."""
    total = {
        name: getattr(earlier, name) + getattr(later, name)
        for name in (
            *("duration_ms", "ticks", "claimed", "processed", "succeeded", "failed"),
            *("retried", "released", "reclaimed"),
        )
    }
    measures = add_up([*(earlier.measures or {}).items(), *(later.measures or {}).items()])
    return TickRecord(
        id=later.id,
        trigger=later.trigger,
        runner=later.runner,
        limit=later.limit,
        remaining=later.remaining,
        more=later.more,
        error=later.error or earlier.error,
        measures=measures,
        **total,
    )


class Bucket(NamedTuple):
    """A measure of a stretch of time that began at ``starts_at``."""

    starts_at: datetime
    tenant: str
    queue: str
    kind: str
    measure: Measure


def bucket_start(at: datetime, seconds: float) -> datetime:
    """The beginning of the stretch of so many seconds, counted from 1970, that holds ``at``."""
    since = (at - _EPOCH).total_seconds()
    return _EPOCH + timedelta(seconds=since - since % seconds)


def in_buckets(
    measured: Iterable[tuple[datetime, Key, Measure]], bucket_seconds: float
) -> list[Bucket]:
    """The sums by bucket and key, oldest first; those of the ticks themselves are left out."""
    total: dict[tuple[datetime, Key], Measure] = {}
    for at, key, measure in measured:
        if key.queue != TICKS_QUEUE:
            place = (bucket_start(at, bucket_seconds), key)
            total.setdefault(place, Measure()).add(measure)
    return [Bucket(at, *key, total[at, key]) for at, key in sorted(total)]


class Depth(NamedTuple):
    """How many unfinished jobs of a queue and kind are in a state, counted up to a cap.

    ``state`` is ``pending`` (due), ``delayed``, ``paused``, ``processing`` or ``stalled``;
    ``oldest_seconds`` is for how long the first of them has been due (or its lease been over), 0
    where that says nothing.
    """

    queue: str
    kind: str
    state: str
    jobs: int
    oldest_seconds: float = 0.0


# -- the dead man's switch -------------------------------------------------------------------------

# How many cadences may pass without a tick, and from how many ticks a cadence is learnt.
CADENCES_MISSED = 3
CADENCE_TICKS = 21
# Ticks that come by the clock. The others (kick, chain, sqs) come when jobs do, and would hide a
# cron that has died.
REGULAR = ("cron", "cli", "worker", "local", "call")
# What holds where nothing is known: the cron of a free plan. None is learnt to be shorter than the
# least, so that a worker that ends does not make the minute until the cron's next tick a fault.
UNKNOWN_CADENCE_SECONDS = 86_400.0
LEAST_CADENCE_SECONDS = 60.0


class Pulse(NamedTuple):
    """Whether ticks come.

    ``age_seconds`` is since the last one (``None``: none was ever recorded), ``cadence_seconds``
    how often they are to come, ``learnt`` whether that was learnt and not said.
    """

    age_seconds: float | None
    cadence_seconds: float
    learnt: bool = False

    @property
    def is_beating(self) -> bool:
        """Whether a tick came within three cadences."""
        return self.age_seconds is not None and self.age_seconds <= self.allowed_seconds

    @property
    def allowed_seconds(self) -> float:
        """How long there may be no tick."""
        return CADENCES_MISSED * self.cadence_seconds

    @property
    def late_seconds(self) -> float:
        """For how long a tick has been due."""
        return max(0.0, (self.age_seconds or 0.0) - self.cadence_seconds)


def learn_cadence(instants: Sequence[datetime]) -> float | None:
    """The usual gap in seconds between these, newest first; ``None`` for fewer than three."""
    from statistics import median  # late: it brings fractions and decimals, and few ask

    gaps = [(b - a).total_seconds() for b, a in pairwise(instants)]
    return max(median(gaps), LEAST_CADENCE_SECONDS) if len(gaps) >= 2 else None


def take_pulse(
    now: datetime,
    last: TickRecord | None,
    regular: Sequence[TickRecord],
    every_seconds: float | None = None,
) -> Pulse:
    """The pulse from the last tick of any trigger and the last ``REGULAR`` ones, newest first.

    ``every_seconds`` is what somebody said of the cadence. Where regular ticks are known, only they
    count.
    """
    newest = regular[0] if regular else last
    age = None if newest is None else max(0.0, (now - newest.ended_at).total_seconds())
    if every_seconds is not None:
        return Pulse(age, every_seconds)
    crons = [each.ended_at for each in regular if each.trigger == "cron"]
    learnt = learn_cadence(crons) or learn_cadence([each.ended_at for each in regular])
    if learnt is not None:
        return Pulse(age, learnt, learnt=True)
    return Pulse(age, UNKNOWN_CADENCE_SECONDS)
