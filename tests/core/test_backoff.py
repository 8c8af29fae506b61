"""How long a job waits: the promised sequences, the bounds, the spread and the refusals."""

from __future__ import annotations

import itertools
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.backoff import (
    DEFAULT_CAP_SECONDS,
    Backoff,
    as_backoff,
    exponential,
    fixed,
    linear,
    next_delay,
    steps,
)
from jobs.core.errors import ConfigurationError
from jobs.core.settings import Settings
from tests.core.claims import claimed
from tests.support.ids import case_id

HOUR = 3600.0
DAY = 86_400.0


def delays(policy: Any, count: int, **changes: Any) -> list[float]:
    """The waits after the first ``count`` failures, as a runner computes them."""
    return [
        next_delay(policy, claimed(attempt=made, max_attempts=count + 1, **changes))
        for made in range(1, count + 1)
    ]


SEQUENCES: dict[str, tuple[Any, list[float]]] = {
    "A44 stub": (fixed(Settings().retry_delay, jitter=0), [10, 10]),
    "A45 exponential 2 s": (as_backoff({"type": "exponential", "delay": 2000}), [2, 4, 8]),
    "A45 exponential 1 s": (as_backoff({"type": "exponential", "delay": 1000}), [1, 2, 4, 8, 16]),
    "A45 in seconds": (exponential(1, jitter=0), [1, 2, 4, 8, 16]),
    "A46 fixed": (as_backoff({"type": "fixed", "delay": 5000}), [5, 5]),
    "A47 custom": (lambda job: job.attempt * 60, [60, 120, 180]),
    "A47 custom, in data": (linear(60, jitter=0), [60, 120, 180]),
    "A48 payment": (as_backoff({"type": "fixed", "delay": 3_600_000}), [HOUR, HOUR]),
    "A49 factor 5": (exponential(5, factor=5, jitter=0), [5, 25, 125, 625]),
    "A49 factor 5 in milliseconds": (
        as_backoff({"type": "exponential", "delay": 5000, "factor": 5}),
        [5, 25, 125, 625],
    ),
    "A49 webhooks": (exponential(10, factor=5, jitter=0), [10, 50, 250, 1250]),
    "A50": (exponential(2, jitter=0), [2, 4]),
    "A51": (exponential(30, factor=3, jitter=0), [30, 90]),
    "a list": (steps([1, 10, 100], jitter=0), [1, 10, 100, 100, 100]),
    "a list of one": (steps([7], jitter=0), [7, 7]),
    "linear in milliseconds": (as_backoff({"type": "linear", "delay": 1500}), [1.5, 3, 4.5]),
    "no delay": (fixed(0, jitter=0), [0, 0]),
    "no delay to double": (exponential(0, jitter=0), [0, 0]),
    "factor 1": (exponential(3, factor=1, jitter=0), [3, 3, 3]),
    "half a second": (exponential(0.5, jitter=0), [0.5, 1, 2]),
}


@pytest.mark.parametrize(("policy", "expected"), SEQUENCES.values(), ids=SEQUENCES)
def test_sequence(policy: Any, expected: list[float]) -> None:
    assert delays(policy, len(expected)) == expected


@pytest.mark.parametrize(
    ("policy", "expected"),
    [case for case in SEQUENCES.values() if isinstance(case[0], Backoff)],
    ids=[name for name, case in SEQUENCES.items() if isinstance(case[0], Backoff)],
)
def test_the_row_keeps_the_sequence(policy: Backoff, expected: list[float]) -> None:
    restored = Backoff.from_json(policy.to_json())

    assert restored == policy
    assert delays(restored, len(expected)) == expected


# -- bounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy",
    [
        exponential(2, jitter=0),
        exponential(5, factor=5, jitter=0),
        exponential(1e-9, factor=1.001, jitter=0),
        exponential(5e-324, factor=1e9, jitter=0),
        linear(60, jitter=0),
        as_backoff({"type": "exponential", "delay": 1}),
    ],
    ids=str,
)
def test_ten_thousand_attempts_end_at_the_cap(policy: Backoff) -> None:
    waits = [policy.delay(made) for made in (2_000, 10_000, 100_000)]

    assert waits[-1] == DEFAULT_CAP_SECONDS
    assert all(math.isfinite(wait) and 0 <= wait <= DEFAULT_CAP_SECONDS for wait in waits)


def test_the_cap_can_be_lowered_and_raised() -> None:
    assert delays(exponential(10, cap=25, jitter=0), 4) == [10, 20, 25, 25]
    assert delays(linear(10, cap=25, jitter=0), 4) == [10, 20, 25, 25]
    assert delays(exponential(DAY, cap=3 * DAY, jitter=0), 3) == [DAY, 2 * DAY, 3 * DAY]
    assert delays(exponential(10, cap=0, jitter=0), 2) == [0, 0]


@pytest.mark.parametrize(
    "policy",
    [
        fixed(3 * DAY, jitter=0),
        steps([3 * DAY], jitter=0),
        as_backoff({"type": "fixed", "delay": 3 * DAY * 1000}),
    ],
    ids=str,
)
def test_a_delay_said_outright_is_not_capped(policy: Backoff) -> None:
    assert delays(policy, 2) == [3 * DAY, 3 * DAY]


def test_no_attempts_counts_as_one() -> None:
    assert exponential(3).delay(0) == 3
    assert steps([4, 5]).delay(-1) == 4


@given(
    st.sampled_from(["fixed", "linear", "exponential"]),
    st.floats(0, 1e12),
    st.floats(1, 1e12),
    st.floats(0, 1e12),
    st.floats(0, 1),
    st.integers(1, 100_000),
    st.floats(0, 1),
)
def test_a_wait_is_finite_bounded_and_never_negative(
    kind: str, base: float, factor: float, cap: float, jitter: float, made: int, spread: float
) -> None:
    policy = Backoff(kind, base=base, factor=factor, cap=cap, jitter=jitter)
    job = claimed(attempt=made)

    wait = next_delay(policy, job, lambda: spread)

    assert 0 <= wait <= cap * (1 + jitter) * (1 + 1e-9)
    assert policy.delay(made) <= policy.delay(made + 1), "waits never get shorter"


# -- jitter ------------------------------------------------------------------------------------


def test_jitter_spreads_over_90_to_110_percent() -> None:
    source = random.Random(1)
    drawn = [next_delay(exponential(100), claimed(attempt=2), source.random) for _ in range(5_000)]

    assert min(drawn) >= 180
    assert max(drawn) <= 220
    assert max(drawn) - min(drawn) >= 20, "at least 10 % of the delay"
    assert 198 < sum(drawn) / len(drawn) < 202, "to both sides alike"


def test_jitter_ends_are_exact() -> None:
    policy = fixed(100, jitter=0.25)

    assert next_delay(policy, claimed(), lambda: 0.0) == 75
    assert next_delay(policy, claimed(), lambda: 0.5) == 100
    assert next_delay(policy, claimed(), lambda: 1.0) == 125


@pytest.mark.parametrize("make", [fixed, linear, exponential, lambda base: steps([base])])
def test_jitter_is_ten_percent_unless_told(make: Any) -> None:
    assert make(100).jitter == 0.1


def test_two_draws_differ() -> None:
    assert len(set(itertools.islice(iter(lambda: next_delay(fixed(10), claimed()), None), 20))) > 1


# -- callables ---------------------------------------------------------------------------------


def test_a_callable_gets_the_claimed_job() -> None:
    seen = []
    job = claimed(attempt=2, tenant="org1")

    assert next_delay(lambda given: seen.append(given) or 5, job) == 5
    assert seen == [job]


def _raises(_job: object) -> float:
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (_raises, 10),
        (lambda _job: None, 10),
        (lambda _job: "soon", 10),
        (lambda _job: float("nan"), 10),
        (lambda _job: float("inf"), 10),
        (lambda _job: 2.0**2000, 10),
        (lambda _job: 10**400, 10),
        (lambda: 5, 10),
        (lambda _job: -3, 0),
        (lambda _job: 1e300, 10 * 365 * DAY),
        (lambda _job: "7.5", 7.5),
    ],
    ids=itertools.count(),
)
def test_a_broken_callable_does_not_lose_the_job(policy: Any, expected: float) -> None:
    assert next_delay(policy, claimed()) == expected


# -- what people write -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        (5, fixed(5.0)),
        (2.5, fixed(2.5)),
        (0, fixed(0.0)),
        ([1, 2.5], steps([1, 2.5])),
        ((1,), steps([1])),
        (exponential(3), exponential(3)),
        ({"type": "exponential", "delay": 2000}, exponential(2.0, jitter=0)),
        ({"type": "fixed", "delay": 5000}, fixed(5.0, jitter=0)),
        ({"delay": 250, "jitter": 0.5}, fixed(0.25, jitter=0.5)),
        ({}, fixed(0.0, jitter=0)),
    ],
    ids=str,
)
def test_forms(written: Any, policy: Backoff) -> None:
    assert as_backoff(written) == policy


REFUSED = [
    -1,
    float("nan"),
    float("inf"),
    10**400,
    True,
    None,
    "10",
    b"10",
    "exponential",
    [],
    [1, -1],
    [1, float("nan")],
    [1, "two"],
    [1, None],
    {1, 2},
    object(),
    {"type": "cubic", "delay": 1000},
    {"type": "exponential", "dely": 1000},
    {"type": "exponential", "delay": "2000"},
    {"type": "exponential", "delay": None},
    {"type": "exponential", "delay": True},
    {"type": "exponential", "delay": [1]},
    {"type": "exponential", "delay": -1},
    {"type": "exponential", "delay": 10**400},
    {"type": "exponential", "delay": 1000, "factor": 0.5},
    {"type": "exponential", "delay": 1000, "factor": "two"},
    {"type": "exponential", "delay": 1000, "factor": None},
    {"type": "exponential", "delay": 1000, "jitter": 2},
    {"type": "exponential", "delay": 1000, "jitter": "some"},
    {"type": ["fixed"], "delay": 1000},
    {"delay": 1000, 1: 2},
]


@pytest.mark.parametrize("written", REFUSED, ids=lambda value: case_id(value)[:50])
def test_what_is_no_backoff_is_refused(written: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"backoff"):
        as_backoff(written)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Backoff("cubic", base=1),
        lambda: Backoff("steps"),
        lambda: fixed(-1),
        lambda: exponential(1, factor=0.9),
        lambda: exponential(1, factor=float("inf")),
        lambda: exponential(1, cap=-1),
        lambda: linear(1, jitter=-0.1),
        lambda: linear(1, jitter=1.1),
        lambda: linear(1, jitter=float("nan")),
    ],
    ids=itertools.count(),
)
def test_a_policy_that_cannot_work_is_not_made(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="backoff"):
        make()


def test_the_row_holds_plain_json() -> None:
    assert json.loads(steps([1, 2], jitter=0).to_json()) == {
        "type": "steps",
        "base": 0.0,
        "factor": 2.0,
        "delays": [1.0, 2.0],
        "cap": 86_400.0,
        "jitter": 0,
    }
