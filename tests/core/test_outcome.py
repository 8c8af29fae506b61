"""What one ended execution means for its job, for every ending, with attempts left and without."""

from __future__ import annotations

import json
import math
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.backoff import exponential, fixed
from jobs.core.errors import Discard, JobCancelled, LeaseLost, Retry, Snooze
from jobs.core.job import State
from jobs.core.outcome import (
    HISTORY_MAX_ENTRIES,
    MESSAGE_MAX_BYTES,
    TRACEBACK_MAX_BYTES,
    Expired,
    NotStarted,
    Outcome,
    Policy,
    Raised,
    Returned,
    RunnerLost,
    TimedOut,
    decide,
    describe,
    pace_marks,
)
from tests.core.claims import AT, claimed
from tests.support.ids import case_id

KEEP_DONE, KEEP_FAILED = 111.0, 222.0
POLICY = Policy(fixed(10, jitter=0), KEEP_DONE, KEEP_FAILED)


def decided(ending: Any, *, policy: Policy = POLICY, **changes: Any) -> Outcome:
    return decide(claimed(**changes), ending, policy, at=AT, duration_ms=12.5)


def raised(error: BaseException) -> Raised:
    """As a runner catches it: with a traceback."""
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - whatever it is
        return Raised(caught)


# -- every ending, attempts left or not, cancel asked for or not -------------------------------

STATES = {
    "completed": State.COMPLETED,
    "retried": State.PENDING,
    "snoozed": State.PENDING,
    "released": State.PENDING,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
}

# The ending, then its outcome: attempts left, last attempt, cancel asked with attempts left, cancel
# asked at the last one.
ENDINGS: dict[str, tuple[Any, tuple[str, str, str, str]]] = {
    "returned": (Returned({"ok": 1}), ("completed",) * 4),
    "returned nothing": (Returned(None), ("completed",) * 4),
    "raised": (raised(KeyError("x")), ("retried", "failed", "cancelled", "cancelled")),
    "raised an exit": (raised(SystemExit(3)), ("retried", "failed", "cancelled", "cancelled")),
    "raised an interrupt": (
        raised(KeyboardInterrupt()),
        ("retried", "failed", "cancelled", "cancelled"),
    ),
    "retry": (raised(Retry("busy")), ("retried", "failed", "cancelled", "cancelled")),
    "retry after": (raised(Retry(after=7)), ("retried", "failed", "cancelled", "cancelled")),
    "snooze": (raised(Snooze(30)), ("snoozed", "snoozed", "cancelled", "cancelled")),
    "discard": (raised(Discard("bad")), ("failed", "failed", "cancelled", "cancelled")),
    "cancelled": (raised(JobCancelled("asked")), ("cancelled",) * 4),
    "lease lost": (raised(LeaseLost("taken")), ("retried", "failed", "cancelled", "cancelled")),
    "timed out": (TimedOut(60, "its timeout"), ("retried", "failed", "cancelled", "cancelled")),
    "runner lost": (RunnerLost(), ("retried", "failed", "cancelled", "cancelled")),
    "not started": (NotStarted(), ("released",) * 4),
    "expired": (Expired(), ("cancelled",) * 4),
}
ATTEMPT_BACK = {"snoozed", "released"}


@pytest.mark.parametrize(("ending", "names"), ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize(
    "case", range(4), ids=["left", "last", "left, cancel asked", "last, cancel asked"]
)
def test_every_ending(ending: Any, names: tuple[str, ...], case: int) -> None:
    attempt, cancel = (1, 3)[case % 2], case >= 2
    outcome = decided(ending, attempt=attempt, max_attempts=3, cancel_requested=cancel)
    verdict = outcome.verdict

    assert outcome.name == names[case]
    assert verdict.state == STATES[outcome.name]
    assert (verdict.id, verdict.fence) == ("0190", 7)
    assert outcome.kind == "mail"
    back = outcome.name in ATTEMPT_BACK or isinstance(ending, Expired)
    assert verdict.attempts_back == back
    # A released row may be found cancelled when it is written, so it says how long it would stay.
    assert verdict.keep_seconds == (KEEP_DONE if outcome.name == "completed" else KEEP_FAILED)
    assert (verdict.delay_seconds is not None) == (outcome.name in ("retried", "snoozed"))
    if outcome.name == "completed":
        assert verdict.error is None
        assert verdict.errors is None
    if outcome.name in ("retried", "failed", "cancelled"):
        assert verdict.error
    if outcome.name in ("retried", "failed"):
        (entry,) = json.loads(verdict.errors or "[]")
        assert entry["attempt"] == attempt
        assert entry["at"] == "2026-01-02T03:04:05Z"
        assert entry["duration_ms"] == 12.5
    if not isinstance(ending, NotStarted):
        assert verdict.duration_ms == 12.5


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        (raised(KeyError("x")), "KeyError: 'x'"),
        (raised(ValueError()), "ValueError: "),
        (raised(SystemExit(3)), "SystemExit: 3"),
        (raised(Retry("busy")), "Retry: busy"),
        (raised(Retry()), "Retry: retry requested"),
        (raised(Discard("no such order")), "Discard: no such order"),
        (TimedOut(60, "its timeout is 60 s"), "TimedOut: gave up after 60 s: its timeout is 60 s"),
        (RunnerLost(), "RunnerLost: runner lost: its lease ran out while this job was running"),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.parametrize("attempt", [1, 3])
def test_error_text(ending: Any, error: str, attempt: int) -> None:
    assert decided(ending, attempt=attempt).verdict.error == error


@pytest.mark.parametrize(
    ("ending", "cancel", "error"),
    [
        (Expired(), False, "expired: not started within expires_in"),
        (raised(JobCancelled("x")), True, "cancelled while running"),
        (raised(KeyError("x")), True, "cancelled; its last attempt: KeyError: 'x'"),
        (raised(Snooze(5)), True, "cancelled; its last attempt: Snooze: snoozed for 5 s"),
        (RunnerLost(), True, "cancelled; its last attempt: RunnerLost: runner lost: its lease"),
    ],
    ids=case_id,
)
def test_cancelled_says_why(ending: Any, cancel: bool, error: str) -> None:
    assert decided(ending, cancel_requested=cancel).verdict.error.startswith(error)


@pytest.mark.parametrize("made", [1, 2, 5, 9])
def test_the_budget_is_of_attempts_not_of_fences(made: int) -> None:
    names = [
        decided(RunnerLost(), attempt=attempt, max_attempts=made, fence=1000).name
        for attempt in range(1, made + 2)
    ]

    assert names == ["retried"] * (made - 1) + ["failed"] * 2


# -- delays ------------------------------------------------------------------------------------


def test_the_jobs_own_backoff_wins_over_its_kinds() -> None:
    own = exponential(5, factor=5, jitter=0).to_json()
    waits = [
        decided(raised(KeyError()), attempt=made, max_attempts=9, backoff=own).verdict.delay_seconds
        for made in (1, 2, 3, 4)
    ]

    assert waits == [5, 25, 125, 625]
    assert decided(raised(KeyError())).verdict.delay_seconds == 10


def test_a_callable_backoff_gets_the_job() -> None:
    policy = Policy(lambda job: job.attempt * 60)

    assert decided(raised(KeyError()), attempt=2, policy=policy).verdict.delay_seconds == 120


def test_retry_after_wins_over_the_backoff() -> None:
    own = fixed(99, jitter=0).to_json()

    assert decided(raised(Retry(after=7.5)), backoff=own).verdict.delay_seconds == 7.5
    assert decided(raised(Retry(after=0)), backoff=own).verdict.delay_seconds == 0
    assert decided(raised(Retry()), backoff=own).verdict.delay_seconds == 99


def test_jitter_comes_from_outside() -> None:
    policy = Policy(fixed(100, jitter=0.1))
    job = claimed()

    low = decide(job, raised(KeyError()), policy, at=AT, spread=lambda: 0.0)
    high = decide(job, raised(KeyError()), policy, at=AT, spread=lambda: 1.0)

    assert low.verdict.delay_seconds == pytest.approx(90)
    assert high.verdict.delay_seconds == pytest.approx(110)


@pytest.mark.parametrize(
    "seconds",
    [-1, math.nan, math.inf, -math.inf, 1e300, 11 * 365 * 86_400, "5", True, timedelta(5)],
    ids=repr,
)
@pytest.mark.parametrize("make", [Snooze, lambda seconds: Retry(after=seconds)])
def test_a_handler_cannot_steer_to_nowhere(make: Any, seconds: Any) -> None:
    with pytest.raises(ValueError, match="seconds"):
        make(seconds)


def test_snooze_keeps_the_history_and_the_attempt() -> None:
    verdict = decided(raised(Snooze(30)), errors='[{"attempt":1}]').verdict

    assert (verdict.delay_seconds, verdict.attempts_back, verdict.errors) == (30, 1, None)


# -- results -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (0, "0"),
        (False, "false"),
        ("", '""'),
        ({"sent": True, "messageId": "é"}, '{"sent":true,"messageId":"é"}'),
        ((1, 2), "[1,2]"),
        ("a\x00b", '"a\N{REPLACEMENT CHARACTER}b"'),
        ({"x": ["\ud800"]}, '{"x":["\N{REPLACEMENT CHARACTER}"]}'),
    ],
    ids=ascii,
)
def test_the_result_is_kept(value: Any, text: str | None) -> None:
    outcome = decided(Returned(value))

    assert outcome.verdict.result == text
    assert outcome.verdict.error is None
    assert outcome.value == value


def _cycle() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


class Shifting(dict):  # type: ignore[type-arg]
    """A dict that another thread keeps changing while it is read."""

    def items(self) -> Any:
        raise RuntimeError("dictionary changed size during iteration")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (threading.Lock(), "lock is not JSON"),
        ((n for n in [1]), "generator is not JSON"),
        ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, "$.at: datetime is not JSON"),
        ({"n": float("nan")}, "$.n: nan is not JSON"),
        ({1: 2}, "key 1 is int"),
        (b"raw", "bytes is not JSON"),
        ("x" * 100_001, "100,003 bytes"),
        (10**5000, "digits"),
        (_cycle(), ""),
        (Shifting(a=1), "changed size"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_unfit_result_does_not_run_the_job_again(value: Any, reason: str) -> None:
    outcome = decided(Returned(value))

    assert outcome.name == "completed"
    assert outcome.verdict.state == State.COMPLETED
    assert outcome.verdict.result is None
    assert (outcome.verdict.error or "").startswith("result unavailable: ")
    assert reason in (outcome.verdict.error or "")
    (entry,) = json.loads(outcome.verdict.errors or "")
    assert entry["type"] == "result unavailable"


def test_a_dict_that_changes_while_it_is_read_does_not_lose_the_job() -> None:
    """A handler may return what its own background thread still writes to."""
    result: dict[str, int] = {f"key-{n}": n for n in range(2_000)}
    done = threading.Event()

    def meddle() -> None:
        number = 0
        while not done.is_set():
            number += 1
            result[f"more-{number % 500}"] = number
            result.pop(f"more-{(number * 7) % 500}", None)

    thread = threading.Thread(target=meddle)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that the two meet for certain
    thread.start()
    try:
        names = {decided(Returned(result)).name for _ in range(100)}
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()

    assert names == {"completed"}


def test_the_limit_of_results_is_the_policys() -> None:
    policy = Policy(fixed(1), result_max_bytes=10)

    assert decided(Returned("x" * 8), policy=policy).verdict.result == '"xxxxxxxx"'
    assert decided(Returned("x" * 9), policy=policy).verdict.result is None


def test_progress_goes_with_the_outcome_and_completed_is_all() -> None:
    def verdict(ending: Any, progress: Any) -> tuple[Any, Any]:
        written = decide(claimed(), ending, POLICY, at=AT, progress=progress).verdict
        return written.progress, written.progress_note

    assert verdict(Returned(1), None) == (None, None)
    assert verdict(Returned(1), (40.0, "half")) == (100.0, "half")
    assert verdict(raised(KeyError()), (40.0, "half")) == (40.0, "half")
    assert verdict(raised(Snooze(1)), (40.0, None)) == (40.0, None)


# -- history -----------------------------------------------------------------------------------


def test_the_history_grows_to_ten_and_keeps_the_newest() -> None:
    errors = None
    for attempt in range(1, 26):
        job = claimed(attempt=attempt, max_attempts=99, errors=errors)
        errors = decide(job, raised(KeyError(attempt)), POLICY, at=AT).verdict.errors

    kept = json.loads(errors or "")
    assert HISTORY_MAX_ENTRIES == 10
    assert [entry["attempt"] for entry in kept] == list(range(16, 26))
    assert kept[-1] == {
        "attempt": 25,
        "at": "2026-01-02T03:04:05Z",
        "type": "KeyError",
        "message": "25",
        "traceback": kept[-1]["traceback"],
        "duration_ms": None,
    }


def test_the_worst_history_stays_small() -> None:
    errors = None
    for attempt in range(1, 15):
        job = claimed(attempt=attempt, max_attempts=99, errors=errors)
        error = raised(ValueError("\x01🚀" * 2_000_000 if attempt == 3 else "\x01🚀" * 9_000))
        errors = decide(job, error, POLICY, at=AT).verdict.errors

    assert errors is not None
    assert len(errors.encode()) < 10 * 6 * (MESSAGE_MAX_BYTES + TRACEBACK_MAX_BYTES)


# -- describe ----------------------------------------------------------------------------------


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class Endless(Exception):
    def __str__(self) -> str:
        return str(self)


class NotText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307 - the point of it


HOSTILE: dict[str, tuple[BaseException, str]] = {
    "five megabytes": (ValueError("x" * 5_000_000), "x" * 1997 + "…"),
    "emoji at the cut": (ValueError("x" + "🚀" * 1_000_000), "x" + "🚀" * 499 + "…"),
    "nul": (ValueError("a\x00b"), "a\N{REPLACEMENT CHARACTER}b"),
    "lone surrogate": (ValueError("a\ud800b"), "a\N{REPLACEMENT CHARACTER}b"),
    "str raises": (Mute(), "(its text could not be made: RuntimeError)"),
    "str exits": (Exits(), "(its text could not be made: SystemExit)"),
    "str never ends": (Endless(), "(its text could not be made: RecursionError)"),
    "str is no text": (NotText(), "(its text could not be made: TypeError)"),
    "a retry without words": (Retry(Mute()), "(its text could not be made: RuntimeError)"),  # type: ignore[arg-type]
    "a discard without words": (Discard(Exits()), "(its text could not be made: SystemExit)"),  # type: ignore[arg-type]
    "a number": (ValueError(5), "5"),
    "nothing": (ValueError(), ""),
    "several": (ExceptionGroup("two", [KeyError(1), ValueError(2)]), "two (2 sub-exceptions)"),
}


@pytest.mark.parametrize(("error", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_error_is_described(error: BaseException, message: str) -> None:
    kind, shown, trace = describe(raised(error))

    assert kind == type(error).__name__
    assert shown == message
    assert len(shown.encode()) <= MESSAGE_MAX_BYTES
    assert len(trace.encode()) <= TRACEBACK_MAX_BYTES
    assert "\x00" not in shown + trace
    for outcome in (decided(raised(error)), decided(raised(error), attempt=3)):
        assert outcome.name in ("retried", "failed")
        assert len((outcome.verdict.error or "").encode()) <= MESSAGE_MAX_BYTES
        assert json.loads(outcome.verdict.errors or "")


def test_the_name_of_the_class_is_bounded() -> None:
    error = type("Long" * 1_000_000, (Exception,), {})("x")
    outcome = decided(raised(error), attempt=3)

    assert len(describe(raised(error))[0]) <= 200
    assert len(outcome.verdict.errors or "") < 20_000


@given(st.text(alphabet=st.characters()))
def test_any_message_can_be_stored(text: str) -> None:
    verdict = decided(raised(ValueError(text))).verdict

    for stored in (verdict.error, verdict.errors):
        assert stored is not None
        assert "\x00" not in stored
        stored.encode()


def test_the_traceback_names_the_place() -> None:
    _, _, trace = describe(raised(KeyError("x")))

    assert "test_outcome.py" in trace
    assert "in raised" in trace
    assert trace.endswith("KeyError: 'x'")


def _chained(depth: int, *, explicit: bool) -> BaseException:
    error: BaseException = ValueError("cause 0")
    for number in range(1, depth):
        try:
            try:
                raise error
            except ValueError as earlier:
                later = ValueError(f"cause {number}")
                if explicit:
                    raise later from earlier
                raise later  # noqa: B904 - the implicit context is what is looked at
        except ValueError as caught:
            error = caught
    return error


@pytest.mark.parametrize("explicit", [True, False])
def test_causes_are_told_oldest_first_and_at_most_two(explicit: bool) -> None:
    _, _, trace = describe(Raised(_chained(50, explicit=explicit)))

    places = [trace.find(f"cause {number}") for number in (47, 48, 49)]
    assert places == sorted(places)
    assert -1 not in places
    assert "cause 46" not in trace


def test_a_suppressed_context_stays_hidden() -> None:
    try:
        try:
            raise KeyError("secret detail")
        except KeyError:
            raise ValueError("shown") from None
    except ValueError as error:
        _, _, trace = describe(Raised(error))

    assert "secret detail" not in trace


def test_causes_in_a_circle_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one

    assert describe(Raised(one))[2].count("ValueError") == 3


def test_deep_recursion_is_described() -> None:
    def fall(depth: int) -> int:
        return fall(depth + 1)

    try:
        fall(0)
    except RecursionError as error:
        kind, _, trace = describe(Raised(error))

    assert kind == "RecursionError"
    assert len(trace.encode()) <= TRACEBACK_MAX_BYTES


@pytest.mark.parametrize("ending", [Returned(1), NotStarted(), Expired()], ids=case_id)
def test_an_ending_without_an_error_has_a_name_alone(ending: Any) -> None:
    assert describe(ending) == (type(ending).__name__, "", "")


# -- the pace ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("started", "elapsed", "slots", "marks"),
    [
        (0, 1.0, 5, 5),  # unknown pace: one per slot
        (4, 1.0, 5, 5),
        (1_000, 1.0, 5, 250),
        (10, 0.05, 3, 50),
        (1, 0.0, 3, 250),  # at an instant: as if it had taken a millisecond
        (0, 0.0, 1, 1),
    ],
)
def test_pace_marks(started: int, elapsed: float, slots: int, marks: int) -> None:
    assert pace_marks(started, elapsed, slots, 0.25) == marks
