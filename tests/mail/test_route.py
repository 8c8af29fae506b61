"""`POST /api/jobs/email`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.manage.conftest import Office, open_office
from tests.support.databases import Database

BODY: dict[str, Any] = {
    "to": "user@example.com",
    "subject": "Test Email",
    "html": "<p>Hello!</p>",
    "text": "Hello!",
    "from": "noreply@hse.digital",
    "priority": 2,
}


@contextmanager
def mail_office(**settings: Any) -> Iterator[Office]:
    opened = open_office(**settings)
    opened.tickwork.load_handlers("jobs.handlers.email")
    yield opened
    opened.tickwork.close()


@pytest.fixture
def office() -> Iterator[Office]:
    with mail_office() as opened:
        yield opened


@pytest.fixture
def sql_office(sqlite_database: Database) -> Iterator[Office]:
    with mail_office(database_url=sqlite_database.url) as opened:
        yield opened


@pytest.mark.parametrize("where", ["office", "sql_office"])
def test_a_mail_is_enqueued_for_the_callers_tenant(
    where: str, request: pytest.FixtureRequest
) -> None:
    office: Office = request.getfixturevalue(where)
    made = office.caller("operator", "org1").post("/api/jobs/email", BODY, 201)
    job = office.tickwork.get(made["id"])

    assert job is not None
    assert (job.kind, job.queue, job.tenant, job.priority) == ("email", "email", "org1", 2)
    assert job.payload == {name: BODY[name] for name in BODY if name != "priority"}
    assert (made["payload"]["to"], made["payload"]["text"]) == (BODY["to"], "[redacted]")
    # Another tenant does not see it.
    other = office.caller("operator", "org2")
    assert other("GET", f"/api/jobs/email/jobs/{job.id}").status_code == 404


def test_a_template_will_do(office: Office) -> None:
    body = {"to": ["a@example.com"], "template": "welcome", "data": {"name": "Ada"}}

    assert office.admin.post("/api/jobs/email", body, 201)["payload"] == body


def test_only_those_who_may(office: Office) -> None:
    assert office.app.test_client().post("/api/jobs/email", json=BODY).status_code == 401
    assert office.caller("viewer", "org1")("POST", "/api/jobs/email", json=BODY).status_code == 403
    assert office.tickwork.list() == []


def test_the_same_request_again_makes_no_second_mail(office: Office) -> None:
    key = {"Idempotency-Key": "signup-7"}
    caller = office.caller("operator", "org1")
    made = caller.post("/api/jobs/email", BODY, 201, headers=key)

    assert caller.post("/api/jobs/email", BODY, 200, headers=key)["id"] == made["id"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"to": "ann"}, "to"),
        ({"to": ["a@example.com", "ann"]}, "to[1]"),
        ({"to": None}, "to"),
        ({"subject": "a\nb"}, "subject"),
        ({"from": 7}, "from"),
        ({"colour": "red"}, "colour"),
        ({"attachments": [{"key": "exports/orders/1.csv"}]}, "attachments"),
        ({"organizationId": "org2"}, "organizationId"),
        ({"template": "welcome"}, "template"),
    ],
    ids=["address", "second", "none", "line", "type", "unknown", "files", "tenant", "both"],
)
def test_a_mistake_is_told_with_its_place(
    office: Office, change: dict[str, Any], place: str
) -> None:
    answer = office.admin("POST", "/api/jobs/email", json={**BODY, **change})

    assert answer.status_code == 422
    assert answer.content_type == "application/problem+json"
    assert [each["path"] for each in answer.json["errors"]] == [place]
    assert office.tickwork.list() == []


@pytest.mark.parametrize("priority", [9, "high", 0])
def test_a_priority_is_one_to_five(office: Office, priority: Any) -> None:
    answer = office.admin("POST", "/api/jobs/email", json={**BODY, "priority": priority})

    assert answer.status_code == 422
    assert "riority" in answer.text


def test_too_large_a_mail_is_refused(office: Office) -> None:
    answer = office.admin("POST", "/api/jobs/email", json={**BODY, "html": "x" * 150_000})

    assert answer.status_code == 413


def test_it_is_the_one_door_to_the_kind(office: Office) -> None:
    """The open one would let files of other tenants through."""
    answer = office.admin("POST", "/api/jobs", json={"kind": "email", "payload": BODY})

    assert answer.status_code == 403


def test_actions_on_the_queue_are_still_actions(office: Office) -> None:
    assert office.admin.post("/api/jobs/email?action=pause")["paused"] is True


def test_the_payload_is_described(office: Office) -> None:
    kinds = {each["kind"]: each for each in office.admin.get("/api/admin/kinds")["kinds"]}

    schema = kinds["email"]["payload_schema"]
    fields = schema.get("$defs", {}).get("EmailJob", schema)["properties"]
    assert {"to", "from", "template", "attachments"} <= set(fields)
