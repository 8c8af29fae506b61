"""Schedules of integrations, by platform and plan."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from jobs import ConfigurationError, ScheduleNotFound, Tickwork
from jobs.core.clock import ManualClock
from jobs.handlers.sync import SyncSchedule, install_sync_schedules, remove_sync_schedule


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tickwork(clock: ManualClock) -> Iterator[Tickwork]:
    system = Tickwork(handlers=["jobs.handlers.sync"], clock=clock)
    yield system
    system.close()


@pytest.mark.parametrize(
    ("platform", "tier", "hours"),
    [
        ("shopify", "professional", 2),
        ("woocommerce", "professional", 2),
        ("stripe", "professional", 3),
        ("google-analytics", "professional", 4),
        ("facebook-ads", "professional", 24),
        ("shopify", "free", 8),
        ("stripe", "starter", 6),
        ("shopify", "enterprise", 1),
    ],
)
def test_every_so_many_hours(
    tickwork: Tickwork, clock: ManualClock, platform: str, tier: str, hours: float
) -> None:
    (made,) = install_sync_schedules(tickwork, [SyncSchedule("int-1", "org1", platform, tier)])
    assert (made.name, made.tenant) == ("data-sync:int-1", "org1")
    tickwork.tick()
    assert tickwork.list() == []
    for slot in (1, 2):
        clock.advance(hours * 3600)
        tickwork.tick()
        jobs = tickwork.list(kind="data-sync")
        assert len(jobs) == slot
        job = jobs[0]
        assert job.tenant == "org1"
        assert job.payload == {
            "integrationId": "int-1",
            "organizationId": "org1",
            "platform": platform,
            "syncType": "incremental",
        }
        assert job.slot is not None
        assert timedelta() <= job.run_at - job.slot <= timedelta(minutes=5)


def test_again_changes_nothing_and_a_new_plan_the_rule(tickwork: Tickwork) -> None:
    both = [SyncSchedule("int-1", "org1", "shopify"), SyncSchedule("int-1", "org2", "stripe")]
    assert install_sync_schedules(tickwork, both) == install_sync_schedules(tickwork, both)
    assert len(tickwork.schedules.list()) == 2
    install_sync_schedules(tickwork, [SyncSchedule("int-1", "org1", "shopify", "free")])
    changed = tickwork.schedules.get("data-sync:int-1", "org1")
    assert changed is not None
    assert "8 hours" in tickwork.schedules.words(changed)
    remove_sync_schedule(tickwork, "int-1", "org1")
    assert [each.tenant for each in tickwork.schedules.list()] == ["org2"]
    with pytest.raises(ScheduleNotFound):
        remove_sync_schedule(tickwork, "int-1", "org1")


def test_hours_and_plans_of_ones_own(tickwork: Tickwork) -> None:
    (made,) = install_sync_schedules(
        tickwork,
        [SyncSchedule("i", "o", "etsy", "gold")],
        hours={"etsy": 6},
        tiers={"gold": 1 / 3},
    )
    assert "2 hours" in tickwork.schedules.words(made)


@pytest.mark.parametrize(
    "wrong", [SyncSchedule("b", "o", "etsy"), SyncSchedule("b", "o", "stripe", "gold")], ids=str
)
def test_what_is_not_known_is_refused_before_anything_is_made(
    tickwork: Tickwork, wrong: SyncSchedule
) -> None:
    with pytest.raises(ConfigurationError, match="there are: "):
        install_sync_schedules(tickwork, [SyncSchedule("a", "o", "shopify"), wrong])
    assert tickwork.schedules.list() == []
