"""The kind `data-sync`: a real shop over HTTP, into real databases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobs import PayloadError, State, Tickwork
from jobs.handlers.alert import Alert, alert_hook
from jobs.handlers.sync import (
    DataSync,
    Integration,
    Page,
    Platform,
    RestConnector,
    add_platform,
    integrations_of,
    on_auth_error,
)
from jobs.handlers.sync import kind as kind_module
from tests.sync.conftest import HANDLERS, Desk
from tests.sync.shop import body, cut_off, orders, status
from tests.sync.tasks import SHOPIFY, save

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
ONCE = dict.fromkeys(range(1, 11), 1)


@pytest.fixture(autouse=True)
def _platforms() -> Iterator[None]:
    yield
    kind_module.AUTH_HOOKS.clear()
    add_platform(SHOPIFY)


def test_full_then_incremental(desk: Desk) -> None:
    desk.clock.advance(86_400)  # to after the orders' own times
    ended = desk.sync("full")
    assert ended.result == {"status": "active", "items": 10, "pages": 4}
    assert (ended.queue, ended.tenant) == ("data-sync", "org1")
    assert desk.rows() == ONCE
    began = desk.integration().synced_until
    assert began is not None

    desk.shop.asked.clear()
    desk.shop.items.append({"id": 11, "total": 1, "updated": "2026-02-01T00:00:00Z"})
    assert desk.sync().result == {"status": "active", "items": 1, "pages": 1}
    assert desk.rows() == {**ONCE, 11: 1}
    # A minute back behind the beginning of the sync before: clocks differ.
    since = (began - timedelta(seconds=60)).isoformat().replace("+00:00", "Z")
    assert desk.shop.asked[0].query["since"] == since

    desk.clock.advance(3600)
    desk.sync()
    assert desk.integration().synced_until == desk.clock.now()

    desk.sync("full")  # everything again: upserts, nothing double
    assert desk.rows() == {**dict.fromkeys(range(1, 11), 2), 11: 3}


@SQLITE
def test_dates_of_its_own_leave_the_mark_alone(desk: Desk) -> None:
    desk.sync("full")
    mark = desk.integration().synced_until
    desk.shop.asked.clear()
    desk.sync(start_date="2025-12-31", end_date="2026-01-01T00:00:05+00:00")
    query = desk.shop.asked[0].query
    assert query == {"since": "2025-12-31T00:00:00Z", "until": "2026-01-01T00:00:05Z"}
    assert desk.integration().synced_until == mark


def test_pages_go_on_in_the_next_tick(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.core.context.JobContext.should_stop", lambda self, margin=5.0: True)
    job = desk.enqueue("full")
    for expected in (3, 6, 9):
        desk.tickwork.tick()
        assert len(desk.rows()) == expected
        assert desk.tickwork.get(job.id).state == State.PENDING  # type: ignore[union-attr]
    ended = desk.end(job)
    assert ended.result == {"status": "active", "items": 10, "pages": 4}
    assert ended.attempts == 1
    assert desk.rows() == ONCE


@SQLITE
def test_syncs_of_one_integration_wait_for_each_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two ticks its concurrency key is free; two that took turns would never end."""
    monkeypatch.setattr("jobs.core.context.JobContext.should_stop", lambda self, margin=5.0: True)
    first, second = desk.enqueue("full"), desk.enqueue("full")
    other = desk.enqueue("full", organization_id="org2")
    for job in (first, second, other):
        assert desk.end(job, wait=61).state == State.COMPLETED
    assert desk.rows() == dict.fromkeys(range(1, 11), 2)
    assert desk.rows("org2") == ONCE
    assert len(desk.shop.asked) == 12


@SQLITE
def test_a_sync_left_behind_by_a_failed_job_is_taken_over(desk: Desk) -> None:
    desk.shop.faults = {n: status(500) for n in (2, 3, 4)}
    assert desk.sync("full").state == State.FAILED
    found = desk.integration()
    assert (found.status, found.failures, found.run_is_over) == ("active", 3, False)
    assert "answered 500" in str(found.last_error)

    assert desk.sync("full").result["items"] == 10
    assert desk.rows() == {**ONCE, 1: 2, 2: 2, 3: 2}
    assert (desk.integration().failures, desk.integration().last_error) == (0, None)


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize(
    "fault", [status(500), body(b'{"data": ['), cut_off], ids=["500", "broken", "cut"]
)
@SQLITE
def test_a_page_that_fails_is_asked_for_again(desk: Desk, fault: Any, number: int) -> None:
    desk.shop.faults[number] = fault
    ended = desk.sync("full")
    assert (ended.state, ended.attempts) == (State.COMPLETED, 2)
    assert desk.rows() == ONCE  # no page was fetched twice but the one that failed
    assert len(desk.shop.asked) == 5


@SQLITE
def test_later_uses_no_attempt_and_waits_as_long_as_told(desk: Desk) -> None:
    desk.shop.faults = {2: status(429, Retry_After="90"), 4: status(429, Retry_After="1")}
    job = desk.enqueue("full")
    desk.tickwork.tick()
    waiting = desk.tickwork.get(job.id)
    assert waiting is not None
    assert waiting.run_at == desk.clock.now() + timedelta(seconds=90)
    desk.clock.advance(89)
    desk.tickwork.tick()
    assert len(desk.shop.asked) == 2
    ended = desk.end(job)
    assert (ended.state, ended.attempts) == (State.COMPLETED, 1)
    assert desk.rows() == ONCE


def test_refused_credentials_stop_the_integration(desk: Desk) -> None:
    heard: list[Alert] = []
    told: list[Integration] = []
    alert_hook("test")(lambda alert, key: heard.append(alert))
    on_auth_error(told.append)  # type: ignore[arg-type]

    @on_auth_error
    def broken(integration: Integration) -> None:
        raise RuntimeError("a hook that fails keeps nobody from the others")

    desk.shop.faults[3] = status(401)
    ended = desk.sync("full")
    assert (ended.state, ended.attempts) == (State.FAILED, 1)
    assert "connect it again" in str(ended.error)
    assert len(desk.rows()) == 6  # what came before stays
    assert desk.integration().status == "auth_error"
    assert [each.integration_id for each in told] == ["int-1"]
    desk.tickwork.tick()
    assert [(a.organizationId, a.alertType, a.severity) for a in heard] == [
        ("org1", "INTEGRATION_AUTH_ERROR", "HIGH")
    ]
    (alert,) = desk.tickwork.list(kind="alert")
    assert (alert.tenant, alert.priority) == ("org1", 1)

    # The next ones ask the platform nothing, and are no failures.
    asked = len(desk.shop.asked)
    skipped = desk.sync()
    assert skipped.state == State.COMPLETED
    assert skipped.result == {"status": "auth_error", "skipped": True, "items": 0, "pages": 0}
    assert len(desk.shop.asked) == asked
    assert len(desk.tickwork.list(kind="alert")) == 1

    assert integrations_of(desk.tickwork).reconnect("org1", "int-1")
    assert not integrations_of(desk.tickwork).reconnect("org2", "int-1")
    assert desk.sync("full").result["items"] == 10
    assert set(desk.rows()) == set(ONCE)


@SQLITE
def test_a_runner_that_died_before_it_told_tells_when_it_comes_back(desk: Desk) -> None:
    job = desk.enqueue("full")
    integrations = integrations_of(desk.tickwork)
    request = DataSync(**job.payload)
    integrations.begin(request, job.id, desk.clock.now())
    integrations.note_failure(request, job.id, "answered 401", status="auth_error")
    assert desk.end(job).state == State.FAILED
    assert len(desk.tickwork.list(kind="alert")) == 1
    assert desk.shop.asked == []


@SQLITE
def test_a_page_that_came_twice_is_one(desk: Desk) -> None:
    """Items that moved to the next page while it was read: overlap, absorbed by the upsert."""

    class Overlapping:
        def page(self, cursor: str | None, since: Any, until: Any) -> Page:
            begin = int(cursor or 0)
            end = begin + 3
            return Page(orders(7)[begin:end], str(begin + 2) if end < 7 else None, total=7)

    add_platform(Platform("shopify", lambda request: Overlapping(), save))
    assert desk.sync("full").result == {"status": "active", "items": 9, "pages": 3}
    assert set(desk.rows()) == set(range(1, 8))


CYCLES = {"the same page": [0], "two in turn": [0, 1], "back to the third": [0, 1, 2, 3, 4, 2]}


@pytest.mark.parametrize("cycle", CYCLES.values(), ids=CYCLES)
@pytest.mark.parametrize("cursors_differ", [True, False])
@SQLITE
def test_a_platform_that_repeats_itself_is_noticed(
    desk: Desk, cycle: list[int], cursors_differ: bool
) -> None:
    asked: list[str | None] = []

    class Cycling:
        def page(self, cursor: str | None, since: Any, until: Any) -> Page:
            asked.append(cursor)
            at = (len(asked) - 1) % len(cycle)
            begin = cycle[at] * 2
            after = str(len(asked)) if cursors_differ else str(cycle[(at + 1) % len(cycle)])
            return Page(orders(20)[begin : begin + 2], after)

    add_platform(Platform("shopify", lambda request: Cycling(), save))
    ended = desk.sync("full")
    assert ended.state == State.FAILED
    assert "repeats itself" in str(ended.error)
    assert len(asked) < 25


@SQLITE
def test_items_and_cursor_commit_together(desk: Desk) -> None:
    """A save that fails half way leaves neither its items nor a step on the way."""
    failing = [True]

    def save_badly(connection: sa.Connection, items: Sequence[Any], request: DataSync) -> None:
        save(connection, items, request)
        if failing and items[0]["id"] == 4:
            failing.pop()
            raise RuntimeError("the disk is full")

    add_platform(Platform("shopify", SHOPIFY.connect, save_badly))
    job = desk.enqueue("full")
    desk.tickwork.tick()
    assert desk.rows() == dict.fromkeys(range(1, 4), 1)
    assert (desk.integration().cursor, desk.integration().run_items) == ("at-3", 3)
    assert desk.end(job).result["items"] == 10
    assert desk.rows() == ONCE


def test_a_runner_that_was_overtaken_writes_nothing(desk: Desk) -> None:
    """Its lease ran out while it waited for a page; another went on meanwhile."""
    overtaking = [True]

    class Slow:
        def __init__(self, request: DataSync) -> None:
            self._inner: RestConnector = SHOPIFY.connect(request)  # type: ignore[assignment]
            self._request = request

        def page(self, cursor: str | None, since: Any, until: Any) -> Page:
            page = self._inner.page(cursor, since, until)
            if cursor == "at-3" and overtaking:
                overtaking.pop()
                known = integrations_of(desk.tickwork).get("org1", "int-1")
                assert known is not None
                integrations_of(desk.tickwork).advance(
                    known, lambda connection: None, cursor="at-9", run_items=9, run_pages=3
                )
            return page

    add_platform(Platform("shopify", Slow, save))
    job = desk.enqueue("full")
    desk.tickwork.tick()
    assert set(desk.rows()) == {1, 2, 3}
    assert desk.integration().cursor == "at-9"
    assert desk.end(job).result["items"] == 10
    assert set(desk.rows()) == {1, 2, 3, 10}  # the other one's pages were not saved by this one


@SQLITE
def test_a_database_of_its_own(desk: Desk, tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    engine = sa.create_engine(url)
    add_platform(Platform("shopify", SHOPIFY.connect, save, database=url))
    missing = desk.sync("full")
    assert "create_sync_tables" in str(missing.error)

    from jobs.handlers.sync import create_sync_tables
    from tests.sync.tasks import ORDERS

    create_sync_tables(engine)
    ORDERS.create(engine)
    assert desk.sync("full").result["items"] == 10
    assert desk.rows() == {}
    with engine.connect() as connection:
        assert len(connection.execute(sa.select(ORDERS)).all()) == 10
    (found,) = integrations_of(desk.tickwork, "shopify").list("org1")
    assert found.as_dict()["syncedUntil"] is not None
    assert "cursor" not in found.as_dict()
    engine.dispose()
    kind_module._engine(url).dispose()
    kind_module._engine.cache_clear()


def test_without_a_database_the_mend_is_told() -> None:
    system = Tickwork(handlers=[*HANDLERS, "tests.sync.tasks"])
    job = system.enqueue(
        "data-sync", {"integrationId": "i", "organizationId": "o", "platform": "shopify"}
    )
    system.tick()
    assert "DATABASE_URL" in str(system.get(job.id).error)  # type: ignore[union-attr]
    system.close()


@SQLITE
def test_what_makes_no_sense_is_refused(desk: Desk) -> None:
    for wrong, said in {
        "platform": "etsy!",
        "integration_id": "",
        "sync_type": "some",
        "start_date": "yesterday",
    }.items():
        with pytest.raises(PayloadError):
            desk.enqueue(**({"sync_type": "full"} | {wrong: said}))  # type: ignore[arg-type]
    with pytest.raises(PayloadError, match="not after"):
        desk.enqueue(start_date="2026-02-01", end_date="2026-01-01")
    assert "no platform is called 'etsy'" in str(desk.sync(platform="etsy").error)
    job = desk.tickwork.enqueue(
        "data-sync",
        {"integrationId": "i", "organizationId": "org1", "platform": "shopify"},
        tenant="org2",
    )
    assert "not the tenant" in str(desk.end(job).error)


def test_dates_have_an_offset_or_are_utc() -> None:
    request = DataSync(
        "i", "o", "shopify", startDate="2026-01-01", endDate="2026-01-02T01:00+01:00"
    )
    assert request.start == datetime(2026, 1, 1, tzinfo=UTC)
    assert request.end == datetime(2026, 1, 2, tzinfo=UTC)
