"""How much time a tick has, and what may still start in it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.deadline import (
    LEASE_MARGIN_SECONDS,
    Fit,
    fit,
    tick_budget,
    unlimited_budget,
)

TICK = tick_budget(1000.0, 1000.0, 25.0, 60.0)  # starts until 1025, gives up at 1059


def test_a_tick_that_has_just_begun() -> None:
    assert TICK.start_deadline == 1025
    assert TICK.give_up_deadline == 1059, "a second is kept to write results down"
    assert TICK.lease_seconds == 60 + LEASE_MARGIN_SECONDS
    assert TICK.heartbeat_lease_seconds is None


def test_the_lease_covers_what_is_left_of_the_invocation() -> None:
    """A tick that was late to begin claims for less: the platform counts from its own beginning."""
    late = tick_budget(1000.0, 1020.0, 25.0, 60.0)

    assert late.lease_seconds == 40 + LEASE_MARGIN_SECONDS
    assert late.start_deadline == 1025
    assert tick_budget(1000.0, 1100.0, 25.0, 60.0).lease_seconds == LEASE_MARGIN_SECONDS


@given(st.floats(0.1, 1000), st.floats(0.1, 1000), st.floats(0, 1000))
def test_the_order_of_a_ticks_instants(budget: float, limit: float, spent: float) -> None:
    tick = tick_budget(5.0, 5.0 + spent, budget, limit)

    assert 5 <= tick.start_deadline <= tick.give_up_deadline < 5 + limit
    assert tick.give_up_deadline >= 5 + limit * 0.9 - 1
    # No lease ends while the platform may still run the tick.
    assert 5 + spent + tick.lease_seconds >= 5 + limit


def test_a_runner_without_a_limit_renews_a_short_lease() -> None:
    budget = unlimited_budget(1000.0)

    assert budget.start_deadline == budget.give_up_deadline == math.inf
    assert budget.heartbeat_lease_seconds == budget.lease_seconds == 30
    assert unlimited_budget(1000.0, 10.0).start_deadline == 1010


@pytest.mark.parametrize(
    ("declared", "now", "first", "verdict", "timeout"),
    [
        # It said how long it may take, and that much is left.
        (10.0, 1000.0, False, Fit.START, 10.0),
        (59.0, 1000.0, False, Fit.START, 59.0),
        (34.0, 1024.999, False, Fit.START, 34.0),
        # That much is not left: later, in a tick that has more.
        (59.1, 1000.0, False, Fit.NOT_NOW, 0.0),
        (59.0, 1001.0, False, Fit.NOT_NOW, 0.0),
        (40.0, 1020.0, False, Fit.NOT_NOW, 0.0),
        # No tick could ever give it: it starts as the first, and is cut off.
        (600.0, 1000.0, True, Fit.START_WITH_WARNING, 59.0),
        (600.0, 1010.0, True, Fit.START_WITH_WARNING, 49.0),
        # It said nothing: the settings' 60 s are a cut, not a demand.
        (None, 1000.0, False, Fit.START, 59.0),
        (None, 1024.0, False, Fit.START, 35.0),
        # The tick starts nothing more.
        (1.0, 1025.0, True, Fit.RELEASE, 0.0),
        (None, 1025.0, True, Fit.RELEASE, 0.0),
        (None, 2000.0, True, Fit.RELEASE, 0.0),
    ],
)
def test_fit(declared: float | None, now: float, first: bool, verdict: Fit, timeout: float) -> None:
    fitting = fit(declared, 60.0, TICK, now=now, first=first)

    assert fitting.verdict is verdict
    assert fitting.timeout_seconds == timeout
    starts = verdict in (Fit.START, Fit.START_WITH_WARNING)
    assert fitting.cut_off == (starts and timeout < (declared or 60.0))


def test_a_short_default_holds_for_who_said_nothing() -> None:
    fitting = fit(None, 5.0, TICK, now=1000.0, first=False)

    assert (fitting.verdict, fitting.timeout_seconds) == (Fit.START, 5.0)
    assert not fitting.cut_off


def test_without_a_limit_everything_fits() -> None:
    budget = unlimited_budget(0.0)
    week = 7 * 86_400.0

    for declared in (week, 1.0, None):
        fitting = fit(declared, 60.0, budget, now=1e9, first=False)
        assert fitting == (Fit.START, 60.0 if declared is None else declared, False)


@given(
    st.none() | st.floats(0.001, 1000),
    st.floats(0.001, 1000),
    st.floats(1000, 1100),
    st.booleans(),
)
def test_nothing_runs_past_the_tick(
    declared: float | None, default: float, now: float, first: bool
) -> None:
    fitting = fit(declared, default, TICK, now=now, first=first)

    if fitting.verdict in (Fit.NOT_NOW, Fit.RELEASE):
        assert fitting.timeout_seconds == 0
    else:
        assert now < TICK.start_deadline
        assert fitting.timeout_seconds > 0
        assert now + fitting.timeout_seconds <= TICK.give_up_deadline + 1e-6


def test_what_a_kind_usually_takes_counts_more_than_its_timeout() -> None:
    known = fit(600.0, 60.0, TICK, now=1000.0, first=False, usual_seconds=3.0)
    assert known == (Fit.START, 59.0, True)
    slow = fit(600.0, 60.0, TICK, now=1000.0, first=False, usual_seconds=59.5)
    assert slow.verdict is Fit.NOT_NOW
