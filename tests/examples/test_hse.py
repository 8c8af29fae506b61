"""The HSE system: what a sign-up, an incident, a week, a new customer set going, and for whom."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import sqlalchemy as sa
from werkzeug.security import generate_password_hash

from examples.hse import datasets, onboarding, routes
from examples.hse.app import create
from examples.hse.run import HANDLERS
from examples.hse.tables import incidents, metadata, organizations, stations, users, webhooks
from jobs import Job, State
from jobs.handlers import onboarding as battery
from jobs.handlers.datasets import catalogue
from jobs.handlers.reports import definition
from tests.examples.conftest import ADMIN, Example, Open, played
from tests.support.receiver import OK, Receiver
from tests.webhooks.conftest import answering

PASSWORD = "correct horse"
SECRET = "a-secret-of-both-sides"
ENTITIES = ["stations", "audits", "incidents", "work-permits", "contractors", "users"]
STEPS = {
    "create-organization": onboarding.create_organization,
    "welcome-admin": onboarding.welcome_admin,
}

# Modules declare as they are imported, here while tests are collected: the fixture does it anew,
# for tests of this file alone.
battery.STEPS.clear()
for _name in ENTITIES:
    catalogue._catalogue._datasets.pop(_name, None)
definition._reports.pop("compliance", None)


class Hse:
    """Ann and Bob have an organisation each; `place` receives the webhooks of both."""

    def __init__(self, example: Example, place: Receiver) -> None:
        self.example, self.place = example, place

    def ask(self, method: str, path: str, who: str = "", body: Any = None) -> Any:
        credentials = b64encode(f"{who}@example.com:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}"} if who else {}
        return self.example.ask(method, path, headers=headers, json=body)

    def signup(self, name: str, **changed: str) -> Any:
        body = {
            "name": name.title(),
            "email": f"{name}@example.com",
            "password": PASSWORD,
            "organizationName": f"{name.title()}'s mine",
            **changed,
        }
        return self.ask("POST", "/api/auth/signup", body=body)

    def organization_of(self, name: str) -> str:
        (row,) = self.example.rows(
            sa.select(users.c.organization_id).where(users.c.email == f"{name}@example.com")
        )
        return str(row.organization_id)

    def subscribe(self, name: str, path: str, *events: str) -> None:
        organization_id = self.organization_of(name)
        with self.example.tickwork.engine.begin() as connection:
            connection.execute(
                sa.insert(webhooks).values(
                    organization_id=organization_id,
                    url=f"{self.place.url}{path}",
                    secret=SECRET,
                    events=list(events),
                )
            )

    def incident(self, who: str, title: str = "A ladder slipped") -> dict[str, Any]:
        answer = self.ask("POST", "/api/incidents", who, {"title": title, "severity": "High"})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json
        return made


@pytest.fixture
def hse(open_example: Open, place: Receiver, monkeypatch: pytest.MonkeyPatch) -> Hse:
    # What a module declares once belongs to this test, and not to those of other systems.
    monkeypatch.setattr(battery.STEPS, "_functions", dict(STEPS))
    monkeypatch.setattr(catalogue._catalogue, "_datasets", {})
    monkeypatch.setattr(definition, "_reports", {})
    datasets.declare()
    # The same hash with less work: there are many people here.
    cheap = partial(generate_password_hash, method="pbkdf2:sha256:1000")
    monkeypatch.setattr(routes, "generate_password_hash", cheap)
    example = open_example(
        *("examples.hse", *HANDLERS[1:]),
        application=create,
        secret_key="the-key-of-this-test",
        tick_limit=700.0,
    )
    with example.tickwork.engine.begin() as connection:
        metadata.create_all(connection)
    system = Hse(example, place)
    for name in ("ann", "bob"):
        assert system.signup(name).json == {"success": True}
    return system


def file_of(job: Job) -> Path:
    assert job.state is State.COMPLETED, job.error
    return Path(unquote(urlsplit(job.result["file_url"]).path))


# --- signing up


def test_a_signup_is_welcomed_by_mail(hse: Hse) -> None:
    hse.example.cron()

    assert sorted((mail["To"], mail["Subject"]) for mail in hse.example.mails()) == [
        ("ann@example.com", "Welcome to Example"),
        ("bob@example.com", "Welcome to Example"),
    ]
    assert PASSWORD not in repr([job.payload for job in hse.example.tickwork.list()])


@pytest.mark.parametrize(
    ("changed", "status"),
    [({}, 409), ({"email": "no address"}, 400), ({"email": "c@x.example", "password": "x"}, 400)],
    ids=["twice", "no-address", "short-password"],
)
def test_a_signup_that_is_refused_leaves_nothing(
    hse: Hse, changed: dict[str, str], status: int
) -> None:
    assert hse.signup("ann", **changed).status_code == status
    assert len(hse.example.rows(sa.select(users))) == 2
    assert len(hse.example.rows(sa.select(organizations))) == 2
    assert len(hse.example.jobs("email")) == 2


# --- incidents


def test_an_incident_goes_to_every_subscriber_of_the_organisation(hse: Hse) -> None:
    hse.subscribe("ann", "/one", "incident.created")
    hse.subscribe("ann", "/two", "audit.closed", "incident.created")
    hse.subscribe("ann", "/audits", "audit.closed")
    hse.subscribe("bob", "/bob", "incident.created")

    made = hse.incident("ann")
    assert hse.place.requests == []  # the answer waits for no subscriber
    hse.example.cron()

    assert sorted(each.line.split()[1] for each in hse.place.requests) == ["/one", "/two"]
    for each in hse.place.requests:
        assert json.loads(each.body) == {"event": "incident.created", "data": made}
        signed = each.headers["x-webhook-timestamp"].encode() + b"." + each.body
        expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert each.headers["x-webhook-signature"] == expected
    assert SECRET not in repr([job.payload for job in hse.example.jobs("webhook")])


def test_a_subscriber_who_is_down_hears_of_it_later(hse: Hse) -> None:
    hse.subscribe("ann", "/one", "incident.created")
    answers = iter([answering(500), OK])
    hse.place.answer = lambda _: next(answers)
    hse.incident("ann")
    hse.example.cron()
    first = hse.example.job("webhook").state
    hse.example.later(15)

    assert (first, hse.example.job("webhook").state) == (State.PENDING, State.COMPLETED)
    assert len({each.headers["webhook-id"] for each in hse.place.requests}) == 1


def test_a_subscriber_who_wants_no_more_is_a_dead_letter(hse: Hse) -> None:
    hse.subscribe("ann", "/one", "incident.created")
    hse.place.answer = lambda _: answering(410)
    hse.incident("ann")
    hse.example.cron()

    assert hse.example.job("webhook").state is State.FAILED
    failed = hse.ask("GET", "/api/jobs/webhooks/jobs?status=failed", "ann").json
    assert [each["attempts"] for each in failed["jobs"]] == [1]


def test_an_incident_needs_a_user(hse: Hse) -> None:
    body = {"title": "A ladder slipped", "severity": "High"}
    for who in ("", "nobody"):
        assert hse.ask("POST", "/api/incidents", who, body).status_code == 401
    assert hse.ask("POST", "/api/incidents", "ann", {"title": "x"}).status_code == 400
    assert hse.example.rows(sa.select(incidents)) == []


# --- reports and exports


def test_each_organisation_gets_its_report_every_week(hse: Hse) -> None:
    hse.incident("ann")
    hse.example.cron()  # the first tick writes the schedule; it is Thursday
    hse.example.later(2 * 86_400)
    assert hse.example.jobs("weekly-compliance") == []
    hse.example.later(86_400)
    hse.example.cron()

    reports = hse.example.jobs("report")
    assert {job.tenant for job in reports} == {hse.organization_of(name) for name in ("ann", "bob")}
    for job in reports:
        assert file_of(job).read_bytes().startswith(b"%PDF")
    told = [mail for mail in hse.example.mails() if "Welcome" not in mail["Subject"]]
    assert sorted(mail["To"] for mail in told) == ["ann@example.com", "bob@example.com"]

    hse.example.later(7 * 86_400)
    weeks = [job.slot for job in hse.example.jobs("weekly-compliance")]
    assert max(weeks).isoformat() == "2026-01-11T00:00:00+00:00"


def test_an_export_holds_the_callers_rows_alone(hse: Hse) -> None:
    hse.incident("ann", "of Ann")
    hse.incident("bob", "of Bob")
    body = {"entities": ENTITIES, "format": "json", "notifyEmail": "ann@example.com"}
    made = hse.ask("POST", "/api/jobs/data-exports", "ann", body)
    assert made.status_code == 201, made.text
    hse.example.cron()

    done = hse.example.job("data-export")
    assert done.result["entities"] == {**dict.fromkeys(ENTITIES, 0), "incidents": 1, "users": 1}
    content = file_of(done).read_bytes()
    assert b"Bob" not in content
    assert "ann@example.com" in [mail["To"] for mail in hse.example.mails()]


def test_no_filter_reaches_another_organisation(hse: Hse) -> None:
    hse.incident("ann", "of Ann")
    hse.incident("bob", "of Bob")
    body = {
        "type": "incidents",
        "format": "json",
        "filters": {"organizationId": hse.organization_of("bob")},
    }
    hse.ask("POST", "/api/jobs/reports", "ann", body)
    hse.ask(
        "POST", "/api/jobs/reports", "ann", {"type": "incidents", "filters": {"status": "Open"}}
    )
    hse.example.cron()

    own, refused = sorted(hse.example.jobs("report"), key=lambda job: job.state)
    assert (own.state, refused.state) == (State.COMPLETED, State.FAILED)
    assert "organizationId" in (refused.error or "")
    assert "of Ann" in file_of(own).read_text()
    assert "of Bob" not in file_of(own).read_text()


# --- whose jobs


def test_jobs_are_their_organisations_own(hse: Hse) -> None:
    hse.subscribe("ann", "/one", "incident.created")
    hse.incident("ann")
    job = hse.example.job("webhook")
    path = f"/api/jobs/webhooks/jobs/{job.id}"

    assert hse.ask("GET", path).status_code == 401
    assert hse.ask("GET", path, "ann").json["id"] == job.id
    for method, whole in (("GET", path), ("POST", f"{path}/retry"), ("DELETE", path)):
        assert hse.ask(method, whole, "bob").status_code == 404
    assert hse.example.tickwork.get(job.id) is not None
    seen = {
        name: {each["kind"] for each in hse.ask("GET", "/api/jobs/all/jobs", name).json["jobs"]}
        for name in ("ann", "bob")
    }
    assert seen == {"ann": {"email", "webhook"}, "bob": {"email"}}
    stats = hse.ask("GET", "/api/jobs/stats", "bob").json
    assert stats["webhooks"]["total"] == 0
    assert stats["email"]["total"] == 1


# --- customers whom sales brought

CUSTOMER = {
    "organizationName": "Acme Corp",
    "adminEmail": "admin@acme.com",
    "adminName": "John Doe",
    "tier": "professional",
}


def onboard(hse: Hse) -> None:
    answer = hse.example.ask("POST", "/api/jobs/tenant-onboarding", headers=ADMIN, json=CUSTOMER)
    assert answer.status_code == 201, answer.text


def acme(hse: Hse) -> tuple[int, int, int]:
    """How many organisations, stations and welcomes there are of it."""
    made = hse.example.rows(
        sa.select(organizations.c.id).where(organizations.c.name == "Acme Corp")
    )
    mails = [mail for mail in hse.example.mails() if mail["To"] == "admin@acme.com"]
    return len(made), len(hse.example.rows(sa.select(stations))), len(mails)


def test_a_customer_is_onboarded(hse: Hse) -> None:
    onboard(hse)
    hse.example.cron()
    hse.example.cron()

    assert hse.example.job("tenant-onboarding").state is State.COMPLETED
    assert acme(hse) == (1, 1, 1)


def test_dying_after_a_step_makes_no_second_organisation(
    hse: Hse, monkeypatch: pytest.MonkeyPatch
) -> None:
    onboard(hse)
    with monkeypatch.context() as broken:
        # After the step's commit, before the job remembers it.
        broken.setattr(battery, "encode", lambda *_: 1 / 0)
        hse.example.cron()
    assert hse.example.job("tenant-onboarding").state is State.PENDING
    assert acme(hse) == (1, 1, 0)

    hse.example.later(10)
    hse.example.cron()

    assert hse.example.job("tenant-onboarding").state is State.COMPLETED
    assert acme(hse) == (1, 1, 1)


@pytest.mark.slow
def test_the_run_of_the_readme() -> None:
    printed = played("hse")

    assert printed.count("welcome-") == 3
    assert printed.count("compliance-") == 3
