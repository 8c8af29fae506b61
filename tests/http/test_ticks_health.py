"""``/healthz/ticks``: red when ticks stop, while the process itself is well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from jobs import StoreUnavailable, Tickwork
from jobs.core.clock import ManualClock
from jobs.http import create_app, health
from tests.http.conftest import BEARER, SECRET


class Watch(ManualClock):
    """Moves its monotonic time as well."""

    gone = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.gone

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.gone += seconds


@pytest.fixture
def clock() -> Watch:
    return Watch()


@pytest.fixture
def tickwork(clock: Watch) -> Iterator[Tickwork]:
    with closing(
        Tickwork(backend="memory", env="production", cron_secret=SECRET, clock=clock)
    ) as made:
        yield made


def asked(client: Any) -> tuple[int, dict[str, Any]]:
    answer = client.get("/healthz/ticks")
    return answer.status_code, answer.get_json()


def test_it_turns_red_when_no_tick_came_for_three_cadences(
    tickwork: Tickwork, clock: Watch
) -> None:
    client = create_app(tickwork).test_client()
    assert asked(client) == (503, {"status": "never", "age_seconds": None})
    for _ in range(4):
        clock.advance(300)
        assert client.get("/cron/process-jobs", headers=BEARER).status_code == 200
    clock.advance(10)
    assert asked(client) == (200, {"status": "ok", "age_seconds": 10.0})
    clock.advance(889)
    assert asked(client)[0] == 200
    clock.advance(10)
    assert asked(client) == (503, {"status": "late", "age_seconds": 909.0})
    assert client.get("/healthz").status_code == 200, "the process is well"
    client.get("/cron/process-jobs", headers=BEARER)
    clock.advance(6)
    assert asked(client)[0] == 200


def test_kicks_and_chains_do_not_hide_a_silent_cron(tickwork: Tickwork, clock: Watch) -> None:
    client = create_app(tickwork).test_client()
    for _ in range(4):
        clock.advance(60)
        client.get("/cron/process-jobs", headers=BEARER)
    clock.advance(600)
    client.post("/cron/process-jobs", headers={**BEARER, "User-Agent": "tickwork-kick"})
    client.post(
        "/cron/process-jobs",
        headers={**BEARER, "Tickwork-Chain": "0190d2a8-7c1b-7a52-9d26-4b4f5a0c1e77/2"},
    )
    assert [each.trigger for each in tickwork.ticks(3)] == ["chain", "kick", "cron"]
    assert asked(client) == (503, {"status": "late", "age_seconds": 600.0})


def test_how_often_they_come_can_be_said(clock: Watch) -> None:
    with closing(
        Tickwork(backend="memory", env="production", tick_every=20.0, clock=clock)
    ) as made:
        client = create_app(made).test_client()
        made.tick()
        clock.advance(59)
        assert asked(client)[0] == 200
        clock.advance(6)
        assert asked(client)[0] == 503


def test_many_who_ask_cost_the_database_one_look(
    tickwork: Tickwork, clock: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    pulse = tickwork.pulse
    monkeypatch.setattr(tickwork, "pulse", lambda: (looks.append(1), pulse())[1])
    client = create_app(tickwork).test_client()
    for _ in range(50):
        asked(client)
    assert len(looks) == 1
    clock.advance(health.LOOK_SECONDS)
    asked(client)
    assert len(looks) == 2


def test_a_database_that_is_away_is_no_good_sign(
    tickwork: Tickwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> Any:
        raise StoreUnavailable("postgresql://ada:hunter2@db is away")

    monkeypatch.setattr(tickwork, "pulse", gone)
    client = create_app(tickwork).test_client()
    answer = client.get("/healthz/ticks")
    assert answer.status_code == 503
    assert "hunter2" not in answer.get_data(as_text=True)
    assert client.get("/healthz").status_code == 200
