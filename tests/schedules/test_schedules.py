"""Schedules around the store: mistakes, options, listeners, statements, and what stays light."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from jobs import ConfigurationError, PayloadError, Tickwork, exponential
from jobs.core.clock import ManualClock
from jobs.core.events import JobEvent
from tests.support.databases import Database

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tickwork(clock: ManualClock) -> Tickwork:
    return Tickwork(clock=clock)


@pytest.mark.parametrize(
    ("arguments", "options", "reason"),
    [
        (("no name", "@daily"), {}, "schedule 'no name' is not a name"),
        (("a", "@daily", "no kind"), {}, "kind 'no kind' is not a name"),
        (("a", "0 25 * * *"), {}, "'25' is no hour"),
        (("a",), {}, "one rule"),
        (("a", "@daily"), {"every": 5}, "one rule"),
        (("a", "@daily"), {"timezone": "Berlin"}, "timezone 'Berlin' is not known"),
        (("a", "@daily"), {"missed": "all"}, "missed is 'latest'"),
        (("a", "@daily"), {"jitter": -1}, "jitter is from 0"),
        (("a", "@daily"), {"run_at": datetime(2026, 1, 1, tzinfo=UTC)}, "jobs have no run_at"),
        (("a", "@daily"), {"delay": 5}, "jobs have no delay"),
        (("a", "@daily"), {"cron": "x"}, "got multiple values"),
        (("a", "@daily"), {"tmezone": "UTC"}, "no option of a schedule is called tmezone"),
        (("a", "@daily"), {"priority": 9}, "priority is a whole number"),
        (("a", "@daily"), {"queue": "all"}, "queue 'all' is reserved"),
        (("a", "@daily"), {"tenant": "nul\0"}, "tenant"),
        (("a", "@daily"), {"backoff": "soon"}, "is not a backoff"),
    ],
)
def test_mistakes_are_told_where_they_are_made(
    tickwork: Tickwork, arguments: tuple[Any, ...], options: dict[str, Any], reason: str
) -> None:
    for make in (tickwork.schedule, tickwork.schedules.add):
        with pytest.raises((ConfigurationError, TypeError)) as refused:
            make(*arguments, **options)
        assert reason in str(refused.value)


def test_a_payload_is_checked_against_its_handler(tickwork: Tickwork) -> None:
    import dataclasses

    @dataclasses.dataclass
    class Report:
        weeks: int

    def report(payload: Report) -> int:
        return payload.weeks

    report.__annotations__["payload"] = Report
    tickwork.register_handler("report", report)
    with pytest.raises(PayloadError, match="weeks"):
        tickwork.schedule("weekly", "@weekly", "report", {"weeks": "two"})
    with pytest.raises(PayloadError):
        tickwork.schedule("weekly", "@weekly", "report", {"weeks": {1, 2}})
    tickwork.schedule("weekly", "@weekly", "report", Report(2))
    assert tickwork.schedules.run("weekly").payload == {"weeks": 2}


def test_scheduled_stands_above_handler(tickwork: Tickwork) -> None:
    with pytest.raises(ConfigurationError, match=r"stands above @tickwork.handler"):
        tickwork.scheduled("@daily")(lambda payload: None)  # type: ignore[arg-type]


def test_options_reach_the_jobs(tickwork: Tickwork, clock: ManualClock) -> None:
    tickwork.register_handler("report", lambda payload: None)
    tickwork.schedule(
        "nightly",
        "@hourly",
        "report",
        queue="reports",
        priority=4,
        max_attempts=7,
        timeout=timedelta(minutes=2),
        backoff=exponential(5, factor=5),
        expires_in=timedelta(hours=1),
        tenant="acme",
    )
    tickwork.tick()
    clock.advance(3600)
    job = tickwork.get(tickwork.tick().jobs[0])
    assert job is not None
    assert (job.queue, job.priority, job.max_attempts, job.tenant) == ("reports", 4, 7, "acme")
    assert job.timeout_seconds == 120
    assert job.backoff == exponential(5, factor=5).to_json()
    assert job.expires_at == clock.now() + timedelta(hours=1)


def test_listeners_hear_of_the_jobs(tickwork: Tickwork, clock: ManualClock) -> None:
    heard: list[JobEvent] = []
    tickwork.on("enqueued", heard.append)
    tickwork.register_handler("report", lambda payload: None)
    tickwork.schedule("hourly", "@hourly", "report")
    tickwork.tick()
    clock.advance(3600)
    assert heard == []
    ran = tickwork.tick().jobs
    assert len(ran) == 1
    assert tuple(each.job_id for each in heard) == ran


def test_what_is_declared_later_is_written_by_the_next_tick(tickwork: Tickwork) -> None:
    tickwork.register_handler("report", lambda payload: None)
    tickwork.tick()
    tickwork.schedule("hourly", "@hourly", "report")
    tickwork.schedule("hourly", "@hourly", "report")
    tickwork.tick()
    assert [row.name for row in tickwork.schedules.list()] == ["hourly"]
    with pytest.raises(ConfigurationError, match="declared twice"):
        tickwork.schedule("hourly", "@daily", "report")


def test_statements(database: Database) -> None:
    """Nothing more for a deployment without schedules; a slot costs a handful, once."""
    clock = ManualClock()
    tickwork = Tickwork(database.url, clock=clock)
    tickwork.create_schema()
    tickwork.register_handler("noop", lambda payload: None)
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(statement)

    def statements() -> int:
        seen.clear()
        tickwork.tick()
        return len(seen)

    event.listen(tickwork.engine, "before_cursor_execute", note)
    assert statements() == 1
    tickwork.schedule("hourly", "@hourly", "noop")
    assert statements() == 3  # look, write, probe
    assert statements() == 1
    clock.advance(3600)
    quiet = 4  # a claim, its settle, and two looks at most
    assert statements() <= 1 + 1 + 4 + 1 + quiet
    assert statements() == 1
    tickwork.close()


def test_plain_deployments_do_not_load_it() -> None:
    program = """
import sys
from jobs import Tickwork
tickwork = Tickwork()
tickwork.register_handler("noop", lambda payload: None)
tickwork.enqueue("noop")
assert tickwork.tick().succeeded == 1
print(*{name.split(".")[0] for name in sys.modules})
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    loaded = set(run.stdout.split())
    assert "jobs" in loaded, run.stderr
    assert not loaded & {"cronsim", "tzdata", "zoneinfo"}
