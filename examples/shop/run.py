"""Plays some orders by HTTP, and shows what the requests answer and what the jobs do.

    python -m shop.run            # in the folder `examples`
    python -m shop.run --stay     # and goes on serving, with the dashboard, until Ctrl-C

Everything is real but the bank and the ERP: the application on a port of this machine, its
database, its invoices and its mails in a new folder.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import urllib3
from werkzeug.serving import make_server

from jobs import Tickwork
from jobs.handlers.sync import create_sync_tables

from .app import create
from .fake_bank import FakeBank
from .fake_erp import FakeErp
from .tables import metadata, products

HANDLERS: Final = (
    __package__ or "shop",
    "jobs.handlers.email",
    "jobs.handlers.report",
    "jobs.handlers.sync",
    "jobs.handlers.alert",
)
GOODS: Final = (("MUG", "A mug", 49_900, 20), ("DESK", "A standing desk", 6_500_000, 3))
# For this run alone: a deployment has secrets of its own in its environment.
CRON, ADMIN, WHSEC = (secrets.token_urlsafe(24) for _ in range(3))
PASSWORD: Final = "correct horse"  # noqa: S105 - of a customer made up


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not a line for each request
    folder = Path(tempfile.mkdtemp(prefix="shop-"))
    stock = {sku: count for sku, _, _, count in GOODS}
    with FakeBank() as bank, FakeErp(stock) as erp, application(folder, bank, erp) as url:
        play(url, bank)
        print(f"\nMoney moved: {bank.moved}\nThe ERP has: {list(erp.orders)}")
        print(f"Mails, invoices and tables: {folder}")
        if "--stay" in sys.argv:
            print(f"{url}/api/jobs/dashboard (sign in with {ADMIN}); Ctrl-C ends it")
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                print()


def play(url: str, bank: FakeBank) -> None:
    """A mug, and a desk at which somebody has to look."""
    ann = {"name": "Ann", "email": "ann@example.com", "password": PASSWORD}
    say("a customer", call(url, "POST", "/api/customers", body=ann))
    mug = order(url, "MUG", 2)
    pay(url, bank, "pi_mug", mug)
    desk = order(url, "DESK", 1)
    pay(url, bank, "pi_desk", desk)
    for _ in range(4):  # the webhook, the capture, the invoice, its mail
        say("the cron's call", tick(url))
    waiting = call(url, "GET", "/api/admin/reviews", ADMIN)
    say("what somebody has to look at", waiting)
    (review,) = waiting[1]["reviews"]
    decision = {"decision": "approve"}
    say("approved", call(url, "POST", f"/api/admin/reviews/{review['id']}", ADMIN, decision))
    shipped = {"status": "shipped", "carrier": "India Post", "trackingNumber": "RM1"}
    path = f"/api/admin/orders/{mug['orderId']}/status"
    say("a parcel leaves", call(url, "POST", path, ADMIN, shipped))
    for _ in range(4):
        say("the cron's call", tick(url))


@contextmanager
def application(folder: Path, bank: FakeBank, erp: FakeErp) -> Iterator[str]:
    """The application on a free port, with goods to sell."""
    os.environ |= {
        "STRIPE_API_URL": bank.url,
        "STRIPE_SECRET_KEY": "sk_test_of_the_fake",
        "ERP_URL": erp.url,
        "ERP_TOKEN": "the-token-of-the-fake",
    }
    tickwork = Tickwork(
        f"sqlite:///{folder}/shop.db",
        handlers=HANDLERS,
        cron_secret=CRON,
        admin_token=ADMIN,
        secret_key=secrets.token_urlsafe(24),
        stripe_webhook_secrets=(WHSEC,),
        blob_url=str(folder / "files"),
        smtp_url=str(folder / "outbox"),
        email_from="Shop <shop@example.com>",
        tick_limit=400.0,  # no platform ends this process; a report may take 300 s
    )
    tickwork.create_schema()
    make_tables(tickwork)
    server = make_server("127.0.0.1", 0, create(tickwork), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        server.server_close()
        tickwork.close()


def make_tables(tickwork: Tickwork) -> None:
    """The tables of the shop and of its syncs, with the goods."""
    create_sync_tables(tickwork.engine)
    with tickwork.engine.begin() as connection:
        metadata.create_all(connection)
        names = ("sku", "name", "price", "stock")
        connection.execute(
            sa.insert(products), [dict(zip(names, each, strict=True)) for each in GOODS]
        )


def order(url: str, sku: str, quantity: int) -> dict[str, Any]:
    """Ann orders."""
    headers = urllib3.make_headers(basic_auth=f"ann@example.com:{PASSWORD}")
    body = {"items": [{"sku": sku, "quantity": quantity}]}
    answer = urllib3.request("POST", f"{url}/api/orders", headers=headers, json=body)
    say(f"an order of {quantity} {sku}", (answer.status, answer.json()))
    made: dict[str, Any] = answer.json()
    return made


def pay(url: str, bank: FakeBank, intent: str, made: dict[str, Any]) -> None:
    """The bank holds the money, and says so as Stripe does."""
    bank.hold(intent, made["orderId"], made["total"])
    event = {
        "id": f"evt_{intent}",
        "type": "payment_intent.amount_capturable_updated",
        "data": {"object": bank.intent(intent)},
    }
    body = json.dumps(event).encode()
    at = str(int(time.time()))
    digest = hmac.new(WHSEC.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"Stripe-Signature": f"t={at},v1={digest}"}
    answer = urllib3.request("POST", f"{url}/webhooks/stripe", headers=headers, body=body)
    say("Stripe's webhook", (answer.status, answer.json()))


def tick(url: str) -> tuple[int, Any]:
    return call(url, "POST", "/cron/process-jobs?limit=50", CRON)


def call(url: str, method: str, path: str, token: str = "", body: Any = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = urllib3.request(method, f"{url}{path}", headers=headers, json=body)
    return answer.status, answer.json()


def say(what: str, answer: tuple[int, Any]) -> None:
    print(f"{what}:\n    {answer[0]} {json.dumps(answer[1])}")


if __name__ == "__main__":
    main()
