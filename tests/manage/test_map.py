"""Route by route, from the application's own map: a route that is added cannot be forgotten.

Each rule is called as nobody, as each role, and as tenant A over what is tenant B's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.routing import Rule

from jobs.core.access import Role
from jobs.core.alerts import Alert, Evaluation
from jobs.core.look import Level
from jobs.http.manage.routes import ROUTES
from tests.manage.conftest import Caller, Office

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
# What is open, or has a bearer of its own (the tick's), or begins a session.
HEALTH = ("tickwork.health", "tickwork.ticks_health")
OTHERS = (*HEALTH, "tickwork.tick", "tickwork.export_tick", "tickwork.batch", "tickwork.metrics")
OPEN = ("tickwork.login",)
SIGNED = ("tickwork.incoming",)  # closed while no secret is set
OPEN_PAGES = ("/api/jobs/dashboard/login", "/api/jobs/dashboard/static/<version>/<name>")
MARK = "tenant-b-only"

# Bodies with which a call would do something; of routes that need none, nothing.
BODIES: dict[str, Any] = {
    "create_job": {"kind": "note"},
    "retry_failed": {"queueName": "bad"},
    "act_on_jobs": {"action": "delete", "filter": {"state": "failed"}},
    "set_queue": {"timeout": 5},
    "reset_breaker": {"name": "kind/bad"},
    "create_schedule": {"name": "nightly", "kind": "note", "every": 60},
    "edit_schedule": {"every": 120},
    "create_token": {"role": "viewer", "tenant": "a"},
}
# Those that concern every tenant answer 403 to one, whatever is there.
EVERY_TENANTS = {
    *("set_queue", "reset_breaker", "list_limits"),
    *("list_alerts", "acknowledge_alert"),
}


def guarded(office: Office) -> Iterator[tuple[Rule, str]]:
    """Every rule of the map but the open ones and the pages, with each of its methods.

    The dashboard's pages have walks of their own in tests/dashboard.
    """
    for rule in office.app.url_map.iter_rules():
        if rule.endpoint not in (*OTHERS, *OPEN, *SIGNED) and not is_page(rule):
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, method


def is_page(rule: Rule) -> bool:
    return rule.rule.startswith("/api/jobs/dashboard") and rule.endpoint != "tickwork.logout"


def name_of(rule: Rule) -> str:
    return rule.endpoint.rpartition(".")[2]


def path_of(rule: Rule, **values: str) -> str:
    path = rule.rule
    for name in rule.arguments:
        path = re.sub(rf"<(\w+:)?{name}>", lambda _, name=name: values.get(name, "x"), path)
    assert "<" not in path, f"{rule}: give the test a value for it"
    return path


def call(caller: Caller, rule: Rule, method: str, path: str, **change: Any) -> Any:
    body = BODIES.get(name_of(rule))
    if body is not None:
        change["json"] = {**body, **change.pop("body", {})}
    return caller(method, path, **change)


def test_the_map_is_the_table(office: Office) -> None:
    """What is served under /api is guarded, and the table knows it."""
    known = {route.endpoint for route in ROUTES} | {"tickwork.logout"}
    found = {rule.endpoint for rule, _ in guarded(office)}
    assert found >= known
    for rule, _ in guarded(office):
        view = office.app.view_functions[rule.endpoint]
        assert isinstance(getattr(view, "tickwork_role", None), Role), f"{rule} is not guarded"


def test_nobody_gets_nowhere(office: Office) -> None:
    job = office.failed("b", mark=MARK)
    for rule in office.app.url_map.iter_rules():
        path = path_of(rule, queue="all", job_id=job.id, name="x", token_id="x")
        for method in METHODS:
            for headers in (
                {},
                {"Authorization": "Bearer tw_x"},
                {"X-HTTP-Method-Override": "GET"},
            ):
                client = office.app.test_client()
                answer = client.open(path, method=method, headers=headers)
                if rule.endpoint in HEALTH and method in ("GET", "HEAD", "OPTIONS"):
                    assert answer.status_code in (200, 503)
                elif rule.endpoint in OPEN and method == "POST":
                    assert answer.status_code == 303
                    assert "Set-Cookie" not in answer.headers
                elif rule.endpoint in SIGNED:
                    assert answer.status_code in (404, 405), (method, path)
                elif is_page(rule):
                    # Where one signs in, how it looks, and nothing else.
                    open_page = answer.status_code == 200
                    assert not open_page or rule.rule in OPEN_PAGES, (method, path)
                    assert answer.status_code in (200, 303, 401, 404, 405), (method, path)
                else:
                    expected = (303, 401, 405, 503) if rule.endpoint in OTHERS else (303, 401, 405)
                    assert answer.status_code in expected, (method, path)
                assert MARK not in answer.text
    assert office.log() == []
    assert office.tickwork.get(job.id) == job


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_a_role_does_no_more_than_it_may(office: Office, role: str) -> None:
    caller = office.caller(role)
    for rule, method in guarded(office):
        needed = office.app.view_functions[rule.endpoint].tickwork_role  # type: ignore[attr-defined]
        job = office.failed()
        path = path_of(rule, queue="bad", job_id=job.id, name="x", token_id="x")
        answer = call(caller, rule, method, path)
        if needed > Role(role):
            assert answer.status_code == 403, (method, path)
        else:
            assert answer.status_code not in (401, 403), (method, path, answer.text)


def test_what_changes_something_needs_more_than_a_look(office: Office) -> None:
    for rule, method in guarded(office):
        role = office.app.view_functions[rule.endpoint].tickwork_role  # type: ignore[attr-defined]
        if method != "GET" and rule.endpoint != "tickwork.logout":
            assert role >= Role.OPERATOR, (method, rule.rule)


class TestTenants:
    @pytest.fixture
    def ids(self, office: Office) -> dict[str, str]:
        """What is tenant B's, and the marks by which it would be told."""
        tickwork = office.tickwork
        tickwork.schedules.add(
            f"plan-{MARK}", "0 8 * * *", "note", {"mark": MARK}, tenant="b", by=MARK
        )
        office.caller("viewer", "b", name=MARK)
        (token,) = tickwork.store.tokens("b")
        office.caller("operator", "b", name=MARK).post(
            "/api/jobs", {"kind": "note", "payload": {"mark": MARK}, "job_id": f"mine-{MARK}"}, 201
        )
        job = office.failed("b", mark=MARK)
        return {"job_id": job.id, "name": f"plan-{MARK}", "token_id": token.id}

    @pytest.mark.parametrize("tenant", ["a", "", "B", "b "])
    def test_another_tenants_things_are_not_there(
        self, office: Office, ids: dict[str, str], tenant: str
    ) -> None:
        caller = office.caller("admin", tenant)
        before = snapshot(office)
        for rule, method in guarded(office):
            for queue in ("all", "bad", "notes"):
                path = path_of(rule, queue=queue, **ids)
                answer = call(caller, rule, method, path)
                assert not tells(answer, ids), (method, path)
                names_it = set(rule.arguments) & {"job_id", "name", "token_id"}
                if names_it and name_of(rule) != "edit_schedule":
                    assert answer.status_code == 404, (method, path, answer.text)
                elif name_of(rule) in EVERY_TENANTS:
                    assert answer.status_code in (403, 404), (method, path)
                assert snapshot(office) == before, (method, path)

    def test_the_same_calls_of_its_owner_are_answered(
        self, office: Office, ids: dict[str, str]
    ) -> None:
        """So that the test above cannot pass by calling nothing."""
        caller = office.caller("admin", "b")
        for rule, method in guarded(office):
            if method == "GET" and set(rule.arguments) & {"job_id", "name"}:
                answer = call(caller, rule, method, path_of(rule, queue="all", **ids))
                assert answer.status_code == 200, (rule.rule, answer.text)
                if name_of(rule) in ("get_job", "get_schedule"):
                    assert MARK in answer.text

    def test_a_tenant_in_the_query_or_body_opens_nothing(
        self, office: Office, ids: dict[str, str]
    ) -> None:
        caller = office.caller("admin", "a")
        before = snapshot(office)
        for rule, method in guarded(office):
            path = path_of(rule, queue="all", **ids)
            for change in (
                {"query_string": {"tenant": "b"}},
                {"body": {"tenant": "b"}},
                {"body": {"filter": {"state": "failed", "tenant": "b"}}},
                {"headers": {"X-Tenant": "b", "X-Tenant-Id": "b"}},
            ):
                if "body" in change and name_of(rule) not in BODIES:
                    continue
                answer = call(caller, rule, method, path, **change)
                assert not tells(answer, ids), (method, path)
                if "headers" not in change and rule.endpoint != "tickwork.logout":
                    assert answer.status_code >= 400, (method, path, change)
                assert snapshot(office) == before, (method, path)

    def test_counts_are_the_tenants_own(self, office: Office, ids: dict[str, str]) -> None:
        office.failed("a")
        own = office.caller("viewer", "a")
        assert own.get("/api/jobs/stats")["bad"]["failed"] == 1
        assert own.get("/api/jobs/monitoring")["data"]["totals"]["failed"] == 1
        assert own.get("/api/jobs/bad")["data"]["stats"]["failed"] == 1
        every = office.caller("viewer")
        assert every.get("/api/jobs/stats")["bad"]["failed"] == 2
        assert every.get("/api/jobs/stats?tenant=b")["bad"]["failed"] == 1

    def test_the_same_key_in_two_tenants_makes_two_jobs(self, office: Office) -> None:
        body = {"kind": "note", "dedupe_key": "k", "job_id": "mine"}
        made = [
            office.caller("operator", tenant).post("/api/jobs", body, 201)["id"]
            for tenant in ("a", "b")
        ]
        assert made[0] != made[1]
        for tenant, job_id in zip("ab", made, strict=True):
            told = office.caller("viewer", tenant).get("/api/jobs/all/jobs/mine")
            assert told["id"] == job_id


def tells(answer: Any, ids: dict[str, str]) -> bool:
    """Whether it tells more of tenant B than the name that was asked for."""
    return MARK in answer.text.replace(ids["name"], "")


def open_alert(office: Office) -> Alert:
    """An alert that nobody is at."""
    store = office.tickwork.store
    before = next(iter(store.alerts()), None)
    alert = Alert("depth", "bad", Level.ALERT, store.now(), detail="101 jobs wait", version=1)
    if before is not None:
        alert = replace(alert, version=before.version + 1)
    assert store.save_alerts(Evaluation(written=[(before, alert)]), [])
    return alert


def snapshot(office: Office) -> Any:
    """All that is tenant B's, and what holds for everybody."""
    store = office.tickwork.store
    return (
        office.tickwork.list(tenant="b", limit=100),
        store.schedules("b"),
        [token._replace(last_used_at=None) for token in store.tokens("b")],
        store.controls(),
    )


def test_every_change_is_written_down(office: Office) -> None:
    """Each route that is not a look leaves an entry that says who."""
    told: set[str] = set()
    for rule, method in guarded(office):
        if method == "GET" or rule.endpoint == "tickwork.logout":
            continue
        office.tickwork.resume("bad")
        office.tickwork.schedules.add("nightly", "0 8 * * *", "note")
        job = office.failed()
        if name_of(rule) in ("cancel_job", "discard_job"):
            job = office.tickwork.enqueue("note", {}, delay=9)
        open_alert(office)
        caller = office.caller("admin", name="auditor")
        token_id = office.tickwork.store.tokens()[0].id
        queue = "all" if "job_id" in rule.arguments else "bad"
        path = path_of(
            rule, queue=queue, job_id=job.id, name="nightly", token_id=token_id, alert="depth"
        )
        change: dict[str, Any] = {}
        if name_of(rule) == "act_on_queue":
            change = {"query_string": {"action": "pause"}}
        if name_of(rule) == "act_on_jobs":
            counted = call(caller, rule, method, path).json
            change = {"body": {"confirm": counted["confirm"]}}
        if name_of(rule) == "clean_queue":
            change = {"json": {"grace": 0, "status": "failed"}}
        before = len(office.log())
        answer = call(caller, rule, method, path, **change)
        if name_of(rule) == "reset_breaker":  # there is none; its entry has a test of its own
            assert answer.status_code == 404
            continue
        if name_of(rule) == "disable_schedule":
            told.add("disabled")
        assert answer.status_code in (200, 201), (method, path, answer.text)
        log = office.log()
        assert len(log) == before + 1, (method, path)
        assert log[0].by == "token:auditor"
        told.add(log[0].action)
    assert len(told) > 10


def test_a_breaker_that_is_reset_is_written_down(office: Office) -> None:
    from jobs.core.limits import Breaker

    @office.tickwork.handler("flaky", breaker=Breaker(), max_attempts=1)
    def flaky(payload: dict[str, Any]) -> None:
        raise ValueError

    for _ in range(3):
        office.tickwork.enqueue("flaky", {})
    office.tickwork.tick(limit=10)
    (breaker,) = office.tickwork.breakers()
    office.admin.post("/api/admin/breakers/reset", {"name": breaker.name})
    assert (office.log()[0].action, office.log()[0].subject) == ("breaker.reset", breaker.name)
