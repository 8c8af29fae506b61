"""A system that receives webhooks, and what providers would send to it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jobs import Tickwork
from jobs.core.clock import ManualClock
from jobs.handlers.incoming import on_webhook
from jobs.http import create_app
from jobs.stores.memory import MemoryStore
from tests.incoming.vectors import AT, VECTORS, Vector

CLOCK_AT = datetime.fromtimestamp(AT, UTC)
HUSH = "hush-this-is-shopify"
SECRETS = {f"{vector.provider}_webhook_secrets": (vector.secret,) for vector in VECTORS}
Door = Callable[..., Tickwork]


@pytest.fixture
def door() -> Iterator[Door]:
    """A system in production's clothes, whose clock stands where the vectors were signed."""
    made: list[Tickwork] = []

    def make(**settings: Any) -> Tickwork:
        clock = ManualClock(CLOCK_AT)
        given = {"env": "production", "backend": "memory", **SECRETS, **settings}
        made.append(Tickwork(store=MemoryStore(clock=clock), clock=clock, **given))
        return made[-1]

    yield make
    for each in made:
        each.close()


def handles(
    tickwork: Tickwork, provider: str, event: str | None = None, **options: Any
) -> list[Any]:
    """Declare a handler; returns what it will be given."""
    seen: list[Any] = []

    @on_webhook(provider, event, **options)
    def note(event: dict[str, Any]) -> None:
        seen.append(event)

    tickwork.register(note)
    return seen


def client_of(tickwork: Tickwork) -> FlaskClient:
    return create_app(tickwork).test_client()


def send(client: FlaskClient, vector: Vector, **more: Any) -> TestResponse:
    given = {"data": vector.body, "headers": vector.headers, **more}
    return client.post(f"/webhooks/{vector.provider}", **given)


def shopify(body: bytes, secret: str = HUSH, **headers: str) -> dict[str, Any]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    named = {f"x-shopify-{name.replace('_', '-')}": text for name, text in headers.items()}
    signed = {"x-shopify-hmac-sha256": base64.b64encode(digest).decode(), **named}
    return {"path": "/webhooks/shopify", "data": body, "headers": signed}
