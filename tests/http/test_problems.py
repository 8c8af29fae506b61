"""Errors tell the caller enough and an attacker nothing; the log has the rest."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from sqlalchemy import text

from jobs import CapabilityError, ConfigurationError
from tests.http.conftest import BEARER, SECRET, Shop, open_shop
from tests.support.databases import Database
from tests.support.servers import free_port

TICK = "/cron/process-jobs"
SECRETS = ("hunter2", "SELECT", "select ", "Traceback", "tickwork_jobs", "psycopg", "sqlite")


def test_a_database_that_is_gone_is_503(caplog: pytest.LogCaptureFixture) -> None:
    url = f"postgresql://somebody:hunter2@127.0.0.1:{free_port()}/shop"
    shop = open_shop(database_url=url)

    answer = shop.client.get(TICK, headers=BEARER)

    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
    assert int(answer.headers["Retry-After"]) > 0
    assert not [word for word in SECRETS if word in answer.text]
    assert "Connection refused" in caplog.text
    assert "hunter2" not in caplog.text


def test_tables_that_are_missing_name_their_mend(bare_database: Database) -> None:
    shop = open_shop(database_url=bare_database.url)

    answer = shop.client.get(TICK, headers=BEARER)

    assert answer.status_code == 503
    assert "tickwork db upgrade" in answer.get_json()["detail"]
    shop.tickwork.create_schema()
    assert shop.client.get(TICK, headers=BEARER).status_code == 200
    shop.tickwork.close()


def test_whatever_else_breaks_is_a_500_that_tells_nothing(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop = open_shop(database_url=sqlite_url)
    shop.tickwork.create_schema()
    shop.tickwork.enqueue("note", {"n": 1})
    with shop.tickwork.engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER broken BEFORE UPDATE ON tickwork_jobs BEGIN "
                "SELECT RAISE(ABORT, 'hunter2'); END"
            )
        )

    answer = shop.client.get(TICK, headers=BEARER)

    assert answer.status_code == 500
    assert answer.content_type == "application/problem+json"
    assert not [word for word in SECRETS if word in answer.text]
    (record,) = [each for each in caplog.records if each.name == "tickwork.http"]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    shop.tickwork.close()


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("testing", [False, True])
def test_debugging_shows_no_more(
    debug: bool, testing: bool, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = shop.client.application
    app.debug, app.testing = debug, testing

    def broken(**_options: Any) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(shop.tickwork, "tick", broken)

    answer = shop.client.get(TICK, headers=BEARER)

    assert answer.status_code == 500
    assert "hunter2" not in answer.text


def test_production_does_not_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")

    assert open_shop().client.application.debug is False


def test_a_path_that_is_not_there_is_a_problem_too(shop: Shop) -> None:
    answer = shop.client.get("/nothing")

    assert answer.status_code == 404
    assert answer.get_json() | {"detail": ""} == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "",
    }


@pytest.mark.parametrize("error", [CapabilityError, ConfigurationError])
def test_a_server_that_is_not_set_up_for_it_says_what_is_missing(
    error: type[Exception], shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    @shop.client.application.before_request
    def broken() -> None:
        raise error("set THAT_URL")

    answer = shop.client.get("/x")

    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["detail"].endswith("set THAT_URL")
    assert "set THAT_URL" in caplog.text


def test_the_shop_without_a_database_says_so() -> None:
    shop = open_shop(handlers=["jobs.demo.orders"], admin_token=SECRET)

    answer = shop.client.get("/api/orders/export/1", headers=BEARER)

    assert answer.status_code == 503
    assert "set DATABASE_URL" in answer.get_json()["detail"]
    shop.tickwork.close()


def test_a_path_cannot_write_lines_into_the_log(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    @shop.client.application.before_request
    def broken() -> None:
        raise RuntimeError("no")

    shop.client.get("/x%0A2026-01-01 CRITICAL everything is lost%1B[2J")

    (record,) = [each for each in caplog.records if each.name == "tickwork.http"]
    assert "everything is lost" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert "\x1b" not in record.getMessage()
