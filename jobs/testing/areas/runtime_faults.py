"""Handlers that go wrong, in every way that somebody's handler has."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from jobs.core.backoff import fixed
from jobs.core.clock import ManualClock
from jobs.core.context import JobContext
from jobs.core.errors import Retry, Snooze, StoreUnavailable
from jobs.core.job import State
from jobs.core.outcome import HISTORY_MAX_ENTRIES, MESSAGE_MAX_BYTES, TRACEBACK_MAX_BYTES
from jobs.core.store import Store
from jobs.system import Tickwork
from jobs.testing.areas.base import Conformance, MakeTickwork, fetch
from jobs.testing.drain import drain

FIVE_MB = 5_000_000


class MuteError(Exception):
    """Its text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class LeavingError(Exception):
    """Making its text ends the interpreter."""

    def __str__(self) -> str:
        raise SystemExit(3)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__


class UnreadableDict(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("its session is closed")


def _raise(error: BaseException) -> NoReturn:
    raise error


def _causes(depth: int) -> NoReturn:
    try:
        if depth:
            _causes(depth - 1)
    except ValueError as error:
        raise ValueError("x" * 10_000) from error
    raise ValueError("the first")


ERRORS: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: ValueError("no"),
    "5 MB": lambda: ValueError("é" * (FIVE_MB // 2)),
    "emoji at the cut": lambda: ValueError("x" * (MESSAGE_MAX_BYTES - 5) + "😀" * 10),
    "mute": MuteError,
    "leaving in str": LeavingError,
    "NUL": lambda: ValueError("a\x00b"),
    "lone surrogate": lambda: ValueError("a\ud800b"),
    "control": lambda: ValueError("a\x07\x1b[31m\r\n\\ \"'"),
    "odd argument": lambda: ValueError(Unprintable()),
    "long name": lambda: type("N" * 100_000, (Exception,), {})("x"),
    "system exit": lambda: SystemExit(1),
    "keyboard": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "stop": lambda: StopIteration("x"),
    "group": lambda: ExceptionGroup("two", [ValueError("a\x00"), OSError("b")]),
    "database": lambda: StoreUnavailable("of another system"),
}


def _closed_socket() -> socket.socket:
    made = socket.socket()
    made.close()
    return made


def _endless() -> list[Any]:
    inside: list[Any] = []
    inside.append(inside)
    return inside


UNFIT_RESULTS: dict[str, Callable[[], Any]] = {
    "socket": _closed_socket,
    "generator": lambda: (n for n in range(3)),
    "set": lambda: {1, 2},
    "bytes": lambda: b"x",
    "NaN": lambda: float("nan"),
    "integer keys": lambda: {1: 2},
    "unprintable key": lambda: {Unprintable(): 1},
    "unprintable": Unprintable,
    "unreadable": lambda: UnreadableDict(a=1),
    "too large": lambda: "x" * 200_000,
    "too deep": lambda: json.loads("[" * 900 + "]" * 900),
    "endless": _endless,
    "class": lambda: ValueError,
    "huge number": lambda: 10**5000,
}

MENDED: list[tuple[Any, Any]] = [
    ("a\x00b", "a\ufffdb"),
    ({"k\x00": ["x\x00"]}, {"k\ufffd": ["x\ufffd"]}),
    ((1, (2, "😀")), [1, [2, "😀"]]),
    ("null", "null"),
    ("", ""),
    (False, False),
    (0, 0),
    ([], []),
    (None, None),
    (2**70, 2**70),
    ("quote ' \" back \\ {} tab \t", "quote ' \" back \\ {} tab \t"),
]
ODD_PROGRESS: list[tuple[float, str]] = [
    (50.0, "a\x00b"),
    (50.0, "\ud800"),
    (50.0, "😀" * 2000),
    (50.0, "null"),
    (50.0, "x" * 100_000),
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    (-1e308, "below"),
]
STEERING: dict[str, Callable[[], BaseException]] = {
    "retry nan": lambda: Retry(after=float("nan")),
    "retry inf": lambda: Retry(after=float("inf")),
    "retry huge": lambda: Retry(after=1e300),
    "retry negative": lambda: Retry(after=-5),
    "retry text": lambda: Retry(after="soon"),  # type: ignore[arg-type]
    "snooze huge": lambda: Snooze(1e300),
    "snooze nan": lambda: Snooze(float("nan")),
    "snooze text": lambda: Snooze("soon"),  # type: ignore[arg-type]
}


class FaultConformance(Conformance):
    """A fault ends where the promises say, and costs nobody else anything."""

    @pytest.fixture(autouse=True)
    def _quiet(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        # Captured logs of expected faults would bury the report of a real one.
        with caplog.at_level(logging.CRITICAL, logger="tickwork"):
            yield

    @pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
    def test_whatever_is_raised_is_written_down(
        self, tickwork: Tickwork, manual_clock: ManualClock, *, is_async: bool
    ) -> None:
        def bad(payload: dict[str, Any]) -> None:
            _raise(ERRORS[payload["name"]]())

        async def abad(payload: dict[str, Any]) -> None:
            _raise(ERRORS[payload["name"]]())

        tickwork.register_handler("good", lambda payload: "good")
        tickwork.register_handler("bad", abad if is_async else bad, max_attempts=2)
        goods = [tickwork.enqueue("good") for _ in range(5)]
        bads = {name: tickwork.enqueue("bad", {"name": name}) for name in ERRORS}
        goods += [tickwork.enqueue("good") for _ in range(5)]
        result = tickwork.tick(limit=100, time_budget=8, tick_limit=10)
        assert (result.retried, result.succeeded) == (len(bads), 10)
        drain(tickwork)
        assert {fetch(tickwork, job.id).result for job in goods} == {"good"}
        for name, job in bads.items():
            ended = fetch(tickwork, job.id)
            assert (ended.state, ended.attempts) == (State.FAILED, 2), name
            assert ended.error, name
            assert len(ended.error.encode()) <= MESSAGE_MAX_BYTES, name
            assert len(ended.errors) == 2, name
            for entry in ended.errors:
                assert len(entry["message"].encode()) <= MESSAGE_MAX_BYTES, name
                assert len(entry["traceback"].encode()) <= TRACEBACK_MAX_BYTES, name
                assert len(entry["type"]) <= MESSAGE_MAX_BYTES, name
            assert "\\u0000" not in json.dumps(ended.errors), name

    def test_causes_are_told_within_bounds(self, tickwork: Tickwork) -> None:
        tickwork.register_handler("bad", lambda: _causes(30), max_attempts=1)
        job = tickwork.enqueue("bad")
        tickwork.tick()
        (entry,) = fetch(tickwork, job.id).errors
        assert "which led to" in entry["traceback"]
        assert len(entry["traceback"].encode()) <= TRACEBACK_MAX_BYTES

    def test_the_history_is_bounded(self, tickwork: Tickwork, manual_clock: ManualClock) -> None:
        @tickwork.handler("bad", max_attempts=15, backoff=fixed(0))
        def bad(ctx: JobContext) -> None:
            raise ValueError("é" * FIVE_MB)

        job = bad.enqueue()
        drain(tickwork)
        ended = fetch(tickwork, job.id)
        assert [entry["attempt"] for entry in ended.errors] == list(range(6, 16))
        assert len(ended.errors) == HISTORY_MAX_ENTRIES
        assert len(json.dumps(ended.errors, ensure_ascii=False).encode()) < 150_000

    def test_an_unfit_result_does_not_run_the_job_again(self, tickwork: Tickwork) -> None:
        runs = []

        @tickwork.handler("odd")
        def odd(payload: dict[str, Any]) -> Any:
            runs.append(payload["name"])
            return UNFIT_RESULTS[payload["name"]]()

        tickwork.register_handler("good", lambda payload: "good")
        jobs = {name: odd.enqueue({"name": name}) for name in UNFIT_RESULTS}
        tickwork.enqueue("good")
        result = tickwork.tick(limit=100, time_budget=8, tick_limit=10)
        assert result.succeeded == len(jobs) + 1
        assert tickwork.tick().processed == 0
        assert sorted(runs) == sorted(jobs)
        for name, job in jobs.items():
            ended = fetch(tickwork, job.id)
            assert (ended.state, ended.result) == (State.COMPLETED, None), name
            assert ended.error is not None, name
            assert ended.error.startswith("result unavailable"), name

    def test_a_result_that_can_be_mended_is_kept(self, tickwork: Tickwork) -> None:
        tickwork.register_handler("odd", lambda payload: MENDED[payload["n"]][0])
        jobs = [tickwork.enqueue("odd", {"n": n}) for n in range(len(MENDED))]
        assert tickwork.tick(limit=100).succeeded == len(MENDED)
        for job, (given, stored) in zip(jobs, MENDED, strict=True):
            ended = fetch(tickwork, job.id)
            assert ended.result == stored, repr(given)
            assert ended.error is None, repr(given)

    @pytest.mark.parametrize("by", ["flush", "checkpoint", "end"])
    def test_odd_progress_harms_nobody(
        self, make_tickwork: MakeTickwork, gate: threading.Event, by: str
    ) -> None:
        tickwork = make_tickwork(concurrency=len(ODD_PROGRESS) + 1)
        tickwork.register_handler("good", lambda payload: "good")

        @tickwork.handler("odd")
        def odd(payload: dict[str, Any], ctx: JobContext) -> None:
            ctx.progress(*ODD_PROGRESS[payload["n"]])
            if by == "checkpoint":
                ctx.checkpoint()
            elif by == "flush":
                gate.wait(0.6)

        jobs = [odd.enqueue({"n": n}) for n in range(len(ODD_PROGRESS))]
        good = tickwork.enqueue("good")
        result = tickwork.tick(limit=20, time_budget=8, tick_limit=10)
        assert fetch(tickwork, good.id).state is State.COMPLETED
        assert result.succeeded == len(jobs) + 1
        for job, (_, note) in zip(jobs, ODD_PROGRESS, strict=True):
            ended = fetch(tickwork, job.id)
            assert ended.progress == 100.0
            if "\x00" not in note and note.isascii():
                assert ended.progress_note == note[:500]

    def test_odd_steering_harms_nobody(self, tickwork: Tickwork) -> None:
        tickwork.register_handler("good", lambda payload: "good")
        tickwork.register_handler(
            "odd", lambda payload: _raise(STEERING[payload["name"]]()), max_attempts=5
        )
        jobs = {name: tickwork.enqueue("odd", {"name": name}) for name in STEERING}
        good = tickwork.enqueue("good")
        result = tickwork.tick(limit=100, time_budget=8, tick_limit=10)
        assert fetch(tickwork, good.id).state is State.COMPLETED
        assert result.retried + result.snoozed == len(jobs)
        for name, job in jobs.items():
            waiting = fetch(tickwork, job.id)
            assert waiting.state is State.PENDING, name
            assert waiting.run_at >= waiting.created_at, name

    @pytest.mark.parametrize("seconds", [1e15, 1e300, 0.0])
    def test_an_endless_backoff_harms_nobody(self, tickwork: Tickwork, seconds: float) -> None:
        tickwork.register_handler("odd", lambda: _raise(ValueError()), backoff=fixed(seconds))
        tickwork.register_handler("good", lambda payload: "good")
        odd, good = tickwork.enqueue("odd"), tickwork.enqueue("good")
        assert tickwork.tick().retried == 1
        assert fetch(tickwork, good.id).state is State.COMPLETED
        assert fetch(tickwork, odd.id).state is State.PENDING

    def test_a_refused_touch_loses_no_job(self, store: Store, make_tickwork: MakeTickwork) -> None:
        """The database goes away at the moment when start marks are written."""
        refused: list[Any] = []

        def touch(*args: Any, **options: Any) -> Any:
            if not refused:
                refused.append(args)
                raise StoreUnavailable("gone for a moment")
            return type(store).touch(store, *args, **options)

        tickwork = make_tickwork(concurrency=1)
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.enqueue_many([("alpha", {})] * 8)
        store.touch = touch  # type: ignore[method-assign]
        assert tickwork.tick(limit=8, time_budget=5, tick_limit=10).succeeded == 8
        assert refused
