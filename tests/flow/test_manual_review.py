"""A128: what cannot be decided by code waits as a dead letter for somebody to look at it."""

from __future__ import annotations

from typing import Any

from jobs import Discard, State, Tickwork
from tests.support.databases import Database


def test_what_needs_a_person_is_listed_read_mended_and_run_again(database: Database) -> None:
    tickwork = Tickwork(database.url)
    tickwork.create_schema()
    tickwork.queues("ecommerce")
    approved: set[int] = set()

    @tickwork.handler("high-value-order", queue="manual-review")
    def review(payload: dict[str, Any]) -> str:
        if payload["order"] not in approved:
            raise Discard(f"order {payload['order']} is above Rs 50,000: somebody has to look")
        return "released"

    orders = {number: review.enqueue({"order": number}).id for number in (1, 2)}
    assert [tickwork.tick().failed for _ in orders] == [1, 1]  # one at a time
    letters = tickwork.dead_letters(10)
    assert {job.id for job in letters} == set(orders.values())
    assert all("above Rs 50,000" in str(job.error) for job in letters)
    assert tickwork.tick().processed == 0  # nothing but a person puts them back

    approved.add(1)
    tickwork.retry(orders[1], by="ada")
    assert tickwork.tick().succeeded == 1
    released = tickwork.get(orders[1])
    assert released is not None
    assert (released.state, released.result) == (State.COMPLETED, "released")
    assert [job.id for job in tickwork.dead_letters(10)] == [orders[2]]
    tickwork.close()
