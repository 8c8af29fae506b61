"""The platform's deadline shortens a tick, and whoever forges one gains little."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest

from jobs import JobContext
from jobs.core.deadline import LEAST_LIMIT_SECONDS
from tests.http.conftest import BEARER, Shop, open_shop

TICK = "/cron/process-jobs"
HEADER = "x-vercel-internal-deadline"


@pytest.fixture
def watch() -> Iterator[Shop]:
    """Each job notes how much time it is given."""
    shop = open_shop(timeout=600, time_budget=25, tick_limit=60)

    @shop.tickwork.handler("look")
    def look(payload: dict[str, Any], ctx: JobContext) -> None:
        shop.ran.append(ctx.time_left())

    yield shop
    shop.tickwork.close()


@pytest.fixture
def on_vercel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERCEL", "1")


def given(shop: Shop, **headers: str) -> float:
    """The seconds that a job is given by a tick with these headers."""
    shop.tickwork.enqueue("look")
    answer = shop.client.get(TICK, headers={**BEARER, **headers})
    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["succeeded"] == 1
    seconds: float = shop.ran.pop()
    return seconds


def ahead(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def test_a_deadline_shortens_the_tick(watch: Shop, on_vercel: None) -> None:
    assert 50 < given(watch) < 60
    assert 10 < given(watch, **{HEADER: ahead(20)}) < 20


def test_it_does_not_lengthen_it(watch: Shop, on_vercel: None) -> None:
    assert 50 < given(watch, **{HEADER: ahead(300)}) < 60


@pytest.mark.parametrize("forged", ["", "soon", "0", "1764072000", "9" * 4000, "2026-11-25"])
def test_what_is_no_deadline_changes_nothing(forged: str, watch: Shop, on_vercel: None) -> None:
    assert 50 < given(watch, **{HEADER: forged}) < 60


@pytest.mark.parametrize("forged", ["1970-01-01T00:00:00Z", "2000-01-01T00:00:00+14:00"])
def test_one_that_is_past_leaves_a_tick_its_least(
    forged: str, watch: Shop, on_vercel: None
) -> None:
    assert 0 < given(watch, **{HEADER: forged}) < LEAST_LIMIT_SECONDS


def test_elsewhere_the_header_says_nothing(watch: Shop) -> None:
    assert 50 < given(watch, **{HEADER: ahead(5)}) < 60


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, on_vercel: None) -> ModuleType:
    """A module where Vercel's runtime has its own, which is loaded nowhere else."""
    module = ModuleType("vercel_runtime.deadline")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_vercels_runtime_is_asked_first(watch: Shop, runtime: ModuleType) -> None:
    """It takes the header away from the request before the application sees it."""
    until = datetime.now(UTC) + timedelta(seconds=20)
    vars(runtime)["get_deadline"] = lambda: until

    assert 10 < given(watch) < 20
    assert 10 < given(watch, **{HEADER: ahead(40)}) < 20


def _raise() -> None:
    raise RuntimeError("changed")


@pytest.mark.parametrize("get_deadline", [None, lambda: None, lambda: "soon", _raise])
def test_a_runtime_that_has_changed_is_no_error(
    get_deadline: Any, watch: Shop, runtime: ModuleType
) -> None:
    vars(runtime)["get_deadline"] = get_deadline

    assert 50 < given(watch) < 60
