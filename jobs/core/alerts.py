"""Alerts: how rules stand, and what becomes of them at an evaluation. Pure.

A state remembers how bad a value was. It is raised at once or after some evaluations in a row, and
cleared in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from jobs.core.look import Level
from jobs.core.rules import SIGNALS, Rule, Sample, Seen

MOST_SUBJECTS = 50
KEPT_SECONDS = 7 * 86_400.0
DEPTH_CAP = 10_000
FAILED_CAP = 1_000
DETAIL_CHARS = 300
_RANK = {Level.OK: 0, Level.WARNING: 1, Level.ALERT: 2}


@dataclass(frozen=True, slots=True)
class Alert:
    """How a rule stands for a subject: a snapshot of its row.

    ``heading`` is the level that the last ``streak`` evaluations would have it at; ``changes``
    counts how often its level changed, ``version`` every write.
    """

    name: str
    subject: str
    level: Level
    since: datetime
    value: float | None = None
    detail: str = ""
    heading: Level = Level.OK
    streak: int = 0
    changes: int = 0
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    version: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it is a warning or an alert."""
        return self.level is not Level.OK

    @property
    def is_busy(self) -> bool:
        """Whether the next evaluation may change it."""
        return self.is_open or self.streak > 0

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values, times as ISO 8601 in UTC."""
        return {
            "name": self.name,
            "subject": self.subject or None,
            "level": str(self.level),
            "since": _iso(self.since),
            "value": self.value,
            "detail": self.detail,
            "acknowledged_by": self.acknowledged_by,
            "acknowledged_at": _iso(self.acknowledged_at),
            "changes": self.changes,
        }


def worst_first(alerts: Iterable[Alert]) -> list[Alert]:
    """The worst first, then by name and subject; those that are over stand last."""
    return sorted(alerts, key=lambda each: (-_RANK[each.level], each.name, each.subject))


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


class Change(NamedTuple):
    """A level that changed, for people: of ``after``, from ``before``."""

    before: Level
    after: Alert
    threshold: float | None

    @property
    def is_told(self) -> bool:
        """Whether anybody is told: of what is worse than before, and of what is over."""
        level = self.after.level
        return level is Level.OK or _RANK[level] > _RANK[self.before]

    @property
    def words(self) -> str:
        """One line that says it all."""
        alert = self.after
        subject = f" ({alert.subject})" if alert.subject else ""
        if alert.level is Level.OK:
            return f"over: {alert.name}{subject}; {alert.detail}"
        shown = "" if alert.value is None else f" is {alert.value:.4g}"
        limit = "" if self.threshold is None else f", {alert.level} beyond {self.threshold:g}"
        return f"{alert.level}: {alert.name}{subject}{shown}{limit}; {alert.detail}"

    def as_dict(self) -> dict[str, Any]:
        """What is delivered."""
        return {
            **self.after.as_dict(),
            "before": str(self.before),
            "threshold": self.threshold,
            "words": self.words,
        }


@dataclass(slots=True)
class Evaluation:
    """What an evaluation comes to: rows to write (before, after), to delete, and what changed."""

    written: list[tuple[Alert | None, Alert]] = field(default_factory=list)
    gone: list[Alert] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    is_busy: bool = False


def evaluate(rules: Iterable[Rule], seen: Seen, known: Iterable[Alert]) -> Evaluation:
    """What becomes of the alerts, now that this is seen.

    A subject that is seen no more (an empty queue) has a value that nobody knows: it is over in
    time. So is what a rule that was switched off has raised, at once.
    """
    result = Evaluation()
    before = {(alert.name, alert.subject): alert for alert in known}
    for rule in rules:
        samples = _worst(rule, SIGNALS[rule.signal](seen, rule))
        subjects = {sample.subject: sample for sample in samples}
        for name, subject in before:
            if name == rule.name and subject not in subjects:
                subjects[subject] = Sample(subject, None, "nothing is seen of it any more")
        for sample in subjects.values():
            earlier = before.pop((rule.name, sample.subject), None)
            _advance(result, rule, sample, earlier, seen.now)
    for orphan in before.values():
        result.gone.append(orphan)
    return result


def _worst(rule: Rule, samples: Iterable[Sample]) -> list[Sample]:
    """So many subjects at most, the worst: names of queues may be made up without end."""
    found = [sample for sample in samples if sample.value is not None]
    found.sort(key=lambda sample: sample.value or 0.0, reverse=not rule.low)
    return found[:MOST_SUBJECTS]


def _advance(
    result: Evaluation, rule: Rule, sample: Sample, earlier: Alert | None, now: datetime
) -> None:
    current = earlier or Alert(rule.name, sample.subject, Level.OK, now)
    heading = rule.level_of(sample.value, current.level)
    if heading is current.level:
        streak = 0
    else:
        streak = current.streak + 1 if heading is current.heading else 1
    after = replace(current, heading=heading, streak=streak)
    if after.is_open or streak:
        after = replace(after, value=sample.value, detail=sample.detail[:DETAIL_CHARS])
    worse = _RANK[heading] > _RANK[current.level]
    if streak and streak >= (rule.raise_after if worse else rule.clear_after):
        after = replace(
            after,
            level=heading,
            since=now,
            value=sample.value,
            detail=sample.detail[:DETAIL_CHARS],
            streak=0,
            changes=current.changes + 1,
        )
        if worse or heading is Level.OK:
            # Who knew of the warning has not seen the alert.
            after = replace(after, acknowledged_by=None, acknowledged_at=None)
        result.changes.append(Change(current.level, after, rule.threshold(heading)))
    result.is_busy = result.is_busy or after.is_busy
    if earlier is not None and not after.is_busy and now - after.since > _KEPT:
        result.gone.append(earlier)
    elif after != current:
        result.written.append((earlier, replace(after, version=current.version + 1)))


_KEPT = timedelta(seconds=KEPT_SECONDS)
