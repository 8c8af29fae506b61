"""With a queue beside the table a schedule's job is rung like any other."""

from __future__ import annotations

from contextlib import closing

from jobs import Tickwork
from jobs.core.clock import ManualClock
from jobs.doorbells.sqs import SqsDoorbell
from tests.support.queues import Queue


def test_a_slot_rings(queue: Queue, sqlite_url: str) -> None:
    clock = ManualClock()
    with closing(Tickwork(sqlite_url, clock=clock, doorbell=SqsDoorbell(queue.url))) as tickwork:
        tickwork.create_schema()
        tickwork.register_handler("report", lambda payload: None)
        tickwork.schedule("hourly", "@hourly", "report")
        tickwork.tick()
        assert queue.messages() == []
        clock.advance(3600)
        result = tickwork.tick()
        assert (result.scheduled, result.processed) == (1, 0), "ticks ring; they do not run"
        (job,) = tickwork.list()
        assert [message.job_id for message in queue.messages()] == [job.id]
