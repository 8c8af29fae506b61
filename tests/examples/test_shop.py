"""The shop: orders, mails, payments, stock, the ERP and reviews, on good days and bad ones."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import pypdf
import pytest
import sqlalchemy as sa
import urllib3
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.test import TestResponse

from examples.shop import (
    accounts,
    erp,
    invoices,
    orders,
    reporting,
    reviews,
    stock,
    syncs,
    webhooks,
)
from examples.shop.app import create
from examples.shop.fake_bank import FakeBank
from examples.shop.fake_erp import FakeErp
from examples.shop.rules import Facts, is_high_value, suspicions
from examples.shop.run import HANDLERS, make_tables
from examples.shop.tables import customers, order_lines, password_resets, payments, products
from examples.shop.tables import orders as order_table
from jobs import State, Tickwork
from jobs.handlers import report as report_battery
from jobs.handlers.archiving import sealed
from jobs.handlers.datasets import catalogue
from jobs.handlers.reports import definition
from jobs.handlers.sync import contract
from tests.examples.conftest import ADMIN, Example, Open, played
from tests.support.postman import body
from tests.support.web import ROOT

PASSWORD = "correct horse"
# The same hash with less work: there are many customers here.
CHEAP = partial(generate_password_hash, method="pbkdf2:sha256:1000")
PERSON = {"name": "Bob", "email": "bob@example.com", "password": PASSWORD}
WHSEC = "whsec_of-the-test"
RAZOR = "razorpays-shared-secret"
HOUR = 3600
DATASETS = ("shop-daily-orders", "shop-low-stock", "shop-invoice", "shop-invoice-lines")
REPORTS = ("daily-report", "invoice")
PLATFORMS = ("erp-stock", "stripe-payments", "razorpay-payments")

# Modules declare as they are imported, here while tests are collected: the fixture does it anew,
# for tests of this file alone.
for _name in DATASETS:
    catalogue._catalogue._datasets.pop(_name, None)
for _name in REPORTS:
    definition._reports.pop(_name, None)
for _name in PLATFORMS:
    contract._platforms.pop(_name, None)


class Shop:
    """Twenty mugs for Rs 499 and three desks for Rs 65,000; Ann is a customer."""

    def __init__(self, example: Example, bank: FakeBank, erp_server: FakeErp) -> None:
        self.example, self.bank, self.erp = example, bank, erp_server

    def ask(self, method: str, path: str, json: Any = None, who: str = "ann") -> TestResponse:
        headers = urllib3.make_headers(basic_auth=f"{who}@example.com:{PASSWORD}")
        return self.example.ask(method, path, headers=headers, json=json)

    def admin(self, method: str, path: str, json: Any = None) -> TestResponse:
        return self.example.ask(method, f"/api/admin{path}", headers=ADMIN, json=json)

    def order(self, sku: str = "MUG", quantity: int = 2) -> str:
        items = [{"sku": sku, "quantity": quantity}]
        answer = self.ask("POST", "/api/orders", {"items": items})
        assert answer.status_code == 201, answer.text
        return str(answer.json["orderId"])

    def stripe(self, event: str, payment_id: str, **changed: Any) -> TestResponse:
        """Stripe tells of a payment."""
        document = {
            "id": f"evt_{event}_{payment_id}",
            "type": f"payment_intent.{event}",
            "data": {"object": self.bank.intent(payment_id)},
            **changed,
        }
        raw = json.dumps(document).encode()
        at = str(int(self.example.clock.now().timestamp()))
        signed = {"Stripe-Signature": f"t={at},v1={digest(WHSEC, at.encode() + b'.' + raw)}"}
        return self.example.ask("POST", "/webhooks/stripe", headers=signed, data=raw)

    def razorpay(self, event: str, payment_id: str, event_id: str = "") -> TestResponse:
        """Razorpay tells of a payment."""
        entity = self.bank.entity(payment_id)
        document = {"event": f"payment.{event}", "payload": {"payment": {"entity": entity}}}
        raw = json.dumps(document).encode()
        signed = {
            "X-Razorpay-Signature": digest(RAZOR, raw),
            "X-Razorpay-Event-Id": event_id or f"{event}_{payment_id}",
        }
        return self.example.ask("POST", "/webhooks/razorpay", headers=signed, data=raw)

    def pay(self, order_id: str, payment_id: str = "pi_1", amount: int = 0) -> None:
        """A customer authorises the payment, and its provider says so."""
        self.bank.hold(payment_id, order_id, amount or self.row(order_id).total)
        if payment_id.startswith("pi_"):
            answer = self.stripe("amount_capturable_updated", payment_id)
        else:
            answer = self.razorpay("authorized", payment_id)
        assert answer.json == {"received": True}

    def run(self, calls: int = 3) -> None:
        """The cron calls as often as it takes for jobs that follow from jobs."""
        for _ in range(calls):
            self.example.cron()

    def paid(self, sku: str = "MUG", payment_id: str = "pi_1") -> str:
        order_id = self.order(sku)
        self.pay(order_id, payment_id)
        self.run(2)
        assert self.row(order_id).status == "paid"
        return order_id

    def row(self, order_id: str) -> Any:
        (found,) = self.example.rows(sa.select(order_table).where(order_table.c.id == order_id))
        return found

    def stock(self, sku: str = "MUG") -> tuple[int, int]:
        """What lies there, and what of it is reserved."""
        columns = sa.select(products.c.stock, products.c.reserved)
        (found,) = self.example.rows(columns.where(products.c.sku == sku))
        return tuple(found)

    def subjects(self) -> list[str]:
        return sorted(mail["Subject"] for mail in self.example.mails())

    def waiting_reviews(self) -> dict[str, str]:
        """Ids by kind."""
        listed = self.admin("GET", "/reviews").json["reviews"]
        return {each["kind"]: each["id"] for each in listed}

    def decide(self, review_id: str, decision: str) -> int:
        answer = self.admin("POST", f"/reviews/{review_id}", {"decision": decision})
        return int(answer.status_code)


def digest(secret: str, text: bytes) -> str:
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


@pytest.fixture
def paper() -> None:
    """For a test that reads what stands in a PDF: the others get files that are made at once."""


@pytest.fixture
def crowd() -> None:
    """For a test of jobs that run at once; the others take one by one, as SQLite writes."""


def _blank(file: IO[bytes], *_: object, **__: object) -> Any:
    file.write(b"%PDF-")
    return sealed(file, {})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with every table and the goods: to copy it is faster than to make it."""
    path = tmp_path_factory.mktemp("shop") / "tickwork.db"
    with closing(Tickwork(f"sqlite:///{path}", handlers=HANDLERS)) as tickwork:
        tickwork.create_schema()
        furnish(tickwork)
    return path


def furnish(tickwork: Tickwork) -> None:
    make_tables(tickwork)
    ann = {"email": "ann@example.com", "name": "Ann", "password_hash": CHEAP(PASSWORD)}
    with tickwork.engine.begin() as connection:
        connection.execute(sa.insert(customers).values(ann))


@pytest.fixture
def shop(
    request: pytest.FixtureRequest,
    made: Path,
    tmp_path: Path,
    open_example: Open,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shop]:
    is_sqlite = request.node.callspec.params["open_example"] == "sqlite"
    if is_sqlite:
        shutil.copy(made, tmp_path)
    if "paper" not in request.fixturenames:
        monkeypatch.setattr(report_battery, "_pdf_writer", lambda: _blank)
    # What a module declares once belongs to this test, and not to those of other systems.
    monkeypatch.setattr(catalogue._catalogue, "_datasets", {})
    monkeypatch.setattr(definition, "_reports", {})
    monkeypatch.setattr(contract, "_platforms", {})
    reporting.declare()
    syncs.declare()
    monkeypatch.setattr(accounts, "generate_password_hash", CHEAP)
    with FakeBank() as bank, FakeErp({"MUG": 20, "DESK": 3}) as erp_server:
        for name, value in {
            "STRIPE_API_URL": bank.url,
            "STRIPE_SECRET_KEY": "sk_test_secret",
            "RAZORPAY_API_URL": bank.url,
            "RAZORPAY_KEY_ID": "rzp_test",
            "RAZORPAY_KEY_SECRET": "rzp_secret",
            "ERP_URL": erp_server.url,
            "ERP_TOKEN": "erp-token",
            "SHOP_OWNER_EMAIL": "owner@example.com",
        }.items():
            monkeypatch.setenv(name, value)
        example = open_example(
            *HANDLERS,
            application=create,
            secret_key="the-key-of-this-test",
            stripe_webhook_secrets=(WHSEC,),
            razorpay_webhook_secrets=(RAZOR,),
            tick_limit=400.0,
            concurrency=5 if "crowd" in request.fixturenames else 1,
        )
        if not is_sqlite:
            furnish(example.tickwork)
        yield Shop(example, bank, erp_server)


# --- orders: A91 and A92


def test_an_order_is_saved_with_its_goods_and_its_jobs(shop: Shop) -> None:
    order_id = shop.order()

    row = shop.row(order_id)
    assert (row.status, row.total, shop.stock()) == ("pending", 99_800, (20, 2))
    mail = shop.example.job("send-order-confirmation")
    assert mail.max_attempts == 3
    assert mail.payload == {
        "to": "ann@example.com",
        "subject": "Order Confirmed",
        "template": "order_confirmation",
        "data": {
            "orderNumber": row.number,
            "items": [{"name": "A mug", "quantity": 2, "price": 499.0}],
            "total": 998.0,
            "currency": "INR",
        },
    }
    cancellation = shop.example.job("auto-cancel")
    assert cancellation.payload == {"orderId": order_id}
    assert (cancellation.run_at - shop.example.clock.now()).total_seconds() == HOUR

    shop.run(1)

    (sent,) = (each for each in shop.example.mails() if each["Subject"] == "Order Confirmed")
    assert sent["To"] == "ann@example.com"
    assert "A mug x 2: INR 499.00" in body(sent, "plain")
    assert "Total: INR 998.00" in body(sent, "plain")


def test_an_order_whose_last_job_is_not_taken_leaves_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "auto_cancel", None)
    items = {"items": [{"sku": "MUG", "quantity": 2}]}

    assert shop.ask("POST", "/api/orders", items).status_code == 500
    assert shop.example.rows(sa.select(order_table)) == []
    assert shop.stock() == (20, 0)
    assert shop.example.jobs("send-order-confirmation") == []


def test_two_who_want_the_last_desks_at_once(shop: Shop) -> None:
    items = {"items": [{"sku": "DESK", "quantity": 2}, {"sku": "MUG", "quantity": 1}]}
    with ThreadPoolExecutor(2) as pool:
        asked = pool.map(lambda _: shop.ask("POST", "/api/orders", items).status_code, range(2))

    assert sorted(asked) == [201, 409]
    assert (shop.stock("DESK"), shop.stock("MUG")) == ((3, 2), (20, 1))
    assert len(shop.example.jobs("auto-cancel")) == 1


def test_an_order_of_nothing_is_refused(shop: Shop) -> None:
    for items in (
        None,
        [],
        ["MUG"],
        [{"sku": "MUG"}],
        [{"sku": "MUG", "quantity": 0}],
        [{"sku": "MUG", "quantity": True}],
        [{"sku": "MUG", "quantity": 101}],
    ):
        assert shop.ask("POST", "/api/orders", {"items": items}).status_code == 400
    items = [{"sku": "MUG", "quantity": 1}]
    assert shop.ask("POST", "/api/orders", {"items": items}, who="nobody").status_code == 401

    assert shop.ask("POST", "/api/orders", {"items": items * 3}).status_code == 201
    assert shop.example.rows(sa.select(order_lines.c.sku, order_lines.c.quantity)) == [("MUG", 3)]


def test_nobody_pays_within_the_hour(shop: Shop) -> None:
    order_id = shop.order()
    shop.example.later(HOUR - 1)
    assert shop.row(order_id).status == "pending"

    shop.example.later(1)
    shop.run(1)

    row = shop.row(order_id)
    assert (row.status, row.because) == ("cancelled", "nobody paid within an hour")
    assert (row.stock, shop.stock()) == ("released", (20, 0))
    assert shop.example.job("release-inventory").result == "released: cancellation"


def test_a_payment_takes_the_cancellation_back(shop: Shop) -> None:
    order_id = shop.paid()
    cancellation = shop.example.tickwork.get(f"cancel-{order_id}")

    assert cancellation is not None
    assert cancellation.state is State.CANCELLED
    shop.example.later(2 * HOUR)
    assert shop.row(order_id).status == "paid"
    assert shop.stock() == (20, 2)


def test_a_cancellation_that_runs_although_it_was_paid(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The process died after the commit and before it took the job back.
    monkeypatch.setattr(webhooks, "keep", lambda *_: None)
    order_id = shop.paid()
    shop.example.later(2 * HOUR)

    assert shop.example.job("auto-cancel").result == "somebody has paid, or cancelled it before"
    assert (shop.row(order_id).status, shop.stock()) == ("paid", (20, 2))
    assert shop.example.jobs("release-inventory") == []


def test_money_that_comes_too_late_goes_back_once(shop: Shop) -> None:
    order_id = shop.order()
    shop.example.later(HOUR)
    shop.pay(order_id)
    shop.run()
    shop.bank.payments["pi_1"].state = "captured"  # as a provider might that captures by itself
    shop.stripe("succeeded", "pi_1")
    shop.run()

    assert (shop.row(order_id).status, shop.row(order_id).stock) == ("cancelled", "released")
    assert shop.bank.moved == [("cancel", "pi_1")]


@pytest.mark.slow
@pytest.mark.usefixtures("crowd")
def test_a_payment_and_the_cancellation_in_one_tick(shop: Shop) -> None:
    order_id = shop.order()
    shop.example.clock.advance(HOUR)
    shop.pay(order_id)
    shop.run(4)

    row = shop.row(order_id)  # whoever was first
    assert (row.status, row.stock, shop.stock(), shop.bank.moved) in (
        ("paid", "reserved", (20, 2), [("capture", "pi_1")]),
        ("cancelled", "released", (20, 0), [("cancel", "pi_1")]),
    )


def test_a_customer_cancels_before_the_money_is_asked_for(shop: Shop) -> None:
    order_id = shop.order()
    path = f"/api/orders/{order_id}/cancel"
    shop.ask("POST", "/api/customers", PERSON)

    assert shop.ask("POST", path, who="bob").status_code == 404  # it is Ann's
    assert shop.row(order_id).status == "pending"
    assert shop.ask("POST", path).json["status"] == "cancelled"
    assert shop.ask("POST", path).status_code == 409
    shop.run(1)
    assert shop.stock() == (20, 0)
    cancellation = shop.example.tickwork.get(f"cancel-{order_id}")
    assert cancellation is not None
    assert cancellation.state is State.CANCELLED


@pytest.mark.usefixtures("paper")
def test_an_invoice_is_kept_and_mailed(shop: Shop) -> None:
    order_id = shop.paid()
    shop.run(2)

    row = shop.row(order_id)
    (mail,) = (each for each in shop.example.mails() if "invoice" in each["Subject"])
    (attached,) = mail.iter_attachments()
    assert (mail["To"], attached.get_filename()) == (
        "ann@example.com",
        f"invoice-{row.number}.pdf",
    )
    content = attached.get_content()
    assert content == Path(unquote(urlsplit(row.invoice_url).path)).read_bytes()
    text = " ".join(pypdf.PdfReader(BytesIO(content)).pages[0].extract_text().split())
    for written in (row.number, "Ann", "A mug", "499.00", "998.00"):
        assert written in text


@pytest.mark.slow
def test_an_invoice_whose_mail_was_not_enqueued_is_made_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(invoices, "queue_email", lambda **_: 1 / 0)
        order_id = shop.paid()
        shop.run(1)
    assert shop.row(order_id).invoice_url is None

    shop.example.later(60)
    shop.run(1)

    assert shop.example.job("generate-invoice").attempts == 2
    assert [each for each in shop.subjects() if "invoice" in each] == [
        f"Your invoice for order {shop.row(order_id).number}"
    ]
    assert len(list((shop.example.folder / "files").rglob("*.pdf"))) == 1


def test_a_parcel_leaves_and_arrives(shop: Shop) -> None:
    order_id = shop.paid()
    update = {"status": "shipped", "carrier": "India Post", "trackingNumber": "RM1"}
    assert shop.admin("POST", f"/orders/{order_id}/status", update).status_code == 202
    shop.run(2)

    (mail,) = (each for each in shop.example.mails() if "on its way" in each["Subject"])
    assert "Carrier: India Post" in body(mail, "plain")
    assert (shop.row(order_id).status, shop.row(order_id).stock) == ("shipped", "taken")
    assert shop.stock() == (18, 0)

    for status in ("delivered", "shipped"):  # the second comes late, and changes nothing
        shop.admin("POST", f"/orders/{order_id}/status", {"status": status})
        shop.run(1)
    assert shop.row(order_id).status == "delivered"
    assert shop.stock() == (18, 0)
    assert sum("on its way" in each for each in shop.subjects()) == 1


@pytest.mark.slow
def test_what_is_not_paid_is_not_shipped(shop: Shop) -> None:
    order_id = shop.order()
    shop.admin("POST", f"/orders/{order_id}/status", {"status": "shipped"})
    refused = shop.admin("POST", f"/orders/{order_id}/status", {"status": "lost"})
    shop.run(1)

    assert refused.status_code == 400
    job = shop.example.job("update-order-status")
    assert (job.state, job.error) == (
        State.FAILED,
        "Discard: an order that is pending cannot be shipped",
    )
    assert shop.stock() == (20, 2)


# --- mails of accounts: A91


def test_a_customer_is_welcomed_once(shop: Shop) -> None:
    answers = [
        shop.ask("POST", "/api/customers", {**PERSON, "email": address}).status_code
        for address in ("bob@example.com", "BOB@example.com", "not an address")
    ]
    shop.run(1)

    assert answers == [201, 409, 400]
    assert [(mail["To"], mail["Subject"]) for mail in shop.example.mails()] == [
        ("bob@example.com", "Welcome to Example")
    ]
    assert len(shop.example.rows(sa.select(customers))) == 2


def test_a_password_is_reset_by_a_link_that_works_once(shop: Shop) -> None:
    answers = [forgets(shop, who) for who in ("ann", "nobody", "ann")]
    assert {(answer.status_code, answer.text) for answer in answers} == {(202, answers[0].text)}
    shop.run(1)
    (token,) = tokens(shop)
    everything = [job.payload for job in shop.example.tickwork.list()]
    assert token not in repr(everything + shop.example.rows(sa.select(password_resets)))

    def reset(password: str, by: str = token) -> int:
        asked = {"token": by, "password": password}
        return shop.example.ask("POST", "/api/password", json=asked).status_code

    assert reset("short") == 400
    assert reset("another horse", "0" * 64) == 400
    assert reset("another horse") == 200
    assert reset("a third horse") == 400
    assert shop.ask("POST", "/api/orders", {"items": []}).status_code == 401
    (row,) = shop.example.rows(sa.select(customers.c.password_hash))
    assert check_password_hash(row.password_hash, "another horse")

    shop.example.clock.advance(61)
    forgets(shop, "ann")
    shop.run(1)
    (late,) = tokens(shop) - {token}
    shop.example.clock.advance(HOUR)
    assert reset("a third horse", late) == 400


def forgets(shop: Shop, who: str) -> TestResponse:
    asked = {"email": f"{who}@example.com"}
    return shop.example.ask("POST", "/api/password-resets", json=asked)


def tokens(shop: Shop) -> set[str]:
    texts = [body(mail, "plain") for mail in shop.example.mails()]
    return set(re.findall(r"token=([0-9a-f]{64})", " ".join(texts)))


# --- the ERP: A92


def test_the_erp_has_an_order_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erp, "TIMEOUT_SECONDS", 0.1)
    numbers = []
    for trouble, attempts in (("500", 2), ("429", 1), ("silence", 2)):
        shop.erp.trouble = [trouble]
        order_id = shop.paid(payment_id=f"pi_{trouble}")
        numbers.append(shop.row(order_id).number)
        shop.run(1)
        job = shop.example.jobs("sync-with-erp")[0]
        assert (job.state, shop.row(order_id).erp_id) == (State.PENDING, None)

        shop.example.later(120)  # as the 429 has said

        job = shop.example.jobs("sync-with-erp")[0]
        assert (job.state, job.attempts) == (State.COMPLETED, attempts)
        assert shop.row(order_id).erp_id == f"erp-{len(numbers)}"
        assert shop.erp.keys[-2:] == [job.id] * 2
    assert [each["number"] for each in shop.erp.orders.values()] == numbers
    assert shop.erp.orders["erp-1"]["lines"] == [{"sku": "MUG", "quantity": 2, "price": 49_900}]

    shop.erp.trouble = ["400"]
    shop.paid(payment_id="pi_400")
    shop.run(1)
    job = shop.example.jobs("sync-with-erp")[0]
    assert (job.state, job.error) == (State.FAILED, "Discard: the ERP answered 400")


# --- a process that dies between effects and their end


DIES = """
import os, sys, threading
from datetime import datetime
from jobs import Tickwork
from jobs.core.clock import ManualClock
from examples.shop import erp, money
from examples.shop.run import HANDLERS

tickwork = Tickwork(
    sys.argv[1], handlers=HANDLERS, clock=ManualClock(datetime.fromisoformat(sys.argv[2]))
)
all_have_come = threading.Barrier(3)

def gone(*_):
    all_have_come.wait(30)
    os._exit(9)

erp._remember = money._hear = gone
tickwork.tick()
"""


def test_dying_after_the_erp_and_the_providers_have_heard(shop: Shop) -> None:
    late = shop.order(), shop.order()
    shop.example.later(HOUR)  # both are cancelled, and then their money comes
    shop.bank.hold("pi_late", late[0], 99_800, "captured")
    shop.stripe("succeeded", "pi_late")
    shop.bank.hold("pay_late", late[1], 99_800, "captured")
    shop.razorpay("captured", "pay_late")
    paid = shop.order()
    shop.bank.hold("pi_1", paid, 99_800, "captured")
    shop.stripe("succeeded", "pi_1")
    shop.run(1)
    shop.example.tickwork.cancel(shop.example.job("generate-invoice").id)
    url = shop.example.tickwork.engine.url.render_as_string(hide_password=False)
    now = shop.example.clock.now().isoformat()
    died = subprocess.run(
        [sys.executable, "-c", DIES, url, now],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert died.returncode == 9, died.stderr
    refunds = [("refund", "pay_late"), ("refund", "pi_late")]
    assert (sorted(shop.bank.moved), list(shop.erp.orders)) == (refunds, ["erp-1"])
    assert shop.row(paid).erp_id is None

    for _ in range(4):  # the leases run out; whoever may have killed the process runs alone
        shop.example.later(HOUR * 1.2)

    assert (sorted(shop.bank.moved), list(shop.erp.orders)) == (refunds, ["erp-1"])
    assert (shop.row(paid).erp_id, shop.erp.keys) == ("erp-1", [shop.erp.keys[0]] * 2)
    given_back = sa.select(payments.c.id).where(payments.c.status == "given back")
    assert {each.id for each in shop.example.rows(given_back)} == {"pi_late", "pay_late"}


# --- payments: A93


def test_a_payment_is_captured_however_often_it_is_told_of(shop: Shop) -> None:
    ids = {"pi_1": shop.order(), "pay_1": shop.order()}
    for payment_id, order_id in ids.items():
        shop.pay(order_id, payment_id)
        shop.pay(order_id, payment_id)
    # Razorpay proves no event's id: this is a genuine body under another one.
    shop.razorpay("authorized", "pay_1", event_id="made-up")
    shop.run()
    shop.stripe("succeeded", "pi_1")
    shop.stripe("payment_failed", "pi_1")  # told late
    shop.razorpay("captured", "pay_1")
    shop.razorpay("failed", "pay_1")
    shop.run(1)

    for payment_id, order_id in ids.items():
        row = shop.row(order_id)
        assert (row.status, row.payment_id, row.stock) == ("paid", payment_id, "reserved")
    assert sorted(shop.bank.moved) == [("capture", "pay_1"), ("capture", "pi_1")]
    assert len(shop.example.jobs("webhook:razorpay:payment.authorized")) == 2
    assert len(shop.erp.orders) == len(shop.example.jobs("generate-invoice")) == 2
    everything = repr([(job.payload, job.result) for job in shop.example.tickwork.list(limit=100)])
    for secret in ("sk_test_secret", "rzp_secret", "erp-token", WHSEC, RAZOR, PASSWORD):
        assert secret not in everything


def test_what_is_forged_or_anothers_is_left_alone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = shop.order()
    shop.bank.hold("pi_1", order_id, 99_800)
    with monkeypatch.context() as forged:
        forged.setitem(globals(), "WHSEC", "whsec_another")
        forged.setitem(globals(), "RAZOR", "another")
        assert shop.stripe("amount_capturable_updated", "pi_1").status_code == 401
        assert shop.razorpay("authorized", "pi_1").status_code == 401
    shop.bank.hold("pi_2", "no-such-order", 1)
    shop.stripe("amount_capturable_updated", "pi_2")
    shop.run(1)

    assert shop.row(order_id).status == "pending"
    kind = "webhook:stripe:payment_intent.amount_capturable_updated"
    assert shop.example.job(kind).result == "no order of this shop"


def test_a_payment_that_failed_releases_the_goods(shop: Shop) -> None:
    ids = shop.order(), shop.order()
    shop.bank.hold("pi_1", ids[0], 99_800, "failed")
    shop.stripe("payment_failed", "pi_1")
    shop.bank.hold("pay_1", ids[1], 99_800, "failed")
    shop.razorpay("failed", "pay_1")
    shop.run()

    for order_id in ids:
        row = shop.row(order_id)
        assert (row.status, row.because) == ("cancelled", "the payment failed")
    assert shop.stock() == (20, 0)
    released = [job.result for job in shop.example.jobs("release-inventory")]
    assert released == ["released: payment failure"] * 2


@pytest.mark.slow
def test_who_pays_twice_gets_the_second_back(shop: Shop) -> None:
    order_id = shop.paid()
    shop.pay(order_id, "pi_2")
    shop.run()

    assert shop.bank.moved == [("capture", "pi_1"), ("cancel", "pi_2")]
    assert shop.row(order_id).status == "paid"


def test_a_capture_is_tried_three_times_an_hour_apart(shop: Shop) -> None:
    shop.bank.trouble = ["500"] * 3
    order_id = shop.order()
    shop.pay(order_id)
    shop.run(2)
    assert shop.example.job("retry-payment-capture").attempts == 1
    shop.example.later(HOUR / 2)
    assert shop.example.job("retry-payment-capture").attempts == 1
    for _ in range(2):
        shop.example.later(HOUR * 1.2)

    dead = shop.example.job("retry-payment-capture")
    assert (dead.state, dead.attempts) == (State.FAILED, 3)
    assert "the provider answered 500" in (dead.error or "")
    assert (shop.row(order_id).status, shop.bank.moved) == ("capturing", [])

    shop.example.tickwork.retry(dead.id, by="ada")
    shop.run(2)
    assert (shop.row(order_id).status, shop.bank.moved) == ("paid", [("capture", "pi_1")])


@pytest.mark.slow
def test_a_capture_that_nobody_heard_of_is_made_once(shop: Shop) -> None:
    shop.bank.trouble = ["hang up", "hang up"]
    ids = shop.order(), shop.order()
    for order_id, payment_id in zip(ids, ("pi_1", "pay_1"), strict=True):
        shop.pay(order_id, payment_id)
    shop.run(2)
    assert [shop.row(each).status for each in ids] == ["capturing", "capturing"]

    shop.example.later(HOUR * 1.2)

    assert [shop.row(each).status for each in ids] == ["paid", "paid"]
    assert sorted(shop.bank.moved) == [("capture", "pay_1"), ("capture", "pi_1")]


def test_a_capture_that_is_declined_cancels_the_order(shop: Shop) -> None:
    shop.bank.trouble = ["decline"]
    order_id = shop.order()
    shop.pay(order_id)
    shop.run()

    row = shop.row(order_id)
    assert (row.status, row.because) == ("cancelled", "the payment could not be captured")
    assert (shop.stock(), shop.bank.moved) == ((20, 0), [])
    dead = shop.example.job("retry-payment-capture")
    assert (dead.state, dead.attempts) == (State.FAILED, 1)
    assert shop.example.jobs("retry-refund") == []


def test_a_lost_webhook_is_made_up_for(shop: Shop) -> None:
    held, taken = shop.order(), shop.order()
    shop.bank.hold("pi_1", held, 99_800)
    shop.bank.hold("pay_1", taken, 99_800, "captured")
    shop.example.tickwork.schedule_now("payment-reconciliation")
    shop.run(5)

    assert shop.example.job("payment-reconciliation").result == ["stripe", "razorpay"]
    assert [job.state for job in shop.example.jobs("data-sync")] == [State.COMPLETED] * 2
    assert [shop.row(each).status for each in (held, taken)] == ["paid", "paid"]
    assert shop.bank.moved == [("capture", "pi_1")]

    shop.example.tickwork.schedule_now("payment-reconciliation")  # what is known stays as it is
    shop.run()
    assert shop.bank.moved == [("capture", "pi_1")]
    assert len(shop.erp.orders) == 2


# --- stock: A94


def test_goods_are_released_once_however_many_jobs_run(shop: Shop) -> None:
    order_id = shop.order()
    shop.order()
    shop.ask("POST", f"/api/orders/{order_id}/cancel")
    for _ in range(3):
        stock.release_inventory.enqueue({"orderId": order_id, "because": "again"})
    shop.run()

    assert shop.stock() == (20, 2)  # the other order's
    results = [job.result for job in shop.example.jobs("release-inventory")]
    assert results.count("nothing was reserved any more") == 3


# --- reviews: A95


def review_of_a_desk(shop: Shop) -> tuple[str, str]:
    """An order of Rs 65,000 whose payment waits: its id, and the review's."""
    order_id = shop.order("DESK", 1)
    shop.pay(order_id)
    shop.run(2)
    return order_id, shop.waiting_reviews()["high-value-order"]


def test_a_high_value_order_waits_for_a_person(shop: Shop) -> None:
    order_id, review_id = review_of_a_desk(shop)

    assert (shop.row(order_id).status, shop.bank.moved) == ("review", [])
    (letter,) = shop.example.tickwork.dead_letters(queue="manual-review")
    assert "is above Rs 50,000" in (letter.error or "")
    shop.example.later(30 * 24 * HOUR)  # a dead letter of another kind would be gone
    assert shop.row(order_id).status == "review"

    assert shop.decide(review_id, "approve") == 200
    assert shop.decide(review_id, "refuse") == 409
    assert shop.decide(review_id, "approve") == 200  # a second click
    shop.run()

    assert (shop.row(order_id).status, shop.bank.moved) == ("paid", [("capture", "pi_1")])
    assert shop.decide(review_id, "approve") == 200
    shop.run()
    assert shop.bank.moved == [("capture", "pi_1")]


@pytest.mark.slow
def test_two_reasons_need_two_decisions(shop: Shop) -> None:
    order_id = shop.order("DESK", 1)
    shop.pay(order_id, amount=100)
    shop.run()
    waiting = shop.waiting_reviews()
    assert set(waiting) == {"high-value-order", "suspicious-payment"}

    shop.decide(waiting["high-value-order"], "approve")
    shop.run()
    assert shop.row(order_id).status == "review"

    shop.decide(waiting["suspicious-payment"], "approve")
    shop.run()
    assert shop.row(order_id).status == "paid"


@pytest.mark.slow
def test_a_customer_whose_cards_fail_is_looked_at(shop: Shop) -> None:
    for number in range(3):
        order_id = shop.order()
        shop.bank.hold(f"pi_bad{number}", order_id, 99_800, "failed")
        shop.stripe("payment_failed", f"pi_bad{number}")
    shop.run(1)
    order_id = shop.order()
    shop.pay(order_id)
    shop.run(2)

    assert shop.row(order_id).status == "review"
    (letter,) = shop.example.tickwork.dead_letters(kind="suspicious-payment")
    assert letter.error == "Discard: somebody has to look: 3 failed payments within a day"


def test_a_return_is_asked_for(shop: Shop) -> None:
    chipped, unloved = shop.paid(payment_id="pi_1"), shop.paid(payment_id="pi_2")
    early = shop.ask("POST", f"/api/orders/{chipped}/return", {"reason": "it is chipped"})
    for order_id in (chipped, unloved):
        shop.admin("POST", f"/orders/{order_id}/status", {"status": "delivered"})
    shop.run(1)
    asked = [
        shop.ask("POST", f"/api/orders/{order_id}/return", {"reason": "it is chipped"})
        for order_id in (chipped, unloved, chipped)
    ]
    assert [early.status_code, *(each.status_code for each in asked)] == [409, 202, 202, 409]
    shop.run(2)
    letters = shop.example.tickwork.dead_letters(kind="return-request")
    assert len(letters) == 2
    assert all("it is chipped" in (letter.error or "") for letter in letters)

    shop.bank.trouble = ["hang up"]
    assert shop.decide(asked[0].json["reviewId"], "approve") == 200
    assert shop.decide(asked[1].json["reviewId"], "refuse") == 200
    shop.run()
    shop.example.later(HOUR * 1.2)

    assert (shop.row(chipped).status, shop.row(unloved).status) == ("refunded", "delivered")
    assert shop.bank.moved[2:] == [("refund", "pi_1")]


@pytest.mark.usefixtures("crowd")
def test_reviews_are_claimed_one_at_a_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 3):
        shop.pay(shop.order("DESK", 1), f"pi_{number}")
    shop.run(1)  # the webhooks
    tickwork = shop.example.tickwork
    decided, running = reviews._payment_decided, []

    def while_it_runs(*given: Any) -> str:
        tickwork.tick()  # another process comes by
        running.append(len(tickwork.list(queue="manual-review", state=State.PROCESSING)))
        return decided(*given)

    monkeypatch.setattr(reviews, "_payment_decided", while_it_runs)
    dead = []
    for _ in range(4):
        shop.run(1)
        dead.append(len(tickwork.dead_letters(queue="manual-review")))

    assert dead == [1, 2, 3, 3]
    assert running == [1, 1, 1]
    widths = {name: each.max_concurrency for name, each in tickwork.queues().items()}
    assert widths == {
        "email": 5,
        "order": 10,
        "payment-webhook": 20,
        "payment-retry": 3,
        "inventory-release": 8,
        "manual-review": 1,
        "reports": 2,
    }


@pytest.mark.slow
def test_a_decision_while_the_job_looks(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    order_id = shop.order("DESK", 1)
    shop.pay(order_id)
    shop.run(1)
    review_id = shop.waiting_reviews()["high-value-order"]
    look = reviews._payment_decided
    answers = []

    def looked(*given: Any) -> str:
        try:
            return look(*given)
        finally:  # it has seen no decision, and has not ended
            answers.append(shop.decide(review_id, "approve"))

    with monkeypatch.context() as slow:
        slow.setattr(reviews, "_payment_decided", looked)
        shop.run(1)
    assert (answers, shop.row(order_id).status) == ([409], "review")

    assert shop.decide(review_id, "approve") == 200
    shop.run(2)
    assert shop.row(order_id).status == "paid"


def test_the_shops_people_refuse_an_order_and_nobody_else(shop: Shop) -> None:
    order_id, review_id = review_of_a_desk(shop)
    for method, path, asked in (
        ("GET", "reviews", None),
        ("POST", f"reviews/{review_id}", {"decision": "approve"}),
        ("POST", f"orders/{order_id}/status", {"status": "shipped"}),
    ):
        assert shop.ask(method, f"/api/admin/{path}", asked).status_code == 401
    assert shop.decide(review_id, "perhaps") == 400
    assert shop.decide("no-such-review", "refuse") == 409
    assert shop.decide(review_id, "refuse") == 200
    shop.run()

    row = shop.row(order_id)
    assert (row.status, row.because) == ("cancelled", "refused by review")
    assert (shop.stock("DESK"), shop.bank.moved) == ((3, 0), [("cancel", "pi_1")])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"paid": 1}, "1 paid of 100"),
        ({"paid": 101}, "101 paid of 100"),
        ({"failures_of_day": 3}, "3 failed payments within a day"),
        ({"orders_of_hour": 5}, "5 orders within an hour"),
    ],
)
def test_what_is_suspicious(changed: dict[str, int], reason: str | None) -> None:
    quiet = {"total": 100, "paid": 100, "failures_of_day": 2, "orders_of_hour": 4}

    assert suspicions(Facts(**{**quiet, **changed})) == ([reason] if reason else [])


def test_fifty_thousand_rupees_are_not_more_than_that() -> None:
    assert [is_high_value(paise) for paise in (5_000_000, 5_000_001)] == [False, True]


# --- schedules: A92 and A109


@pytest.mark.usefixtures("paper")
def test_the_owner_reads_of_the_day_at_nine(shop: Shop) -> None:
    order_id = shop.order()
    nine = datetime(2026, 1, 2, 3, 30, tzinfo=UTC)  # in Kolkata
    shop.example.clock.advance((nine - shop.example.clock.now()).total_seconds() - 1)
    shop.example.tickwork.cancel(f"cancel-{order_id}")
    shop.run()
    assert shop.example.jobs("report") == []

    shop.example.later(1)

    job = shop.example.job("report")
    assert (job.schedule, job.slot, job.state) == ("daily-report", nine, State.COMPLETED)
    (mail,) = (each for each in shop.example.mails() if each["To"] == "owner@example.com")
    (attached,) = mail.iter_attachments()
    text = pypdf.PdfReader(BytesIO(attached.get_content())).pages[0].extract_text()
    for written in (shop.row(order_id).number, "998.00", "DESK"):
        assert written in text


def test_the_stock_is_the_erps_every_hour(shop: Shop) -> None:
    shop.run(1)
    shop.erp.stock["MUG"] = 25
    shop.example.later(HOUR - 1)
    assert shop.stock() == (20, 0)
    shop.example.later(1)

    (job,) = (each for each in shop.example.jobs("data-sync") if each.schedule == "stock-sync")
    assert (job.payload["syncType"], job.state) == ("full", State.COMPLETED)
    assert shop.stock() == (25, 0)
    (later,) = shop.example.tickwork.schedules.preview("stock-sync", 1)
    assert job.slot is not None
    assert (later - job.slot).total_seconds() == HOUR


# --- the whole


@pytest.mark.slow
def test_the_story_of_the_readme_runs() -> None:
    printed = played("shop")

    assert "Money moved: [('capture', 'pi_mug'), ('capture', 'pi_desk')]" in printed
    assert "The ERP has: ['erp-1', 'erp-2']" in printed
