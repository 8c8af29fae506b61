"""A busy shop behind its application, asked by a client, and by a browser over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, BrowserContext, Page
from werkzeug.serving import make_server

from jobs import JobContext, Tickwork
from jobs.core.access import Role
from jobs.core.store import Touch
from jobs.http import create_app
from jobs.managing import Managing
from tests.support.chromium import browser as started_browser

ADMIN = "an-admin-token-of-some-length"
HOME = "/api/jobs/dashboard"
DESKTOP, PHONE = (1280, 900), (390, 844)
FAR_SECONDS = 86_400.0


@dataclass
class Export:
    """What an export is asked for."""

    dataset: str
    format: Literal["csv", "xlsx"] = "csv"
    rows: int = 1000
    gzip: bool = True
    columns: list[str] | None = None


def add_kinds(tickwork: Tickwork) -> None:
    """The kinds of the shop; some of their jobs fail."""

    @tickwork.handler("export-orders", queue="exports", api=True)
    def export_orders(payload: Export, ctx: JobContext) -> dict[str, Any]:
        """Write a shop's orders to a file."""
        ctx.progress(50, "half")
        return {"file_url": f"s3://shop/{payload.dataset}.csv", "rows": payload.rows}

    @tickwork.handler("charge-card", queue="payments", max_attempts=1)
    def charge_card(payload: dict[str, Any]) -> dict[str, Any]:
        """Charge the card of an order."""
        if payload.get("expired"):
            raise ValueError(f"the bank refuses the card of order {payload['order']}: card expired")
        if payload.get("slow"):
            raise TimeoutError(f"bank did not answer order {payload['order']} within 10 s")
        return {"charge": f"ch_{payload['order']}"}

    @tickwork.handler("welcome-mail", queue="mails", api=True)
    def welcome_mail(payload: dict[str, Any]) -> dict[str, Any]:
        """Greet a customer."""
        return {"message_id": f"<{payload.get('n')}@shop.example>"}


@dataclass
class Shop:
    """The system and its application."""

    tickwork: Tickwork
    app: Flask
    clients: list[FlaskClient] = field(default_factory=list)

    def token(self, role: Role | str = Role.ADMIN, tenant: str | None = None) -> str:
        """A new token's secret."""
        secret, _ = Managing(self.tickwork, "test").create_token(role, tenant=tenant)
        return secret

    def client(self, secret: str | None = ADMIN) -> FlaskClient:
        """Somebody who asks with this token in every request; ``None`` for a stranger."""
        client = self.app.test_client()
        if secret is not None:
            client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
        return client

    def drain(self) -> None:
        """Run all that is due."""
        while self.tickwork.tick(limit=1000).processed:
            pass


def open_shop(url: str | None = None, **settings: Any) -> Shop:
    """The shop on the in-memory store, or on the database of ``url``."""
    where = {"backend": "memory"} if url is None else {"database_url": url}
    tickwork = Tickwork(
        env="production",
        **{
            "admin_token": ADMIN,
            "secret_key": "k" * 40,
            "cron_secret": "c" * 40,
            **where,
            **settings,
        },
    )
    tickwork.create_schema()
    add_kinds(tickwork)
    return Shop(tickwork, create_app(tickwork))


def fill(shop: Shop) -> dict[str, str]:
    """A job in every state, schedules, a group, a chain, a pause; ids by what they are."""
    tickwork, ids = shop.tickwork, dict[str, str]()
    ids["completed"] = tickwork.enqueue("export-orders", Export("done"), tenant="A").id
    ids["failed"] = tickwork.enqueue("charge-card", {"order": 1, "expired": True}, tenant="A").id
    tickwork.schedule("weekly", "0 8 * * 1", "welcome-mail", {"n": 1}, timezone="Asia/Kolkata")
    tickwork.schedules.add("prices", "*/15 * * * *", "welcome-mail", {"n": 2}, by="ada", tenant="A")
    shop.drain()
    ids["processing"] = tickwork.enqueue("export-orders", Export("runs")).id
    (held,) = tickwork.store.claim(1, kinds={"export-orders"}, lease_seconds=FAR_SECONDS, mark=1)
    tickwork.store.touch([Touch(held.id, held.fence, progress=40.0, progress_note="row 400")])
    ids["pending"] = tickwork.enqueue("welcome-mail", {"n": 3}, dedupe_key="c-3").id
    ids["delayed"] = tickwork.enqueue("welcome-mail", {"n": 4}, delay=FAR_SECONDS).id
    ids["cancelled"] = tickwork.enqueue("welcome-mail", {"n": 5}, delay=FAR_SECONDS).id
    tickwork.cancel(ids["cancelled"])
    ids["chain"] = tickwork.chain([("welcome-mail", {"n": 6}), ("welcome-mail", {"n": 7})]).id
    with tickwork.group(on_done="welcome-mail", name="all stores") as group:
        ids["member"] = group.enqueue("export-orders", Export("g"))
    assert group.id is not None
    ids["group"] = group.id
    tickwork.pause("mails", by="ada", because="the relay is down")
    ids["paused"] = ids["pending"]
    return ids


@pytest.fixture
def shop() -> Iterator[Shop]:
    opened = open_shop()
    yield opened
    opened.tickwork.close()


# -- a browser -------------------------------------------------------------------------------------


# Of one module: while Playwright runs, its thread has an event loop, and other tests need theirs.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with started_browser() as started:
        yield started


@contextmanager
def served(shop: Shop) -> Iterator[str]:
    """The shop on a port of its own, until the end."""
    server = make_server("127.0.0.1", 0, shop.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Visit:
    """A browser's page at the shop, and what went wrong on it."""

    shop: Shop
    base: str
    page: Page
    scripts: bool
    wrong: list[str] = field(default_factory=list)

    def go(self, path: str = "") -> None:
        """Open a page of the dashboard."""
        response = self.page.goto(f"{self.base}{HOME}{path}")
        assert response is not None
        assert response.status == 200, f"{path}: {response.status}"

    def sign_in(self, secret: str = ADMIN) -> None:
        """From wherever a stranger is sent, with the form."""
        self.page.get_by_label("Token").fill(secret)
        self.page.get_by_role("button", name="Sign in").click()

    @property
    def text(self) -> str:
        """What the main part of the page says."""
        return self.page.locator("main").inner_text()


MakeVisit = Callable[..., Visit]


@pytest.fixture
def visit(chromium: Browser, tmp_path: Path) -> Iterator[MakeVisit]:
    """Opens the shop for somebody; nothing may go wrong on any of their pages."""
    visits: list[Visit] = []
    contexts: list[BrowserContext] = []
    with ExitStack() as stack:

        def make(
            *,
            size: tuple[int, int] = DESKTOP,
            scheme: Literal["light", "dark"] = "light",
            scripts: bool = True,
            shop: Shop | None = None,
        ) -> Visit:
            if shop is None:
                shop = open_shop(f"sqlite:///{tmp_path / f'{len(visits)}.db'}")
                stack.enter_context(closing(shop.tickwork))
            base = stack.enter_context(served(shop))
            context = chromium.new_context(
                viewport={"width": size[0], "height": size[1]},
                color_scheme=scheme,
                java_script_enabled=scripts,
            )
            contexts.append(context)
            found = Visit(shop, base, context.new_page(), scripts)
            found.page.set_default_timeout(10_000)
            found.page.on("console", lambda said: _note(found, said.type, said.text))
            found.page.on("pageerror", lambda error: found.wrong.append(str(error)))
            visits.append(found)
            return found

        yield make
        for context in contexts:
            context.close()
    for each in visits:
        assert each.wrong == []


def _note(visit: Visit, kind: str, text: str) -> None:
    # A breach of the content security policy is told here as well.
    if kind in ("error", "warning"):
        visit.wrong.append(f"{kind}: {text}")
