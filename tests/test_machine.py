"""The shipped state machine over every store of the house."""

from __future__ import annotations

import itertools

import pytest

from jobs.core.clock import ManualClock
from jobs.stores.memory import MemoryStore
from jobs.stores.sql import SqlStore
from jobs.stores.sql.engine import make_engine
from jobs.testing.machine import run_machine
from tests.support.databases import Database


def run_over(database: Database, **options: int | bool) -> None:
    """The machine over one database: every sequence has a namespace of its own."""
    numbers = itertools.count(1)
    engine = make_engine(database.url)
    SqlStore(engine).create_schema()

    def make(clock: ManualClock) -> SqlStore:
        return SqlStore(engine, namespace=f"m{next(numbers)}", clock=clock)

    try:
        run_machine(make, **options)
    finally:
        engine.dispose()


def test_the_stub_in_any_order() -> None:
    run_machine(lambda clock: MemoryStore(clock=clock))


def test_sqlite_in_any_order(sqlite_database: Database) -> None:
    run_over(sqlite_database, examples=40)


@pytest.mark.slow
def test_the_stub_in_many_more_orders() -> None:
    run_machine(lambda clock: MemoryStore(clock=clock), examples=1000, steps=60, at_random=True)


@pytest.mark.slow
def test_databases_in_many_more_orders(database: Database) -> None:
    run_over(database, examples=200, steps=60, at_random=True)
