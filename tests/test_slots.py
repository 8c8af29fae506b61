"""What goes wrong around a handler, in the threads that run them."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest

from jobs import State, Tickwork
from jobs.core.deadline import Fitting, fit


def test_a_fault_around_a_handler_fails_its_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """And neither kills its slot nor leaves the tick waiting for a job without an end."""
    tickwork = Tickwork(concurrency=1)
    for kind in ("alpha", "beta"):
        tickwork.register_handler(kind, lambda payload: "done")
    find = tickwork.registry.get

    def get(kind: str) -> Any:
        if kind == "beta":
            raise LookupError("a broken registry")
        return find(kind)

    monkeypatch.setattr(tickwork.registry, "get", get)
    bad = tickwork.enqueue("beta", priority=1)
    goods = [tickwork.enqueue("alpha").id for _ in range(3)]
    result = tickwork.tick(time_budget=2, tick_limit=4)
    assert (result.retried, result.succeeded) == (1, 3)
    assert {job.status for job in map(tickwork.get, goods) if job} == {State.COMPLETED}
    told = tickwork.get(bad.id)
    assert told is not None
    assert told.error == "LookupError: a broken registry"


def test_only_one_oversize_job_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)

    def slow_fit(*args: Any, **options: Any) -> Fitting:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        return fit(*args, **options)

    monkeypatch.setattr("jobs.runtime.execute.fit", slow_fit)
    tickwork = Tickwork(concurrency=2)

    @tickwork.handler("oversize", timeout=3600, max_attempts=1)
    def oversize(payload: dict[str, Any]) -> None:
        raise ValueError("so that nobody learns how long it usually takes")

    tickwork.enqueue_many([("oversize", {})] * 2)
    result = tickwork.tick()
    assert (result.failed, result.released) == (1, 1)
