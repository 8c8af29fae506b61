"""Systems that deliver webhooks, and receivers on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobs import Tickwork
from jobs.core.clock import ManualClock
from jobs.stores.memory import MemoryStore
from tests.support.receiver import Receiver, receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PLAIN = "webhook-secret"
SETTINGS: dict[str, Any] = {
    "secret_key": "a-key-of-the-application",
    "webhook_allow": ("127.0.0.1",),
    "auto_start": False,
}
System = Callable[..., Tickwork]


@pytest.fixture
def place() -> Iterator[Receiver]:
    with receiver() as opened:
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def system(clock: ManualClock) -> Iterator[System]:
    made: list[Tickwork] = []

    def make(**settings: Any) -> Tickwork:
        handlers = settings.pop("modules", ["jobs.handlers.webhook"])
        made.append(
            Tickwork(
                store=MemoryStore(clock=clock),
                clock=clock,
                handlers=handlers,
                **{**SETTINGS, **settings},
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def tickwork(system: System) -> Tickwork:
    return system()


def answering(status: int, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status} Said", *headers, f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
