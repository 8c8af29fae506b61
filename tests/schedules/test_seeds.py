"""The schedules that people have written elsewhere, word for word."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs import Tickwork
from jobs.core.clock import ManualClock

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SYNC_HOURS = {"shopify": 2, "woocommerce": 2, "stripe": 3, "google-analytics": 4}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BEGIN)


@pytest.fixture
def tickwork(clock: ManualClock) -> Tickwork:
    return Tickwork(clock=clock)


def run_for(tickwork: Tickwork, clock: ManualClock, days: int) -> list[Any]:
    """A tick every ten minutes; the jobs that were made, in the order of their slots."""
    found: list[Any] = []
    for _ in range(days * 24 * 6):
        clock.advance(600)
        found += map(tickwork.get, tickwork.tick(limit=100).jobs)
    assert all(job.state == "completed" and job.schedule for job in found)
    return sorted(found, key=lambda job: (job.slot, job.id))


def test_data_syncs_by_platform(tickwork: Tickwork, clock: ManualClock) -> None:
    """Shopify and WooCommerce every 2 h, Stripe 3 h, Google Analytics 4 h, Facebook Ads daily."""
    tickwork.register_handler("data-sync", lambda payload: payload["platform"], queue="data-sync")
    for platform, hours in SYNC_HOURS.items():
        tickwork.schedule(
            f"sync-{platform}",
            kind="data-sync",
            payload={"platform": platform, "organizationId": "org123", "syncType": "incremental"},
            every=hours * 3600,
        )
    tickwork.schedule(
        "sync-facebook-ads",
        "@daily",
        "data-sync",
        {"platform": "facebook-ads", "organizationId": "org123", "syncType": "full"},
    )
    tickwork.tick()
    made = run_for(tickwork, clock, 2)

    assert {job.queue for job in made} == {"data-sync"}
    assert Counter(job.result for job in made) == {
        **{platform: 48 // hours for platform, hours in SYNC_HOURS.items()},
        "facebook-ads": 2,
    }


def test_insights_every_six_hours(tickwork: Tickwork, clock: ManualClock) -> None:
    @tickwork.scheduled("0 */6 * * *", payload={"organizationId": "org123", "period": "7d"})
    @tickwork.handler("insights")
    def insights(payload: dict[str, Any]) -> str:
        return str(payload["period"])

    assert insights({"period": "30d"}) == "30d"
    tickwork.tick()
    made = run_for(tickwork, clock, 1)
    assert [job.slot.hour for job in made] == [6, 12, 18, 0]
    # And one now, as `scheduleImmediateInsights` does.
    now = tickwork.schedule_now("insights")
    assert tickwork.tick().jobs == (now.id,)


def test_a_weekly_report_added_as_the_queue_service_does(
    tickwork: Tickwork, clock: ManualClock
) -> None:
    tickwork.register_handler("report-generation", lambda payload: payload["reportType"])
    data = {
        "reportId": "recurring",
        "organizationId": "org123",
        "reportType": "weekly",
        "period": "7d",
        "recipientEmails": ["team@company.com"],
    }
    added = tickwork.add_recurring_job(
        "report-generation", "weekly-report-org123", data, "0 8 * * 1"
    )
    assert (added.kind, added.options) == ("report-generation", {"queue": "report-generation"})
    again = tickwork.add_recurring_job(
        "report-generation", "weekly-report-org123", data, "0 8 * * 1"
    )
    assert again == added
    made = run_for(tickwork, clock, 14)
    assert [(job.slot, job.result) for job in made] == [
        (datetime(2026, 1, 5, 8, tzinfo=UTC), "weekly"),
        (datetime(2026, 1, 12, 8, tzinfo=UTC), "weekly"),
    ]
    assert made[0].payload == data


def test_named_jobs_by_cron_and_by_interval(tickwork: Tickwork, clock: ManualClock) -> None:
    """``orderQueue.add('daily-report', {}, {repeat: {cron}})`` and ``{every: 3600000}``."""
    tickwork.register_handler("daily-report", lambda payload: "report")
    tickwork.register_handler("stock-sync", lambda payload: "sync")
    tickwork.add_recurring_job("orders", "daily-report", {}, "0 9 * * *")
    tickwork.add_recurring_job("inventory", "stock-sync", {}, every=3_600_000 / 1000)
    made = run_for(tickwork, clock, 2)
    assert [job.slot for job in made if job.result == "report"] == [
        BEGIN + timedelta(hours=9),
        BEGIN + DAY + timedelta(hours=9),
    ]
    assert [job.slot for job in made if job.result == "sync"] == [
        BEGIN + timedelta(hours=hours) for hours in range(1, 49)
    ]
    assert {job.queue for job in made} == {"orders", "inventory"}
