"""A job whose runner died is told of like any other: `failed` is for good, `retried` is not."""

from __future__ import annotations

from jobs import JobEvent, Tickwork
from jobs.core.clock import ManualClock


def test_listeners_hear_of_jobs_whose_runner_died() -> None:
    clock = ManualClock()
    tickwork = Tickwork(clock=clock)
    heard: list[JobEvent] = []
    for name in ("failed", "retried", "released"):
        tickwork.on(name, heard.append)

    @tickwork.handler("export", max_attempts=2, backoff=0)
    def export(payload: dict[str, object]) -> None: ...

    job = export.enqueue()
    for mark in (0, 1, 1):  # the first runner dies before it starts the job
        tickwork.store.claim(
            1, kinds=frozenset({"export"}), lease_seconds=10, mark=mark, lanes=None
        )
        clock.advance(11)
        tickwork.reclaim()

    assert [(event.name, event.job_id, event.attempt) for event in heard] == [
        ("released", job.id, 1),
        ("retried", job.id, 1),
        ("failed", job.id, 2),
    ]
    assert "runner lost" in (heard[-1].error or "")
