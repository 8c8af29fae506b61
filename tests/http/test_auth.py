"""Who may run a tick. Every refused call must leave the waiting job unclaimed."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from jobs import State
from tests.http.conftest import BEARER, SECRET, Shop, open_shop

TICKS = ("/cron/process-jobs", "/api/cron/process-export-jobs", "/api/jobs/process")
PREVIOUS = "the-secret-of-last-month"

REFUSED = {
    "no header": None,
    "empty": "",
    "scheme alone": "Bearer",
    "empty token": "Bearer ",
    "None": "Bearer None",
    "null": "Bearer null",
    "undefined": "Bearer undefined",
    "wrong": "Bearer wrong-horse-battery-staple",
    "one more character": f"Bearer {SECRET}x",
    "a prefix": f"Bearer {SECRET[:-1]}",
    "first character": f"Bearer {SECRET[0]}",
    "another case": f"Bearer {SECRET.upper()}",
    "two spaces": f"Bearer  {SECRET}",
    "tab": f"Bearer\t{SECRET}",
    "lower-case scheme": f"bearer {SECRET}",
    "upper-case scheme": f"BEARER {SECRET}",
    "no scheme": SECRET,
    "Basic": f"Basic {SECRET}",
    "quoted": f'Bearer "{SECRET}"',
    "twice": f"Bearer {SECRET}, Bearer {SECRET}",
    "latin-1": "Bearer \xe9\xff\xfe",
    "secret and latin-1": f"Bearer {SECRET}\xe9",
    "very long": "Bearer " + "a" * 60_000,
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", TICKS)
@pytest.mark.parametrize("header", REFUSED.values(), ids=REFUSED)
def test_who_brings_no_secret_is_refused(
    header: str | None, path: str, method: str, shop: Shop
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = shop.client.open(
        path, method=method, headers=headers, json={"action": "process-batch"}
    )

    assert answer.status_code == 401
    assert answer.data == b'{"error": "Unauthorized"}'
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert (shop.ran, shop.waiting) == ([], 1)


@pytest.mark.parametrize("path", TICKS)
@pytest.mark.parametrize("name", ["secret", "token", "authorization", "CRON_SECRET", "bearer"])
def test_a_secret_in_the_query_counts_for_nothing(path: str, name: str, shop: Shop) -> None:
    """A URL stands in access logs."""
    for value in (SECRET, f"Bearer {SECRET}"):
        answer = shop.client.get(path, query_string={name: value})

        assert answer.status_code == 401
    assert shop.waiting == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", TICKS[:2])
def test_who_brings_the_secret_runs_a_tick(path: str, method: str, shop: Shop) -> None:
    answer = shop.client.open(path, method=method, headers=BEARER)

    assert answer.status_code == 200
    assert shop.ran == [1]


def test_during_a_rotation_both_secrets_open() -> None:
    shop = open_shop(cron_secret_previous=PREVIOUS)

    for secret in (SECRET, PREVIOUS):
        shop.tickwork.enqueue("note", {"n": secret})
        answer = shop.client.get(TICKS[0], headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code == 200
    assert shop.ran == [SECRET, PREVIOUS]

    both = {"Authorization": f"Bearer {SECRET}{PREVIOUS}"}
    assert shop.client.get(TICKS[0], headers=both).status_code == 401


def test_a_secret_of_other_letters_is_compared_as_bytes() -> None:
    shop = open_shop(cron_secret="пароль-для-заданий-крон")
    sent = "пароль-для-заданий-крон".encode().decode("latin-1")  # as a server hands it over

    assert shop.client.get(TICKS[0], headers={"Authorization": f"Bearer {sent}"}).status_code == 200


NO_SECRET = {
    "unset": {"cron_secret": None},
    "empty": {"cron_secret": ""},
    "blank": {"cron_secret": " \t "},
    "placeholder": {"cron_secret": "undefined"},
    "both placeholders": {"cron_secret": "None", "cron_secret_previous": "null"},
}


@pytest.mark.parametrize("path", TICKS)
@pytest.mark.parametrize("settings", NO_SECRET.values(), ids=NO_SECRET)
@pytest.mark.parametrize("token", [None, "", "None", "undefined", "null"])
def test_without_a_secret_production_is_closed(
    token: str | None, settings: dict[str, Any], path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also for loopback: behind a proxy on the same machine everybody comes from there."""
    shop = open_shop(**settings)
    shop.tickwork.enqueue("note", {"n": 1})
    assert "CRON_SECRET" in caplog.text
    caplog.clear()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    answer = shop.client.get(path, headers=headers)

    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
    assert "CRON_SECRET" in answer.get_json()["detail"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert (shop.ran, shop.waiting) == ([], 1)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


LAPTOP = {"env": "development", "cron_secret": None, "auto_start": False}


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
def test_on_a_laptop_without_a_secret_the_machine_itself_may(address: str) -> None:
    shop = open_shop(**LAPTOP)
    shop.tickwork.enqueue("note", {"n": 1})

    answer = shop.client.get(TICKS[0], environ_overrides={"REMOTE_ADDR": address})

    assert answer.status_code == 200
    assert shop.ran == [1]


@pytest.mark.parametrize(
    "environ",
    [
        {"REMOTE_ADDR": "192.168.1.20"},
        {"REMOTE_ADDR": "10.0.0.1"},
        {"REMOTE_ADDR": "::ffff:10.0.0.1"},
        {"REMOTE_ADDR": "fe80::1"},
        {"REMOTE_ADDR": ""},
        {"REMOTE_ADDR": "localhost"},
        # A tunnel or a proxy on the laptop: the caller is somewhere else.
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "for=203.0.113.7"},
    ],
)
def test_on_a_laptop_without_a_secret_nobody_else_may(environ: dict[str, str]) -> None:
    shop = open_shop(**LAPTOP)
    shop.tickwork.enqueue("note", {"n": 1})

    answer = shop.client.get(TICKS[0], environ_overrides=environ)

    assert answer.status_code == 503
    assert (shop.ran, shop.waiting) == ([], 1)


def test_on_a_platform_development_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the platform's own bridge calls from loopback for the whole world."""
    monkeypatch.setenv("VERCEL", "1")
    shop = open_shop(**LAPTOP)

    assert shop.client.get(TICKS[0]).status_code == 503


def test_on_a_laptop_with_a_secret_it_is_needed() -> None:
    shop = open_shop(env="development", auto_start=False)

    assert shop.client.get(TICKS[0]).status_code == 401
    assert shop.client.get(TICKS[0], headers=BEARER).status_code == 200


def test_a_short_secret_is_warned_of_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    shop = open_shop(cron_secret="hunter2-hunter2")  # one short of enough

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "CRON_SECRET" in caplog.text
    assert "hunter2" not in caplog.text
    given = {"Authorization": "Bearer hunter2-hunter2"}
    assert shop.client.get(TICKS[0], headers=given).status_code == 200


def test_a_long_secret_is_no_reason_to_speak(caplog: pytest.LogCaptureFixture) -> None:
    open_shop(cron_secret="hunter2-hunter22")

    assert caplog.records == []


def test_every_route_but_health_is_closed(shop: Shop) -> None:
    app = shop.client.application
    rules = list(app.url_map.iter_rules())
    assert len(rules) > 3

    for rule in rules:
        path = rule.rule.replace("<", "").replace(">", "")
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            answer = shop.client.open(path, method=method)
            if "health" in rule.endpoint and method in ("GET", "HEAD", "OPTIONS"):
                # No tick was recorded yet, which is a verdict and no refusal.
                red = rule.endpoint == "tickwork.ticks_health" and method != "OPTIONS"
                assert answer.status_code == (503 if red else 200)
            elif path == "/api/jobs/dashboard/login" and method == "POST":
                assert answer.status_code == 303
                assert answer.headers["Location"] == "/api/jobs/dashboard/login?error=unknown"
            elif path == "/api/jobs/dashboard/settings":  # how pages look: a cookie of one's own
                assert answer.status_code == (303 if method == "POST" else 405)
            elif answer.status_code == 303:  # a page: to where one signs in
                assert answer.headers["Location"].startswith("/api/jobs/dashboard/login?next=")
            elif path == "/api/jobs/dashboard/login" and method in ("GET", "HEAD"):
                assert answer.status_code == 200  # where one signs in
            else:
                assert answer.status_code in (401, 403, 404, 405), (method, path)
    assert shop.tickwork.list(limit=5)[0].state == State.PENDING


def test_health_says_nothing_else(shop: Shop) -> None:
    answer = shop.client.get("/healthz")

    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok"})


def test_health_asks_no_database() -> None:
    shop = open_shop(database_url="postgresql://nobody:hunter2@127.0.0.1:1/none")

    assert shop.client.get("/healthz").status_code == 200
