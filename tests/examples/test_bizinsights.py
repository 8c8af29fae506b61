"""BizInsights: a week of two organisations on five platforms, and what goes wrong in it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from examples.bizinsights import insights, plans, platforms
from examples.bizinsights.admins import tell_admins
from examples.bizinsights.app import create
from examples.bizinsights.fake_platforms import Account, Fact, FakePlatforms, shopify_document
from examples.bizinsights.run import HANDLERS
from examples.bizinsights.tables import alerts, integrations, metadata, records
from jobs import Job, State
from jobs.handlers import alert as alert_battery
from jobs.handlers.datasets import catalogue
from jobs.handlers.insights import definition as insights_definition
from jobs.handlers.reports import definition as reports_definition
from jobs.handlers.sync import add_platform, contract, create_sync_tables
from jobs.handlers.sync import kind as sync_kind
from tests.examples.conftest import ADMIN, Example, Open, played
from tests.sync.tasks import SHOPIFY

START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CRON_EVERY, JITTER = 2 * HOUR, timedelta(seconds=300)
SECRET = "hush-this-is-shopify"
STOP_SYNCING = f"{plans.__name__}.stop_syncing"

# Modules declare as they are imported, here while tests are collected: the fixture does it anew,
# for tests of this file alone.
sync_kind.AUTH_HOOKS.pop(STOP_SYNCING)
alert_battery.HOOKS.pop("admins")
for _name in platforms.HOSTS:
    contract._platforms.pop(_name)
add_platform(SHOPIFY)
for _name in (insights.DATASET, "business-by-platform"):
    catalogue._catalogue._datasets.pop(_name)
insights_definition._registered.pop("business")
for _name in ("weekly", "monthly", "quarterly"):
    reports_definition._reports.pop(_name)


class BizInsights:
    """Acme and Bolt, their accounts, and the platforms these are with."""

    def __init__(self, example: Example, fake: FakePlatforms) -> None:
        self.example, self.fake = example, fake
        self.ids: dict[str, str] = {}
        self.tokens: dict[str, str] = {}

    def ask(self, method: str, path: str, who: str = "", body: Any = None, **more: Any) -> Any:
        headers = ADMIN if who == "us" else {}
        token = self.tokens.get(who, "")
        return self.example.ask(method, path, token, headers=headers, json=body, **more)

    def join(self, name: str, tier: str) -> None:
        body = {"name": name.title(), "adminEmail": f"{name}@example.com", "tier": tier}
        made = self.ask("POST", "/api/organizations", "us", body)
        assert made.status_code == 201, made.text
        self.ids[name] = made.json["id"]
        wanted = {"role": "operator", "tenant": self.ids[name], "name": name}
        self.tokens[name] = self.ask("POST", "/api/admin/tokens", "us", wanted).json["token"]

    def connect(self, name: str, platform: str, facts: list[Fact]) -> tuple[str, Account]:
        """An account of that platform, and its integration's id."""
        account = self.fake.open(platform, name, f"key-of-{name}:secret-of-{platform}")
        account.facts = facts
        body = {"platform": platform, "account": name, "credentials": account.secret}
        if platform == "woocommerce":
            body["account"] = f"{name}.example.com"
            self.fake.accounts[platform, body["account"]] = account
        made = self.ask("POST", "/api/integrations", name, body)
        assert made.status_code == 201, made.text
        return made.json["integrationId"], account

    def reconnect(self, name: str, integration_id: str, credentials: str) -> Any:
        path = f"/api/integrations/{integration_id}/credentials"
        return self.ask("PUT", path, name, {"credentials": credentials})

    def cron(self) -> None:
        """The platform's calls, until there is nothing to do."""
        for _ in range(20):
            if not self.example.cron()["remaining"]:
                return
        raise AssertionError("it never ends")

    def until(self, when: datetime) -> None:
        """Time goes by; the cron calls every other hour, when the jitter of its slots is over."""
        clock = self.example.clock
        while clock.now() < when:
            clock.advance(
                (CRON_EVERY - (clock.now() - START) % CRON_EVERY + JITTER).total_seconds()
            )
            self.cron()

    def syncs(self) -> dict[str, list[Job]]:
        """Every sync, by integration, the oldest first."""
        found: dict[str, list[Job]] = {}
        before: str | None = None
        while page := self.example.tickwork.list(kind="data-sync", before_id=before, limit=500):
            before = page[-1].id
            for job in page:
                found.setdefault(job.payload["integrationId"], []).insert(0, job)
        return found

    def kept(self, integration_id: str) -> dict[str, Decimal]:
        """What there is of an integration, by the platform's ids."""
        chosen = sa.select(records).where(records.c.integration_id == integration_id)
        return {row.platform_id: row.amount for row in self.example.rows(chosen)}

    def status(self, name: str, integration_id: str) -> str:
        listed = self.ask("GET", "/api/integrations", name).json["integrations"]
        (found,) = [each for each in listed if each["integrationId"] == integration_id]
        return str(found["status"])

    def subjects(self, name: str) -> list[str]:
        """Of the mails that an organisation's admin got."""
        return [m["Subject"] for m in self.example.mails() if m["To"] == f"{name}@example.com"]


@pytest.fixture
def biz(open_example: Open, monkeypatch: pytest.MonkeyPatch) -> Iterator[BizInsights]:
    # What a module declares once belongs to this test, and not to those of other systems.
    monkeypatch.setattr(sync_kind, "AUTH_HOOKS", {STOP_SYNCING: plans.stop_syncing})
    monkeypatch.setattr(alert_battery, "HOOKS", {"admins": tell_admins})
    monkeypatch.setattr(contract, "_platforms", {})
    monkeypatch.setattr(catalogue._catalogue, "_datasets", {})
    monkeypatch.setattr(insights_definition, "_registered", {})
    monkeypatch.setattr(reports_definition, "_reports", {})
    platforms.declare()
    insights.declare()
    example = open_example(
        *("examples.bizinsights", *HANDLERS[1:]),
        application=create,
        encryption_keys=(Fernet.generate_key().decode(),),
        shopify_webhook_secrets=(SECRET,),
        keep_completed=30 * 86_400.0,  # the test counts them at the end
        keep_failed=30 * 86_400.0,
        tick_limit=400.0,
        concurrency=1,  # SQLite lets one write at a time: the others would only wait
        alerts=False,  # the system's own
    )
    create_sync_tables(example.tickwork.engine)
    with example.tickwork.engine.begin() as connection:
        metadata.create_all(connection)
    with FakePlatforms(example.clock.now) as fake:
        monkeypatch.setenv(platforms.INSTEAD, fake.url)
        system = BizInsights(example, fake)
        system.join("acme", "professional")
        system.join("bolt", "free")
        yield system


def facts(first: int, amount: int, *, every: timedelta = DAY, days: int = 8) -> list[Fact]:
    """Sixty days back and some ahead, which are seen when their time has come."""
    begin = START - 60 * DAY
    count = (60 + days) * DAY // every
    times = [begin + number * every for number in range(count)]
    return [
        Fact(first + number, at, Decimal(amount + at.weekday() + number % 3))
        for number, at in enumerate(times)
    ]


def seen(account: Account, now: datetime) -> list[Fact]:
    return [fact for fact in account.facts if fact.version <= now]


def every(hours: int, days: int = 7) -> list[datetime]:
    return [START + number * hours * HOUR for number in range(1, days * 24 // hours + 1)]


# --- a week


def test_a_week_of_two_organisations(biz: BizInsights) -> None:
    shop_id, shop = biz.connect("acme", "shopify", facts(1, 100, every=6 * HOUR))
    stripe_id, stripe = biz.connect("acme", "stripe", facts(1, 50))
    visits_id, visits = biz.connect("acme", "google-analytics", facts(1, 900))
    ads_id, ads = biz.connect("acme", "facebook-ads", facts(1, 20))
    woo_id, woo = biz.connect("bolt", "woocommerce", facts(1, 30))
    bolts_stripe_id, bolts_stripe = biz.connect("bolt", "stripe", facts(1, 9))
    # What nobody knows beforehand: next Monday almost nothing is sold.
    monday = START + 4 * DAY
    shop.facts = [
        fact._replace(amount=Decimal(1)) if monday <= fact.at < monday + DAY else fact
        for fact in shop.facts
    ]
    biz.cron()
    assert shop.begun == woo.begun == 1
    assert len(biz.kept(shop_id)) == len(seen(shop, START)) == 241  # three pages

    biz.until(START + 2 * DAY)
    woo.trouble = [(429, 90)]
    corrected_at = START + 2 * DAY + HOUR
    shop.facts[0] = shop.facts[0]._replace(amount=Decimal("0.50"), changed_at=corrected_at)

    biz.until(START + 5 * DAY + 12 * HOUR)  # Tuesday, the sync of 12:00 is over
    stripe.secret = "another"
    biz.until(START + 5 * DAY + 16 * HOUR)
    assert biz.status("acme", stripe_id) == "auth_error"
    assert biz.status("bolt", bolts_stripe_id) == "active"

    biz.until(START + 6 * DAY + 8 * HOUR)
    shop.is_down = True
    biz.until(START + 6 * DAY + 12 * HOUR)
    for name, status in (("bolt", 404), ("acme", 200)):
        assert biz.reconnect(name, stripe_id, "another").status_code == status
    biz.until(START + 6 * DAY + 18 * HOUR)
    shop.is_down = False
    biz.until(START + 7 * DAY)
    now = biz.example.clock.now()

    # As often as the schedules say, slot by slot.
    slots = {
        integration_id: [job.slot for job in found if job.slot is not None]
        for integration_id, found in biz.syncs().items()
    }
    assert slots[shop_id] == every(2)
    assert slots[visits_id] == every(4)
    assert slots[ads_id] == every(24)
    refused, next_one = START + 5 * DAY + 15 * HOUR, START + 6 * DAY + 15 * HOUR
    assert slots[stripe_id] == [at for at in every(3) if at <= refused or at >= next_one]
    # The plan `free` has four times the hours.
    assert slots[woo_id] == every(8)
    assert slots[bolts_stripe_id] == every(12)

    # Everything is there once, as the platforms have it now.
    for integration_id, account in ((shop_id, shop), (woo_id, woo)):
        assert biz.kept(integration_id) == {
            str(fact.number): fact.amount for fact in seen(account, now)
        }
    assert biz.kept(shop_id)["1"] == Decimal("0.50")
    for integration_id, account in ((stripe_id, stripe), (bolts_stripe_id, bolts_stripe)):
        assert biz.kept(integration_id) == {
            f"ch_{fact.number}": fact.amount for fact in seen(account, now)
        }
    for integration_id, account in ((visits_id, visits), (ads_id, ads)):
        assert biz.kept(integration_id) == {
            fact.at.date().isoformat(): fact.amount for fact in seen(account, now)
        }

    # The admins heard of what matters, and of their own alone.
    raised = {
        name: [each["message"] for each in biz.ask("GET", "/api/alerts", name).json["alerts"]]
        for name in ("acme", "bolt")
    }
    assert raised["bolt"] == []
    told = "\n".join(raised["acme"])
    for once in (
        "Sales: 2026-01-05 is far below such days",
        "stripe no longer takes the credentials",
        "stripe is still disconnected",  # on Wednesday morning
        "shopify cannot be synced since 2026-01-07T08:05:00Z",
    ):
        assert told.count(once) == 1, told
    for message in raised["acme"]:
        assert sum(message[:80] in subject for subject in biz.subjects("acme")) == 1, message
    for name in ("acme", "bolt"):
        reports = [subject for subject in biz.subjects(name) if "Your business" in subject]
        assert sorted(reports) == [
            "Your business, monthly, December 2025",
            "Your business, weekly, last 7 days",
        ]

    # Each organisation's numbers are those of its own accounts.
    for name, account, odd in (("acme", shop, ["2026-01-05"]), ("bolt", woo, [])):
        newest = biz.ask("GET", "/api/insights", name).json["insights"]
        sales = newest["metrics"]["business"]["values"]["sales"]
        sold = [fact.amount for fact in account.facts if START <= fact.at < START + 7 * DAY]
        assert sales["total"] == float(sum(sold))
        assert [each["day"] for each in sales["anomalies"]] == odd
    made = biz.example.jobs("insights")
    assert {job.state for job in made} == {State.COMPLETED}
    for organization_id in biz.ids.values():
        assert sorted(job.slot for job in made if job.tenant == organization_id) == every(6)


# --- syncing


def test_a_401_stops_an_integration_until_it_is_mended(biz: BizInsights) -> None:
    integration_id, account = biz.connect("acme", "shopify", facts(1, 100))
    biz.cron()
    account.secret, refused = "another", account.secret
    biz.until(START + 2 * HOUR)
    biz.cron()  # what a handler enqueues is not always counted as left

    schedule = biz.example.tickwork.schedules.get(f"data-sync:{integration_id}", biz.ids["acme"])
    assert schedule is not None
    assert not schedule.enabled
    assert biz.status("acme", integration_id) == "auth_error"
    (mail,) = [s for s in biz.subjects("acme") if "credentials" in s]
    assert mail.startswith("[HIGH] shopify no longer takes the credentials")
    everything = repr([(job.payload, job.error) for job in biz.example.tickwork.list(limit=100)])
    assert refused not in everything

    biz.until(START + 4 * HOUR)
    assert len(biz.syncs()[integration_id]) == 2  # nobody asks in vain
    account.secret = "mended"
    assert biz.reconnect("acme", integration_id, "mended").status_code == 200
    biz.cron()
    assert biz.status("acme", integration_id) == "active"
    assert len(biz.kept(integration_id)) == 61
    biz.until(START + 6 * HOUR)
    slots = [START + 2 * HOUR, None, START + 6 * HOUR]
    assert [job.slot for job in biz.syncs()[integration_id][1:]] == slots


def test_a_plan_says_how_often(biz: BizInsights) -> None:
    integration_id, _ = biz.connect("acme", "stripe", facts(1, 100))
    biz.cron()
    path = f"/api/organizations/{biz.ids['acme']}/plan"
    assert biz.ask("PUT", path, "acme", {"tier": "enterprise"}).status_code == 403
    assert biz.ask("PUT", path, "us", {"tier": "gold"}).status_code == 400

    hours = {}
    for tier in ("professional", "free", "enterprise"):
        assert biz.ask("PUT", path, "us", {"tier": tier}).status_code == 200
        biz.cron()
        schedule = biz.example.tickwork.schedules.get(
            f"data-sync:{integration_id}", biz.ids["acme"]
        )
        assert schedule is not None
        hours[tier] = schedule.rule
    assert hours == {
        "professional": "every 10800",
        "free": "every 43200",
        "enterprise": "every 5400",
    }


def test_a_sync_at_once_of_ones_own_integration(biz: BizInsights) -> None:
    integration_id, account = biz.connect("acme", "shopify", facts(1, 100))
    biz.cron()
    account.facts.append(Fact(999, START, Decimal(5)))
    account.trouble = [(429, 90), 500]
    body = {
        "integrationId": integration_id,
        "organizationId": biz.ids["acme"],
        "platform": "shopify",
        "syncType": "incremental",
    }
    made = biz.ask("POST", "/api/jobs/data-sync", "acme", body)
    assert made.status_code == 201, made.text
    biz.cron()
    assert biz.example.tickwork.get(made.json["id"]).attempts == 0  # waiting costs none
    for _ in range(2):
        biz.example.later(100)
    done = biz.example.tickwork.get(made.json["id"])
    assert (done.state, done.attempts, done.priority) == (State.COMPLETED, 2, 1)
    assert len(biz.kept(integration_id)) == 62

    # Bolt cannot have Acme's integration synced, neither as its own nor as Acme's.
    for owner in ("bolt", "acme"):
        asked = {**body, "organizationId": biz.ids[owner]}
        job_id = biz.ask("POST", "/api/jobs/data-sync", "bolt", asked).json["id"]
        biz.cron()
        assert biz.example.tickwork.get(job_id).state is State.FAILED
    assert {row.organization_id for row in biz.example.rows(sa.select(records))} == {
        biz.ids["acme"]
    }


@pytest.mark.parametrize(
    ("trouble", "state", "attempts"),
    [
        ((429, 90), State.PENDING, 0),
        (503, State.PENDING, 1),
        (400, State.FAILED, 1),
        (403, State.FAILED, 1),
    ],
    ids=str,
)
def test_a_connector_of_its_own_tells_troubles_apart(
    biz: BizInsights, trouble: int | tuple[int, int], state: State, attempts: int
) -> None:
    biz.example.clock.advance(190 * 86_400)
    integration_id, account = biz.connect("acme", "google-analytics", facts(1, 100, days=200))
    account.trouble = [trouble]
    biz.cron()
    job = biz.example.job("data-sync")
    assert (job.state, job.attempts) == (state, attempts)
    assert (biz.status("acme", integration_id) == "auth_error") == (trouble == 403)

    if state is State.PENDING:
        biz.example.later(100)
        assert biz.example.job("data-sync").state is State.COMPLETED
        assert len(biz.kept(integration_id)) == len(seen(account, biz.example.clock.now())) == 251


def test_what_cannot_be_connected_leaves_nothing(biz: BizInsights) -> None:
    biz.connect("acme", "shopify", [])
    for body, status in (
        ({"platform": "shopify", "account": "acme", "credentials": "x"}, 409),
        ({"platform": "etsy", "account": "acme", "credentials": "x"}, 400),
        ({"platform": "shopify", "account": "a/../b", "credentials": "x"}, 400),
        ({"platform": "woocommerce", "account": "shop.internal", "credentials": "x"}, 400),
        ({"platform": "woocommerce", "account": "169.254.169.254", "credentials": "x"}, 400),
        ({"platform": "stripe", "account": "bolt"}, 400),
    ):
        assert biz.ask("POST", "/api/integrations", "bolt", body).status_code == status, body
    assert biz.ask("POST", "/api/integrations", "", {}).status_code == 401
    assert biz.ask("POST", "/api/integrations", "us", {}).status_code == 403
    (row,) = biz.example.rows(sa.select(integrations))
    assert row.organization_id == biz.ids["acme"]
    assert "secret" not in row.sealed_credentials
    assert len(biz.example.jobs("data-sync")) == 1


# --- webhooks


def shopify_sends(biz: BizInsights, fact: Fact, **changed: Any) -> Any:
    """An order of Acme's shop, as Shopify sends it."""
    body = json.dumps(shopify_document(fact, "acme")).encode()
    mac = hmac.new(changed.pop("secret", SECRET).encode(), body, hashlib.sha256)
    headers = {
        "x-shopify-hmac-sha256": base64.b64encode(mac.digest()).decode(),
        "x-shopify-topic": "orders/create",
        "x-shopify-webhook-id": changed.pop("event_id", "event-1"),
        "content-type": "application/json",
    }
    return biz.example.ask(
        "POST", "/webhooks/shopify", headers=headers, data=changed.pop("body", body)
    )


def test_an_order_comes_by_webhook(biz: BizInsights) -> None:
    """A88, A103: answered at once, and one job however often it comes."""
    integration_id, account = biz.connect("acme", "shopify", [])
    biz.cron()
    order = Fact(7, START, Decimal("12.50"))
    account.facts.append(order)
    for _ in range(2):
        answer = shopify_sends(biz, order)
        assert (answer.status_code, answer.json) == (200, {"received": True})
    assert biz.kept(integration_id) == {}  # the answer waits for nothing
    job = biz.example.job("webhook:shopify")
    assert job.tenant == biz.ids["acme"]
    assert job.payload.keys() == {
        *("platform", "eventType", "eventId", "payload", "signature"),
        *("organizationId", "integrationId"),
    }
    biz.cron()
    biz.until(START + 2 * HOUR)  # a sync that brings the same order
    assert biz.kept(integration_id) == {"7": Decimal("12.50")}

    # A version that was overtaken on its way changes nothing.
    newer = order._replace(amount=Decimal(10), changed_at=START + HOUR)
    for number, version in enumerate((newer, order), start=2):
        shopify_sends(biz, version, event_id=f"event-{number}")
        biz.cron()
    assert biz.kept(integration_id) == {"7": Decimal(10)}


@pytest.mark.parametrize(
    "change", [{"secret": "of somebody else"}, {"body": b'{"id": 8}'}], ids=str
)
def test_a_webhook_that_shopify_did_not_sign_is_refused(
    biz: BizInsights, change: dict[str, Any]
) -> None:
    biz.connect("acme", "shopify", [])
    assert shopify_sends(biz, Fact(7, START, Decimal(1)), **change).status_code == 401
    assert biz.example.jobs("webhook:shopify") == []


def test_the_webhook_of_a_shop_that_is_nobodys_is_a_dead_letter(biz: BizInsights) -> None:
    shopify_sends(biz, Fact(7, START, Decimal(1)))
    biz.cron()
    job = biz.example.job("webhook:shopify")
    assert (job.state, job.error) == (State.FAILED, "Discard: no organisation here has this shop")


# --- insights, alerts, mails


def test_insights_when_asked_for(biz: BizInsights) -> None:
    biz.connect("acme", "shopify", facts(1, 100))
    biz.cron()
    found = []
    for force in (False, False, True):
        body = {"period": "30d", "forceRegenerate": force}
        job_id = biz.ask("POST", "/api/jobs/insights", "acme", body).json["id"]
        biz.cron()
        found.append(biz.example.tickwork.get(job_id).result["metrics"]["business"]["reused"])
    assert found == [False, True, False]
    assert biz.ask("POST", "/api/jobs/insights", "acme", {"period": "2d"}).status_code == 422
    assert biz.ask("GET", "/api/insights", "bolt").status_code == 404


def test_grave_alerts_are_mailed(biz: BizInsights) -> None:
    for severity in ("LOW", "MEDIUM", "HIGH", "CRITICAL"):
        body = {
            "organizationId": biz.ids["acme"],
            "alertType": "DATA_ANOMALY",
            "severity": severity,
            "message": f"Revenue dropped 50% from yesterday ({severity})",
            "metadata": {"metric": "revenue", "change": -50},
        }
        made = biz.ask("POST", "/api/jobs/alerts", "acme", body)
        assert made.status_code == 201, made.text
    biz.cron()
    biz.cron()

    rows = biz.example.rows(sa.select(alerts.c.severity, alerts.c.organization_id))
    assert sorted(rows) == sorted(
        (severity, biz.ids["acme"]) for severity in ("LOW", "MEDIUM", "HIGH", "CRITICAL")
    )
    grave = [s for s in biz.subjects("acme") if "Revenue" in s]
    assert sorted(grave) == [
        f"[{severity}] Revenue dropped 50% from yesterday ({severity})"
        for severity in ("CRITICAL", "HIGH")
    ]
    stray = {**body, "organizationId": biz.ids["bolt"]}
    job_id = biz.ask("POST", "/api/jobs/alerts", "acme", stray).json["id"]
    biz.cron()
    assert biz.example.tickwork.get(job_id).state is State.FAILED


def test_people_are_welcomed_and_invited(biz: BizInsights) -> None:
    body = {
        "email": "cleo@example.com",
        "inviterName": "Ann",
        "inviteUrl": "https://bizinsights.example/join/9b2f",
    }
    assert biz.ask("POST", "/api/invitations", "acme", body).json == {"success": True}
    biz.cron()
    for name in ("acme", "bolt"):
        assert biz.subjects(name) == ["Welcome to Example"]
    (invitation,) = biz.subjects("cleo")
    assert "Acme" in invitation


# --- monitoring

SIX = ("waiting", "active", "completed", "failed", "delayed", "paused")


def test_the_queues_are_watched_and_steered(biz: BizInsights) -> None:
    """A82 to A85, over the queue `data-sync`."""
    integration_id, account = biz.connect("acme", "shopify", facts(1, 100))
    account.trouble = [404]
    biz.connect("bolt", "shopify", [])
    biz.cron()

    told = biz.ask("GET", "/api/jobs/monitoring", "us").json
    assert told["success"] is True
    queues = told["data"]["queues"]
    counts = dict.fromkeys(SIX, 0)
    assert queues["data-sync"] == {**counts, "completed": 1, "failed": 1}
    assert {"alerts", "email", "insights", "reports", "webhooks"} <= queues.keys()
    assert told["data"]["totals"] == {
        name: sum(queue[name] for queue in queues.values()) for name in SIX
    }
    of_bolt = biz.ask("GET", "/api/jobs/monitoring", "bolt").json["data"]["queues"]
    assert of_bolt["data-sync"] == {**counts, "completed": 1}

    one = biz.ask("GET", "/api/jobs/data-sync", "acme").json["data"]
    assert (one["queueName"], one["stats"]) == ("data-sync", {**counts, "failed": 1})
    (failed,) = one["failedJobs"]
    assert failed.keys() == {"id", "data", "failedReason", "attemptsMade"}
    assert failed["data"]["integrationId"] == integration_id
    assert failed["failedReason"].endswith("answered 404")
    assert failed["attemptsMade"] == 1

    def act(action: str, who: str = "us") -> Any:
        return biz.ask("POST", f"/api/jobs/data-sync?action={action}", who)

    def stats() -> dict[str, int]:
        found: dict[str, int] = biz.ask("GET", "/api/jobs/data-sync", "us").json["data"]["stats"]
        return {name: count for name, count in found.items() if count}

    assert act("pause", "acme").status_code == 403  # a pause is everybody's
    assert act("pause").json["paused"] is True
    retry = partial(biz.ask, "POST", "/api/jobs/monitoring/retry")
    assert retry("bolt", {"queueName": "data-sync", "jobId": failed["id"]}).status_code == 404
    assert retry("acme", {"queueName": "data-sync"}).json["retried"] == 1
    biz.cron()
    assert stats() == {"paused": 1, "completed": 1}
    act("resume")
    biz.cron()
    assert stats() == {"completed": 2}
    assert act("clean").json["removed"] == 0  # they ended just now
    biz.example.clock.advance(2 * 86_400)
    assert act("clean").json["removed"] == 2
    act("pause")
    again = {**failed["data"], "syncType": "full"}
    assert biz.ask("POST", "/api/jobs/data-sync", "acme", again).status_code == 201
    assert stats() == {"paused": 1}
    assert act("empty").json["removed"] == 1
    assert stats() == {}


# --- schedules


def test_the_five_cron_examples_are_used(biz: BizInsights) -> None:
    """A109."""
    biz.cron()
    rules = {schedule.rule for schedule in biz.example.tickwork.schedules.list()}
    assert rules == {"0 * * * *", "0 */6 * * *", "0 8 * * *", "0 8 * * 1", "0 8 1 * *"}
    weekly = biz.example.tickwork.schedules.preview(
        f"weekly-report-{biz.ids['acme']}", 2, biz.ids["acme"]
    )
    assert weekly == [datetime(2026, 1, day, 8, tzinfo=UTC) for day in (5, 12)]


@pytest.mark.slow
def test_the_run_of_the_readme() -> None:
    printed = played("bizinsights")

    assert printed.count("welcome-") == 2
    assert printed.count("your-business-weekly-") == 1
    assert printed.count("high-") == 2
