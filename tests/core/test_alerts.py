"""Alerts as pure rules: what is seen, and what becomes of what was known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.core.alerts import MOST_SUBJECTS, Alert, Evaluation, evaluate
from jobs.core.errors import ConfigurationError
from jobs.core.look import ALERT_KIND, OWN_QUEUE, Level
from jobs.core.measure import Bucket, Depth, Measure, Pulse
from jobs.core.rules import BUILT_IN, Rule, RuleBook, Seen

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
OK, WARNING, ALERT = Level.OK, Level.WARNING, Level.ALERT
RULES = {rule.name: rule for rule in BUILT_IN}


def bucket(
    *,
    ago: float = 0.0,
    kind: str = "mail",
    queue: str = "default",
    ran_ms: Iterable[float] = (),
    **counts: int,
) -> Bucket:
    measure = Measure(**counts)
    for value in ran_ms:
        measure.ran.note(value)
    return Bucket(NOW - timedelta(seconds=ago), "", queue, kind, measure)


def seen(**what: Any) -> Seen:
    return Seen(**{"now": NOW, "buckets": (), "depths": (), "failed": {}, **what})


def levels(evaluation: Evaluation) -> dict[tuple[str, str], Level]:
    return {
        (change.after.name, change.after.subject): change.after.level
        for change in evaluation.changes
    }


def level_of(name: str, what: Seen, subject: str = "") -> Level:
    return levels(evaluate([RULES[name]], what, [])).get((name, subject), OK)


# -- the built-in rules: the targets of the first users --------------------------------------------


@pytest.mark.parametrize(
    ("name", "what", "level"),
    [
        ("success_rate", seen(buckets=[bucket(completed=1000, failed=9)]), OK),
        ("success_rate", seen(buckets=[bucket(completed=980, failed=20)]), WARNING),
        ("success_rate", seen(buckets=[bucket(completed=94, failed=6)]), ALERT),
        ("success_rate", seen(buckets=[bucket(completed=95, failed=5)]), WARNING),
        ("p95", seen(buckets=[bucket(completed=20, ran_ms=[200_000] * 20)]), OK),
        ("p95", seen(buckets=[bucket(completed=20, ran_ms=[500_000] * 20)]), WARNING),
        ("p95", seen(buckets=[bucket(completed=20, ran_ms=[1_500_000] * 20)]), ALERT),
        ("error_rate", seen(buckets=[bucket(completed=995, retried=5)]), OK),
        ("error_rate", seen(buckets=[bucket(completed=97, retried=2, failed=1)]), WARNING),
        ("error_rate", seen(buckets=[bucket(completed=94, retried=3, failed=3)]), ALERT),
        ("retry_rate", seen(buckets=[bucket(completed=80, retried=20)]), WARNING),
        ("retry_rate", seen(buckets=[bucket(completed=70, retried=30)]), ALERT),
        ("retry_rate", seen(buckets=[bucket(completed=95, retried=5)]), OK),
        ("failure_rate", seen(buckets=[bucket(completed=89, failed=11)]), ALERT),
        ("failure_rate", seen(buckets=[bucket(completed=92, failed=8)]), WARNING),
        ("failure_rate", seen(buckets=[bucket(ago=600, completed=8, failed=9)]), OK),
        ("stalled", seen(depths=[Depth("q", "k", "stalled", 1, 29.0)]), OK),
        ("stalled", seen(depths=[Depth("q", "k", "stalled", 1, 31.0)]), ALERT),
        ("dead_letters", seen(failed={"mail": 4, "export": 6}), WARNING),
        ("dead_letters", seen(failed={"mail": 4, "export": 7}), ALERT),
        ("dead_letters", seen(failed={"mail": 5}), OK),
        ("ticks_overdue", seen(pulse=Pulse(299.0, 100.0)), OK),
        ("ticks_overdue", seen(pulse=Pulse(301.0, 100.0)), ALERT),
        ("ticks_overdue", seen(pulse=Pulse(None, 100.0)), OK),
    ],
)
def test_the_levels_of_the_built_in_rules(name: str, what: Seen, level: Level) -> None:
    assert level_of(name, what) is level


@pytest.mark.parametrize(
    ("waiting", "level"), [(50, OK), (51, WARNING), (100, WARNING), (101, ALERT)]
)
def test_depth_is_of_each_queue_alone(waiting: int, level: Level) -> None:
    depths = [
        Depth("email", "mail", "pending", waiting - 10),
        Depth("email", "note", "pending", 10),
        Depth("email", "note", "delayed", 5000),
        Depth("email", "note", "paused", 5000),
        Depth("other", "mail", "pending", 45),
    ]
    found = levels(evaluate([RULES["depth"]], seen(depths=depths), []))

    assert found == ({} if level is OK else {("depth", "email"): level})


def test_a_kind_is_stuck_when_all_its_attempts_fail() -> None:
    buckets = [
        bucket(kind="stuck", retried=4),
        bucket(kind="stuck", failed=1, ago=300),
        bucket(kind="limping", retried=9, completed=1),
        bucket(kind="few", retried=4),
        bucket(kind="long ago", retried=50, ago=1000),
    ]
    evaluation = evaluate([RULES["kind_stuck"]], seen(buckets=buckets), [])

    assert levels(evaluation) == {("kind_stuck", "stuck"): ALERT}
    assert evaluation.changes[0].after.detail == "the last 5 attempts of kind stuck all failed"


def test_too_little_is_no_reason_for_an_alert() -> None:
    few = seen(buckets=[bucket(completed=1, failed=3, retried=3, ran_ms=[9e6])])

    assert evaluate([r for r in BUILT_IN if r.signal != "kind_stuck"], few, []).changes == []


def test_nothing_at_all_writes_nothing() -> None:
    evaluation = evaluate(BUILT_IN, seen(), [])

    assert evaluation == Evaluation()


def test_what_delivers_alerts_raises_none() -> None:
    what = seen(
        buckets=[bucket(kind=ALERT_KIND, queue=OWN_QUEUE, failed=200)],
        depths=[Depth(OWN_QUEUE, ALERT_KIND, "pending", 500)],
        failed={ALERT_KIND: 500},
    )

    assert evaluate(BUILT_IN, what, []).changes == []


# -- how one becomes another -----------------------------------------------------------------------


class Story:
    """A rule for a depth, evaluated over and over."""

    def __init__(self, **rule: Any) -> None:
        self.rule = Rule("deep", "depth", **{"warning": 50.0, "alert": 100.0, **rule})
        self.known: list[Alert] = []
        self.now = NOW

    def look(self, waiting: int | None) -> tuple[Level, list[str]]:
        """The level afterwards, and what is told."""
        self.now += timedelta(minutes=1)
        depths = [] if waiting is None else [Depth("q", "k", "pending", waiting)]
        evaluation = evaluate([self.rule], seen(now=self.now, depths=depths), self.known)
        rows = {alert.subject: alert for alert in self.known}
        for before, after in evaluation.written:
            assert (before and before.version) == (
                rows[after.subject].version if after.subject in rows else None
            )
            rows[after.subject] = after
        for gone in evaluation.gone:
            del rows[gone.subject]
        self.known = list(rows.values())
        level = rows["q"].level if "q" in rows else OK
        return level, [
            change.words.split(":")[0] for change in evaluation.changes if change.is_told
        ]


def test_the_way_up_and_down_with_hysteresis() -> None:
    story = Story()
    looks: list[tuple[int, Level, list[str]]] = [
        (10, OK, []),
        (60, WARNING, ["warning"]),
        (45, WARNING, []),  # not yet clear: 40
        (70, WARNING, []),
        (120, ALERT, ["alert"]),
        (95, ALERT, []),  # not yet clear of an alert: 90
        (80, ALERT, []),  # clear of it once
        (120, ALERT, []),
        (80, ALERT, []),
        (80, WARNING, []),  # twice in a row: better, and nobody's night is disturbed for it
        (30, WARNING, []),
        (60, WARNING, []),
        (30, WARNING, []),
        (30, OK, ["over"]),
        (30, OK, []),
    ]
    for waiting, level, told in looks:
        assert story.look(waiting) == (level, told), waiting


def test_at_once_from_ok_to_alert_and_back() -> None:
    story = Story()

    assert [story.look(waiting) for waiting in (500, 0, 0)] == [
        (ALERT, ["alert"]),
        (ALERT, []),
        (OK, ["over"]),
    ]


def test_raised_only_after_some_evaluations_in_a_row() -> None:
    story = Story(raise_after=3, clear_after=1)
    looks = [story.look(waiting)[0] for waiting in (60, 60, 10, 60, 60, 60, 10)]

    assert looks == [OK, OK, OK, OK, OK, WARNING, OK]


def test_a_queue_that_is_seen_no_more_is_over() -> None:
    story = Story()
    story.look(500)

    assert [story.look(None) for _ in range(2)] == [(ALERT, []), (OK, ["over"])]


def test_what_is_over_is_forgotten_after_a_week() -> None:
    story = Story(clear_after=1)
    story.look(500)
    story.look(0)
    assert [alert.level for alert in story.known] == [OK]
    story.now += timedelta(days=8)
    story.look(0)

    assert story.known == []


def test_an_acknowledgement_holds_until_it_is_worse_or_over() -> None:
    story = Story(clear_after=1)

    def acknowledge() -> None:
        story.known = [replace(a, acknowledged_by="ada", acknowledged_at=NOW) for a in story.known]

    def by() -> str | None:
        return story.known[0].acknowledged_by

    story.look(60)
    acknowledge()
    story.look(61)
    assert by() == "ada"
    story.look(500)
    assert by() is None
    acknowledge()
    story.look(80)
    assert (story.known[0].level, by()) == (WARNING, "ada")
    story.look(0)
    assert by() is None


def test_a_rule_without_a_warning_goes_straight_to_alert_and_back() -> None:
    story = Story(warning=None, clear_after=1)

    assert [story.look(waiting)[0] for waiting in (99, 101, 95, 79)] == [OK, ALERT, ALERT, OK]


def test_a_rule_where_little_is_bad() -> None:
    rule = RULES["success_rate"]

    assert rule.level_of(0.991, WARNING) is WARNING
    assert rule.level_of(0.9921, WARNING) is OK
    assert rule.level_of(0.951, ALERT) is ALERT
    assert rule.level_of(0.96, ALERT) is WARNING
    assert rule.level_of(1.0, ALERT) is OK
    assert rule.level_of(None, ALERT) is OK


def test_what_a_rule_raised_that_is_switched_off_is_gone() -> None:
    story = Story()
    story.look(500)
    evaluation = evaluate([], seen(), story.known)

    assert evaluation.gone == story.known
    assert evaluation.changes == []


def test_so_many_subjects_at_most_the_worst() -> None:
    depths = [Depth(f"q{n}", "k", "pending", 200 + n) for n in range(500)]
    evaluation = evaluate([RULES["depth"]], seen(depths=depths), [])

    assert len(evaluation.written) == MOST_SUBJECTS
    assert ("depth", "q499") in levels(evaluation)
    assert ("depth", "q0") not in levels(evaluation)


def test_busy_while_something_is_open_or_under_way() -> None:
    rule = Rule("deep", "depth", alert=100.0, raise_after=2)

    assert evaluate([rule], seen(depths=[Depth("q", "k", "pending", 500)]), []).is_busy
    assert not evaluate([rule], seen(depths=[Depth("q", "k", "pending", 5)]), []).is_busy


# -- rules in code ---------------------------------------------------------------------------------


def test_rules_are_changed_added_and_switched_off() -> None:
    book = RuleBook()
    book.change("depth", warning=200, alert=500)
    book.change("retry_rate", enabled=False)
    book.change("slow-exports", signal="p95_seconds", kind="export", alert=900)
    rules = {rule.name: rule for rule in book}

    assert (rules["depth"].warning, rules["depth"].alert) == (200, 500)
    assert "retry_rate" not in rules
    assert rules["slow-exports"].kind == "export"
    assert rules["success_rate"] == RULES["success_rate"]


def test_a_rule_for_one_kind_looks_at_no_other() -> None:
    rule = Rule("slow-exports", "p95_seconds", kind="export", alert=100.0)
    fast, slow = bucket(kind="mail", ran_ms=[5e6]), bucket(kind="export", ran_ms=[10.0])

    assert evaluate([rule], seen(buckets=[fast, slow]), []).changes == []


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("depht", {"alert": 1}, "there is no alert 'depht': there are dead_letters, depth, "),
        ("depth", {"alarm": 1}, "no option alarm; there are "),
        ("depth", {"warning": 200}, r"the warning \(200\) must come before the alert \(100\)"),
        ("success_rate", {"warning": 0.9}, "must come before the alert"),
        ("depth", {"alert": "many"}, "alert is a number of 0 or more"),
        ("depth", {"alert": float("nan")}, "alert is a number of 0 or more"),
        ("depth", {"window_seconds": 5}, "window_seconds is from 60 to 86400"),
        ("depth", {"raise_after": 0}, "raise_after is a whole number"),
        ("depth", {"clear": 60}, "would clear"),
        ("depth", {"warning": None, "alert": None}, "needs a level"),
        ("new", {"signal": "mood", "alert": 1}, "no signal 'mood'; there are "),
        ("a b", {"signal": "depth", "alert": 1}, "an alert's name"),
    ],
)
def test_rules_that_make_no_sense_are_refused(
    name: str, changes: dict[str, Any], problem: str
) -> None:
    book = RuleBook()

    with pytest.raises(ConfigurationError, match=problem):
        book.change(name, **changes)
    assert list(book) == list(BUILT_IN)
