"""A job's page, deliveries and alerts: what leads where, and what is done from there."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from cryptography.fernet import Fernet
from msgspec.structs import replace

from jobs.core.access import ChangeFilter, Role
from jobs.core.alerts import Alert, Evaluation
from jobs.core.job import State
from jobs.core.look import Level
from jobs.http.dashboard.detail import timeline
from tests.dashboard.conftest import HOME, Shop, open_shop
from tests.dashboard.test_pages import EVIL, dangers


def page_of(shop: Shop, path: str) -> str:
    """What an admin sees there, as text."""
    answer = shop.client().get(HOME + path)
    assert answer.status_code == 200, path
    return unescape(answer.text)


def test_a_job_is_given_up_with_a_reason(shop: Shop) -> None:
    job = shop.tickwork.enqueue("welcome-mail", {"n": 1}, delay=60)
    path, client = f"/jobs/{job.id}/discard", shop.client()
    assert 'id="discard"' in page_of(shop, f"/jobs/{job.id}")
    assert client.post(HOME + path, data={"because": " "}).status_code == 400
    assert client.post(HOME + path, data={"because": "no such address"}).status_code == 303
    text = page_of(shop, f"/jobs/{job.id}")
    assert "Discarded: given up by admin: no such address" in text
    assert "A person stepped in" in text
    assert 'id="discard"' not in text
    assert client.post(HOME + path, data={"because": "again"}).status_code == 409
    found = shop.tickwork.get(job.id)
    assert found is not None
    assert found.state is State.FAILED
    (entry,) = shop.tickwork.store.changes(ChangeFilter(), 10)
    assert (entry.action, entry.by, entry.reason) == ("job.discard", "admin", "no such address")


def test_the_waits_between_attempts_are_told_without_the_runs(shop: Shop) -> None:
    """Enqueued; two attempts of 30 s, ended after 60 and after 200 s; completed after 300 s."""
    job = shop.tickwork.enqueue("welcome-mail", {"n": 1}, delay=60)
    began = job.created_at

    def failed(attempt: int, seconds: float) -> dict[str, Any]:
        at = (began + timedelta(seconds=seconds)).isoformat()
        return {"attempt": attempt, "at": at, "type": "ValueError", "duration_ms": 30_000}

    done = replace(
        job,
        state=State.COMPLETED,
        errors=[failed(1, 60), failed(2, 200)],
        finished_at=began + timedelta(seconds=300),
        duration_ms=30_000.0,
    )
    steps = timeline(done)
    assert [step.title for step in steps] == [
        *("Enqueued", "Attempt 1 failed", "Attempt 2 failed", "Completed")
    ]
    assert [step.wait_seconds for step in steps] == [None, 30.0, 110.0, 70.0]
    assert [step.took_ms for step in steps] == [None, 30_000, 30_000, 30_000]


@pytest.mark.parametrize(
    ("result", "link"),
    [
        ({"file_url": "https://files.example/a.csv?sig=1"}, "https://files.example/a.csv?sig=1"),
        ({"download_url": "http://127.0.0.1:9000/x"}, "http://127.0.0.1:9000/x"),
        ({"file_url": "s3://shop/a.csv"}, None),
        ({"file_url": "javascript:alert(1)"}, None),
        ({"file_url": "data:text/html,<script>alert(1)</script>"}, None),
        ({"file_url": "https://u:hunter2@files.example/a"}, None),
        ({"file_url": "https://[::1"}, None),
        ({"file_url": {"a": 1}, "download_url": 7}, None),
        (["file_url"], None),
    ],
    ids=["web", "plain", "s3", "script", "data", "user", "broken", "no-text", "no-object"],
)
def test_a_file_is_led_to_if_it_lies_on_the_web(shop: Shop, result: Any, link: str | None) -> None:
    shop.tickwork.handler("make-file")(lambda _payload: result)
    job = shop.tickwork.enqueue("make-file", {})
    shop.drain()
    page = shop.client().get(f"{HOME}/jobs/{job.id}").text
    found = [
        unescape(href) for href in re.findall(r'<a href="([^"]*)" rel="noopener noreferrer">', page)
    ]
    assert found == ([] if link is None else [link])
    assert "hunter2" not in page


def test_a_job_leads_to_those_it_enqueued(shop: Shop) -> None:
    tickwork = shop.tickwork

    @tickwork.handler("parent")
    def parent(_payload: dict[str, Any]) -> None:
        for number in range(3):
            tickwork.enqueue("welcome-mail", {"n": number})

    with tickwork.group(name="all stores") as group:
        first = group.enqueue("parent", {})
    chain = tickwork.chain([("welcome-mail", {"n": 7}), ("export-orders", {"dataset": "x"})])
    for number in range(5):
        tickwork.enqueue("welcome-mail", {"n": number})
    shop.drain()
    text = page_of(shop, f"/jobs/{first}")
    children = re.findall(r'id="job-([^"]*)"', text)
    found = [job for job_id in children if (job := tickwork.get(job_id)) is not None]
    assert [job.parent_id for job in found] == [first] * 3
    assert f"/groups/{group.id}" in text
    assert f"/jobs/{first}" in page_of(shop, f"/jobs/{children[0]}")
    (step,) = re.findall(r'id="job-([^"]*)"', page_of(shop, f"/jobs/{chain.id}"))
    next_one = tickwork.get(step)
    assert next_one is not None
    assert (next_one.kind, next_one.parent_id) == ("export-orders", chain.id)
    assert "What it enqueued" not in page_of(shop, f"/jobs/{children[0]}")


def test_children_of_another_tenant_are_not_shown(shop: Shop) -> None:
    """A group may be one tenant's and enqueue for another: whoever sees one sees one."""
    tickwork = shop.tickwork

    @tickwork.handler("parent")
    def parent(_payload: dict[str, Any]) -> None:
        tickwork.enqueue("welcome-mail", {"n": "mine"}, tenant="A")
        tickwork.enqueue("welcome-mail", {"n": "theirs"}, tenant="B")

    with tickwork.group(tenant="A") as group:
        job_id = group.enqueue("parent", {}, tenant="A")
    shop.drain()
    client = shop.client(shop.token(Role.VIEWER, tenant="A"))
    shown = re.findall(r'id="job-([^"]*)"', client.get(f"{HOME}/jobs/{job_id}").text)
    (child,) = (tickwork.get(each) for each in shown)
    assert child is not None
    assert child.tenant == "A"


def test_somebody_is_at_an_alert(shop: Shop) -> None:
    store = shop.tickwork.store
    opened = [
        Alert("depth", name, Level.ALERT, store.now(), detail=f"101 wait in {name}", version=1)
        for name in ("mails", "")
    ]
    assert store.save_alerts(Evaluation(written=[(None, each) for each in opened]), [])
    client = shop.client()
    assert page_of(shop, "").count("I am at it") == 2
    path = f"{HOME}/alerts/depth/acknowledge"
    assert client.post(path, data={"subject": "", "back": HOME}).status_code == 303
    text = page_of(shop, "")
    assert text.count("I am at it") == 1
    assert text.count("known to admin") == 1
    assert [each.acknowledged_by for each in store.alerts()] == ["admin", None]
    assert client.post(path, data={"subject": "x"}).status_code == 404
    assert client.post(f"{HOME}/alerts/p95/acknowledge").status_code == 404
    viewer = shop.client(shop.token(Role.VIEWER))
    assert "I am at it" not in viewer.get(HOME).text
    assert viewer.post(path, data={"subject": "mails"}).status_code == 403
    (entry,) = store.changes(ChangeFilter(action="alert.acknowledge"), 10)
    assert (entry.by, entry.subject) == ("admin", "depth")


# -- deliveries ------------------------------------------------------------------------------------


def test_there_is_a_page_of_deliveries_where_nothing_delivers(shop: Shop) -> None:
    for kind, mend in (
        ("", "jobs.handlers.email"),
        ("webhook", "jobs.handlers.webhook"),
        ("tickwork.alert", "JOBS_ALERT_EMAIL"),
        ("charge-card", "jobs.handlers.email"),
    ):
        text = page_of(shop, f"/deliveries?kind={kind}")
        assert "has no handler of kind" in text
        assert mend in text


def test_deliveries_tell_to_whom_and_what_came_of_it() -> None:
    shop = open_shop()
    tickwork = shop.tickwork

    @tickwork.handler("email", max_attempts=1)
    def email(payload: dict[str, Any]) -> dict[str, Any]:
        if payload["to"] == "nobody@example.org":
            raise ValueError("550 no such user")
        return {"transport": "smtp", "message_id": "<1@shop.example>"}

    @tickwork.handler("webhook")
    def webhook(_payload: dict[str, Any]) -> dict[str, Any]:
        return {"status": 204}

    tickwork.enqueue("email", {"to": ["a@example.org", "b@example.org"], "subject": "x"})
    bad = tickwork.enqueue("email", {"to": "nobody@example.org"}, tenant="A")
    tickwork.enqueue("webhook", {"url": "https://hooks.example/T0/s3cr3t-path", "payload": {}})
    tickwork.enqueue("welcome-mail", {"n": 1})
    shop.drain()
    mails = page_of(shop, "/deliveries")
    assert "2</strong> jobs" in mails
    assert "a@example.org, b@example.org" in mails
    assert "smtp <1@shop.example>" in mails
    assert "ValueError: 550 no such user" in mails
    assert f"/jobs/{bad.id}" in mails
    failed = page_of(shop, "/deliveries?state=failed")
    assert "nobody@example.org" in failed
    assert "a@example.org" not in failed
    hooks = page_of(shop, "/deliveries?kind=webhook")
    assert "hooks.example" in hooks
    assert "s3cr3t-path" not in hooks
    assert re.search(r">\s*204\s*<", hooks)
    other = shop.client(shop.token(Role.VIEWER, tenant="B")).get(f"{HOME}/deliveries").text
    assert "nobody@example.org" not in other
    shop.tickwork.close()


def test_pages_of_deliveries_lead_on(shop: Shop) -> None:
    shop.tickwork.handler("email")(lambda _payload: None)
    for number in range(60):
        shop.tickwork.enqueue("email", {"to": f"c{number}@example.org"}, delay=99)
    page = shop.client().get(f"{HOME}/deliveries").text
    (older,) = re.findall(r'href="([^"]*)" rel="next"', page)
    assert older.startswith(f"{HOME}/deliveries?")
    assert "c3@example.org" in shop.client().get(unescape(older)).text


def test_text_of_anybody_stays_text_here_as_well() -> None:
    """In results, receivers, answers, alerts, reasons and tracebacks."""
    shop = open_shop()
    tickwork, store = shop.tickwork, shop.tickwork.store
    tickwork.handler("email")(lambda payload: {"transport": payload["to"], "file_url": EVIL[3]})
    tickwork.handler("webhook")(lambda payload: payload)
    seen = ""
    for evil in EVIL:
        mail = tickwork.enqueue("email", {"to": evil, "subject": evil})
        tickwork.enqueue("webhook", {"url": f"https://{evil}/", "status": evil})
        late = tickwork.enqueue("email", {"to": [evil, evil]}, delay=60)
        tickwork.discard(late.id, by=evil, because=evil)
        shop.drain()
        for job_id in (mail.id, late.id):
            answer = shop.client().get(f"{HOME}/jobs/{job_id}").text
            assert dangers(answer) == []
            seen += answer
    alert = Alert("depth", "", Level.ALERT, store.now(), detail=EVIL[0], acknowledged_by=EVIL[1])
    assert store.save_alerts(Evaluation(written=[(None, alert)]), [])
    for path in ("", "/deliveries", "/deliveries?kind=webhook", "/deliveries?kind=<script>"):
        answer = shop.client().get(HOME + path).text
        assert dangers(answer) == []
        seen += answer
    shop.tickwork.close()
    for evil in EVIL:
        assert evil in unescape(seen)


# -- encryption ------------------------------------------------------------------------------------


def test_where_payloads_are_encrypted_the_search_says_so(shop: Shop) -> None:
    told = "Payloads are encrypted: text is looked for in ids, names, keys and errors"
    assert told not in page_of(shop, "/jobs")
    sealed = open_shop(encryption_keys=(Fernet.generate_key().decode(),))
    sealed.tickwork.enqueue("welcome-mail", {"n": "needle"}, delay=60)
    for path in ("/jobs", "/jobs?q=needle"):
        text = page_of(sealed, path)
        assert told in text
        assert "payload, " not in text
    assert "0</strong> jobs" in page_of(sealed, "/jobs?q=needle")
    sealed.tickwork.close()
