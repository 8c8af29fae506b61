"""Two claims whose transactions are open at the same time get disjoint rows, and neither gets none.

The second claim is made from within the first one's commit, so both are certain to be open at once.
SQLite has one writer: there the second claim cannot begin before the first has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event

from jobs.core.clock import ManualClock
from jobs.core.job import Claimed
from jobs.stores.sql import SqlStore
from jobs.testing.areas.base import claim, claimed_ids, new_job, put
from tests.support.databases import Database


@pytest.fixture(params=["postgresql", "mysql"])
def concurrent_database(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(f"{request.param}_database")
    return database


@pytest.fixture
def stores(concurrent_database: Database) -> Iterator[tuple[SqlStore, SqlStore]]:
    clock = ManualClock()
    pair = (
        SqlStore(concurrent_database.url, clock=clock),
        SqlStore(concurrent_database.url, clock=clock),
    )
    pair[0].create_schema()
    # A claim of one statement commits by itself; here it is held open, to look inside.
    for store in pair:
        store.sql.autocommits = False  # type: ignore[misc]
    yield pair
    for store in pair:
        store.close()


def claim_within_claim(
    stores: tuple[SqlStore, SqlStore], limits: tuple[int, int], **options: Any
) -> tuple[list[Claimed], list[Claimed]]:
    outer, inner = stores
    seconds: list[list[Claimed]] = []

    @event.listens_for(outer.engine, "commit", once=True)
    def while_it_is_open(_connection: object) -> None:
        seconds.append(claim(inner, limits[1], **options))

    first = claim(outer, limits[0], **options)
    (second,) = seconds
    return first, second


def test_one_lane(stores: tuple[SqlStore, SqlStore]) -> None:
    ids = put(stores[0], *[new_job() for _ in range(20)])
    first, second = claim_within_claim(stores, (5, 5))
    assert claimed_ids(first) == ids[:5]
    assert claimed_ids(second) == ids[5:10]


def test_by_ids(stores: tuple[SqlStore, SqlStore]) -> None:
    ids = put(stores[0], *[new_job() for _ in range(20)])
    first, second = claim_within_claim(stores, (5, 5), ids=ids)
    assert claimed_ids(first) == ids[:5]
    assert claimed_ids(second) == ids[5:10]


def test_many_lanes_of_one_priority(stores: tuple[SqlStore, SqlStore]) -> None:
    ids = put(stores[0], *[new_job(queue=f"q{n % 7}") for n in range(40)])
    first, second = claim_within_claim(stores, (10, 10))
    assert claimed_ids(first) == ids[:10]
    assert len(second) == 10
    assert not {job.id for job in first} & {job.id for job in second}


def test_a_better_lane_that_is_all_taken(stores: tuple[SqlStore, SqlStore]) -> None:
    """The best rows are in another's hands: the next best are free."""
    best = put(stores[0], *[new_job("beta", priority=1) for _ in range(5)])
    next_best = put(stores[0], *[new_job() for _ in range(20)])
    first, second = claim_within_claim(stores, (5, 8), mark=2)
    assert claimed_ids(first) == best
    assert claimed_ids(second) == next_best[:8]
    assert [job.marked for job in second] == [True, True] + [False] * 6
    assert claimed_ids(claim(stores[0], 100)) == next_best[8:]


def test_a_little_left_in_the_better_lane(stores: tuple[SqlStore, SqlStore]) -> None:
    best = put(stores[0], *[new_job("beta", priority=1) for _ in range(6)])
    middle = put(stores[0], *[new_job("gamma", priority=2) for _ in range(2)])
    last = put(stores[0], *[new_job() for _ in range(20)])
    first, second = claim_within_claim(stores, (5, 8), mark=4)
    assert claimed_ids(first) == best[:5]
    assert claimed_ids(second) == [*best[5:], *middle, *last[:5]]
    assert [job.marked for job in second] == [True] * 4 + [False] * 4


def test_nothing_left(stores: tuple[SqlStore, SqlStore]) -> None:
    put(stores[0], *[new_job(kind) for kind in ("alpha", "beta")])
    first, second = claim_within_claim(stores, (5, 5))
    assert (len(first), second) == (2, [])
