"""The probe's lanes: all of few, some of very many, and others each time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event

from jobs.core.flow import flow_of
from jobs.core.job import NewJob
from jobs.stores.sql import SqlStore
from jobs.testing.areas.base import claim, new_job, put
from tests.support.databases import Database


@pytest.fixture
def store(database: Database) -> Iterator[SqlStore]:
    store = SqlStore(database.url)
    store.create_schema()
    store.spread = random.Random(4).random
    yield store
    store.close()


def of_tenant(number: int, key: str | None = None, **fields: Any) -> NewJob:
    tenant = f"t{number}"
    return new_job(tenant=tenant, concurrency_key=key, flow=flow_of(tenant, key), **fields)


def lanes_of(jobs: list[NewJob]) -> set[str]:
    return {f"{job.priority}/{job.queue}/{job.kind}/{job.flow}" for job in jobs}


def test_few_flows_are_all_listed(store: SqlStore) -> None:
    jobs = [of_tenant(number, queue=queue) for number in range(20) for queue in ("a", "a-b", "b")]
    jobs += [new_job(queue="a"), new_job("beta", queue="a.c"), new_job(priority=1)]
    put(store, *jobs)
    assert set(store.probe().lanes) == lanes_of(jobs)
    # Lanes that are gone are not listed, new ones are, and a store that has seen none finds all.
    claim(store, 1)
    put(store, new_job("gamma", queue="z"), of_tenant(77, queue="a"))
    found = set(store.probe().lanes)
    assert found >= lanes_of([new_job("gamma", queue="z"), of_tenant(77, queue="a")])
    assert lanes_of([new_job(priority=1)]).isdisjoint(found)


@pytest.mark.parametrize("many", ["tenants", "keys"])
def test_of_very_many_flows_some_are_listed_and_others_each_time(
    store: SqlStore, many: str
) -> None:
    if many == "tenants":
        jobs = [of_tenant(number) for number in range(400)]
    else:
        jobs = [of_tenant(1, f"k{number}") for number in range(400)]
        jobs += [of_tenant(number) for number in range(2, 5)]
    jobs += [new_job("beta", queue="z"), new_job()]
    put(store, *jobs)
    few, seen = lanes_of(jobs[-5 if many == "keys" else -2 :]), set[str]()
    for _ in range(500):
        lanes = store.probe().lanes
        assert len(lanes) == len(set(lanes)) <= 300
        assert few <= set(lanes)
        seen.update(lanes)
        if seen == lanes_of(jobs):
            break
    assert seen == lanes_of(jobs)


def test_a_probe_of_lanes_seen_before_is_one_statement(store: SqlStore) -> None:
    put(store, *[of_tenant(number) for number in range(20)], *[new_job(queue="q") for _ in "ab"])
    store.probe()
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            statements.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    store.probe()
    assert len(statements) == 1
