from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from jobs import Job, Tickwork
from jobs.core.clock import ManualClock
from jobs.handlers import alert as alert_module
from jobs.handlers.sync import (
    Integration,
    create_sync_tables,
    integrations_of,
    queue_data_sync,
)
from tests.support.databases import Database
from tests.sync.shop import TOKEN, Shop, orders, selling
from tests.sync.tasks import ORDERS, URL

HANDLERS = ["jobs.handlers.sync", "jobs.handlers.alert"]


@dataclass
class Desk:
    """A system that syncs from a shop."""

    tickwork: Tickwork
    shop: Shop
    clock: ManualClock

    def enqueue(self, sync_type: Any = "incremental", **more: Any) -> Job:
        return queue_data_sync(
            tickwork=self.tickwork,
            integration_id=more.pop("integration_id", "int-1"),
            organization_id=more.pop("organization_id", "org1"),
            platform=more.pop("platform", "shopify"),
            sync_type=sync_type,
            **more,
        )

    def sync(self, sync_type: Any = "incremental", **more: Any) -> Job:
        """Enqueue, and tick until it has ended."""
        return self.end(self.enqueue(sync_type, **more))

    def end(self, job: Job, ticks: int = 20, wait: float = 600) -> Job:
        for _ in range(ticks):
            self.tickwork.tick()
            found = self.tickwork.get(job.id)
            assert found is not None
            if found.finished_at is not None:
                return found
            self.clock.advance(wait)
        raise AssertionError("it never ends")

    def integration(
        self, integration_id: str = "int-1", organization_id: str = "org1"
    ) -> Integration:
        found = integrations_of(self.tickwork).get(organization_id, integration_id)
        assert found is not None
        return found

    def rows(self, organization: str = "org1") -> dict[int, int]:
        """How often each order was written, by id."""
        chosen = sa.select(ORDERS.c.id, ORDERS.c.writes).where(
            ORDERS.c.organization == organization
        )
        with self.tickwork.engine.connect() as connection:
            return {row.id: row.writes for row in connection.execute(chosen)}


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    with selling(orders(10)) as shop:
        monkeypatch.setenv(URL, shop.url)
        yield shop


@pytest.fixture(autouse=True)
def no_hooks() -> Iterator[None]:
    alert_module.HOOKS.clear()
    yield
    alert_module.HOOKS.clear()


@pytest.fixture
def desk(database: Database, shop: Shop) -> Iterator[Desk]:
    clock = ManualClock()
    system = Tickwork(database.url, handlers=[*HANDLERS, "tests.sync.tasks"], clock=clock)
    system.create_schema()
    create_sync_tables(system.engine)
    ORDERS.create(system.engine)
    yield Desk(system, shop, clock)
    system.close()
