"""`POST /api/jobs/webhooks`: by its own path alone, within the caller's tenant, nothing shown."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from flask.testing import FlaskClient
from standardwebhooks.webhooks import Webhook as Verifier

from jobs import Tickwork
from jobs.core.access import NewToken, Role, digest_of, new_secret
from jobs.core.ids import new_id
from jobs.http import create_app
from tests.support.receiver import Receiver
from tests.webhooks.conftest import PLAIN, SECRET, SETTINGS, System

ADMIN = "an-admin-token-of-some-length"
BODY: dict[str, Any] = {
    "url": "https://api.example.com/webhook",
    "payload": {"event": "test"},
    "secret": PLAIN,
    "eventType": "test.event",
}


def client_of(tickwork: Tickwork) -> FlaskClient:
    return create_app(tickwork).test_client()


def bearer(secret: str = ADMIN) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def tickwork(system: System) -> Tickwork:
    return system(admin_token=ADMIN)


def of_tenant(tickwork: Tickwork, tenant: str) -> dict[str, str]:
    secret = new_secret()
    token = NewToken(new_id(), tenant, Role.OPERATOR, tenant, digest_of(secret))
    tickwork.store.add_token(token)
    return bearer(secret)


def test_a_webhook_from_the_call_to_the_receiver(tickwork: Tickwork, place: Receiver) -> None:
    client, caller = client_of(tickwork), of_tenant(tickwork, "org-1")
    body = {**BODY, "url": f"{place.url}/in", "secret": SECRET}
    made = client.post("/api/jobs/webhooks", json=body, headers=caller)

    assert made.status_code == 201
    assert (made.json["kind"], made.json["tenant"]) == ("webhook", "org-1")
    assert made.json["payload"]["secret"] == "[redacted]"
    assert SECRET not in made.text
    tickwork.tick()
    (got,) = place.requests
    assert Verifier(SECRET).verify(got.body, got.headers) == {"event": "test"}
    path = f"/api/jobs/all/jobs/{made.json['id']}"
    shown = client.get(path, headers=caller)
    assert shown.json["state"] == "completed"
    assert "$sealed" not in shown.text
    assert client.get(path, headers=of_tenant(tickwork, "org-2")).status_code == 404
    assert client.post("/api/jobs/webhooks", json=body).status_code == 401


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"url": None}, "url"),
        ({"url": "http://169.254.169.254/latest"}, "url"),
        ({"url": "https://localhost/"}, "url"),
        ({"url": 7}, "url"),
        ({"secret": None}, "secret"),
        ({"secret": "short"}, "secret"),
        ({"secret": "env:WEBHOOK_SECRET_OF_SOMEBODY"}, "secret"),
        ({"secret": {"$sealed": "gAAAA"}}, "secret"),
        ({"payload": None}, "payload"),
        ({"eventType": "a b"}, "$"),
        ({"organizationId": "org-2"}, "organizationId"),
        ({"colour": 1}, "colour"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_with_its_place(
    system: System, changes: dict[str, Any], path: str
) -> None:
    tickwork = system(admin_token=ADMIN, webhook_allow=())
    answer = client_of(tickwork).post(
        "/api/jobs/webhooks", json={**BODY, **changes}, headers=bearer()
    )

    assert answer.status_code == 422, answer.text
    assert [each["path"] for each in answer.json["errors"]] == [path]
    assert PLAIN not in answer.text
    assert tickwork.list() == []


def test_without_a_key_the_mend_is_named(system: System) -> None:
    tickwork = system(admin_token=ADMIN, secret_key=None)
    answer = client_of(tickwork).post("/api/jobs/webhooks", json=BODY, headers=bearer())

    assert answer.status_code == 422
    assert "JOBS_ENCRYPTION_KEYS" in answer.text


def test_no_other_way_from_outside_leads_to_the_kind(tickwork: Tickwork) -> None:
    payload = {**BODY, "secret": "env:WEBHOOK_SECRET_A"}
    answer = client_of(tickwork).post(
        "/api/jobs", json={"kind": "webhook", "payload": payload}, headers=bearer()
    )

    assert answer.status_code == 403
    assert tickwork.list() == []


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain rows", "encrypted rows"])
def test_a_request_sent_again_makes_no_second_webhook(
    sqlite_url: str, place: Receiver, encrypted: bool
) -> None:
    """The secret is encrypted anew each time; that makes it no other webhook."""
    keys = (Fernet.generate_key().decode(),) if encrypted else ()
    given = {**SETTINGS, "encryption_keys": keys, "admin_token": ADMIN}
    tickwork = Tickwork(sqlite_url, handlers=["jobs.handlers.webhook"], **given)
    tickwork.create_schema()
    client, headers = client_of(tickwork), {**bearer(), "Idempotency-Key": "key-1"}
    body = {**BODY, "url": place.url}

    def send(**changes: Any) -> Any:
        return client.post("/api/jobs/webhooks", json={**body, **changes}, headers=headers)

    made, again, other = send(), send(), send(payload={"event": "other"})
    tickwork.tick()

    assert (made.status_code, again.status_code, other.status_code) == (201, 200, 422)
    assert again.json["id"] == made.json["id"]
    (got,) = place.requests
    assert Verifier(PLAIN.encode()).verify(got.body, got.headers) == BODY["payload"]
    tickwork.close()
