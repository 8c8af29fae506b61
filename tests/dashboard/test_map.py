"""Page by page, from the application's own map: a page that is added cannot be forgotten.

Each rule of the dashboard is called as nobody, as each role, and as tenant A over what is tenant
B's; and the statements of each are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event
from werkzeug.routing import Rule

from jobs.core.access import Role
from jobs.core.alerts import Alert, Evaluation
from jobs.core.look import Level
from jobs.http.dashboard import assets
from jobs.http.pages import PAGES
from tests.dashboard.conftest import ADMIN, HOME, Shop, fill, open_shop
from tests.dashboard.test_pages import paths
from tests.support.databases import Database

MARK = "tenant-b-only"
OPEN = {"/settings", "/login", "/static/<version>/<name>"}
# What is everybody's by its nature: a kind is code.
SHARED = {"/kinds/<kind>", "/kinds/<kind>/enqueue"}
# Every act that a path with an action knows.
ACTIONS = {
    "/jobs/<job_id>/<action>": ("retry", "cancel", "discard", "delete"),
    "/queues/<name>/<action>": ("pause", "resume", "settings", "empty"),
    "/schedules/<name>/<action>": ("run", "enable", "disable", "edit", "remove"),
}
# With this a form would do what it is for.
FORM = {
    "sure": "yes",
    "because": "why not",
    "typed": "mails",
    "subject": "mails",
    "payload": "{}",
    "name": "kind/charge-card",
    "change": "delete",
    "rule": "0 5 * * *",
    "state": "failed",
}
# Diagnoses that a person asks for, never renewed by themselves: each asks what a claim asks, or
# looks at everything once.
DIAGNOSES = {"/jobs/<job_id>/why": 14, "/system": 100}
MOST_STATEMENTS = 5


def rules(shop: Shop) -> Iterator[tuple[Rule, str, str]]:
    """Every rule of the dashboard with its method and its path within it."""
    for rule in shop.app.url_map.iter_rules():
        if rule.endpoint.startswith("tickwork.dashboard."):
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, method, rule.rule.removeprefix(HOME)


def values_of(shop: Shop, ids: dict[str, str]) -> dict[str, str]:
    """A value for each argument, by what stands before it."""
    name = "dashboard.css"
    return {
        "/jobs/<job_id>": ids["job"],
        "/groups/<group_id>": ids["group"],
        "/queues/<name>": "mails",
        "/alerts/<name>": "depth",
        "/schedules/<name>": ids["schedule"],
        "/kinds/<kind>": "welcome-mail",
        "/static/<version>/<name>": f"{assets.version_of(name)}/{name}",
    }


def addresses(shop: Shop, path: str, ids: dict[str, str]) -> list[str]:
    """The path with values for its arguments; one address for each action that there is."""
    filled = path
    for pattern, value in values_of(shop, ids).items():
        if path == pattern or path.startswith(f"{pattern}/"):
            head = pattern[: pattern.index("<")]
            filled = head + value + path.removeprefix(pattern)
    if path in ACTIONS:
        return [filled.replace("<action>", action) for action in ACTIONS[path]]
    assert "<" not in filled, f"{path}: give the tests a value for it"
    return [filled]


def furnish(shop: Shop, tenant: str) -> dict[str, str]:
    """A job, a group, a schedule and more of a tenant, all with the mark; an open alert."""
    tickwork = shop.tickwork
    tickwork.enqueue("charge-card", {"order": MARK, "expired": True}, tenant=tenant)
    job = tickwork.enqueue("welcome-mail", {"n": MARK}, tenant=tenant, dedupe_key=MARK, delay=9e6)
    tickwork.schedules.add(f"plan-{MARK}", "0 3 * * *", "welcome-mail", {"n": MARK}, tenant=tenant)
    with tickwork.group(name=MARK, tenant=tenant) as group:
        group.enqueue("charge-card", {"order": MARK}, tenant=tenant)
    shop.drain()
    alert = Alert("depth", "mails", Level.ALERT, tickwork.store.now(), detail=MARK, version=1)
    tickwork.store.save_alerts(Evaluation(written=[(None, alert)]), [])
    assert group.id is not None
    return {"job": job.id, "group": group.id, "schedule": f"plan-{MARK}"}


def snapshot(shop: Shop) -> Any:
    """All that is tenant B's, and what holds for everybody."""
    store = shop.tickwork.store
    return shop.tickwork.list(tenant="B", limit=100), store.schedules("B"), store.controls()


def test_the_map_is_the_table(shop: Shop) -> None:
    found = {(path, method) for _, method, path in rules(shop)}
    assert found == {(page.path, page.method) for page in PAGES}
    for rule, _, path in rules(shop):
        role = getattr(shop.app.view_functions[rule.endpoint], "tickwork_role", None)
        assert (role is None) == (path in OPEN), f"{path} is not guarded"


def test_nobody_gets_nowhere(shop: Shop) -> None:
    ids = furnish(shop, "B")
    before = snapshot(shop)
    for _, method, path in rules(shop):
        for address in addresses(shop, path, ids):
            for headers in ({}, {"Authorization": "Bearer tw_x"}):
                answer = shop.client(None).open(
                    HOME + address, method=method, headers=headers, data=FORM
                )
                if path in OPEN:
                    assert answer.status_code in (200, 303), address
                elif method == "GET":
                    assert answer.status_code == 303, address
                    assert answer.headers["Location"].startswith(f"{HOME}/login?next="), address
                else:
                    assert answer.status_code in (401, 403), address
                assert MARK not in answer.text.replace(ids["schedule"], ""), address
                assert snapshot(shop) == before, address


def test_a_session_changes_nothing_without_its_forms_token(shop: Shop) -> None:
    """As a page of another site would send it: with the cookie, without what our forms hold."""
    ids = furnish(shop, "B")
    client = shop.client(None)
    assert client.post(f"{HOME}/login", data={"token": ADMIN}).status_code == 303
    before = snapshot(shop)
    tried = 0
    for _, method, path in rules(shop):
        if method == "POST" and path not in OPEN:
            for address in addresses(shop, path, ids):
                for token in ({}, {"csrf_token": "x"}):
                    answer = client.post(HOME + address, data={**FORM, **token})
                    assert answer.status_code == 403, address
                    tried += 1
    assert tried > 20
    assert snapshot(shop) == before


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_a_role_does_no_more_than_it_may(shop: Shop, role: str) -> None:
    ids = furnish(shop, "B")
    client = shop.client(shop.token(role))
    allowed = 0
    for rule, method, path in rules(shop):
        needed = getattr(shop.app.view_functions[rule.endpoint], "tickwork_role", None)
        if needed is None:
            continue
        if method != "GET":
            assert needed >= Role.OPERATOR, path
        for address in addresses(shop, path, ids):
            before = snapshot(shop)
            answer = client.open(HOME + address, method=method, data=FORM)
            if needed > Role(role):
                assert answer.status_code == 403, address
                assert snapshot(shop) == before, address
            else:
                assert answer.status_code not in (401, 403, 500), (address, answer.text)
                allowed += 1
    assert allowed > 15


@pytest.mark.parametrize("tenant", ["A", "", "b"])
def test_another_tenants_things_are_not_there(shop: Shop, tenant: str) -> None:
    ids = furnish(shop, "B")
    client = shop.client(shop.token(Role.ADMIN, tenant=tenant))
    before = snapshot(shop)
    for _, method, path in rules(shop):
        for address in addresses(shop, path, ids):
            for asked in ({}, {"tenant": "B"}):
                answer = client.open(
                    HOME + address,
                    method=method,
                    query_string=asked if method == "GET" else {},
                    data={**FORM, **asked} if method == "POST" else None,
                )
                told = answer.text.replace(ids["schedule"], "")
                assert MARK not in told, (method, address)
                if "<" in path and path not in SHARED | OPEN:
                    assert answer.status_code == 404, (method, address, answer.status_code)
                assert answer.status_code < 500, (method, address)
                assert snapshot(shop) == before, (method, address)


def test_the_same_pages_are_there_for_their_owner(shop: Shop) -> None:
    """So that the test above cannot pass by asking for nothing."""
    ids = furnish(shop, "B")
    client = shop.client(shop.token(Role.ADMIN, tenant="B"))
    told = ""
    for _, method, path in rules(shop):
        if method == "GET" and path.startswith(("/jobs/<", "/groups/<", "/schedules/<")):
            for address in addresses(shop, path, ids):
                answer = client.get(HOME + address)
                assert answer.status_code == 200, address
                told += answer.text
    assert told.count(MARK) > 5


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("tenant", [None, "A"])
def test_a_page_takes_few_statements(
    kind: str, tenant: str | None, request: pytest.FixtureRequest
) -> None:
    """Warm, and with the one that knows who asks."""
    place: Database = request.getfixturevalue(f"{kind}_database")
    shop = open_shop(place.url)
    ids = fill(shop)
    own = furnish(shop, "A")
    asked = {
        address: path
        for _, method, path in rules(shop)
        if method == "GET"
        for address in addresses(shop, path, own)
    }
    for address in paths(ids):
        asked.setdefault(address, "/jobs/<job_id>/why" if address.endswith("/why") else address)
    client = shop.client(shop.token(tenant=tenant))
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            seen.append(statement)

    event.listen(shop.tickwork.engine, "before_cursor_execute", note)
    counts = {}
    for address, path in asked.items():
        client.get(HOME + address)
        seen.clear()
        client.get(HOME + address)
        counts[address] = (len(seen), DIAGNOSES.get(path, MOST_STATEMENTS))
    shop.tickwork.close()
    assert {address: found for address, found in counts.items() if found[0] > found[1]} == {}
    assert counts[""][0] >= 4
