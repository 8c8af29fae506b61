"""Schedules around the store: mistakes, options, listeners, statements, and what stays light."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event, text

from jobs import ConfigurationError, JobContext, PayloadError, Tickwork, exponential
from jobs.core.clock import ManualClock
from jobs.core.events import JobEvent
from jobs.core.store import SLOT_HELD_SECONDS
from jobs.runtime.schedules import FIRES_PER_TICK, JOBS_MADE_PER_TICK
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
    tickwork = Tickwork(database.url, clock=clock, alerts=False)
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
    assert statements() == 2  # probe, record
    tickwork.schedule("hourly", "@hourly", "noop")
    assert statements() == 4  # look, write, probe, record
    assert statements() == 2
    clock.advance(3600)
    # A claim, its settle, and two looks at most; MySQL reads what it claims before it writes it.
    quiet = 5 if database.name == "mysql" else 4
    assert statements() <= 2 + 1 + 4 + quiet
    assert statements() == 2
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


def test_it_fires_by_itself_where_a_local_runner_runs(sqlite_url: str) -> None:
    ran = threading.Event()
    with closing(Tickwork(sqlite_url, poll_interval=0.05)) as tickwork:
        tickwork.create_schema()
        tickwork.register_handler("beat", lambda payload: ran.set())
        tickwork.schedule("beat", every=1)
        tickwork.start()
        assert ran.wait(30)


def test_a_transactional_handler_knows_its_slot(database: Database) -> None:
    clock = ManualClock()
    seen: list[datetime | None] = []
    with closing(Tickwork(database.url, clock=clock)) as tickwork:
        tickwork.create_schema()

        @tickwork.scheduled("@hourly")
        @tickwork.handler("report", transactional=True)
        def report(payload: dict[str, Any], ctx: JobContext) -> None:
            ctx.session.execute(text("SELECT 1"))
            seen.append(ctx.slot)

        tickwork.tick()
        clock.advance(3600)
        assert tickwork.tick().succeeded == 1
        assert seen == [clock.now()]


def test_run_now_joins_a_transaction(database: Database) -> None:
    with closing(Tickwork(database.url)) as tickwork:
        tickwork.create_schema()
        tickwork.schedules.add("nightly", "@daily", "report")
        with tickwork.engine.connect() as connection:
            kept_back = tickwork.schedules.run("nightly", session=connection)
            connection.rollback()
            kept = tickwork.schedules.run("nightly", session=connection)
            connection.commit()
        assert tickwork.get(kept_back.id) is None
        assert tickwork.get(kept.id) is not None


def test_a_declaration_without_its_handler_is_told_of(
    tickwork: Tickwork, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    tickwork.register_handler("other", lambda payload: None)
    tickwork.schedule("hourly", "@hourly", "report")
    with caplog.at_level(logging.WARNING, "tickwork"):
        tickwork.tick()
    assert "declare it beside its handler" in caplog.text
    clock.advance(3600)
    assert tickwork.tick().scheduled == 0
    # It comes with the handler, and for what it missed there is one job.
    tickwork.register_handler("report", lambda payload: None)
    clock.advance(7200)
    assert tickwork.tick().scheduled == 1


def test_more_than_a_tick_can_fire_waits_for_the_next(
    tickwork: Tickwork, clock: ManualClock
) -> None:
    tickwork.register_handler("sync", lambda payload: None)
    for number in range(FIRES_PER_TICK + 20):
        tickwork.schedules.add("sync", "@hourly", payload={}, tenant=f"t{number}")
    clock.advance(3600)
    assert [tickwork.tick().scheduled for _ in range(3)] == [FIRES_PER_TICK, 20, 0]
    for row in tickwork.schedules.list():
        tickwork.schedules.remove(row.name, row.tenant)
    for number in range(8):
        tickwork.schedules.add(f"all{number}", "* * * * *", "sync", missed="all:100")
    clock.advance(6000)
    assert [tickwork.tick().scheduled for _ in range(3)] == [JOBS_MADE_PER_TICK, 300, 0]


def test_who_changed_it(tickwork: Tickwork) -> None:
    tickwork.register_handler("sync", lambda payload: None)
    tickwork.schedule("code", "@daily", "sync")
    tickwork.tick()
    assert tickwork.schedules.disable("code", by="code").changed_by is None
    assert tickwork.schedules.disable("code", by="x" * 300).changed_by == "x" * 200
    again = Tickwork(store=tickwork.store)
    again.register_handler("sync", lambda payload: None)
    again.schedule("code", "@hourly", "sync")
    again.tick()
    row = again.schedules.get("code")
    assert row is not None
    assert (row.enabled, row.rule) == (False, "@hourly")


@pytest.mark.parametrize(
    ("zone", "begin", "local"),
    [
        # Spring: 02:30 is left out, and comes at 03:00. Autumn: 02:30 comes once.
        ("Europe/Berlin", datetime(2026, 3, 28, tzinfo=UTC), ["02:30", "03:00", "02:30"]),
        ("Europe/Berlin", datetime(2026, 10, 24, tzinfo=UTC), ["02:30", "02:30", "02:30"]),
        ("America/New_York", datetime(2026, 3, 7, 5, tzinfo=UTC), ["02:30", "03:00", "02:30"]),
        ("America/New_York", datetime(2026, 10, 31, 5, tzinfo=UTC), ["02:30", "02:30", "02:30"]),
    ],
)
def test_three_nights_around_a_clock_change(zone: str, begin: datetime, local: list[str]) -> None:
    clock = ManualClock(begin)
    tickwork = Tickwork(clock=clock)
    tickwork.register_handler("night", lambda payload: None, remove_on_complete=False)
    tickwork.schedule("night", "30 2 * * *", timezone=zone)
    tickwork.schedule("quarter", "*/15 * * * *", "night", timezone=zone)
    expected = tickwork.schedules.preview("night", 3)
    for _ in range(3 * 24 * 12):
        tickwork.tick(limit=50)
        clock.advance(300)
    jobs = sorted(tickwork.list(kind="night", limit=1000), key=lambda job: str(job.slot))
    slots = [
        job.slot.astimezone(ZoneInfo(zone)) for job in jobs if job.slot and job.schedule == "night"
    ]
    assert [f"{slot:%H:%M}" for slot in slots] == local
    assert slots == expected
    quarters = [job.slot for job in jobs if job.slot and job.schedule == "quarter"]
    assert len(quarters) == len(set(quarters))
    gaps = {later - sooner for sooner, later in pairwise(quarters)}
    assert gaps == {timedelta(minutes=15)}


def test_slots_are_swept_with_the_other_keys(database: Database) -> None:
    clock = ManualClock()
    with closing(Tickwork(database.url, clock=clock)) as tickwork:
        tickwork.create_schema()
        tickwork.register_handler("sync", lambda payload: None)
        tickwork.schedule("hourly", "@hourly", "sync", missed="all:5")
        tickwork.tick()
        clock.advance(5 * 3600)
        assert tickwork.tick().scheduled == 5

        def held() -> int:
            with tickwork.engine.connect() as connection:
                counted = "SELECT count(*) FROM tickwork_keys WHERE scope = 'slot'"
                return int(connection.execute(text(counted)).scalar_one())

        assert held() == 5
        tickwork.schedules.disable("hourly")
        clock.advance(SLOT_HELD_SECONDS - 1)
        tickwork.tick()
        assert held() == 5
        clock.advance(1)
        tickwork.tick()
        assert held() == 0
