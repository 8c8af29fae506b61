"""`POST /webhooks/<provider>`: checked, enqueued once, answered; and what a handler then gets."""

from __future__ import annotations

import hashlib
import hmac
import json
from types import ModuleType

import pytest

from jobs import ConfigurationError, Tickwork
from jobs.handlers.incoming import on_webhook
from tests.incoming.conftest import HUSH, SECRETS, Door, client_of, handles, send, shopify
from tests.incoming.vectors import VECTORS, Vector

each_vector = pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if vector.provider != "github"],  # whose vector is no JSON
    ids=lambda vector: vector.provider,
)


@each_vector
def test_from_the_provider_to_the_handler(door: Door, vector: Vector) -> None:
    tickwork = door()
    seen = handles(tickwork, vector.provider)
    answer = send(client_of(tickwork), vector)

    assert (answer.status_code, answer.json) == (200, {"received": True})
    (job,) = tickwork.list()
    assert (job.kind, job.queue, job.max_attempts) == (
        f"webhook:{vector.provider}",
        "incoming-webhooks",
        5,
    )
    tickwork.tick()
    (event,) = seen
    assert event["platform"] == vector.provider
    assert event["payload"] == json.loads(vector.body)
    assert event["signature"] == vector.headers[vector.signature_header]


@each_vector
def test_an_event_that_comes_twice_is_one_job(door: Door, vector: Vector) -> None:
    tickwork = door()
    seen = handles(tickwork, vector.provider)
    client = client_of(tickwork)
    assert send(client, vector).status_code == 200
    tickwork.tick()
    again = [send(client, vector) for _ in range(3)]

    assert [(answer.status_code, answer.json) for answer in again] == [
        (200, {"received": True})
    ] * 3
    tickwork.tick()
    assert len(seen) == 1


def test_the_types_and_ids_that_providers_give(door: Door) -> None:
    tickwork = door()
    for vector in VECTORS:
        handles(tickwork, vector.provider)
    client = client_of(tickwork)
    for vector in VECTORS:
        send(client, vector)
    ping = b'{"zen":"Keep it logically awesome."}'
    digest = hmac.new(VECTORS[3].secret.encode(), ping, hashlib.sha256).hexdigest()
    headers = {**VECTORS[3].headers, "x-hub-signature-256": f"sha256={digest}"}
    assert send(client, VECTORS[3], data=ping, headers=headers).status_code == 200
    found = {job.payload["platform"]: job.payload for job in tickwork.list()}

    assert {name: (each["eventType"], each["eventId"]) for name, each in found.items()} == {
        "stripe": ("payment_intent.succeeded", "evt_1"),
        "shopify": ("orders/create", "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"),
        "razorpay": ("payment.captured", "evt_rzp_1"),
        "github": ("push", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        "standard": ("", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
    }


def test_an_event_goes_to_its_own_handler_and_the_others_to_the_providers(door: Door) -> None:
    tickwork = door()
    created = handles(tickwork, "shopify", "orders/create", max_attempts=9)
    others = handles(tickwork, "shopify")
    client = client_of(tickwork)
    for topic in ("orders/create", "products/update", "x" * 200, ""):
        body = json.dumps({"topic": topic}).encode()
        assert client.post(**shopify(body, topic=topic)).status_code == 200
    jobs = {job.kind: job for job in tickwork.list()}
    tickwork.tick()

    assert [event["eventType"] for event in created] == ["orders/create"]
    assert [event["eventType"] for event in others] == ["products/update", "x" * 200, ""]
    assert jobs["webhook:shopify:orders.create"].max_attempts == 9


def test_events_that_nobody_wants_are_acknowledged(door: Door) -> None:
    tickwork = door()
    handles(tickwork, "shopify", "orders/create")
    answer = client_of(tickwork).post(**shopify(b"{}", topic="app/uninstalled"))

    assert (answer.status_code, answer.json) == (200, {"received": True})
    assert tickwork.list() == []


def test_with_no_handler_at_all_the_provider_is_to_send_it_again(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    tickwork = door()
    answer = client_of(tickwork).post(**shopify(b"{}", topic="orders/create"))

    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    assert "declare @on_webhook('shopify')" in caplog.text


# -- whose it is -------------------------------------------------------------------------------


def test_the_application_says_whose_an_event_is(door: Door) -> None:
    tickwork = door()
    handles(tickwork, "stripe")
    module = ModuleType("owners")
    module.webhook_owner = (  # type: ignore[attr-defined]
        lambda platform, payload: {
            "organizationId": f"org-of-{payload['id']}",
            "integrationId": "7",
        }
    )
    tickwork.modules.append(module)
    assert send(client_of(tickwork), VECTORS[0]).status_code == 200
    (job,) = tickwork.list()

    assert job.tenant == "org-of-evt_1"
    assert job.payload["organizationId"] == "org-of-evt_1"
    assert job.payload["integrationId"] == "7"


def test_an_owner_that_fails_loses_no_event(door: Door) -> None:
    tickwork = door()
    handles(tickwork, "stripe")
    module = ModuleType("owners")
    module.webhook_owner = lambda platform, payload: payload["nothing"]  # type: ignore[attr-defined]
    tickwork.modules.append(module)

    assert send(client_of(tickwork), VECTORS[0]).status_code == 503


# -- declaring ---------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("paypal",), ("stripe", ""), ("stripe", "x" * 100)], ids=str)
def test_what_makes_no_kind(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError):
        on_webhook(*arguments)


def test_secrets_come_from_the_environment_and_are_not_shown() -> None:
    environ = {
        "JOBS_ENV": "development",
        "STRIPE_WEBHOOK_SECRET": "whsec_new, whsec_old",
        "SHOPIFY_WEBHOOK_SECRET": HUSH,
        "RAZORPAY_WEBHOOK_SECRET": "r",
        "GITHUB_WEBHOOK_SECRET": "g",
        "STANDARD_WEBHOOK_SECRET": "s",
    }
    settings = Tickwork.from_env(environ).settings

    assert settings.stripe_webhook_secrets == ("whsec_new", "whsec_old")
    assert all(getattr(settings, name) for name in SECRETS)
    assert HUSH not in repr(settings)
    assert "whsec" not in repr(settings)
