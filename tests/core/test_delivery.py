"""The decision table of a message that names a job, row by row."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.backoff import fixed
from jobs.core.delivery import (
    LEASE_MARGIN_SECONDS,
    LONGEST_VISIBILITY_SECONDS,
    SOON_SECONDS,
    WAIT_FOR_HANDLER_SECONDS,
    WAIT_FOR_PLACE_SECONDS,
    WAIT_FOR_RESUME_SECONDS,
    Fate,
    Reach,
    fate_of_outcome,
    fate_unclaimed,
    has_lost_a_runner,
    keep,
)
from jobs.core.errors import Discard, JobCancelled, Retry, Snooze
from jobs.core.job import State
from jobs.core.outcome import (
    Expired,
    NotStarted,
    Policy,
    Raised,
    Returned,
    RunnerLost,
    TimedOut,
    decide,
)
from jobs.core.store import Standing
from tests.core.claims import AT, claimed
from tests.support.ids import case_id

REACH = Reach(40_000)
DAY = 86_400.0


def standing(state: State, due_in: float = 0.0, lease_left: float | None = None) -> Standing:
    return Standing("0190", "mail", "default", str(state), due_in, lease_left)


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        (None, {}, Fate(False, "unknown")),
        (standing(State.COMPLETED), {}, Fate(False, "ended")),
        (standing(State.FAILED), {}, Fate(False, "ended")),
        (standing(State.CANCELLED), {}, Fate(False, "ended")),
        # Another runner has it: back when it must be done, or dead.
        (
            standing(State.PROCESSING, lease_left=29.1),
            {},
            Fate(True, "held", math.ceil(29.1 + LEASE_MARGIN_SECONDS)),
        ),
        (standing(State.PROCESSING, lease_left=-1.0), {}, Fate(True, "stalled", SOON_SECONDS)),
        (standing(State.PROCESSING), {}, Fate(True, "stalled", SOON_SECONDS)),
        # Not before its time, and not a second more than needed.
        (standing(State.PENDING, due_in=0.001), {}, Fate(True, "not due", 1)),
        (standing(State.PENDING, due_in=120.0), {}, Fate(True, "not due", 120)),
        (standing(State.PENDING, due_in=DAY), {}, Fate(False, "not due, left to a tick")),
        (
            standing(State.PENDING, due_in=DAY),
            {"reach": Reach(40_000, ordered=True)},
            Fate(True, "not due", 40_000),
        ),
        (
            standing(State.PENDING),
            {"handled": False},
            Fate(True, "no handler", WAIT_FOR_HANDLER_SECONDS),
        ),
        (standing(State.PENDING, due_in=5.0), {"handled": False}, Fate(True, "not due", 5)),
        (standing(State.PENDING), {"paused": True}, Fate(True, "paused", WAIT_FOR_RESUME_SECONDS)),
        (standing(State.PENDING), {}, Fate(True, "no place", WAIT_FOR_PLACE_SECONDS)),
    ],
)
def test_a_row_that_was_not_claimed(
    row: Standing | None, options: dict[str, Any], expected: Fate
) -> None:
    assert fate_unclaimed(row, **{"handled": True, "reach": REACH, **options}) == expected


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (Returned(None), Fate(False, "completed")),
        (Raised(Discard("no")), Fate(False, "failed")),
        (Raised(JobCancelled("asked")), Fate(False, "cancelled")),
        (Expired(), Fate(False, "cancelled")),
        (Raised(ValueError("boom")), Fate(True, "retried", 41)),
        (TimedOut(1.0, "late"), Fate(True, "retried", 41)),
        (RunnerLost(), Fate(True, "retried", 41)),
        (Raised(Retry(after=0)), Fate(True, "retried", 0)),
        (Raised(Retry(after=DAY)), Fate(False, "retried, left to a tick")),
        (Raised(Snooze(90)), Fate(True, "snoozed", 90)),
        (Raised(Snooze(DAY)), Fate(False, "snoozed, left to a tick")),
        (NotStarted(), Fate(True, "released", SOON_SECONDS)),
    ],
    ids=case_id,
)
def test_a_job_that_was_claimed(ending: Any, expected: Fate) -> None:
    policy = Policy(backoff=fixed(40.2, jitter=0))

    assert fate_of_outcome(decide(claimed(), ending, policy, at=AT), REACH) == expected


def test_the_last_attempt_is_acked() -> None:
    outcome = decide(claimed(attempt=3), Raised(ValueError()), Policy(fixed(40)), at=AT)

    assert fate_of_outcome(outcome, REACH) == Fate(False, "failed")


@given(st.floats(0, 10 * 365 * DAY), st.integers(0, LONGEST_VISIBILITY_SECONDS), st.booleans())
def test_a_kept_message_is_neither_early_nor_beyond_what_the_queue_can(
    seconds: float, left: int, ordered: bool
) -> None:
    fate = keep("x", seconds, Reach(left, ordered))

    if fate.keep:
        assert fate.visible_in_seconds is not None
        assert 0 <= fate.visible_in_seconds <= left
        assert ordered or seconds <= fate.visible_in_seconds <= seconds + 1
    else:
        assert not ordered
        assert seconds > left


def test_a_suspect_is_known_by_its_last_failure() -> None:
    def with_history(*types: str) -> str:
        return json.dumps([{"type": name} for name in types])

    assert not has_lost_a_runner(claimed(errors=None))
    assert not has_lost_a_runner(claimed(errors=with_history("RunnerLost", "ValueError")))
    assert has_lost_a_runner(claimed(errors=with_history("ValueError", "RunnerLost")))
    assert has_lost_a_runner(claimed(errors=with_history("RunnerLost", "Retried", "Reset")))
    assert not has_lost_a_runner(claimed(errors=with_history("Retried")))
