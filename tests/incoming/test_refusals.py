"""What a provider, or somebody who would be one, is refused."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import pytest

from jobs import JobContext, State, Tickwork
from jobs.handlers.incoming import on_webhook
from jobs.http import create_app
from tests.incoming.conftest import HUSH, SECRETS, Door, client_of, handles, send, shopify
from tests.incoming.vectors import VECTORS, Vector
from tests.support.databases import Database


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.provider)
def test_a_wrong_signature_is_refused_with_nothing_enqueued(
    door: Door, vector: Vector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tickwork = door()
    handles(tickwork, vector.provider)
    answer = send(client_of(tickwork), vector, data=vector.body + b" ")

    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert tickwork.list() == []
    for said in (answer.text, caplog.text):
        assert vector.secret not in said
        assert vector.headers[vector.signature_header] not in said


def test_a_replay_after_six_minutes_is_refused(door: Door) -> None:
    tickwork = door()
    handles(tickwork, "stripe")
    client = client_of(tickwork)
    tickwork.clock.advance(360)  # type: ignore[attr-defined]

    assert send(client, VECTORS[0]).status_code == 401
    assert tickwork.list() == []


@pytest.mark.parametrize("given", [(), ("undefined",), ("none", "")], ids=str)
def test_closed_until_its_secret_is_set(door: Door, given: tuple[str, ...]) -> None:
    tickwork = door(**dict.fromkeys(SECRETS, given))
    handles(tickwork, "stripe")
    client = client_of(tickwork)
    for name in (*(vector.provider for vector in VECTORS), "nobody", "..", "stripe%00"):
        assert client.post(f"/webhooks/{name}", data=b"{}").status_code == 404
    for secret in given:  # what stands for no value proves nothing either
        assert client.post(**shopify(b"{}", secret=secret)).status_code == 404
    assert tickwork.list() == []


@pytest.mark.parametrize("method", ["get", "put", "delete", "patch", "options", "head"])
def test_other_methods(door: Door, method: str) -> None:
    assert getattr(client_of(door()), method)("/webhooks/shopify").status_code == 405


@pytest.mark.parametrize(
    "body",
    [b"", b"payload=%7B%7D", b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000],
    ids=["empty", "form", "open", "bytes", "NaN", "deep"],
)
def test_what_is_signed_and_no_json(door: Door, body: bytes) -> None:
    tickwork = door()
    handles(tickwork, "shopify")

    assert client_of(tickwork).post(**shopify(body)).status_code == 400
    assert tickwork.list() == []


def test_a_body_that_is_too_large(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    tickwork = door()
    handles(tickwork, "shopify")
    client = client_of(tickwork)
    kept = json.dumps({"note": "x" * 90_000}).encode()
    over = json.dumps({"note": "x" * 100_000}).encode()
    assert client.post(**shopify(kept)).status_code == 200
    assert client.post(**shopify(over)).status_code == 413
    assert "JOBS_PAYLOAD_MAX_BYTES" in caplog.text
    assert client.post(**shopify(b"x" * 2_000_000)).status_code == 413
    assert len(tickwork.list()) == 1


def test_what_no_database_stores_keeps_no_order_from_coming_in(database: Database) -> None:
    tickwork = Tickwork(database.url, shopify_webhook_secrets=(HUSH,))
    tickwork.create_schema()
    seen = handles(tickwork, "shopify")
    body = b'{"note": "gift \\u0000 card \\ud83d", "name": "\\ud83c\\udf63"}'
    answer = client_of(tickwork).post(**shopify(body, topic="orders/create"))
    tickwork.tick()

    assert answer.status_code == 200
    assert seen[0]["payload"] == {"note": "gift � card �", "name": "🍣"}
    tickwork.close()


def test_what_cannot_be_enqueued_is_to_be_sent_again(sqlite_url: str) -> None:
    tickwork = Tickwork(sqlite_url, shopify_webhook_secrets=(HUSH,))  # no tables yet
    handles(tickwork, "shopify")
    client = client_of(tickwork)
    request = shopify(b"{}", topic="orders/create", webhook_id="w-1")
    refused = client.post(**request)
    tickwork.create_schema()
    accepted = client.post(**request)

    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    assert "sqlite" not in refused.text.lower()
    assert accepted.status_code == 200
    assert len(tickwork.list()) == 1
    tickwork.close()


def test_a_burst_of_the_same_event_is_one_job(database: Database) -> None:
    tickwork = Tickwork(database.url, shopify_webhook_secrets=(HUSH,))
    tickwork.create_schema()
    handles(tickwork, "shopify")
    app = create_app(tickwork)
    request = shopify(b'{"id": 1}', topic="orders/create", webhook_id="w-1")
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(app.test_client().post(**request).status_code)
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [200] * 8
    assert len(tickwork.list()) == 1
    tickwork.close()


def test_an_event_handled_in_its_own_transaction(sqlite_url: str) -> None:
    tickwork = Tickwork(sqlite_url, shopify_webhook_secrets=(HUSH,))
    tickwork.create_schema()

    @on_webhook("shopify", "orders/create", transactional=True)
    def created(event: dict[str, Any], ctx: JobContext) -> str:
        assert ctx.session is not None
        return str(event["payload"]["name"])

    tickwork.register(created)
    client_of(tickwork).post(**shopify(b'{"name": "#1001"}', topic="orders/create"))
    tickwork.tick()
    (job,) = tickwork.list()

    assert (job.state, job.result) == (State.COMPLETED, "#1001")
    tickwork.close()
