"""The kick on the wire: what is sent, when, how often, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from vercel.cache.context import set_context

from jobs.core.doorbell import Kicker, Ring
from jobs.doorbells import http
from jobs.doorbells.http import KickDoorbell
from tests.support.certificates import self_signed, serving_tls
from tests.support.receiver import OK, Receiver, Request, receiver
from tests.support.web import eventually

SECRET = "correct-horse-battery-staple"
NOW = Ring("0190", "mail", 0.0)


@pytest.fixture
def place() -> Iterator[Receiver]:
    with receiver() as opened:
        yield opened


MakeBell = Callable[..., KickDoorbell]


@pytest.fixture
def bell() -> Iterator[MakeBell]:
    made: list[KickDoorbell] = []

    def make(url: str, debounce_seconds: float = 0.0, **options: Any) -> KickDoorbell:
        made.append(KickDoorbell(url, SECRET, debounce_seconds=debounce_seconds, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
        assert eventually(lambda each=each: not each._state.unanswered)


def settled(place: Receiver, count: int) -> bool:
    """Whether so many requests came, and no more while nothing goes on any longer."""
    if not eventually(lambda: len(place.requests) >= count):
        return False
    time.sleep(0.3)
    return len(place.requests) == count


# -- what is sent ------------------------------------------------------------------------------


def test_a_kick_is_a_post_with_the_secret_and_no_body(bell: MakeBell, place: Receiver) -> None:
    kick = bell(f"{place.url}/shop/")
    kick.ring([NOW])

    assert eventually(lambda: bool(place.requests))
    (asked,) = place.requests
    assert asked.line == "POST /shop/cron/process-jobs HTTP/1.1"
    assert asked.headers["authorization"] == f"Bearer {SECRET}"
    assert asked.headers["host"] == f"127.0.0.1:{place.port}"
    assert asked.headers["content-length"] == "0"
    assert "x-vercel-protection-bypass" not in asked.headers
    assert isinstance(kick, Kicker)


def test_it_passes_deployment_protection_with_the_bypass(bell: MakeBell, place: Receiver) -> None:
    bell(place.url, bypass_secret="b" * 32).ring([NOW])

    assert eventually(lambda: bool(place.requests))
    assert place.requests[0].headers["x-vercel-protection-bypass"] == "b" * 32


def test_a_tick_says_which_chain_it_goes_on_with(bell: MakeBell, place: Receiver) -> None:
    assert bell(place.url).kick({"Tickwork-Chain": "abc/2"})
    assert eventually(lambda: bool(place.requests))
    assert place.requests[0].headers["tickwork-chain"] == "abc/2"


def test_the_answer_is_not_waited_for(bell: MakeBell, place: Receiver) -> None:
    """A tick may take a minute; whoever enqueued goes on once the request is written."""
    ends = threading.Event()

    def hang(_: Request) -> bytes:
        ends.wait(30)
        return OK

    place.answer = hang
    bell(place.url).ring([NOW])
    assert eventually(lambda: bool(place.requests)), "written, though nobody has answered"
    assert not ends.is_set()
    ends.set()


def test_a_warm_connection_is_used_again(bell: MakeBell, place: Receiver) -> None:
    kick = bell(place.url)
    for number in range(1, 4):
        assert kick.kick({})
        assert eventually(lambda number=number: len(place.requests) == number)
        assert eventually(lambda: not kick._state.unanswered)

    assert {asked.connection for asked in place.requests} == {1}


def test_a_connection_that_was_closed_meanwhile_is_not_used_again(
    bell: MakeBell, place: Receiver
) -> None:
    place.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    kick = bell(place.url)
    assert kick.kick({})
    assert eventually(lambda: bool(kick._state._lines))
    kick._state._lines[0].sock.shutdown(socket.SHUT_RDWR)  # as its other end does after a while
    assert kick.kick({})

    assert eventually(lambda: len(place.requests) == 2)
    assert [asked.connection for asked in place.requests] == [1, 2]


# -- when, and how often -----------------------------------------------------------------------


def test_many_commits_are_few_kicks_and_the_last_comes_after_the_last(
    bell: MakeBell, place: Receiver
) -> None:
    kick = bell(place.url, 0.2)
    begun = time.monotonic()
    for _ in range(200):
        kick.ring([NOW])
    rung_at = time.monotonic()
    most = 2 + int((rung_at - begun) / 0.2)

    assert eventually(lambda: any(asked.at >= rung_at for asked in place.requests))
    time.sleep(0.5)
    assert 2 <= len(place.requests) <= most + 1
    gaps = [two.at - one.at for one, two in zip(place.requests, place.requests[1:], strict=False)]
    assert min(gaps) > 0.1


def test_a_single_commit_is_a_single_kick(bell: MakeBell, place: Receiver) -> None:
    bell(place.url, 0.05).ring([NOW])

    assert settled(place, 1)


def test_a_job_that_is_due_soon_is_kicked_for_when_it_is(bell: MakeBell, place: Receiver) -> None:
    begun = time.monotonic()
    bell(place.url).ring([Ring("0190", "mail", 0.4)])

    assert settled(place, 1)
    assert place.requests[0].at - begun >= 0.4


def test_a_job_that_is_due_later_is_left_to_the_cron(bell: MakeBell, place: Receiver) -> None:
    kick = bell(place.url)
    kick.ring([Ring("0190", "mail", http.SOON_SECONDS + 1)])
    kick.ring([])

    assert settled(place, 0)
    assert not kick._state.planned


def test_no_more_ticks_are_asked_for_than_answer(
    bell: MakeBell, place: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MOST_UNANSWERED", 2)
    ends = threading.Event()

    def hang(_: Request) -> bytes:
        ends.wait(30)
        return OK

    place.answer = hang
    kick = bell(place.url)
    for _ in range(5):
        kick.ring([NOW])
    assert settled(place, 2)
    ends.set()
    assert eventually(lambda: len(place.requests) >= 3), "the one that waited goes then"


# -- when it fails -----------------------------------------------------------------------------


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


def test_nobody_there_is_told_once_until_somebody_is(
    bell: MakeBell, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REST_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "tickwork.kick")
    port = closed_port()
    kick = bell(f"http://127.0.0.1:{port}")
    for _ in range(3):
        kick.ring([NOW])
        assert not kick.kick({})
        assert eventually(lambda: not kick._state.unanswered)
    (told,) = caplog.messages
    assert "JOBS" in told or "cron" in told
    assert SECRET not in caplog.text

    with receiver() as place:
        kick._parts = kick._parts._replace(netloc=f"127.0.0.1:{place.port}")
        assert kick.kick({})
        assert eventually(lambda: "kicks arrive again" in caplog.messages)


def test_after_a_failure_nobody_waits_for_a_while(bell: MakeBell) -> None:
    kick = bell(f"http://127.0.0.1:{closed_port()}")
    kick.ring([NOW])
    assert eventually(lambda: kick._state.resting_until > 0)
    assert eventually(lambda: not kick._state.unanswered)
    threads = threading.active_count()
    for _ in range(100):
        kick.ring([NOW])
        assert not kick.kick({})
    assert threading.active_count() <= threads + 1
    assert eventually(lambda: not kick._state.planned), "and nothing is saved up for later"


def test_a_silent_end_holds_nobody_up_for_long(
    bell: MakeBell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection and says nothing: no TLS, no answer, for as long as one waits."""
    monkeypatch.setattr(http, "SEND_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        kick = bell(f"https://127.0.0.1:{deaf.getsockname()[1]}")
        begun = time.monotonic()
        kick.ring([NOW])
        assert time.monotonic() - begun < 10, "far less than the minute of an answer"
        assert eventually(lambda: not kick._state.unanswered)


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (401, "CRON_SECRET"),
        (403, "firewall"),
        (404, "JOBS_KICK_URL"),
        (405, "JOBS_KICK_URL"),
        (500, "log"),
    ],
)
def test_a_refusal_names_the_mend(
    bell: MakeBell, status: int, mend: str, place: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    place.answer = lambda _: f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
    bell(place.url).ring([NOW])

    assert eventually(lambda: bool(caplog.messages))
    (told,) = caplog.messages
    assert str(status) in told
    assert mend in told
    assert SECRET not in caplog.text


def test_a_busy_end_is_no_failure(
    bell: MakeBell, place: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """503: as many ticks run there as may, and they take what is due."""
    place.answer = lambda _: b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    kick = bell(place.url)
    assert kick.kick({})
    assert eventually(lambda: not kick._state.unanswered)
    assert kick.kick({})
    assert caplog.messages == []


def test_a_redirect_is_not_followed_and_takes_no_secret_along(
    bell: MakeBell, place: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver() as elsewhere:
        to = f"{elsewhere.url}/login?next=x".encode()
        place.answer = lambda _: (
            b"HTTP/1.1 307 Go\r\nLocation: " + to + b"\r\nContent-Length: 0\r\n\r\n"
        )
        bell(place.url).ring([NOW])

        assert eventually(lambda: bool(caplog.messages))
        assert "not followed" in caplog.text
        assert f"{elsewhere.url}/login" in caplog.text
        assert settled(elsewhere, 0)


def test_a_line_that_is_cut_is_nobodys_error(
    bell: MakeBell, place: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    place.answer = lambda _: b""
    bell(place.url).ring([NOW])

    assert eventually(lambda: bool(caplog.messages))


def test_through_no_proxy(bell: MakeBell, place: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")

    assert bell(place.url).kick({})


# -- TLS ---------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return self_signed(tmp_path)


def test_an_end_that_cannot_prove_itself_gets_no_secret(
    bell: MakeBell, certificate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver(serving_tls(certificate)) as place:
        bell(f"https://localhost:{place.port}").ring([NOW])

        assert eventually(lambda: bool(caplog.messages))
        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
        assert place.requests == []


def test_one_that_proves_itself_does(
    bell: MakeBell,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with receiver(serving_tls(certificate)) as place:
        assert bell(f"https://localhost:{place.port}").kick({})
        assert eventually(lambda: len(place.requests) == 1)

        wrong_name = bell(f"https://127.0.0.1:{place.port}")
        wrong_name.ring([NOW])
        assert eventually(lambda: bool(caplog.messages))
        assert len(place.requests) == 1


# -- processes ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_process_kicks_by_itself(bell: MakeBell, place: Receiver) -> None:
    """A server that loads the application first and forks its workers then."""
    kick = bell(place.url)
    assert kick.kick({})
    assert eventually(lambda: bool(kick._state._lines))
    child = os.fork()
    if child == 0:
        kick.ring([NOW])
        os._exit(0)
    os.waitpid(child, 0)

    assert eventually(lambda: len(place.requests) == 2)
    assert place.requests[1].connection == 2


def test_an_instance_is_kept_awake_for_what_is_put_off(bell: MakeBell, place: Receiver) -> None:
    """As Vercel's runtime does it: what a request hands over is awaited after the response."""
    handed: list[Awaitable[object]] = []
    kick = bell(place.url, debounce_seconds=0.1)
    kick.ring([NOW])
    kick.ring([NOW])  # outside a request nobody is asked
    assert settled(place, 2)
    set_context(wait_until=handed.append)
    try:
        kick.ring([NOW])
        kick.ring([NOW])
        kick.ring([Ring("0191", "mail", 0.2)])
    finally:
        set_context(wait_until=None)

    assert len(handed) == 2, "the first was written at once"

    async def after_the_response() -> None:
        await asyncio.gather(*handed)

    asyncio.run(after_the_response())
    assert len(place.requests) == 5


def test_an_instance_is_kept_awake_no_longer_than_its_kicks_can_take(
    bell: MakeBell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "SOON_SECONDS", 0.3)
    monkeypatch.setattr(http, "SEND_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kick = bell(f"http://127.0.0.1:{silent.getsockname()[1]}", debounce_seconds=60.0)
        kick.ring([NOW])
        kick.ring([NOW])
        begun = time.monotonic()
        kick._until_sent()
        assert 0.5 < time.monotonic() - begun < 2.0
        kick.close()
        assert kick._until_sent() is None
