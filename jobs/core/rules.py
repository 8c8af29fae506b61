"""Rules of alerts: what is looked at, the value of it for each subject, and how bad that is. Pure.

A rule turns what is seen into a value for each of its subjects (a queue, a kind, or the whole).
Warnings and alerts begin beyond its levels, and end only well below what began them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from jobs.core.errors import ConfigurationError
from jobs.core.look import ALERT_KIND, OWN_QUEUE, WHOLE, Level
from jobs.core.measure import Bucket, Depth, Measure, Pulse
from jobs.core.names import NAME


class Seen(NamedTuple):
    """What one evaluation looks at. ``buckets`` reach back as far as the longest window, at most
    a minute each; ``failed`` counts dead letters by kind."""

    now: datetime
    buckets: Sequence[Bucket]
    depths: Sequence[Depth]
    failed: Mapping[str, int]
    pulse: Pulse | None = None


class Sample(NamedTuple):
    """A value seen of a subject (``None``: too little to say), and words about it."""

    subject: str
    value: float | None
    detail: str = ""


Signal = Callable[[Seen, "Rule"], Iterable[Sample]]


@dataclass(frozen=True, slots=True)
class Rule:
    """When a signal is a warning or an alert.

    ``warning`` and ``alert`` are the values beyond which it is one (``None``: never), below them if
    ``low`` says that little is bad. It is over at ``clear`` or better, by default a fifth of the
    way back from the first of the two. ``window_seconds`` is what it looks back on, ``at_least``
    how many attempts there must be to say anything. It is raised after ``raise_after`` evaluations
    in a row and cleared after ``clear_after``. ``queue`` and ``kind`` narrow what it looks at.
    """

    name: str
    signal: str
    warning: float | None = None
    alert: float | None = None
    low: bool = False
    clear: float | None = None
    window_seconds: float = 3600.0
    at_least: int = 1
    raise_after: int = 1
    clear_after: int = 2
    queue: str | None = None
    kind: str | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"an alert's name is of ASCII letters, digits and _.:@+-: not {self.name!r}"
            )
        if self.signal not in SIGNALS:
            raise ConfigurationError(
                f"alert {self.name!r}: no signal {self.signal!r}; there are "
                f"{', '.join(sorted(SIGNALS))}"
            )
        for name in ("warning", "alert", "clear", "window_seconds"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 0 <= value < 1e12):
                raise ConfigurationError(
                    f"alert {self.name!r}: {name} is a number of 0 or more, not {value!r}"
                )
        if not 60 <= self.window_seconds <= 86_400:
            raise ConfigurationError(
                f"alert {self.name!r}: window_seconds is from 60 to 86400, not "
                f"{self.window_seconds!r}"
            )
        for name in ("at_least", "raise_after", "clear_after"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1000:
                raise ConfigurationError(
                    f"alert {self.name!r}: {name} is a whole number from 1 to 1000, not {value!r}"
                )
        if self.enabled and self.warning is None and self.alert is None:
            raise ConfigurationError(f"alert {self.name!r} needs a level: warning=, alert= or both")
        warning, alert = self.warning, self.alert
        if warning is not None and alert is not None and self._is_worse(warning, alert):
            raise ConfigurationError(
                f"alert {self.name!r}: the warning ({warning:g}) must come before the alert "
                f"({alert:g})"
            )
        if self.clear is not None and self._is_worse(self.clear, self._first):
            raise ConfigurationError(
                f"alert {self.name!r}: it would clear ({self.clear:g}) beyond where it begins"
            )

    @property
    def _first(self) -> float:
        first = self.alert if self.warning is None else self.warning
        assert first is not None
        return first

    @property
    def clears_at(self) -> float:
        """The value at which it is over."""
        if self.clear is not None:
            return self.clear
        first = self._first
        return first + (1 - first) / 5 if self.low else first * 0.8

    def threshold(self, level: Level) -> float | None:
        """The value beyond which it is of that level."""
        return {Level.WARNING: self.warning, Level.ALERT: self.alert}.get(level)

    def level_of(self, value: float | None, current: Level) -> Level:
        """How bad the value is for a subject that is at ``current``: raised beyond the levels,
        and kept until it is clear. A value that nobody knows is no reason for an alert."""
        if value is None:
            return Level.OK
        found = Level.OK
        for level in (Level.WARNING, Level.ALERT):
            limit = self.threshold(level)
            if limit is not None and self._is_worse(value, limit):
                found = level
        if found is Level.OK and current is not Level.OK and self._is_worse(value, self.clears_at):
            return Level.ALERT if self.warning is None else Level.WARNING
        if found is Level.WARNING and current is Level.ALERT:
            assert self.alert is not None  # the way back from an alert is as long as that to ok
            back = self.alert - (self.alert - self._first) / 5
            return Level.ALERT if self._is_worse(value, back) else Level.WARNING
        return found

    def _is_worse(self, value: float, limit: float) -> bool:
        return value < limit if self.low else value > limit

    def covers(self, queue: str, kind: str) -> bool:
        """Whether it looks at jobs of this queue and kind."""
        if queue == OWN_QUEUE or kind == ALERT_KIND:
            return False
        return (self.queue is None or self.queue == queue) and (
            self.kind is None or self.kind == kind
        )


# -- signals ---------------------------------------------------------------------------------------


def _total(seen: Seen, rule: Rule) -> Measure:
    total = Measure()
    for bucket in _inside(seen, rule):
        total.add(bucket.measure)
    return total


def _inside(seen: Seen, rule: Rule) -> Iterable[Bucket]:
    # A bucket that began before the window may reach into it.
    since = seen.now - timedelta(seconds=rule.window_seconds + 60)
    return (
        bucket
        for bucket in seen.buckets
        if bucket.starts_at >= since and rule.covers(bucket.queue, bucket.kind)
    )


def _ratio(part: int, whole: int, rule: Rule) -> float | None:
    return part / whole if whole and whole >= rule.at_least else None


def _success_rate(seen: Seen, rule: Rule) -> Iterable[Sample]:
    total = _total(seen, rule)
    ended = total.completed + total.failed
    yield Sample(
        WHOLE,
        _ratio(total.completed, ended, rule),
        f"{total.completed} of {ended} jobs that ended completed",
    )


def _failure_rate(seen: Seen, rule: Rule) -> Iterable[Sample]:
    total = _total(seen, rule)
    ended = total.completed + total.failed
    yield Sample(
        WHOLE, _ratio(total.failed, ended, rule), f"{total.failed} of {ended} jobs failed for good"
    )


def _error_rate(seen: Seen, rule: Rule) -> Iterable[Sample]:
    total = _total(seen, rule)
    bad = total.failed + total.retried
    yield Sample(
        WHOLE, _ratio(bad, total.attempts, rule), f"{bad} of {total.attempts} attempts failed"
    )


def _retry_rate(seen: Seen, rule: Rule) -> Iterable[Sample]:
    total = _total(seen, rule)
    yield Sample(
        WHOLE,
        _ratio(total.retried, total.attempts, rule),
        f"{total.retried} of {total.attempts} attempts are tried again",
    )


def _p95_seconds(seen: Seen, rule: Rule) -> Iterable[Sample]:
    total = _total(seen, rule)
    found = total.ran.quantile_ms(0.95) if total.ran.count >= rule.at_least else None
    seconds = None if found is None else found / 1000
    yield Sample(WHOLE, seconds, f"of {total.ran.count} runs, one in twenty took longer")


def _depth(seen: Seen, rule: Rule) -> Iterable[Sample]:
    waiting: dict[str, int] = {}
    for each in seen.depths:
        if each.state == "pending" and rule.covers(each.queue, each.kind):
            waiting[each.queue] = waiting.get(each.queue, 0) + each.jobs
    for queue, count in waiting.items():
        yield Sample(queue, count, f"{count} jobs wait in queue {queue}")


def _waiting_seconds(seen: Seen, rule: Rule) -> Iterable[Sample]:
    oldest: dict[str, float] = {}
    for each in seen.depths:
        if each.state == "pending" and rule.covers(each.queue, each.kind):
            oldest[each.queue] = max(oldest.get(each.queue, 0.0), each.oldest_seconds)
    for queue, seconds in oldest.items():
        yield Sample(queue, seconds, f"a job of queue {queue} has been due for so long")


def _stalled_seconds(seen: Seen, rule: Rule) -> Iterable[Sample]:
    stalled = [d for d in seen.depths if d.state == "stalled" and rule.covers(d.queue, d.kind)]
    count = sum(each.jobs for each in stalled)
    oldest = max((each.oldest_seconds for each in stalled), default=0.0)
    yield Sample(WHOLE, oldest, f"{count} jobs have lost their runner")


def _dead_letters(seen: Seen, rule: Rule) -> Iterable[Sample]:
    # By kind alone: a job's queue is not counted there.
    counts = {k: n for k, n in seen.failed.items() if k != ALERT_KIND and rule.kind in (None, k)}
    worst = ", ".join(f"{n} {k}" for k, n in sorted(counts.items(), key=lambda i: -i[1])[:3])
    yield Sample(WHOLE, sum(counts.values()), f"dead letters: {worst or 'none'}")


def _kind_stuck(seen: Seen, rule: Rule) -> Iterable[Sample]:
    by_kind: dict[str, Measure] = {}
    for bucket in _inside(seen, rule):
        by_kind.setdefault(bucket.kind, Measure()).add(bucket.measure)
    for kind, total in by_kind.items():
        stuck = total.completed == 0 and total.attempts >= rule.at_least
        value = float(total.attempts) if stuck else 0.0
        yield Sample(kind, value, f"the last {total.attempts} attempts of kind {kind} all failed")


def _ticks_overdue(seen: Seen, _rule: Rule) -> Iterable[Sample]:
    pulse = seen.pulse
    if pulse is not None and pulse.age_seconds is not None:
        value = pulse.age_seconds / pulse.cadence_seconds
        detail = (
            f"the last regular tick was {pulse.age_seconds:.0f} s ago; one is due every "
            f"{pulse.cadence_seconds:.0f} s"
        )
        yield Sample(WHOLE, value, detail)


SIGNALS: Mapping[str, Signal] = {
    "success_rate": _success_rate,
    "failure_rate": _failure_rate,
    "error_rate": _error_rate,
    "retry_rate": _retry_rate,
    "p95_seconds": _p95_seconds,
    "depth": _depth,
    "waiting_seconds": _waiting_seconds,
    "stalled_seconds": _stalled_seconds,
    "dead_letters": _dead_letters,
    "kind_stuck": _kind_stuck,
    "ticks_overdue": _ticks_overdue,
}
RATIOS = frozenset({"success_rate", "failure_rate", "error_rate", "retry_rate"})

BUILT_IN = (
    Rule("success_rate", "success_rate", warning=0.99, alert=0.95, low=True, at_least=20),
    Rule("p95", "p95_seconds", warning=300.0, alert=600.0, at_least=20),
    Rule("depth", "depth", warning=50.0, alert=100.0),
    Rule("error_rate", "error_rate", warning=0.01, alert=0.05, at_least=100),
    Rule("retry_rate", "retry_rate", warning=0.10, alert=0.25, at_least=20),
    Rule(
        *("failure_rate", "failure_rate"),
        warning=0.05,
        alert=0.10,
        window_seconds=300.0,
        at_least=10,
    ),
    Rule("stalled", "stalled_seconds", alert=30.0),
    Rule("dead_letters", "dead_letters", warning=5.0, alert=10.0),
    Rule("kind_stuck", "kind_stuck", alert=0.0, window_seconds=900.0, at_least=5),
    Rule("ticks_overdue", "ticks_overdue", alert=3.0, clear=2.0, clear_after=1),
)


class RuleBook:
    """The rules of one system: the built-in ones, as changed in code, and those added."""

    def __init__(self) -> None:
        self._rules = {rule.name: rule for rule in BUILT_IN}

    def change(self, name: str, **changes: Any) -> Rule:
        """Change a rule, or add one with a ``signal``; returns it."""
        known = self._rules.get(name)
        unknown = changes.keys() - set(Rule.__dataclass_fields__)
        if unknown:
            raise ConfigurationError(
                f"alert {name!r}: no option {', '.join(sorted(unknown))}; there are "
                f"{', '.join(sorted(set(Rule.__dataclass_fields__) - {'name'}))}"
            )
        if known is None and "signal" not in changes:
            raise ConfigurationError(
                f"there is no alert {name!r}: there are {', '.join(sorted(self._rules))}; a new "
                "one needs signal="
            )
        if known is not None:
            rule = replace(known, **changes)
        else:
            rule = Rule(
                name, low=changes.pop("low", changes["signal"] == "success_rate"), **changes
            )
        self._rules[name] = rule
        return rule

    def __iter__(self) -> Any:
        return iter([rule for rule in self._rules.values() if rule.enabled])

    @property
    def names(self) -> list[str]:
        """The names of all rules, those switched off included."""
        return sorted(self._rules)

    @property
    def longest_window_seconds(self) -> float:
        """How far back the rules look."""
        return max((rule.window_seconds for rule in self), default=60.0)
