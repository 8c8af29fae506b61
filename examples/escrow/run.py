"""Plays two escrows by HTTP, and shows what the requests answer and what the jobs do.

    python -m escrow.run            # in the folder `examples`
    python -m escrow.run --stay     # and goes on serving, with the dashboard, until Ctrl-C

Everything is real but Stripe and the partner, who only prints what he is told: the application on a
port of this machine, its database and its mails in a new folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import urllib3
from werkzeug.serving import make_server

from jobs import Tickwork
from jobs.http import create_app

from .fake_stripe import FakeStripe
from .tables import escrows, metadata, users

TOKENS = {name: secrets.token_urlsafe(24) for name in ("buyer", "seller", "arbiter", "admin")}
CRON_SECRET = secrets.token_urlsafe(24)


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not a line for each request
    folder = Path(tempfile.mkdtemp(prefix="escrow-"))
    with FakeStripe() as stripe, partner() as partner_url, application(folder, stripe) as url:
        os.environ["PARTNER_WEBHOOK_URL"] = partner_url
        say("release", ask(url, "buyer", "release", "esc-1"))
        say("the cron's call", tick(url))
        stripe.trouble = ["decline"]
        say("a release that the bank declines", ask(url, "buyer", "release", "esc-2"))
        say("a dispute", ask(url, "seller", "dispute", "esc-2"))
        say("an arbiter's refund", ask(url, "arbiter", "refund", "esc-2"))
        say("somebody else's token", ask(url, "nobody", "release", "esc-2"))
        say("the cron's call", tick(url))
        say("what waits, and what is dead", call(url, "GET", "/api/jobs/process", CRON_SECRET))
        print(f"\nMoney moved: {stripe.moved}\nMails, jobs and tables: {folder}")
        if "--stay" in sys.argv:
            print(f"{url}/api/jobs/dashboard (sign in with {TOKENS['admin']}); Ctrl-C ends it")
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                print()


@contextmanager
def application(folder: Path, stripe: FakeStripe) -> Iterator[str]:
    """The application on a free port, with two escrows that are paid for."""
    os.environ |= {
        "STRIPE_API_URL": stripe.url,
        "STRIPE_SECRET_KEY": "sk_test_of_the_fake",
        "WEBHOOK_SECRET_PARTNER": secrets.token_urlsafe(24),
    }
    tickwork = Tickwork(
        f"sqlite:///{folder}/escrow.db",
        handlers=[__package__],
        cron_secret=CRON_SECRET,
        admin_token=TOKENS["admin"],
        smtp_url=str(folder / "outbox"),
        email_from="Escrow <escrow@example.com>",
        webhook_allow=("127.0.0.1",),
    )
    tickwork.create_schema()
    with tickwork.engine.begin() as connection:
        metadata.create_all(connection)
        for name in ("buyer", "seller", "arbiter"):
            add_user(connection, name, TOKENS[name])
        for number in (1, 2):
            stripe.hold(f"pi_{number}")
            add_escrow(connection, f"esc-{number}", f"pi_{number}", "funded")
    server = make_server("127.0.0.1", 0, create_app(tickwork), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        server.server_close()
        tickwork.close()


def add_user(connection: sa.Connection, name: str, token: str) -> None:
    """A user called like his role, who proves himself by a token."""
    connection.execute(
        sa.insert(users).values(
            id=name,
            email=f"{name}@example.com",
            token_sha256=hashlib.sha256(token.encode()).hexdigest(),
            is_arbiter=name == "arbiter",
        )
    )


def add_escrow(connection: sa.Connection, name: str, intent: str, status: str) -> None:
    """An escrow of EUR 100 between the buyer and the seller."""
    connection.execute(
        sa.insert(escrows).values(
            id=name,
            buyer_id="buyer",
            seller_id="seller",
            amount=10_000,
            currency="EUR",
            payment_intent=intent,
            status=status,
        )
    )


@contextmanager
def partner() -> Iterator[str]:
    """Somebody who is told of changes, and prints them."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            print(f"    the partner hears: {body.decode()}")
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not a line for each request."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hooks"
    finally:
        server.shutdown()
        server.server_close()


def ask(url: str, who: str, action: str, transaction_id: str) -> str:
    body = {"transactionId": transaction_id}
    return call(url, "POST", f"/api/escrow/{action}", TOKENS.get(who, "no-token"), body)


def tick(url: str) -> str:
    return call(url, "POST", "/cron/process-jobs", CRON_SECRET)


def call(url: str, method: str, path: str, token: str, body: Any = None) -> str:
    headers = {"Authorization": f"Bearer {token}"}
    answer = urllib3.request(method, f"{url}{path}", headers=headers, json=body)
    return f"{answer.status} {json.dumps(answer.json())}"


def say(what: str, answer: str) -> None:
    print(f"{what}:\n    {answer}")


if __name__ == "__main__":
    main()
