"""The kind `alert`: to every channel once, to each that is down again alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from jobs import ConfigurationError, Job, PayloadError, State, Tickwork
from jobs.core.clock import ManualClock
from jobs.handlers.alert import HOOKS, Alert, alert_hook, queue_alert
from tests.alerts.test_delivery import SECRET, Inbox, listening

REVENUE: Any = {
    "organization_id": "456",
    "alert_type": "DATA_ANOMALY",
    "severity": "HIGH",
    "message": "Revenue dropped 50% from yesterday",
    "metadata": {"metric": "revenue", "change": -50, "api_key": "hunter2"},
}


@pytest.fixture(autouse=True)
def no_hooks() -> Iterator[None]:
    HOOKS.clear()
    yield
    HOOKS.clear()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with listening() as inbox:
        yield inbox


def build(clock: ManualClock, **settings: Any) -> Tickwork:
    return Tickwork(handlers=["jobs.handlers.alert"], clock=clock, **settings)


@pytest.fixture
def tickwork(clock: ManualClock, inbox: Inbox, tmp_path: Path) -> Iterator[Tickwork]:
    """With all three channels."""
    system = build(
        clock,
        alert_webhook_url=f"{inbox.url}/hook",
        alert_webhook_secret=SECRET,
        alert_slack_url=f"{inbox.url}/slack",
        alert_email=("ops@example.com",),
        smtp_url=str(tmp_path / "outbox"),
    )
    yield system
    system.close()


def end(tickwork: Tickwork, clock: ManualClock, job: Job) -> Job:
    for _ in range(20):
        tickwork.tick()
        found = tickwork.get(job.id)
        assert found is not None
        if found.finished_at is not None:
            return found
        clock.advance(86_400 / 4)
    raise AssertionError("it never ends")


def test_every_channel_and_hook_has_it(
    tickwork: Tickwork, clock: ManualClock, inbox: Inbox, tmp_path: Path
) -> None:
    heard: list[tuple[Alert, str]] = []
    alert_hook("rows")(lambda alert, key: heard.append((alert, key)))
    job = queue_alert(tickwork=tickwork, **REVENUE)
    assert (job.queue, job.tenant, job.priority) == ("alerts", "456", 1)

    ended = end(tickwork, clock, job)

    channels = ["webhook", "slack", "email", "hook:rows"]
    assert ended.result == {"delivered": channels, "refused": {}}
    hook, slack = inbox.arrived
    Webhook(SECRET).verify(hook.body, hook.headers)
    assert hook.headers["webhook-id"] == job.id
    assert hook.document["type"] == "alert.high"
    data = hook.document["data"]
    assert (data["organizationId"], data["alertType"], data["severity"], data["message"]) == (
        "456",
        "DATA_ANOMALY",
        "HIGH",
        "Revenue dropped 50% from yesterday",
    )
    assert data["metadata"] == {"metric": "revenue", "change": -50, "api_key": "[redacted]"}
    text = slack.document["text"]
    assert text.startswith("[Tickwork] high: DATA_ANOMALY (456)\nRevenue dropped 50%")
    assert "acknowledge" not in text.lower()  # there is nothing to acknowledge
    (mail,) = (tmp_path / "outbox").glob("*.eml")
    read = message_from_bytes(mail.read_bytes(), policy=policy.default)
    body = read.get_body()
    assert body is not None
    assert "change: -50" in body.get_content()
    assert "hunter2" not in mail.read_text() + hook.body + slack.body
    ((alert, key),) = heard
    assert (alert.alertType, alert.metadata["change"], key) == ("DATA_ANOMALY", -50, job.id)


def test_a_channel_that_is_down_is_tried_again_alone(
    tickwork: Tickwork, clock: ManualClock, inbox: Inbox
) -> None:
    inbox.answers = [200, 503, 503]  # the webhook takes it, Slack is away twice
    failing = [True]

    @alert_hook("rows")
    def write(alert: Alert, key: str) -> None:
        if failing:
            failing.pop()
            raise OSError("the table is locked")

    job = queue_alert(tickwork=tickwork, **REVENUE)
    tickwork.tick()
    waiting = tickwork.get(job.id)
    assert waiting is not None
    assert "slack: " in str(waiting.error)
    assert "hook:rows: the table is locked" in str(waiting.error)
    ended = end(tickwork, clock, job)
    assert ended.state == State.COMPLETED
    assert ended.attempts == 3
    bodies = [json.loads(each.body) for each in inbox.arrived]
    assert ["text" in body for body in bodies] == [False, True, True, True]


def test_a_channel_that_refuses_is_told_and_keeps_nothing_back(
    tickwork: Tickwork, clock: ManualClock, inbox: Inbox
) -> None:
    inbox.answers = [404]
    ended = end(tickwork, clock, queue_alert(tickwork=tickwork, **REVENUE))
    assert ended.state == State.COMPLETED
    assert ended.result["delivered"] == ["slack", "email"]
    assert "404" in ended.result["refused"]["webhook"]


def test_nobody_to_hear_it_is_a_dead_letter(clock: ManualClock, inbox: Inbox) -> None:
    system = build(clock)
    ended = end(system, clock, queue_alert(tickwork=system, **REVENUE))
    assert ended.state == State.FAILED
    assert "JOBS_ALERT_WEBHOOK_URL" in str(ended.error)
    system.close()
    inbox.answers = [404]
    system = build(clock, alert_slack_url=f"{inbox.url}/slack")
    ended = end(system, clock, queue_alert(tickwork=system, **REVENUE))
    assert ended.state == State.FAILED
    assert "no channel took the alert: slack" in str(ended.error)
    system.close()


@pytest.mark.parametrize(
    ("severity", "priority"), [("LOW", 5), ("MEDIUM", 3), ("HIGH", 1), ("CRITICAL", 1)]
)
def test_as_urgent_as_its_severity(tickwork: Tickwork, severity: Any, priority: int) -> None:
    job = queue_alert(tickwork=tickwork, **{**REVENUE, "severity": severity})
    assert job.priority == priority
    assert queue_alert(tickwork=tickwork, **{**REVENUE, "priority": 2}).priority == 2


def test_mistakes_are_refused(tickwork: Tickwork, clock: ManualClock) -> None:
    with pytest.raises(ConfigurationError, match="severity is one of LOW"):
        queue_alert(tickwork=tickwork, **{**REVENUE, "severity": "high"})
    for wrong in ({"message": " "}, {"alert_type": ""}, {"metadata": [1]}):
        with pytest.raises(PayloadError):
            queue_alert(tickwork=tickwork, **{**REVENUE, **wrong})
    payload = queue_alert(tickwork=tickwork, **REVENUE).payload
    other = tickwork.enqueue("alert", payload, tenant="457")
    assert "not the tenant" in str(end(tickwork, clock, other).error)
