"""The heartbeat: a watchdog outside is told of ticks, and can harm none."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from jobs import StoreUnavailable, Tickwork
from jobs.doorbells import heartbeat
from jobs.doorbells.heartbeat import failing
from tests.support.receiver import OK, Receiver, Request, receiver
from tests.support.web import eventually


@pytest.fixture
def watchdog() -> Iterator[Receiver]:
    with receiver() as place:
        yield place


@pytest.fixture
def tickwork(watchdog: Receiver) -> Iterator[Tickwork]:
    with closing(
        Tickwork(
            backend="memory",
            poll_interval=0.1,
            heartbeat_url=f"{watchdog.url}/ping/s3cr3t-uuid?rid=1",
        )
    ) as made:
        yield made


def lines(watchdog: Receiver) -> list[str]:
    return [each.line for each in watchdog.requests]


WELL = "GET /ping/s3cr3t-uuid?rid=1 HTTP/1.1"
FAILED = "GET /ping/s3cr3t-uuid/fail?rid=1 HTTP/1.1"


def test_each_tick_calls(tickwork: Tickwork, watchdog: Receiver) -> None:
    for _ in range(3):
        tickwork.tick(trigger="cron")
    assert lines(watchdog) == [WELL] * 3


def test_a_tick_that_fails_says_so_and_so_does_the_next_that_does_not(
    tickwork: Tickwork, watchdog: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: Any) -> Any:
        raise StoreUnavailable("the database is away")

    tickwork.tick()
    with monkeypatch.context() as patched:
        patched.setattr(tickwork.store, "probe", away)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                tickwork.tick()
    tickwork.tick()
    assert lines(watchdog) == [WELL, FAILED, FAILED, WELL]


def test_a_worker_calls_once_a_minute_and_at_once_of_other_news(
    tickwork: Tickwork, watchdog: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.runtime.stream.FIRST_REST_SECONDS", 0.01)
    looks: list[str] = []
    probe = tickwork.store.probe

    def looked(*given: Any, **named: Any) -> Any:
        looks.append("look")
        if 3 < len(looks) < 6:
            raise StoreUnavailable("the database is away")
        return probe(*given, **named)

    monkeypatch.setattr(tickwork.store, "probe", looked)
    worker = tickwork.worker()
    worker.start()
    try:
        assert eventually(lambda: bool(watchdog.requests))
        assert eventually(lambda: len(looks) > 8)
    finally:
        worker.stop(5)
        assert worker.wait(20)
    assert lines(watchdog) == [WELL, FAILED, WELL]


def test_ticks_that_come_when_jobs_do_say_nothing(tickwork: Tickwork, watchdog: Receiver) -> None:
    """They would tell the watchdog that a cron is well which has died."""
    for trigger in ("kick", "chain", "sqs"):
        tickwork.tick(trigger=trigger)
    assert watchdog.requests == []


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b"junk\r\n\r\n"]
)
def test_a_watchdog_in_trouble_fails_no_tick_and_keeps_its_secret(
    tickwork: Tickwork,
    watchdog: Receiver,
    answer: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watchdog.answer = lambda _: answer
    with caplog.at_level(logging.DEBUG, "tickwork"):
        tickwork.tick()
        tickwork.tick()
        assert len(watchdog.requests) == 2
        watchdog.answer = lambda _: OK
        tickwork.tick()
    told = [each.getMessage() for each in caplog.records if each.name == "tickwork.heartbeat"]
    assert len(told) == 2, "once when it begins, once when it is over"
    assert "127.0.0.1" in told[0]
    assert "s3cr3t" not in caplog.text


def test_a_redirect_is_not_followed(tickwork: Tickwork, watchdog: Receiver) -> None:
    watchdog.answer = lambda _: (
        b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    )
    tickwork.tick()
    assert lines(watchdog) == [WELL]


def test_a_silent_watchdog_delays_a_tick_by_its_timeout_at_most(
    tickwork: Tickwork, watchdog: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "ANSWER_SECONDS", 0.2)
    over = threading.Event()

    def dawdle(_: Request) -> bytes:
        over.wait(30)
        return OK

    watchdog.answer = dawdle
    begun = time.monotonic()
    tickwork.tick()
    assert time.monotonic() - begun < 25
    over.set()


def test_nobody_there_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with receiver() as gone:
        url = gone.url
    with closing(Tickwork(backend="memory", heartbeat_url=url)) as tickwork:
        tickwork.tick()
        tickwork.tick()
    assert caplog.text.count("could not be called") == 1


def test_fail_goes_behind_the_path() -> None:
    assert failing("https://hc-ping.com/uuid") == "https://hc-ping.com/uuid/fail"
    assert failing("https://hc-ping.com/uuid/") == "https://hc-ping.com/uuid/fail"
    assert failing("https://watch.example") == "https://watch.example/fail"
