"""What a job is told that did not end in time: its own timeout, or the end of the tick."""

from __future__ import annotations

import threading

import pytest

from jobs import Tickwork


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (0.05, "its timeout is 0.05 s"),
        (None, "the tick that ran it ends there"),
        (60.0, "the tick that ran it ends there (its timeout is 60 s)"),
    ],
)
def test_the_error_says_what_cut_the_job_off(declared: float | None, said: str) -> None:
    tickwork = Tickwork()
    over = threading.Event()

    @tickwork.handler("hang", timeout=declared)
    def hang(payload: dict[str, object]) -> None:
        over.wait(30)

    job = hang.enqueue()
    try:
        result = tickwork.tick(time_budget=0.2, tick_limit=0.3)
    finally:
        over.set()

    assert result.retried == 1
    ended = tickwork.get(job.id)
    assert ended is not None
    assert ended.error is not None
    assert ended.error.endswith(said)
