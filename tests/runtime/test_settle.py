"""A finish that the database refuses: the others are written, and the job does not run for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from jobs import JobContext, Tickwork
from jobs.core.clock import ManualClock
from jobs.core.store import Verdict
from jobs.stores.memory import MemoryStore


class PickyStore(MemoryStore):
    """Refuses a whole batch for one word in it, as a database does; nothing of it is written."""

    word = "poison"

    def settle(self, verdicts: Sequence[Verdict], *, stalled_only: bool = False) -> frozenset[str]:
        for verdict in verdicts:
            if any(self.word in str(part) for part in verdict):
                raise ValueError(f"the driver refuses {self.word}")
        return super().settle(verdicts, stalled_only=stalled_only)


@pytest.fixture
def tickwork() -> Iterator[Tickwork]:
    system = Tickwork(store=PickyStore(clock=ManualClock()))
    yield system
    system.close()


def test_a_refused_result_ends_its_job_and_no_other(tickwork: Tickwork) -> None:
    tickwork.register_handler("mail", lambda payload: payload["says"])
    words = ["good", "poison", "better"]
    ids = tickwork.enqueue_many([("mail", {"says": word}) for word in words])
    result = tickwork.tick()
    jobs: list[Any] = [tickwork.get(job_id) for job_id in ids]

    assert (result.succeeded, result.late) == (3, 0)
    assert [job.status for job in jobs] == ["completed"] * 3
    assert [job.result for job in jobs] == ["good", None, "better"]
    assert jobs[1].error == "result unavailable: the database refused it (ValueError)"


@pytest.mark.parametrize(("attempts", "status"), [(1, "failed"), (3, "pending")])
def test_a_refused_error_does_not_change_what_becomes_of_the_job(
    tickwork: Tickwork, attempts: int, status: str
) -> None:
    @tickwork.handler("mail", max_attempts=attempts)
    def send(payload: dict[str, Any], ctx: JobContext) -> None:
        ctx.progress(30, "poison")
        raise RuntimeError("poison")

    job = send.enqueue({})
    tickwork.tick()

    found = tickwork.get(job.id)
    assert found is not None
    assert (found.status, found.attempts, found.error) == (status, 1, "error unavailable")
    assert (found.progress, found.progress_note, found.errors) == (30.0, None, [])


def test_a_refused_result_of_a_lost_job_is_late(tickwork: Tickwork) -> None:
    """One by one, too, only rows that are still held are written."""
    store = tickwork.store

    @tickwork.handler("mail")
    def send(payload: dict[str, Any], ctx: JobContext) -> str:
        if payload["loses"]:
            store.settle([Verdict(ctx.job_id, ctx.fence, "cancelled")])
        return "poison"

    lost, held = send.enqueue({"loses": True}), send.enqueue({"loses": False})
    result = tickwork.tick()
    jobs: list[Any] = [tickwork.get(job.id) for job in (lost, held)]

    assert (result.succeeded, result.late) == (1, 1)
    assert [job.status for job in jobs] == ["cancelled", "completed"]
