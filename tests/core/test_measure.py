"""Measures add up, whatever the order; the pulse tells whether ticks come."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.measure import (
    BOUNDS_MS,
    LEAST_CADENCE_SECONDS,
    UNKNOWN_CADENCE_SECONDS,
    Histogram,
    Key,
    Measure,
    TickRecord,
    add_up,
    bucket_start,
    join_records,
    learn_cadence,
    measures_from_json,
    measures_to_json,
    take_pulse,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
VALUES = st.lists(st.floats(0, 2 * BOUNDS_MS[-1]), max_size=30)
COUNTS = st.integers(0, 1000)


def histogram(values: list[float]) -> Histogram:
    made = Histogram()
    for value in values:
        made.note(value)
    return made


MEASURES = st.builds(
    Measure,
    *[COUNTS] * 7,
    ran=VALUES.map(histogram),
    waited=VALUES.map(histogram),
)
KEYS = st.builds(
    Key, st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.just("q"), st.just("k")
)


@given(VALUES, VALUES)
def test_two_histograms_are_that_of_all_values(first: list[float], second: list[float]) -> None:
    added = histogram(first)
    added.add(histogram(second))
    both = histogram(first + second)
    assert added.counts == both.counts
    assert added.sum_ms == pytest.approx(both.sum_ms)
    assert added.count == len(first) + len(second)


@given(VALUES.filter(bool), st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], part: float) -> None:
    found = histogram(values).quantile_ms(part)
    ranked = sorted(values)
    true = ranked[max(0, math.ceil(part * len(values)) - 1)]
    bounds = [0.0, *BOUNDS_MS]
    low = max((b for b in bounds if b < true), default=0.0)
    high = min((b for b in BOUNDS_MS if b >= true), default=float(BOUNDS_MS[-1]))
    assert found is not None
    assert min(low, BOUNDS_MS[-1]) <= found <= high


def test_quantiles_come_near_those_of_many_values() -> None:
    values = [float(n % 5000) for n in range(100_000)]
    cuts = quantiles(values, n=20)
    assert histogram(values).quantile_ms(0.5) == pytest.approx(cuts[9], rel=0.02)
    assert histogram(values).quantile_ms(0.95) == pytest.approx(cuts[18], rel=0.02)


def test_without_values_there_is_no_quantile() -> None:
    assert Histogram().quantile_ms(0.5) is None
    assert Histogram().mean_ms is None
    assert Measure().failure_ratio is None


def test_a_skewed_clock_makes_no_negative_wait() -> None:
    made = histogram([-5000.0])
    assert (made.count, made.sum_ms) == (1, 0.0)


@given(st.dictionaries(KEYS, MEASURES, max_size=4))
def test_json_brings_measures_back(measures: dict[Key, Measure]) -> None:
    back = measures_from_json(measures_to_json(measures))
    assert back.keys() == measures.keys()
    for key, measure in measures.items():
        assert back[key].ran.counts == measure.ran.counts
        assert back[key].ran.sum_ms == pytest.approx(measure.ran.sum_ms, abs=0.001)
        assert (back[key].completed, back[key].lost) == (measure.completed, measure.lost)


def test_what_newer_code_counts_is_left_out() -> None:
    text = json.dumps([["", "q", "k", {"completed": 2, "pondered": 3, "ran": [7, 99, 1]}]])
    assert measures_from_json(text)[Key("", "q", "k")].completed == 2


@given(st.lists(st.tuples(KEYS, MEASURES), max_size=6))
def test_the_order_of_adding_does_not_matter(measured: list[tuple[Key, Measure]]) -> None:
    there, back = add_up(measured), add_up(reversed(measured))
    assert {k: (m.completed, m.ran.counts) for k, m in there.items()} == {
        k: (m.completed, m.ran.counts) for k, m in back.items()
    }


def test_a_bucket_begins_at_whole_seconds_since_1970() -> None:
    at = datetime(2026, 3, 1, 12, 34, 56, 789, tzinfo=UTC)
    assert bucket_start(at, 60) == datetime(2026, 3, 1, 12, 34, tzinfo=UTC)
    assert bucket_start(at, 3600) == NOW
    assert bucket_start(NOW, 3600) == NOW


def test_joined_records_count_what_both_did() -> None:
    key = Key("", "q", "k")
    first = TickRecord(
        "1", "worker", "host", 100.0, claimed=2, remaining=9, measures={key: Measure(2)}
    )
    second = TickRecord("2", "worker", "host", 50.0, 3, claimed=1, measures={key: Measure(1)})
    joined = join_records(first, second)
    assert (joined.id, joined.ticks, joined.duration_ms) == ("2", 4, 150.0)
    assert (joined.claimed, joined.remaining) == (3, 0)
    assert joined.measures == {key: Measure(3)}
    assert first.measures == {key: Measure(2)}, "what was joined stays as it is"


def test_a_cadence_is_the_usual_gap() -> None:
    def at(*minutes: float) -> list[datetime]:
        return [NOW - timedelta(minutes=each) for each in minutes]

    assert learn_cadence(at(0, 5, 10, 15)) == 300
    assert learn_cadence(at(0, 5, 10, 70, 75)) == 300, "one long gap says nothing"
    assert learn_cadence(at(0, 5)) is None
    assert learn_cadence(at(0, 0.1, 0.2, 0.3)) == LEAST_CADENCE_SECONDS


def ticks(trigger: str, *minutes: float) -> list[TickRecord]:
    return [
        TickRecord(str(each), trigger, "host", ended_at=NOW - timedelta(minutes=each))
        for each in minutes
    ]


def test_a_pulse_stops_after_three_cadences() -> None:
    for age, beats in ((5, True), (15, True), (15.1, False)):
        crons = ticks("cron", age, age + 5, age + 10, age + 15)
        pulse = take_pulse(NOW, crons[0], crons)
        assert (pulse.cadence_seconds, pulse.learnt, pulse.is_beating) == (300, True, beats)
        assert pulse.late_seconds == pytest.approx((age - 5) * 60)


def test_kicks_do_not_hide_a_cron_that_died() -> None:
    crons = ticks("cron", 60, 65, 70, 75)
    assert not take_pulse(NOW, ticks("kick", 1)[0], crons).is_beating


def test_a_worker_is_as_good_as_a_cron_and_the_cron_sets_the_pace() -> None:
    worker = ticks("worker", *[0.2 * n for n in range(10)])
    crons = ticks("cron", 60, 65, 70)
    pulse = take_pulse(NOW, worker[0], [*worker, *crons])
    assert pulse.is_beating
    assert pulse.cadence_seconds == 300


def test_what_was_said_stands_over_what_was_learnt() -> None:
    crons = ticks("cron", 10, 15, 20, 25)
    assert take_pulse(NOW, crons[0], crons).is_beating
    said = take_pulse(NOW, crons[0], crons, 60.0)
    assert (said.cadence_seconds, said.learnt, said.is_beating) == (60, False, False)


def test_where_nothing_is_known_a_day_is_waited_for() -> None:
    assert take_pulse(NOW, None, []).is_beating is False
    assert take_pulse(NOW, None, []).age_seconds is None
    lone = ticks("cron", 60)
    pulse = take_pulse(NOW, lone[0], lone)
    assert (pulse.cadence_seconds, pulse.is_beating) == (UNKNOWN_CADENCE_SECONDS, True)
