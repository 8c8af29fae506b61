"""Records of ticks on real databases: folded when there are many, whole when somebody is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert

from jobs import Tickwork
from jobs.core.deadline import Budget, unlimited_budget
from jobs.core.measure import TICKS_QUEUE, Key, Measure, measures_to_json
from jobs.core.store import KEPT_TICKS, MOST_TICKS
from jobs.runtime.deliver import Delivery
from jobs.runtime.worker import Worker
from tests.support.crashing import Crasher
from tests.support.databases import Database
from tests.support.scenarios import EXIT_CODE, build, wait_for
from tests.test_crashes import expire_leases
from tests.test_statements import counted

ALPHA = Key("acme", "default", "alpha")


@pytest.fixture
def tickwork(database: Database) -> Iterator[Tickwork]:
    with closing(Tickwork(database.url)) as made:
        made.create_schema()
        yield made


def fill(tickwork: Tickwork, count: int, trigger: str = "sqs") -> None:
    """So many records, a second apart, of one completed job each."""
    now = datetime.now(UTC)
    store: Any = tickwork.store
    rows = [
        {
            "id": f"00000000-0000-7000-8000-{number:012}",
            "namespace": "",
            "ended_at": now - timedelta(seconds=count - number),
            "duration_ms": 20.0,
            "woken_by": trigger,
            "runner": "host-1",
            "ticks": 1,
            "claim_limit": 10,
            "claimed": 1,
            "processed": 1,
            "succeeded": 1,
            "failed": 0,
            "retried": 0,
            "released": 0,
            "reclaimed": 0,
            "remaining": 0,
            "more": False,
            "error": None,
            "measures": measures_to_json({ALPHA: Measure(completed=1)}),
        }
        for number in range(count)
    ]
    with tickwork.engine.begin() as connection:
        connection.execute(insert(store.tables.ticks), rows)


def ended(tickwork: Tickwork) -> tuple[int, int]:
    """Jobs and ticks that were ever counted."""
    totals = tickwork.totals()
    ticks = sum(each.completed for key, each in totals.items() if key.queue == TICKS_QUEUE)
    return totals.get(ALPHA._replace(tenant=""), Measure()).completed, ticks


def test_a_tick_folds_what_is_too_much_and_the_next_ones_need_not(tickwork: Tickwork) -> None:
    fill(tickwork, MOST_TICKS)
    with counted(tickwork) as seen:
        tickwork.tick()
    assert len(seen) == 2, "not yet"
    tickwork.tick()
    assert len(tickwork.ticks(5000)) == KEPT_TICKS + 1
    assert ended(tickwork) == (MOST_TICKS, MOST_TICKS + 2)
    with counted(tickwork) as seen:
        tickwork.tick()
    assert len(seen) == 2
    buckets = tickwork.measures(7200, 7200, tenant="acme")
    assert sum(each.measure.completed for each in buckets) == MOST_TICKS


def test_a_fold_that_breaks_off_has_changed_nothing(tickwork: Tickwork) -> None:
    fill(tickwork, 30)

    def break_off(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO tickwork_measures"):
            raise RuntimeError("killed")

    event.listen(tickwork.engine, "before_cursor_execute", break_off)
    with pytest.raises(RuntimeError, match="killed"):
        tickwork.store.fold_ticks(20, keep=0)
    event.remove(tickwork.engine, "before_cursor_execute", break_off)
    assert (len(tickwork.ticks(100)), ended(tickwork)) == (30, (30, 30))
    assert tickwork.store.fold_ticks(20, keep=0) == 20
    assert ended(tickwork) == (30, 30)


def test_a_tick_that_was_killed_leaves_no_record_and_the_next_tells_of_its_loss(
    crasher: Crasher, database: Database, log: Path
) -> None:
    with closing(build(database.url, str(log))) as tickwork:
        tickwork.create_schema()
        tickwork.enqueue("poison", max_attempts=1)
        code = crasher.run("tick", url=database.url, log=str(log), settings={"concurrency": 1})
        assert code == EXIT_CODE
        assert tickwork.ticks() == []
        assert tickwork.totals() == {}
        expire_leases(tickwork)
        tickwork.tick(trigger="cron")
        (record,) = tickwork.ticks()
        assert record.reclaimed == 1
        (measure,) = (record.measures or {}).values()
        assert (measure.lost, measure.failed) == (1, 1)


def test_a_batch_of_messages_is_one_record(tickwork: Tickwork) -> None:
    tickwork.register_handler("alpha", lambda payload: None)
    ids = tickwork.enqueue_many([("alpha", {})] * 4, tenant="acme")
    budget: Budget = unlimited_budget(tickwork.clock.monotonic())
    fates = tickwork.deliver([Delivery(n, job_id) for n, job_id in enumerate(ids)], budget)
    assert not any(fate.keep for fate in fates.values())
    (record,) = tickwork.ticks()
    assert (record.trigger, record.claimed, record.succeeded) == ("sqs", 4, 4)
    assert (record.measures or {})[ALPHA].waited.count == 4
    assert not tickwork.pulse().learnt


def test_the_local_runner_tells_of_its_ticks_when_it_stops(sqlite_database: Database) -> None:
    with closing(Tickwork(sqlite_database.url, env="development")) as tickwork:
        tickwork.create_schema()
        tickwork.register_handler("alpha", lambda payload: None)
        tickwork.start()
        tickwork.enqueue_many([("alpha", {})] * 20, tenant="acme")
        wait_for(lambda: not tickwork.list(state="pending") + tickwork.list(state="processing"))
        assert tickwork.stop(10)
        found = tickwork.ticks(100)
        assert {each.trigger for each in found} == {"local"}
        assert len(found) <= 4
        assert ended(tickwork)[0] == 20


def test_a_worker_records_what_it_did(tickwork: Tickwork) -> None:
    tickwork.register_handler("alpha", lambda payload: None)
    tickwork.enqueue_many([("alpha", {})] * 20, tenant="acme")
    worker = Worker(tickwork._runtime, slots=2)
    worker.start()
    wait_for(lambda: ended_rows(tickwork) == 20)
    worker.stop(5)
    assert worker.wait(10)
    found = tickwork.ticks(100)
    assert {each.trigger for each in found} == {"worker"}
    assert len(found) <= 2
    assert sum(each.claimed for each in found) == sum(each.succeeded for each in found) == 20
    assert sum(each.ticks for each in found) >= 1
    assert ended(tickwork)[0] == 20
    measure = tickwork.totals()[ALPHA._replace(tenant="")]
    assert (measure.ran.count, measure.waited.count) == (20, 20)


def ended_rows(tickwork: Tickwork) -> int:
    return len(tickwork.list(state="completed", limit=100))
