"""A system in production's clothes, with a secret, and jobs that leave a trace when they run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask.testing import FlaskClient

from jobs import State, Tickwork
from jobs.http import create_app

SECRET = "correct-horse-battery-staple"
ADMIN = "an-admin-token-of-some-length"
BEARER = {"Authorization": f"Bearer {SECRET}"}


@dataclass
class Shop:
    """A Tickwork behind its application, with one job waiting."""

    tickwork: Tickwork
    client: FlaskClient
    ran: list[Any] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        return len(self.tickwork.list(state=State.PENDING, limit=2000))


def open_shop(**settings: Any) -> Shop:
    """In production on the in-memory store, unless ``settings`` say otherwise."""
    if "database_url" not in settings:
        settings.setdefault("backend", "memory")
    tickwork = Tickwork(
        **{"env": "production", "cron_secret": SECRET, "admin_token": ADMIN, **settings}
    )
    app = create_app(tickwork)
    shop = Shop(tickwork, app.test_client())

    @tickwork.handler("note", max_attempts=1)
    def note(payload: dict[str, Any]) -> None:
        shop.ran.append(payload.get("n"))
        if payload.get("n") == "bad":
            raise ValueError("bad note")

    return shop


@pytest.fixture
def shop() -> Iterator[Shop]:
    opened = open_shop()
    opened.tickwork.enqueue("note", {"n": 1})
    yield opened
    opened.tickwork.close()
