"""When a tick starts the next one, and when it leaves that to the cron."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from flask.testing import FlaskClient

from jobs import Snooze, Tickwork
from jobs.core.chain import CHAIN_HEADER, Link
from jobs.core.clock import ManualClock
from jobs.core.doorbell import Ring
from jobs.http import create_app
from tests.http.conftest import BEARER, SECRET
from tests.support.databases import Database

TICK = "/cron/process-jobs"


class Bell:
    """Kicks nobody: a test calls the next tick itself, with the headers that it would have."""

    def __init__(self) -> None:
        self.kicks: list[dict[str, str]] = []
        self.works = True

    def ring(self, rings: Sequence[Ring]) -> None:
        return None

    def kick(self, headers: Mapping[str, str]) -> bool:
        if self.works:
            self.kicks.append(dict(headers))
        return self.works

    def take(self) -> dict[str, str]:
        (headers,) = self.kicks
        self.kicks.clear()
        return headers


class Shop:
    """A system behind its application, and the bell that its ticks ring."""

    def __init__(self, database: Database, **settings: Any) -> None:
        self.bell = Bell()
        self.clock = ManualClock()
        self.tickwork = Tickwork(
            database.url,
            doorbell=self.bell,
            clock=self.clock,
            cron_secret=SECRET,
            **settings,
        )
        self.tickwork.create_schema()
        self.client: FlaskClient = create_app(self.tickwork).test_client()
        self.ran = 0

        @self.tickwork.handler("note")
        def note(payload: dict[str, int]) -> None:
            self.ran += 1

    def tick(self, headers: Mapping[str, str] | None = None, limit: int = 2) -> Any:
        answer = self.client.post(f"{TICK}?limit={limit}", headers={**BEARER, **(headers or {})})
        assert answer.status_code == 200
        return answer.json


MakeShop = Callable[..., Shop]


@pytest.fixture
def make_shop(database: Database) -> Iterator[MakeShop]:
    made: list[Shop] = []

    def make(**settings: Any) -> Shop:
        made.append(Shop(database, **settings))
        return made[-1]

    yield make
    for shop in made:
        shop.tickwork.close()


def link_of(headers: Mapping[str, str]) -> Link:
    link = Link.parse(headers[CHAIN_HEADER])
    assert link is not None
    return link


def test_ticks_follow_each_other_until_nothing_is_due(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.tickwork.enqueue_many([("note", {})] * 7)
    headers: Mapping[str, str] = {}
    links = []
    for _ in range(3):
        assert shop.tick(headers)["remaining"] > 0
        headers = shop.bell.take()
        links.append(link_of(headers))
    assert shop.tick(headers)["remaining"] == 0

    assert shop.bell.kicks == []
    assert shop.ran == 7
    assert [link.length for link in links] == [1, 2, 3]
    assert len({link.chain_id for link in links}) == 1


def test_a_tick_with_nothing_left_starts_none(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.tick()
    shop.tickwork.enqueue("note")
    shop.tick()

    assert shop.bell.kicks == []


def test_without_a_kick_nothing_is_started(database: Database) -> None:
    with_none = Tickwork(database.url, cron_secret=SECRET)
    with_none.create_schema()
    with_none.register_handler("note", lambda payload: None)
    with_none.enqueue_many([("note", {})] * 3)
    result = with_none.tick(limit=1)

    assert result.remaining == 2
    assert not with_none.go_on(result)
    with_none.close()


def test_a_tick_that_got_nowhere_starts_none(make_shop: MakeShop) -> None:
    """Jobs that put themselves off to at once would have ticks follow each other for ever."""
    shop = make_shop()

    @shop.tickwork.handler("later")
    def later(payload: dict[str, int]) -> None:
        raise Snooze(0)

    shop.tickwork.enqueue_many([("later", {})] * 3)
    assert shop.tick()["remaining"] == 3
    assert shop.bell.kicks == []

    # Nor does it in the middle of a chain, which is then free for others.
    shop.tickwork.enqueue_many([("note", {}, {"priority": 1})] * 2)
    assert shop.tick()["remaining"] == 3
    headers = shop.bell.take()
    assert shop.tick(headers)["remaining"] == 3
    assert shop.bell.kicks == []
    shop.tickwork.enqueue_many([("note", {}, {"priority": 1})] * 2)
    shop.tick()
    assert link_of(shop.bell.take()).length == 1


def test_a_chain_has_an_end(make_shop: MakeShop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tickwork.chain")
    shop = make_shop(chain_limit=2)
    shop.tickwork.enqueue_many([("note", {})] * 20)
    shop.tick()
    shop.tick(shop.bell.take())
    headers = shop.bell.take()
    assert link_of(headers).length == 2
    assert shop.tick(headers)["remaining"] == 14

    assert shop.bell.kicks == []
    assert "a chain ends after 2 ticks; 14 jobs wait" in caplog.messages
    shop.tick()  # the cron
    assert link_of(shop.bell.take()).length == 1


def test_a_limit_of_none_is_no_chain(make_shop: MakeShop) -> None:
    shop = make_shop(chain_limit=0)
    shop.tickwork.enqueue_many([("note", {})] * 20)
    shop.tick()

    assert shop.bell.kicks == []


def test_an_hour_is_not_overspent_by_all_instances_together(
    make_shop: MakeShop, caplog: pytest.LogCaptureFixture
) -> None:
    shops = [make_shop(chain_per_hour=4) for _ in range(2)]
    shops[0].tickwork.enqueue_many([("note", {})] * 100)
    headers: Mapping[str, str] = {}
    started = 0
    for turn in range(10):
        shop = shops[turn % 2]
        shop.tick(headers, limit=1)
        if not shop.bell.kicks:
            break
        headers = shop.bell.take()
        started += 1

    assert started == 4
    assert "JOBS_CHAIN_PER_HOUR" in caplog.text
    for shop in shops:
        shop.clock.advance(3601)
    shops[1].tick(limit=1)
    assert shops[1].bell.kicks, "a new hour"


def test_there_is_one_chain_and_the_cron_starts_no_second(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.tickwork.enqueue_many([("note", {})] * 20)
    shop.tick()
    headers = shop.bell.take()
    for _ in range(3):
        assert shop.tick()["remaining"] > 0  # the cron, or kicks of other jobs
        assert shop.bell.kicks == []
    shop.tick(headers)
    assert link_of(shop.bell.take()).length == 2


def test_what_another_tick_leaves_to_the_chain_is_not_forgotten(make_shop: MakeShop) -> None:
    """It came after the chain had counted what is left, and before the chain ended."""
    shop = make_shop()
    shop.tickwork.enqueue_many([("note", {})] * 3)
    shop.tick()
    headers = shop.bell.take()
    run = shop.tickwork.tick

    def overtaken(**options: Any) -> Any:
        result = run(**options)
        assert result.remaining == 0
        shop.tickwork.enqueue_many([("note", {})] * 5)
        other = run(limit=1)
        assert other.remaining == 4
        assert not shop.tickwork.go_on(other), "the chain holds"
        return result

    shop.tickwork.tick = overtaken  # type: ignore[assignment, method-assign]
    shop.tick(headers)
    shop.tickwork.tick = run  # type: ignore[method-assign]

    headers = shop.bell.take()
    assert link_of(headers).length == 2
    assert shop.tick(headers)["processed"] == 2
    assert shop.bell.kicks


def test_jobs_that_come_while_a_tick_runs_are_seen_at_its_end(make_shop: MakeShop) -> None:
    """Their kick may have been saved by one just before, and its process frozen since."""
    shop = make_shop()

    @shop.tickwork.handler("parent")
    def parent(payload: dict[str, int]) -> None:
        shop.tickwork.enqueue("note", queue="other")

    shop.tickwork.enqueue("parent")
    assert shop.tick(limit=10)["remaining"] == 1
    shop.tick(shop.bell.take())
    assert shop.ran == 1


def test_the_chain_of_a_tick_that_was_killed_is_taken_over(make_shop: MakeShop) -> None:
    shop = make_shop(tick_limit=30)
    shop.tickwork.enqueue_many([("note", {})] * 20)
    shop.tick()
    shop.bell.take()  # and the tick that it started is killed
    shop.tick()
    assert shop.bell.kicks == []
    shop.clock.advance(36)
    shop.tick()
    assert link_of(shop.bell.take()).length == 1


def test_a_kick_that_fails_holds_no_chain(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.tickwork.enqueue_many([("note", {})] * 20)
    shop.bell.works = False
    shop.tick()
    shop.bell.works = True
    shop.tick()
    assert link_of(shop.bell.take()).length == 1


@pytest.mark.parametrize("header", ["", "x", "0" * 5000, "a/b/c", "\xff"])
def test_a_header_that_is_no_link_harms_nothing(header: str, make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.tickwork.enqueue_many([("note", {})] * 3)
    shop.tick({CHAIN_HEADER: header})

    assert link_of(shop.bell.take()).length == 1


def test_an_answer_tells_when_the_next_job_is_due(make_shop: MakeShop) -> None:
    shop = make_shop()
    assert shop.tick()["next_due_at"] is None
    shop.tickwork.enqueue("note", delay=90)
    shop.tickwork.enqueue("unknown", delay=5)
    assert shop.tick()["next_due_at"] == "2026-01-01T00:01:30+00:00"
    shop.tickwork.enqueue_many([("note", {})] * 3)
    assert shop.tick()["next_due_at"] is None, "something is left"
    assert shop.tick()["next_due_at"] == "2026-01-01T00:01:30+00:00"


def test_a_schedule_is_told_of_too(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.tickwork.schedule("daily", "0 8 * * *", "note", {})
    shop.tick()
    assert shop.tick()["next_due_at"] == "2026-01-01T08:00:00+00:00"
    shop.clock.advance(8 * 3600)
    assert shop.tick()["processed"] == 1
    assert shop.tick()["next_due_at"] == "2026-01-02T08:00:00+00:00"
