"""Runners that die in the middle of a sync: no item is lost, and none is fetched into two rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import State, Tickwork
from jobs.core.clock import ManualClock
from jobs.handlers.sync import create_sync_tables
from tests.support.crashing import Crasher
from tests.support.databases import Database
from tests.support.scenarios import EXIT_CODE
from tests.sync.conftest import HANDLERS, Desk
from tests.sync.shop import TOKEN, Shop, orders, selling
from tests.sync.tasks import ORDERS, URL
from tests.test_crashes import tick_to_the_end

SETTINGS = {"handlers": [*HANDLERS, "tests.sync.tasks"], "concurrency": 1}


@pytest.fixture(scope="module")
def open_shop() -> Iterator[Shop]:
    with selling(orders(10)) as shop:
        yield shop


@pytest.fixture(scope="module")
def dying(open_shop: Shop) -> Iterator[Crasher]:
    with Crasher({URL: open_shop.url, "SHOP_TOKEN": TOKEN}) as crasher:
        yield crasher


@pytest.mark.parametrize(
    ("database", "step"),
    [
        ("sqlite", 37),
        *(
            pytest.param(name, step, marks=pytest.mark.slow)
            for name, step in (("sqlite", 1), ("postgresql", 3))
        ),
    ],
    indirect=["database"],
)
def test_a_crash_at_a_statement_loses_nothing(
    database: Database,
    step: int,
    open_shop: Shop,
    dying: Crasher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(URL, open_shop.url)
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    system = Tickwork(database.url, handlers=SETTINGS["handlers"], retry_delay=1)
    system.create_schema()
    create_sync_tables(system.engine)
    ORDERS.create(system.engine)
    desk = Desk(system, open_shop, ManualClock())
    for crash_at in range(1, 400, step):
        system.clear(force=True)
        with system.engine.begin() as connection:
            connection.execute(ORDERS.delete())
        integration_id = f"crash-{crash_at}"
        job = desk.enqueue("full", integration_id=integration_id)
        code = dying.run(
            "tick",
            url=database.url,
            log=str(tmp_path / "log"),
            crash_at=crash_at,
            settings=SETTINGS,
        )
        tick_to_the_end(system)
        assert system.get(job.id).state == State.COMPLETED, crash_at  # type: ignore[union-attr]
        # Each page committed once, with the step on the way: nothing is even written twice.
        assert desk.rows() == dict.fromkeys(range(1, 11), 1), crash_at
        found = desk.integration(integration_id)
        assert (found.run_items, found.run_pages, found.run_is_over) == (10, 4, True)
        if code == 0:
            assert crash_at > 40
            break
        assert code == EXIT_CODE
    else:
        raise AssertionError("the tick never came to its end")
    system.close()
