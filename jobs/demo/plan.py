"""What the demo asks for, and what must come of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import urllib3

from jobs.demo.shop import BRANCHES, PRODUCTS
from jobs.system import Tickwork

MAILS: Final = 100
PICTURES: Final = PRODUCTS
SUPPLIERS: Final = ("Regenwerk GmbH", "Ομπρέλα Αθηνών", "雨具株式会社", "Parasol Sp. z o.o.")
DELIVERIES: Final = 20
BROKEN_DELIVERIES: Final = 4
DELAY_SECONDS: Final = 3.0
KOELN, ATHENS, KRAKOW = BRANCHES


@dataclass(frozen=True)
class Asked:
    """One export that was asked for, and the file that it must make.

    export_id: of the record, or None for the general kind `export`
    """

    title: str
    export_type: str
    store_id: str
    filters: Mapping[str, Any]
    job_id: str
    export_id: str | None = None


@dataclass
class Plan:
    """Everything enqueued: how many jobs of each kind must end how, after how many attempts."""

    completed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    exports: list[Asked] = field(default_factory=list)
    delayed_id: str = ""
    pieces: int = 0

    @property
    def total(self) -> int:
        return self.completed.total() + self.failed.total()

    def expect(self, kind: str, jobs: int = 1, *, attempts: int = 1, fails: bool = False) -> None:
        """Expect jobs of a kind to end, each after that many attempts."""
        (self.failed if fails else self.completed)[kind] += jobs
        self.attempts[kind] += jobs * attempts


def ask_for_exports(plan: Plan, base_url: str, admin_token: str) -> None:
    """Ask for order exports the way a browser does: over HTTP."""
    http = urllib3.PoolManager(retries=False)
    wanted: list[tuple[str, dict[str, Any]]] = [
        ("orders of Köln", {"type": "orders"}),
        (
            "delivered orders of Athens, March to June",
            {
                "type": "orders",
                "filters": {"status": "delivered", "from": "2025-03-01", "to": "2025-06-30"},
            },
        ),
        ("orders of Kraków", {"type": "orders", "format": "jsonl"}),
        ("customers of Köln", {"type": "customers"}),
        ("products of Athens in stock", {"type": "products", "filters": {"minStock": 1}}),
    ]
    branches = (KOELN, ATHENS, KRAKOW, KOELN, ATHENS)
    for (title, body), branch in zip(wanted, branches, strict=True):
        answer = http.request(
            "POST",
            f"{base_url}/api/orders/export",
            json={"storeId": branch.store_id, "userId": branch.user_id, **body},
            headers={"Authorization": f"Bearer {admin_token}"},
        )
        made = json.loads(answer.data)
        if answer.status != 202:
            raise RuntimeError(f"POST /api/orders/export: {answer.status} {made}")
        plan.exports.append(
            Asked(
                title,
                body["type"],
                branch.store_id,
                body.get("filters", {}),
                made["queueJobId"],
                made["jobId"],
            )
        )
        plan.expect("export-orders")


def enqueue_the_rest(plan: Plan, tickwork: Tickwork) -> None:
    """Enqueue everything else, as a program does that has the database."""
    for export_type, file_format, branch in (
        ("orders", "csv", ATHENS),
        ("customers", "jsonl", KRAKOW),
        ("products", "csv", KOELN),
    ):
        payload = {
            "dataset": f"shop-{export_type}",
            "format": file_format,
            "filters": {"storeId": branch.store_id},
        }
        job = tickwork.enqueue("export", payload)
        title = f"{payload['dataset']} of {branch.name}"
        plan.exports.append(Asked(title, export_type, branch.store_id, {}, job.id))
        plan.expect("export")

    tickwork.enqueue_many(_small_jobs(plan))
    reminder = tickwork.enqueue("remind-cart", {"customerId": 1}, delay=DELAY_SECONDS)
    plan.delayed_id = reminder.id
    plan.expect("remind-cart")


def enqueue_and_roll_back(tickwork: Tickwork) -> str:
    """Enqueue in a transaction that then fails, as requests do; return the id of that job."""
    with tickwork.engine.connect() as connection:
        job = tickwork.enqueue("charge-card", {"order": "SC-2025-000000"}, session=connection)
        connection.rollback()
    return job.id


def _small_jobs(plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    for number in range(1, MAILS + 1):
        yield "welcome-mail", {"customerId": number}
    plan.expect("welcome-mail", MAILS)
    for number in range(1, PICTURES + 1):
        yield "thumbnail", {"productId": number}
    plan.expect("thumbnail", PICTURES)
    for supplier in SUPPLIERS:
        yield "sync-supplier", {"supplier": supplier}
    plan.expect("sync-supplier", len(SUPPLIERS), attempts=3)
    for number in range(DELIVERIES):
        # One piece at a time is what the scanner stumbles over; see `restock`.
        broken = number < BROKEN_DELIVERIES
        pieces = 1 if broken else 5
        yield "restock", {"productId": 1, "pieces": pieces}
        plan.pieces += pieces
        plan.expect("restock", attempts=2 if broken else 1)
    yield "exchange-rates", {"currencies": ["EUR", "PLN", "JPY", "INR", "KRW"]}
    plan.expect("exchange-rates")
    yield "charge-card", {"order": "SC-2025-004711"}
    plan.expect("charge-card", attempts=3, fails=True)
