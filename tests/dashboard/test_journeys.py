"""What people come for, walked through in a real browser, with scripts and without."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from jobs import State
from jobs.core.access import Role
from tests.dashboard.conftest import (
    DESKTOP,
    HOME,
    PHONE,
    MakeVisit,
    Shop,
    Visit,
    fill,
)

LOOKS: tuple[tuple[tuple[int, int], Literal["light", "dark"]], ...] = (
    (DESKTOP, "light"),
    (DESKTOP, "dark"),
    (PHONE, "light"),
    (PHONE, "dark"),
)
# Each journey runs in two ways; `make test-slow` has the other two.
ways = pytest.mark.parametrize(
    ("size", "scripts"),
    [
        pytest.param(DESKTOP, True, id="desktop"),
        pytest.param(PHONE, False, id="phone without scripts"),
        pytest.param(DESKTOP, False, id="desktop without scripts", marks=pytest.mark.slow),
        pytest.param(PHONE, True, id="phone", marks=pytest.mark.slow),
    ],
)


def charge(shop: Shop, refused: int, slow: int) -> None:
    """Orders whose cards are refused, and some whose bank is slow."""
    shop.tickwork.enqueue_many(
        ("charge-card", {"order": number, "expired": number < refused, "slow": True})
        for number in range(refused + slow)
    )
    shop.drain()


@ways
def test_a_failed_job_is_found_read_and_retried(
    visit: MakeVisit, size: tuple[int, int], *, scripts: bool
) -> None:
    here = visit(size=size, scripts=scripts)
    charge(here.shop, 1, 3)
    page = here.page
    page.goto(f"{here.base}{HOME}/failed")
    here.sign_in()  # and so to the page that was asked for
    expect(page.get_by_role("heading", name="Dead letters")).to_be_visible()
    page.goto(f"{here.base}{HOME}/jobs")
    page.locator("select[name=state]").select_option("failed")
    page.get_by_label("Text").fill("card expired")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".count")).to_contain_text("1 job")
    assert "q=card+expired" in page.url
    page.get_by_role("link", name="charge-card").click()
    expect(page.get_by_text("Failed for good").first).to_be_visible()
    page.get_by_text("Traceback").click()
    expect(page.get_by_text("in charge_card")).to_be_visible()
    page.get_by_role("button", name="Retry now").click()
    expect(page.get_by_role("status").first).to_have_text("It is put back to be run now.")
    assert here.shop.tickwork.count(State.PENDING) == 1


@ways
def test_the_group_of_312_among_500_is_retried(
    visit: MakeVisit, size: tuple[int, int], *, scripts: bool
) -> None:
    here = visit(size=size, scripts=scripts)
    charge(here.shop, 312, 188)
    here.go()
    here.sign_in()
    row = here.page.get_by_role("row").filter(has_text="card expired")
    expect(row).to_contain_text("312")
    row.get_by_role("button", name="Retry group").click()
    here.page.get_by_role("button", name="Retry 312 jobs").click()
    expect(here.page.get_by_role("status").first).to_have_text("312 jobs put back to be run.")
    assert here.shop.tickwork.count(State.PENDING) == 312
    assert here.shop.tickwork.count(State.FAILED) == 188


@ways
def test_a_queue_is_paused_and_resumed(
    visit: MakeVisit, size: tuple[int, int], *, scripts: bool
) -> None:
    here = visit(size=size, scripts=scripts)
    here.shop.tickwork.enqueue("welcome-mail", {"n": 1})
    here.go("/queues")
    here.sign_in()
    row = here.page.get_by_role("row").filter(has_text="mails")
    row.get_by_text("Pause", exact=True).click()
    row.get_by_label("Why").fill("the relay is down")
    row.get_by_role("button", name="Pause mails").click()
    expect(row).to_contain_text("the relay is down")
    assert here.shop.tickwork.tick().processed == 0
    row.get_by_role("button", name="Resume").click()
    expect(row).not_to_contain_text("the relay is down")
    assert here.shop.tickwork.tick().processed == 1


@ways
def test_a_schedule_is_run_now(visit: MakeVisit, size: tuple[int, int], *, scripts: bool) -> None:
    here = visit(size=size, scripts=scripts)
    here.shop.tickwork.schedule(
        "weekly", "0 8 * * 1", "welcome-mail", {"n": 1}, timezone="Asia/Kolkata"
    )
    here.shop.tickwork.tick()
    here.go("/schedules")
    here.sign_in()
    expect(here.page.locator("main")).to_contain_text("At 08:00 on Monday, Asia/Kolkata")
    here.page.get_by_role("button", name="Run now").click()
    expect(here.page.get_by_role("heading", name="welcome-mail")).to_be_visible()
    expect(here.page.locator("main")).to_contain_text("weekly")
    assert here.shop.tickwork.count(State.PENDING, kind="welcome-mail") == 1


@ways
def test_a_tenant_fails_to_see_another(
    visit: MakeVisit, size: tuple[int, int], *, scripts: bool
) -> None:
    here = visit(size=size, scripts=scripts)
    tickwork = here.shop.tickwork
    mine = tickwork.enqueue("welcome-mail", {"n": "mine"}, tenant="A").id
    theirs = tickwork.enqueue("welcome-mail", {"n": "theirs"}, tenant="B").id
    here.go("/jobs")
    here.sign_in(here.shop.token(Role.OPERATOR, tenant="A"))
    expect(here.page.locator(".count")).to_contain_text("1 job")
    assert mine[-12:] in here.text
    assert theirs[-12:] not in here.text
    answer = here.page.request.get(f"{here.base}{HOME}/jobs/{theirs}")
    assert answer.status == 404
    assert "theirs" not in answer.text()
    here.page.get_by_role("button", name="Sign out").click()
    expect(here.page.get_by_label("Token")).to_be_visible()
    here.page.goto(f"{here.base}{HOME}/jobs/{mine}")
    expect(here.page.get_by_label("Token")).to_be_visible()


def test_a_wrong_token_is_told_so(visit: MakeVisit) -> None:
    here = visit()
    here.go()
    here.sign_in("a token that is none")
    expect(here.page.get_by_role("alert")).to_contain_text("No such token")


def test_a_job_is_enqueued_with_its_form_and_copied(visit: MakeVisit) -> None:
    here = visit()
    here.go("/kinds/export-orders")
    here.sign_in()
    here.page.get_by_label("dataset").fill("orders")
    here.page.get_by_label("format").select_option("xlsx")
    here.page.get_by_role("button", name="Enqueue").click()
    expect(here.page.get_by_role("status").first).to_contain_text("It is enqueued")
    here.page.get_by_role("link", name="Edit and run as a copy").click()
    here.page.get_by_label("dataset").fill("orders-2")
    here.page.get_by_role("button", name="Enqueue").click()
    expect(here.page.get_by_role("status").first).to_contain_text("It is enqueued")
    jobs = here.shop.tickwork.list(limit=5)
    assert [job.payload["dataset"] for job in jobs] == ["orders-2", "orders"]
    assert {job.payload["format"] for job in jobs} == {"xlsx"}


# -- live ------------------------------------------------------------------------------------------


def poll(here: Visit, status: int = 200) -> None:
    """Let the page renew itself now, and wait for the answer."""
    path = here.page.url.removeprefix(here.base)
    with here.page.expect_response(
        lambda answer: answer.url.endswith(path) and answer.status == status
    ):
        here.page.evaluate("htmx.trigger(document.getElementById('live'), 'poll')")


def test_a_page_renews_itself_and_leaves_its_reader_in_peace(visit: MakeVisit) -> None:
    here = visit()
    charge(here.shop, 1, 0)
    job_id = here.shop.tickwork.list(limit=1)[0].id
    here.go(f"/jobs/{job_id}")
    here.sign_in()
    page = here.page
    page.get_by_text("Traceback").click()
    page.get_by_label("or at (UTC)").fill("2099-01-31T08:00")
    page.get_by_role("button", name="Retry then").focus()
    page.evaluate("window.kept = document.activeElement")
    here.shop.tickwork.retry(job_id, by="somebody else")
    poll(here)
    expect(page.locator(".headline .state")).to_have_text("pending")
    expect(page.get_by_text("in charge_card")).to_be_visible()
    expect(page.get_by_label("or at (UTC)")).to_have_value("2099-01-31T08:00")
    poll(here, 304)


def test_what_was_chosen_stays_chosen(visit: MakeVisit) -> None:
    here = visit()
    ids = [here.shop.tickwork.enqueue("welcome-mail", {"n": n}, delay=9999).id for n in range(3)]
    here.go("/jobs")
    here.sign_in()
    here.page.locator(f"#choose-{ids[0]}").check()
    here.page.locator(f"#choose-{ids[0]}").focus()
    newest = here.shop.tickwork.enqueue("welcome-mail", {"n": 3}, delay=9999).id
    poll(here)
    expect(here.page.locator(f"#job-{newest}")).to_be_visible()
    expect(here.page.locator(f"#choose-{ids[0]}")).to_be_checked()
    expect(here.page.locator(f"#choose-{ids[0]}")).to_be_focused()
    expect(here.page.locator(f"#choose-{newest}")).not_to_be_checked()
    here.page.get_by_text("The chosen ones").locator("..").get_by_role(
        "button", name="Cancel"
    ).click()
    here.page.get_by_role("button", name="Cancel 1 job").click()
    expect(here.page.get_by_role("status").first).to_have_text("1 job cancelled.")


def test_pages_renew_themselves_as_often_as_is_said(visit: MakeVisit) -> None:
    here = visit()
    here.go("/jobs")
    here.sign_in()
    here.page.get_by_role("button", name="2 s", exact=True).click()
    expect(here.page.get_by_role("button", name="2 s", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    here.shop.tickwork.enqueue("welcome-mail", {"n": 1})
    expect(here.page.locator(".count")).to_contain_text("1 job")
    here.page.get_by_role("button", name="off", exact=True).click()
    assert here.page.locator("body").get_attribute("data-poll-seconds") == "0"


@ways
def test_the_theme_is_kept(visit: MakeVisit, size: tuple[int, int], *, scripts: bool) -> None:
    here = visit(size=size, scripts=scripts)
    here.go("/login")
    here.page.get_by_role("button", name="dark", exact=True).click()
    here.sign_in()
    expect(here.page.locator("html")).to_have_attribute("data-theme", "dark")


# -- for everybody ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("size", "scheme"), LOOKS, ids=[f"{w}-{s}" for (w, _), s in LOOKS])
def test_pages_fit_and_can_be_used_by_everybody(
    visit: MakeVisit, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    here = visit(size=size, scheme=scheme)
    ids = fill(here.shop)
    charge(here.shop, 4, 2)
    axe = Axe()
    here.go()
    found = check(here, axe)
    here.sign_in()
    for path in (
        *("", "/jobs?state=failed", f"/jobs/{ids['failed']}", f"/jobs/{ids['processing']}"),
        *("/failed", "/queues", "/queues/mails", "/limits", "/schedules", "/schedules/weekly"),
        *("/schedules/prices?tenant=A", "/metrics", "/kinds", "/kinds/export-orders", "/audit"),
        *("/system", "/deliveries", "/jobs/change?state=failed&change=retry"),
        f"/groups/{ids['group']}",
    ):
        here.go(path)
        found += check(here, axe)
    assert found == []


def check(here: Visit, axe: Axe) -> list[str]:
    """What axe finds serious, and whether the page is wider than the window."""
    page = here.page
    found = [
        f"{page.url}: {each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in axe.run(page).response["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append(f"{page.url} is wider than the window")
    return found


def test_by_keyboard_alone(visit: MakeVisit) -> None:
    here = visit()
    charge(here.shop, 2, 0)
    here.go()
    here.page.keyboard.press("Tab")
    expect(here.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    here.page.get_by_label("Token").focus()
    here.page.keyboard.type("an-admin-token-of-some-length")
    here.page.keyboard.press("Enter")
    expect(here.page.get_by_role("heading", name="Overview")).to_be_visible()
    here.page.keyboard.press("Tab")
    here.page.keyboard.press("Enter")
    assert here.page.evaluate("document.activeElement.id") == "main"
    button = here.page.get_by_role("button", name="Retry group")
    for _ in range(80):
        here.page.keyboard.press("Tab")
        if button.evaluate("each => each === document.activeElement"):
            break
    here.page.keyboard.press("Enter")
    expect(here.page.get_by_role("heading", name=re.compile("Retry 2 jobs"))).to_be_visible()
