"""Every page without a browser: what it shows, to whom, how safely, and what it costs."""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from jobs import State, Tickwork
from jobs.core.access import ChangeFilter, Role
from jobs.core.clock import ManualClock
from jobs.core.store import JobFilter, Touch
from jobs.http.dashboard import assets
from jobs.http.pages import PAGES
from tests.dashboard.conftest import ADMIN, HOME, Shop, fill, open_shop
from tests.support.databases import Database

ROOT = Path(__file__).parents[2]
EVIL = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "{{7*7}}",
    "javascript:alert(1)",
    "\" onfocus='alert(1)' autofocus=\"",
    "]]>&lt;b&gt;",
)


class Dangers(HTMLParser):
    """What runs, looks or leads as somebody's text may want: none of it is in our pages."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("img", "iframe", "object", "embed", "base", "style") or (
            tag == "script" and not (given.get("src") or "").startswith(HOME)
        ):
            self.found.append(tag)
        for name, value in attrs:
            leads = name in ("href", "src", "action", "formaction")
            if name.startswith("on") or name in ("style", "autofocus", "srcdoc"):
                self.found.append(f"{tag} {name}")
            elif leads and not (value or "").startswith((HOME, "#")):
                self.found.append(f"{tag} {name}={value}")


def dangers(text: str) -> list[str]:
    """Those of a page."""
    parser = Dangers()
    parser.feed(text)
    return parser.found


def paths(ids: dict[str, str]) -> list[str]:
    """An address of every page that a filled shop has."""
    jobs = [ids[name] for name in ("completed", "failed", "processing", "pending", "delayed")]
    jobs += [ids[name] for name in ("cancelled", "chain", "member")]
    return [
        "",
        "/jobs",
        *(f"/jobs?state={state}" for state in ("pending", "paused", "delayed", "failed")),
        "/jobs?kind=welcome-mail&queue=mails&q=n&last=24h",
        "/jobs?since=2020-01-01T00:00&until=2099-01-01T00:00",
        *(f"/jobs/{job_id}" for job_id in jobs),
        *(f"/jobs/{job_id}/why" for job_id in jobs),
        f"/jobs/{ids['completed']}/copy",
        "/jobs/change?state=failed&change=retry",
        "/jobs/change?change=delete&kind=charge-card&error_line=x",
        f"/groups/{ids['group']}",
        "/failed",
        "/queues",
        "/queues/mails",
        "/limits",
        "/schedules",
        "/schedules/weekly",
        "/schedules/prices?tenant=A",
        *(f"/metrics?period={period}" for period in ("1h", "24h", "30d")),
        "/kinds",
        "/kinds/export-orders",
        "/kinds/charge-card",
        "/deliveries",
        "/audit",
        "/system",
    ]


@pytest.fixture
def filled(shop: Shop) -> tuple[Shop, dict[str, str]]:
    return shop, fill(shop)


@pytest.fixture(params=["memory", "sqlite", "postgresql", "mysql"])
def any_shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    url = None
    if request.param != "memory":
        place: Database = request.getfixturevalue(f"{request.param}_database")
        url = place.url
    opened = open_shop(url)
    yield opened
    opened.tickwork.close()


def test_every_page_is_drawn_on_every_store(any_shop: Shop) -> None:
    ids, client = fill(any_shop), any_shop.client()
    for path in paths(ids):
        answer = client.get(HOME + path)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        assert answer.content_type == "text/html; charset=utf-8"
        assert "<h1" in answer.text


def test_it_is_said_why_a_job_does_not_run_and_what_mends_it(shop: Shop) -> None:
    job = shop.tickwork.enqueue("welcome-mail", {"n": 1}, delay=600)
    shop.tickwork.pause("mails", by="ada", because="the mail server moves")
    text = unescape(shop.client().get(f"{HOME}/jobs/{job.id}/why").text)
    found = shop.tickwork.why(job.id)
    assert [each.reason for each in found.reasons] == ["paused", "delayed"]
    assert "by ada: the mail server moves" in text
    assert text.index("tickwork resume mails") < text.index("not due until")
    assert f"/jobs/{job.id}/why" in shop.client().get(f"{HOME}/jobs/{job.id}").text


def test_an_empty_system_has_pages_too(shop: Shop) -> None:
    client = shop.client()
    for path in ("", "/jobs", "/failed", "/queues", "/schedules", "/metrics", "/audit", "/kinds"):
        assert client.get(HOME + path).status_code == 200


def test_pages_are_safe_to_show(filled: tuple[Shop, dict[str, str]]) -> None:
    shop, ids = filled
    client = shop.client()
    for path in [*paths(ids), "/login", "/jobs/none-such"]:
        answer = client.get(HOME + path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        assert dangers(answer.text) == []


def test_text_of_anybody_stays_text(shop: Shop) -> None:
    """In every field that a page shows, other than names, which hold no such letters."""
    tickwork, ids = shop.tickwork, []
    for evil in EVIL:
        for extra in ({}, {"order": evil, "expired": True}):
            job = tickwork.enqueue(
                "charge-card",
                {"text": evil, evil: [evil], **extra},
                tenant=evil[:100],
                dedupe_key=f"{evil}{extra}"[:200],
                job_id=f"{evil}{len(ids)}"[:200],
                concurrency_key=evil,
            )
            ids.append(job.id)
    while tickwork.tick(limit=100).processed:
        pass
    held = tickwork.enqueue("export-orders", {"dataset": EVIL[0]}, tenant=EVIL[0])
    (claimed,) = tickwork.store.claim(1, kinds={"export-orders"}, lease_seconds=600, mark=1)
    tickwork.store.touch([Touch(held.id, claimed.fence, progress=5.0, progress_note=EVIL[0])])
    tickwork.pause("mails", by=EVIL[0], because=EVIL[1])
    tickwork.schedules.add("evil", "0 3 * * *", "welcome-mail", {"a": EVIL[1]}, tenant=EVIL[0])
    with tickwork.group(name=EVIL[0]) as group:
        group.enqueue("welcome-mail", {"n": 1})
    assert tickwork.store.failures(100)
    client = shop.client()
    seen = ""
    for path in [
        *("", "/jobs", "/failed", "/queues", "/queues/mails", "/schedules", "/audit"),
        *(f"/jobs/{job_id}" for job_id in [*ids, held.id]),
        *(f"/jobs/{job_id}/{what}" for job_id in ids[:2] for what in ("why",)),
        f"/jobs/{held.id}/copy",
        f"/groups/{group.id}",
        f"/schedules/evil?tenant={quote(EVIL[0])}",
        *(f"/jobs?q={quote(evil)}&tenant={quote(evil)}&kind={quote(evil)}" for evil in EVIL),
        *(f"/jobs/change?change=retry&q={quote(evil)}" for evil in EVIL),
        *(f"/jobs?state={quote(evil)}&since={quote(evil)}" for evil in EVIL),
        *(f"/login?error={quote(evil)}&next={quote(evil)}" for evil in EVIL),
        *(f"/audit?by={quote(evil)}" for evil in EVIL),
    ]:
        text = client.get(HOME + path).text
        seen += text
        assert dangers(text) == [], path
        assert "49" not in re.findall(r">\s*(49)\s*<", text), path
    for evil in EVIL:
        assert evil in unescape(seen)


def test_secrets_are_not_shown(shop: Shop) -> None:
    job = shop.tickwork.enqueue(
        "charge-card", {"order": "at postgresql://ada:hunter2@db/x", "expired": True, "pin": 1234}
    )
    other = shop.tickwork.enqueue("export-orders", {"dataset": "x", "columns": ["a"]}, tenant="A")
    plain = shop.tickwork.enqueue("welcome-mail", {"api_key": "sesame", "deep": [{"token": "t0p"}]})
    shop.drain()
    client = shop.client()
    for path in ("", "/jobs", "/failed", "/system", "/audit"):
        text = client.get(HOME + path).text
        assert "hunter2" not in text
        assert ADMIN not in text
        assert "k" * 40 not in text
    for job_id in (job.id, other.id, plain.id):
        text = client.get(f"{HOME}/jobs/{job_id}").text
        assert "hunter2" not in text
        assert "1234" not in text
        assert "sesame" not in text
        assert "t0p" not in text


# -- who -------------------------------------------------------------------------------------------


def test_a_stranger_is_sent_to_sign_in(filled: tuple[Shop, dict[str, str]]) -> None:
    shop, ids = filled
    stranger = shop.client(None)
    for path in paths(ids):
        answer = stranger.get(HOME + path)
        assert answer.status_code == 303, path
        assert answer.headers["Location"].startswith(f"{HOME}/login?next=")
    open_to_all = {page.path for page in PAGES if page.role is None}
    assert open_to_all == {"/settings", "/login", "/static/<version>/<name>"}
    for page in PAGES:
        if page.method == "POST" and page.role is not None:
            path = re.sub(r"<[^>]*>", "x", page.path)
            assert stranger.post(HOME + path).status_code in (401, 403), path


def test_a_viewer_looks_and_changes_nothing(filled: tuple[Shop, dict[str, str]]) -> None:
    shop, ids = filled
    viewer = shop.client(shop.token(Role.VIEWER))
    for path in ("", "/jobs", f"/jobs/{ids['failed']}", "/queues", "/schedules/weekly"):
        text = viewer.get(HOME + path).text
        forms = re.findall(r'<form[^>]*method="post"[^>]*action="([^"]*)"', text)
        assert set(forms) <= {f"{HOME}/settings", f"{HOME}/logout"}, path
    for page in PAGES:
        if page.method == "POST" and page.role is not None:
            path = re.sub(r"<[^>]*>", "x", page.path)
            assert viewer.post(HOME + path).status_code == 403, path
    assert viewer.get(f"{HOME}/system").status_code == 403


def test_a_tenant_sees_its_own_alone(filled: tuple[Shop, dict[str, str]]) -> None:
    shop, ids = filled
    tickwork = shop.tickwork
    for _ in range(3):
        tickwork.enqueue("charge-card", {"order": "B-secret", "expired": True}, tenant="B")
    theirs = tickwork.enqueue("welcome-mail", {"who": "B-secret"}, tenant="B", job_id="b-1").id
    tickwork.schedules.add("b-plan", "0 3 * * *", "welcome-mail", {"who": "B-secret"}, tenant="B")
    with tickwork.group(name="B-secret", tenant="B") as group:
        group.enqueue("charge-card", {"order": "B-secret"}, tenant="B")
    shop.drain()
    client = shop.client(shop.token(Role.ADMIN, tenant="A"))
    for path in ("", "/jobs", "/failed", "/queues", "/schedules", "/metrics", "/audit", "/kinds"):
        text = client.get(HOME + path).text
        assert "B-secret" not in text, path
        assert "b-plan" not in text, path
        assert theirs not in text, path
    tiles = re.findall(r'<a class="tile state-(\w+).*?figure">([^<]*)<', client.get(HOME).text)
    assert {shown: count for shown, count in tiles if count != "0"} == {"failed": "1"}
    for path in (
        f"/jobs/{theirs}",
        "/jobs/b-1",
        f"/jobs/{theirs}/why",
        f"/jobs/{theirs}/copy",
        f"/jobs/{ids['pending']}",
        f"/groups/{group.id}",
        "/schedules/b-plan",
        "/schedules/b-plan?tenant=B",
        "/schedules/weekly",
        "/queues/mails",
        "/limits",
        "/system",
    ):
        assert client.get(HOME + path).status_code == 404, path
    for path, form in (
        (f"/jobs/{theirs}/cancel", {}),
        (f"/jobs/{theirs}/retry", {}),
        (f"/jobs/{theirs}/delete", {"sure": "yes"}),
        ("/schedules/b-plan/run", {"tenant": "B"}),
        ("/schedules/b-plan/disable", {"tenant": "B"}),
        ("/queues/mails/pause", {"because": "x"}),
        ("/queues/mails/empty", {"typed": "mails"}),
        ("/breakers/reset", {"name": "kind/charge-card"}),
    ):
        assert client.post(HOME + path, data=form).status_code == 404, path
    assert client.get(f"{HOME}/jobs?tenant=B").text.count("B-secret") == 0
    answer = client.get(f"{HOME}/jobs/change?change=cancel&id={theirs}&tenant=B")
    assert "Cancel 0 jobs?" in answer.text
    enqueued = client.post(
        f"{HOME}/kinds/welcome-mail/enqueue", data={"payload": "{}", "tenant": "B"}
    )
    assert enqueued.status_code == 303
    newest = tickwork.list(limit=1)[0]
    assert newest.tenant == "A"
    assert fetch(tickwork, theirs).state is State.PENDING


def test_the_name_of_nobodys_tenant_is_no_wildcard(filled: tuple[Shop, dict[str, str]]) -> None:
    shop, ids = filled
    client = shop.client(shop.token(Role.ADMIN, tenant=""))
    assert client.get(f"{HOME}/jobs/{ids['failed']}").status_code == 404
    assert client.get(f"{HOME}/jobs/{ids['pending']}").status_code == 200
    assert ids["failed"] not in client.get(f"{HOME}/jobs").text
    assert client.get(HOME).status_code == 200


def test_a_form_of_another_site_changes_nothing(filled: tuple[Shop, dict[str, str]]) -> None:
    shop, ids = filled
    client = shop.client(None)
    assert client.post(f"{HOME}/login", data={"token": ADMIN}).status_code == 303
    page = client.get(f"{HOME}/jobs/{ids['failed']}").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token is not None
    path, good = f"{HOME}/jobs/{ids['failed']}/retry", {"csrf_token": token[1]}
    assert client.post(path).status_code == 403
    assert client.post(path, data={"csrf_token": "x"}).status_code == 403
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post(path, data=good, headers=headers).status_code == 403
        assert (
            client.post(f"{HOME}/settings", data={"theme": "dark"}, headers=headers).status_code
            == 403
        )
    assert fetch(shop.tickwork, ids["failed"]).state is State.FAILED
    assert client.post(path, data=good).status_code == 303
    assert fetch(shop.tickwork, ids["failed"]).state is State.PENDING


def test_nobody_is_led_away(shop: Shop) -> None:
    client = shop.client()
    for path in ("https://evil.example", "//evil.example", f"{HOME}x", "/\\evil", f"{HOME}/\nx"):
        answer = client.post(f"{HOME}/settings", data={"theme": "dark", "back": path})
        assert answer.headers["Location"] == HOME


# -- what is done ----------------------------------------------------------------------------------


def fetch(tickwork: Tickwork, job_id: str) -> Any:
    job = tickwork.get(job_id)
    assert job is not None
    return job


def test_what_is_done_to_a_job(filled: tuple[Shop, dict[str, str]]) -> None:
    shop, ids = filled
    client, tickwork = shop.client(), shop.tickwork

    def act(name: str, action: str, **form: str) -> int:
        return client.post(f"{HOME}/jobs/{ids[name]}/{action}", data=form).status_code

    assert act("failed", "retry", run_at="2099-01-31T08:00") == 303
    again = fetch(tickwork, ids["failed"])
    assert (again.state, again.run_at.year) == (State.PENDING, 2099)
    assert act("completed", "retry") == 303
    assert fetch(tickwork, ids["completed"]).state is State.PENDING
    assert act("pending", "cancel") == 303
    assert fetch(tickwork, ids["pending"]).state is State.CANCELLED
    assert act("processing", "cancel") == 303
    assert fetch(tickwork, ids["processing"]).cancel_requested
    assert act("cancelled", "delete") == 200  # it asks first
    assert fetch(tickwork, ids["cancelled"]).state is State.CANCELLED
    assert act("cancelled", "delete", sure="yes") == 303
    assert tickwork.get(ids["cancelled"]) is None
    assert act("processing", "retry") == 409
    assert act("failed", "retry", run_at="soon") == 409
    assert act("failed", "explode") == 404
    log = tickwork.store.changes(ChangeFilter(), 10)
    assert [each.action for each in log] == [
        *("job.delete", "job.cancel", "job.cancel", "job.retry", "job.retry")
    ]
    assert {each.by for each in log} == {"admin"}


def test_many_are_changed_as_confirmed(shop: Shop) -> None:
    tickwork, client = shop.tickwork, shop.client()
    for number in range(500):
        expired = number < 312
        tickwork.enqueue("charge-card", {"order": number, "expired": expired, "slow": not expired})
    shop.drain()
    overview = client.get(HOME).text
    assert re.search(r">\s*312\s*<", overview)
    line = "ValueError: the bank refuses the card of order …: card expired"
    asked = {"change": "retry", "kind": "charge-card", "error_line": line}
    page = client.get(f"{HOME}/jobs/change", query_string=asked).text
    assert "Retry 312 jobs?" in page
    digest = re.search(r'name="digest" value="([0-9a-f]+)"', page)
    assert digest is not None
    other = tickwork.enqueue("charge-card", {"order": 999, "expired": True}).id
    shop.drain()
    answer = client.post(f"{HOME}/jobs/change", data={**asked, "digest": digest[1]})
    assert "Retry 313 jobs?" in answer.text
    assert "Nothing was changed" in answer.text
    assert tickwork.count(State.PENDING) == 0
    tickwork.remove(other)
    answer = client.post(f"{HOME}/jobs/change", data={**asked, "digest": digest[1]})
    assert answer.status_code == 303
    assert tickwork.count(State.PENDING) == 312
    assert tickwork.count(State.FAILED) == 188
    entry = tickwork.store.changes(ChangeFilter(), 1)[0]
    assert (entry.action, entry.concerned) == ("jobs.retry", 312)


def test_a_filter_is_changed_whole_and_no_more(shop: Shop) -> None:
    tickwork, client = shop.tickwork, shop.client()
    for tenant in ("A", "B"):
        for number in range(60):
            tickwork.enqueue("welcome-mail", {"n": number, "note": f"x{number % 2}"}, tenant=tenant)
    for asked, expected in (
        ({"change": "cancel", "tenant": "A", "q": "x1"}, 30),
        ({"change": "delete", "tenant": "B", "state": "pending"}, 60),
    ):
        page = client.get(f"{HOME}/jobs/change", query_string=asked).text
        assert f"{expected} jobs?" in page
        digest = re.search(r'name="digest" value="([0-9a-f]+)"', page)
        assert digest is not None
        passed = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
        answer = client.post(f"{HOME}/jobs/change", data=passed)
        assert answer.status_code == 303
    counted = {tenant: tickwork.count(State.PENDING, tenant=tenant) for tenant in "AB"}
    assert counted == {"A": 30, "B": 0}


def test_queues_are_steered(shop: Shop) -> None:
    client, tickwork = shop.client(), shop.tickwork
    assert client.post(f"{HOME}/queues/mails/pause", data={"because": " "}).status_code == 400
    assert client.post(f"{HOME}/queues/mails/pause", data={"because": "moving"}).status_code == 303
    assert "moving" in client.get(f"{HOME}/queues").text
    assert tickwork.store.paused() == {"queue/mails"}
    assert client.post(f"{HOME}/queues/mails/resume").status_code == 303
    assert tickwork.store.paused() == frozenset()
    form = {"max_concurrency": "3", "rate_limit": "10/m", "timeout": ""}
    assert client.post(f"{HOME}/queues/mails/settings", data=form).status_code == 303
    assert tickwork.queue_sources("mails")["max_concurrency"] == (3, "run time")
    answer = client.post(f"{HOME}/queues/mails/settings", data={"rate_limit": "fast"})
    assert answer.status_code == 409
    assert "rate_limit is a number per time" in answer.text
    tickwork.enqueue("welcome-mail", {"n": 1})
    assert client.post(f"{HOME}/queues/mails/empty", data={"typed": "mail"}).status_code == 409
    assert tickwork.count(State.PENDING) == 1
    assert client.post(f"{HOME}/queues/mails/empty", data={"typed": "mails"}).status_code == 303
    assert tickwork.count(State.PENDING) == 0
    actions = {each.action for each in tickwork.store.changes(ChangeFilter(), 10)}
    assert actions == {"queue.pause", "queue.resume", "queue.set", "jobs.delete"}


def test_schedules_are_steered(filled: tuple[Shop, dict[str, str]]) -> None:
    shop, _ = filled
    client, tickwork = shop.client(), shop.tickwork
    page = client.get(f"{HOME}/schedules/weekly").text
    assert "At 08:00" in page
    assert page.count("IST</span>") == 5
    before = tickwork.count(None, kind="welcome-mail")
    assert client.post(f"{HOME}/schedules/weekly/run").status_code == 303
    assert tickwork.count(None, kind="welcome-mail") == before + 1
    assert client.post(f"{HOME}/schedules/weekly/disable").status_code == 303
    row = tickwork.schedules.get("weekly")
    assert row is not None
    assert not row.enabled
    edit = {"tenant": "A", "rule": "0 6 * * *", "timezone": "Europe/Berlin", "missed": "none"}
    answer = client.post(f"{HOME}/schedules/prices/edit", data={**edit, "payload": '{"n": 9}'})
    assert answer.status_code == 303
    row = tickwork.schedules.get("prices", "A")
    assert row is not None
    assert (row.rule, row.timezone, row.missed) == ("0 6 * * *", "Europe/Berlin", "none")
    assert row.payload == {"n": 9}
    for wrong in ({"rule": "61 * * * *"}, {"timezone": "Mars/Base"}, {"payload": "{"}):
        answer = client.post(f"{HOME}/schedules/prices/edit", data={**edit, **wrong})
        assert answer.status_code in (400, 409)
    assert (
        client.post(f"{HOME}/schedules/weekly/edit", data=edit | {"tenant": ""}).status_code == 409
    )


def test_a_job_is_enqueued_by_its_form(shop: Shop) -> None:
    client, tickwork = shop.client(), shop.tickwork
    page = client.get(f"{HOME}/kinds/export-orders").text
    assert re.findall(r'name="field\.(\w+)"', page) == [
        *("dataset", "format", "rows", "gzip", "columns")
    ]
    form = {
        "field.dataset": "orders",
        "field.format": "xlsx",
        "field.rows": "12",
        "field.columns": '["id"]',
        "delay": "60",
        "dedupe_key": "once",
    }
    answer = client.post(f"{HOME}/kinds/export-orders/enqueue", data=form)
    assert answer.status_code == 303
    (job,) = tickwork.list(limit=10)
    assert job.payload == {
        "dataset": "orders",
        "format": "xlsx",
        "rows": 12,
        "gzip": False,
        "columns": ["id"],
    }
    assert job.dedupe_key == "once"
    assert answer.headers["Location"].endswith(job.id)
    wrong = client.post(f"{HOME}/kinds/export-orders/enqueue", data={**form, "field.rows": "many"})
    assert wrong.status_code == 409
    missing = client.post(f"{HOME}/kinds/export-orders/enqueue", data={"field.format": "pdf"})
    assert missing.status_code == 409
    closed = client.post(f"{HOME}/kinds/charge-card/enqueue", data={"payload": "{}"})
    assert closed.status_code == 403
    assert len(tickwork.list(limit=10)) == 1
    copied = client.get(f"{HOME}/jobs/{job.id}/copy").text
    assert 'name="field.dataset" value="orders"' in copied
    assert "<option selected>xlsx</option>" in copied


# -- lists -----------------------------------------------------------------------------------------


def test_pages_of_jobs_lead_on_and_back(shop: Shop) -> None:
    ids = [shop.tickwork.enqueue("welcome-mail", {"n": n}, delay=9999).id for n in range(120)]
    client = shop.client()

    def read(path: str) -> tuple[list[str], dict[str, str]]:
        text = client.get(unescape(path)).text
        links = dict(re.findall(r'<a href="([^"]*)" rel="(prev|next)"', text))
        return re.findall(r'id="job-([^"]*)"', text), {rel: href for href, rel in links.items()}

    newest = ids[::-1]
    first, links = read(f"{HOME}/jobs?kind=welcome-mail")
    assert first == newest[:50]
    assert set(links) == {"next"}
    second, links = read(links["next"])
    assert second == newest[50:100]
    third, links = read(links["next"])
    assert third == newest[100:]
    assert set(links) == {"prev"}
    assert read(links["prev"])[0] == second
    assert re.search(r"<strong>120</strong>", client.get(f"{HOME}/jobs?kind=welcome-mail").text)


def test_open_alerts_stand_on_the_overview() -> None:
    clock = ManualClock()
    shop = open_shop(clock=clock)
    for _ in range(5):
        for number in range(30):
            shop.tickwork.enqueue("charge-card", {"order": number, "expired": True})
        shop.drain()
        clock.advance(70)
    alerts = shop.tickwork.alerts()
    assert alerts
    text = shop.client().get(HOME).text
    tenants = shop.client(shop.token(tenant="A")).get(HOME).text
    shop.tickwork.close()
    for alert in alerts:
        assert f"{alert.level.capitalize()}: {alert.name}" in text
        assert f"{alert.level.capitalize()}: {alert.name}" not in tenants


def test_an_id_leads_to_its_job(filled: tuple[Shop, dict[str, str]]) -> None:
    shop, ids = filled
    answer = shop.client().get(f"{HOME}/jobs?q={ids['failed']}")
    assert answer.status_code == 303
    assert answer.headers["Location"] == f"{HOME}/jobs/{ids['failed']}"


def test_what_has_not_changed_is_not_sent_again(filled: tuple[Shop, dict[str, str]]) -> None:
    shop, _ = filled
    client = shop.client()
    for path in ("", "/jobs", "/queues", "/schedules"):
        first = client.get(HOME + path)
        again = client.get(HOME + path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b"")
    first = client.get(f"{HOME}/jobs")
    shop.tickwork.enqueue("welcome-mail", {"n": 99})
    again = client.get(f"{HOME}/jobs", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 200


def test_odd_questions_break_nothing(filled: tuple[Shop, dict[str, str]]) -> None:
    shop, _ = filled
    client = shop.client()
    for odd in ("'; drop table x--", "%", "_", "../", "$where", "\x00", "ü" * 300, "😀", "\ud800"):
        for name in ("state", "kind", "queue", "tenant", "q", "since", "before", "after", "last"):
            answer = client.get(f"{HOME}/jobs", query_string={name: odd.encode("utf-8", "replace")})
            assert answer.status_code in (200, 400), (name, odd)
        for path in ("/jobs/{}", "/queues/{}", "/schedules/{}", "/kinds/{}", "/groups/{}"):
            answer = client.get(HOME + path.format(quote(odd.encode("utf-8", "replace"), safe="")))
            assert answer.status_code in (200, 404, 409), (path, odd)


# -- what it costs ---------------------------------------------------------------------------------


def test_assets_are_small_and_kept(shop: Shop) -> None:
    client = shop.client(None)
    total = 0
    for name in assets.TYPES:
        answer = client.get(assets.url_of(name), headers={"Accept-Encoding": "gzip"})
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(answer.data) == client.get(assets.url_of(name)).data
        total += len(answer.data)
        stale = assets.url_of(name).replace(assets.version_of(name), "0" * 16)
        assert client.get(stale).status_code == 404
    assert client.get(f"{HOME}/static/{'0' * 16}/..%2Ffactory.py").status_code == 404
    assert total < 100_000


def test_what_is_vendored_is_what_was_published() -> None:
    notes = (ROOT / "jobs/http/static/VENDORED.md").read_text()
    for name in ("htmx.js", "uplot.js", "uplot.css"):
        digest = hashlib.sha256((ROOT / "jobs/http/static" / name).read_bytes()).hexdigest()
        assert digest in notes


def test_the_ticks_path_loads_no_dashboard() -> None:
    program = """
import sys
from jobs import Tickwork
from jobs.http import create_app
app = create_app(Tickwork(cron_secret="c" * 32, env="production", backend="memory"))
client = app.test_client()
answer = client.get("/cron/process-jobs", headers={"Authorization": "Bearer " + "c" * 32})
assert answer.status_code == 200
print(*[name for name in sys.modules if name.startswith("jobs.http.dashboard")])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_the_wheel_brings_pages_and_assets() -> None:
    templates = ROOT / "jobs/http/templates/dashboard"
    assert (templates / "base.html").is_file()
    assert all((ROOT / "jobs/http/static" / name).is_file() for name in assets.TYPES)


def test_a_filter_by_ids_is_kept_to_the_tenant(shop: Shop) -> None:
    mine = shop.tickwork.enqueue("welcome-mail", {"n": 1}, tenant="A").id
    theirs = shop.tickwork.enqueue("welcome-mail", {"n": 2}, tenant="B").id
    found = shop.tickwork.store.find(JobFilter(ids=(mine, theirs), tenant="A"), 10)
    assert found == [mine]
