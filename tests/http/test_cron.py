"""What a tick answers, and what it refuses to be asked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from werkzeug.test import TestResponse

from jobs import Discard
from jobs.http.cron import TICKS_AT_ONCE
from tests.http.conftest import BEARER, Shop, open_shop

TICK = "/cron/process-jobs"
SHAPE = {
    "processed": int,
    "succeeded": int,
    "failed": int,
    "retried": int,
    "released": int,
    "remaining": int,
    "more": bool,
    "jobs": list,
    "duration_ms": float,
    "next_due_at": type(None),
}


def enqueue(shop: Shop, count: int) -> list[str]:
    return shop.tickwork.enqueue_many([("note", {"n": n}) for n in range(count)])


def test_the_answer_has_its_fixed_shape(shop: Shop) -> None:
    (job,) = shop.tickwork.list()

    answer = shop.client.get(TICK, headers=BEARER)

    body = answer.get_json()
    assert answer.content_type == "application/json"
    assert {name: type(value) for name, value in body.items()} == SHAPE
    assert list(body) == list(SHAPE)
    assert (body["processed"], body["succeeded"], body["jobs"]) == (1, 1, [job.id])
    assert answer.headers["Cache-Control"] == "no-store"


def test_an_idle_tick_answers_alike() -> None:
    body = open_shop().client.get(TICK, headers=BEARER).get_json()

    assert {name: type(value) for name, value in body.items()} == SHAPE
    assert (body["processed"], body["remaining"], body["jobs"]) == (0, 0, [])


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_limit_is_kept_and_the_rest_counted(method: str) -> None:
    shop = open_shop()
    ids = enqueue(shop, 5)

    body = shop.client.open(f"{TICK}?limit=3", method=method, headers=BEARER).get_json()

    assert (body["processed"], body["remaining"], body["more"]) == (3, 2, False)
    assert sorted(body["jobs"]) == ids[:3]


def test_without_a_limit_a_tick_takes_a_batch() -> None:
    shop = open_shop(batch_size=4)
    enqueue(shop, 6)

    assert shop.client.get(TICK, headers=BEARER).get_json()["processed"] == 4


@pytest.mark.parametrize("limit", ["1", "1000", "0001"])
def test_a_limit_within_the_range_is_taken(limit: str, shop: Shop) -> None:
    assert shop.client.get(f"{TICK}?limit={limit}", headers=BEARER).status_code == 200
    assert shop.ran == [1]


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=-1", "limit=1001", "limit=99999999999999999999", "limit=", "limit=abc"),
        *("limit=1.5", "limit=1e2", "limit=%2B5", "limit=%205", "limit=0x10", "limit=1_0"),
        *("limit=%D9%A3", "limit=None", "limit=5&limit=6", "limit=5%00", "limit=5%0A", "limit=%FF"),
        "limit='; drop table tickwork_jobs--",
    ],
)
def test_any_other_limit_is_refused(query: str, shop: Shop) -> None:
    answer = shop.client.get(f"{TICK}?{query}", headers=BEARER)

    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert "1 to 1000" in answer.get_json()["detail"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert shop.waiting == 1


@pytest.mark.parametrize("path", [TICK, "/api/cron/process-export-jobs", "/api/jobs/process"])
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "QUERY"])
def test_other_methods_run_nothing(method: str, path: str, shop: Shop) -> None:
    answer = shop.client.open(path, method=method, headers=BEARER)

    assert answer.status_code == 405
    assert sorted(answer.headers["Allow"].split(", ")) == ["GET", "POST"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert shop.waiting == 1


def test_a_method_override_is_not_heard(shop: Shop) -> None:
    override = {"X-HTTP-Method-Override": "GET"}

    assert shop.client.put(TICK, headers={**BEARER, **override}).status_code == 405
    assert shop.waiting == 1


@pytest.mark.parametrize("path", [TICK, "/api/cron/process-export-jobs"])
def test_a_slash_at_the_end_is_no_redirect(path: str, shop: Shop) -> None:
    """Platforms take a redirect for success and follow none."""
    answer = shop.client.get(f"{path}/", headers=BEARER)

    assert answer.status_code == 200
    assert shop.ran == [1]


@pytest.mark.parametrize("path", ["//cron/process-jobs", "/cron//process-jobs", "/healthz//"])
def test_no_other_path_redirects(path: str, shop: Shop) -> None:
    assert shop.client.get(path, headers=BEARER).status_code == 404


def test_the_seeds_export_tick_takes_ten_and_answers_two_fields() -> None:
    shop = open_shop(batch_size=3)
    ids = enqueue(shop, 12)

    answer = shop.client.get("/api/cron/process-export-jobs", headers=BEARER)

    body = answer.get_json()
    assert set(body) == {"processed", "jobs"}
    assert (body["processed"], sorted(body["jobs"])) == (10, ids[:10])


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_the_seeds_batch(content_type: str) -> None:
    """Their curl example names no content type, which makes it a form's."""
    shop = open_shop()
    enqueue(shop, 12)

    answer = shop.client.post(
        "/api/jobs/process",
        headers=BEARER,
        data='{ "action": "process-batch", "limit": 3 }',
        content_type=content_type,
    )

    assert {name: type(value) for name, value in answer.get_json().items()} == SHAPE
    assert answer.get_json()["processed"] == 3
    assert (
        shop.client.post(
            "/api/jobs/process", headers=BEARER, json={"action": "process-batch"}
        ).get_json()["processed"]
        == 9
    )


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b'"process-batch"', b"{}", b"\xff\xfe"),
        *(b'{"action": "clear"}', b'{"action": "__class__"}', b'{"action": ["process-batch"]}'),
        *(
            b'{"action": "process-batch", "limit": "10"}',
            b'{"action": "process-batch", "limit": 0}',
        ),
        b'{"action": "process-batch", "limit": 1001}',
        b'{"action": "process-batch", "limit": true}',
        b'{"action": "process-batch", "limit": 1.5}',
        b'{"action": "process-batch", "limit": null}',
        b'{"action": "process-batch", "limit": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda body: repr(body[:50]),
)
def test_anything_else_asked_of_it_is_refused(body: bytes, shop: Shop) -> None:
    answer = shop.client.post("/api/jobs/process", headers=BEARER, data=body)

    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert shop.waiting == 1


def test_the_platforms_cron_runs_a_batch_by_get(shop: Shop) -> None:
    agent = {"User-Agent": "vercel-cron/1.0"}

    assert shop.client.get("/api/jobs/process", headers=agent).status_code == 401
    assert shop.waiting == 1
    body = shop.client.get("/api/jobs/process", headers={**BEARER, **agent}).get_json()
    assert body["processed"] == 1


def test_anybody_else_gets_the_counts(shop: Shop) -> None:
    shop.tickwork.enqueue("note", {"n": "bad", "password": "hunter2"})
    shop.tickwork.tick()
    shop.tickwork.enqueue("note", {"n": 2}, delay=60)
    shop.tickwork.enqueue("note", {"n": 3})

    answer = shop.client.get("/api/jobs/process", headers=BEARER)

    body = answer.get_json()
    assert body["stats"] == {"note": 2, "dead_letter": 1}
    assert body["deadLetterCount"] == 1
    (dead,) = body["deadLetterSample"]
    assert (dead["type"], dead["attemptCount"], dead["maxAttempts"]) == ("note", 1, 1)
    assert "bad note" in dead["lastError"]
    assert b"hunter2" not in answer.data
    assert shop.waiting == 2


def test_a_body_over_the_limit_is_refused(shop: Shop) -> None:
    for path in (TICK, "/api/jobs/process"):
        answer = shop.client.post(path, headers=BEARER, data=b" " * (1_048_576 + 1))

        assert answer.status_code == 413
        assert answer.content_type == "application/problem+json"
    assert shop.waiting == 1


def test_answers_carry_the_headers_that_protect(shop: Shop) -> None:
    for path in (TICK, "/healthz", "/nothing"):
        headers = shop.client.get(path).headers

        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"


def tick_all(shop: Shop, times: int) -> list[TestResponse]:
    app = shop.client.application

    def one(_: int) -> TestResponse:
        return app.test_client().get(TICK, headers=BEARER)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


def test_a_hundred_calls_at_once_are_bounded_work(sqlite_url: str) -> None:
    shop = open_shop(database_url=sqlite_url, concurrency=1)
    shop.tickwork.create_schema()
    lock, at_once = threading.Lock(), [0, 0]

    @shop.tickwork.handler("count")
    def count(_payload: dict[str, Any]) -> None:
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        with lock:
            shop.ran.append(threading.get_ident())
            at_once[0] -= 1

    shop.tickwork.enqueue_many([("count", {})] * 300)
    answers = tick_all(shop, 100)

    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.get_json()["processed"] for answer in answers) == 300 == len(shop.ran)
    assert at_once[1] <= TICKS_AT_ONCE
    shop.tickwork.close()


def test_a_call_that_finds_no_room_in_its_budget_is_told_to_come_back() -> None:
    shop = open_shop(time_budget=0.3, tick_limit=30, concurrency=1)
    busy, go_on = threading.Semaphore(0), threading.Event()

    @shop.tickwork.handler("hold")
    def hold(_payload: dict[str, Any]) -> None:
        busy.release()
        assert go_on.wait(20)

    shop.tickwork.enqueue_many([("hold", {})] * TICKS_AT_ONCE)
    app = shop.client.application
    with ThreadPoolExecutor(TICKS_AT_ONCE) as pool:
        ticking = [
            pool.submit(app.test_client().get, f"{TICK}?limit=1", headers=BEARER)
            for _ in range(TICKS_AT_ONCE)
        ]
        for _ in range(TICKS_AT_ONCE):
            assert busy.acquire(timeout=20)
        refused = shop.client.get(TICK, headers=BEARER)
        go_on.set()

    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert [each.result().get_json()["processed"] for each in ticking] == [1] * TICKS_AT_ONCE
    assert shop.client.get(TICK, headers=BEARER).status_code == 200


def test_the_budget_runs_from_the_beginning_of_the_request() -> None:
    """What the request spent before its tick (here, in a hook) is not there for jobs."""
    shop = open_shop(time_budget=0.2, tick_limit=5)
    spent = threading.Event()
    shop.client.application.before_request(lambda: (spent.wait(0.3), None)[1])
    enqueue(shop, 3)

    body = shop.client.get(TICK, headers=BEARER).get_json()

    assert (body["processed"], body["released"]) == (0, 3)
    assert body["duration_ms"] >= 300
    assert [job.attempts for job in shop.tickwork.list()] == [0, 0, 0]


def test_a_handler_that_fails_does_not_fail_the_tick() -> None:
    shop = open_shop()

    @shop.tickwork.handler("hopeless")
    def hopeless(_payload: dict[str, Any]) -> None:
        raise Discard("no")

    shop.tickwork.enqueue("hopeless", {})
    enqueue(shop, 2)

    answer = shop.client.get(TICK, headers=BEARER)

    assert answer.status_code == 200
    body = answer.get_json()
    assert (body["processed"], body["succeeded"], body["failed"]) == (3, 2, 1)


def test_a_handler_that_hangs_is_given_up_in_time_to_write_it_down() -> None:
    """Past the moment when nothing starts any more, only the handlers' ends are waited for."""
    shop = open_shop(time_budget=0.5, tick_limit=2)
    go_on = threading.Event()

    @shop.tickwork.handler("hang")
    def hang(_payload: dict[str, Any]) -> None:
        go_on.wait(20)

    shop.tickwork.enqueue("hang", {})

    body = shop.client.get(TICK, headers=BEARER).get_json()

    go_on.set()
    assert body["retried"] == 1
    assert 1800 <= body["duration_ms"] < 2000
