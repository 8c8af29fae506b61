"""StormCom's exports: asked for, made by the cron, and healed."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import sqlalchemy as sa

from jobs import State
from jobs.demo import orders as orders_kind
from jobs.demo.shop import BRANCHES, create_shop
from jobs.demo.tables import notifications, orders
from jobs.handlers.mail import smtp
from tests.examples.conftest import ADMIN, Example, Open
from tests.support.postman import Postman, serving
from tests.support.web import ROOT

KOELN = BRANCHES[0]
CRON_PATH = "/api/cron/process-export-jobs"
ASKED = {"storeId": KOELN.store_id, "userId": KOELN.user_id}


def opened(open_example: Open, **settings: Any) -> Example:
    example = open_example("jobs.demo.orders", tick_limit=700.0, **settings)
    with example.tickwork.engine.begin() as connection:
        create_shop(connection, orders=120, customers=30, products=12)
    return example


def export(example: Example, **body: Any) -> str:
    answer = example.ask("POST", "/api/orders/export", headers=ADMIN, json={**ASKED, **body})
    assert answer.status_code == 202, answer.text
    assert answer.json["status"] == "pending"
    return str(answer.json["jobId"])


def record(example: Example, export_id: str) -> dict[str, Any]:
    found: dict[str, Any] = example.ask(
        "GET", f"/api/orders/export/{export_id}", headers=ADMIN
    ).json
    return found


def lines(done: dict[str, Any]) -> list[dict[str, str]]:
    with Path(unquote(urlsplit(done["fileUrl"]).path)).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_an_export_from_the_request_to_the_file(open_example: Open) -> None:
    example = opened(open_example)
    export_id = export(example, filters={"status": "paid"})
    job = example.job("export-orders")
    assert job.payload["jobId"] == export_id
    assert record(example, export_id)["status"] == "pending"

    assert example.cron(CRON_PATH) == {"processed": 1, "jobs": [job.id]}

    done = record(example, export_id)
    of_koeln = sa.select(orders.c.number).where(
        orders.c.store_id == KOELN.store_id, orders.c.status == "paid"
    )
    assert done["status"] == "completed"
    assert {line["order"] for line in lines(done)} == {row.number for row in example.rows(of_koeln)}
    assert done["totalRows"] == len(lines(done)) > 0
    assert [mail["To"] for mail in example.mails()] == [KOELN.email]
    assert len(example.rows(sa.select(notifications))) == 1


def test_without_the_secret_nothing_runs(open_example: Open) -> None:
    example = opened(open_example)
    export_id = export(example)
    answer = example.ask("GET", CRON_PATH)

    assert (answer.status_code, answer.json) == (401, {"error": "Unauthorized"})
    assert record(example, export_id)["status"] == "pending"


def test_a_busy_mail_server_costs_no_second_file(open_example: Open) -> None:
    postman = Postman()
    postman.to_data = "451 try again later"
    with serving(postman) as port:
        example = opened(open_example, smtp_url=f"smtp://127.0.0.1:{port}")
        export_id = export(example)
        example.cron(CRON_PATH)
        first = record(example, export_id)
        assert example.job("export-orders").state is State.PENDING

        postman.to_data = "250 OK"
        example.clock.advance(60)
        example.cron(CRON_PATH)
        smtp._pool.close_all()

    assert example.job("export-orders").state is State.COMPLETED
    assert record(example, export_id)["fileUrl"] == first["fileUrl"]
    assert len(postman.letters) == len(example.rows(sa.select(notifications))) == 1


def test_dying_between_the_file_and_the_record(
    open_example: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = opened(open_example)
    export_id = export(example)
    with monkeypatch.context() as broken:
        broken.setattr(orders_kind.records, "complete", lambda *_: 1 / 0)
        example.cron(CRON_PATH)
    assert record(example, export_id)["fileUrl"] is None

    example.clock.advance(60)
    example.cron(CRON_PATH)

    done = record(example, export_id)
    assert (done["status"], example.job("export-orders").attempts) == ("completed", 2)
    assert len(lines(done)) == done["totalRows"]
    assert len(list((example.folder / "files").rglob("*.csv"))) == 1
    assert len(example.mails()) == 1


@pytest.mark.slow
def test_the_run_of_the_readme(tmp_path: Path) -> None:
    played = subprocess.run(
        [sys.executable, "-m", "stormcom.run"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'examples'}"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert played.returncode == 0, played.stderr
    assert '"processed":1' in played.stdout
    assert '"status":"completed"' in played.stdout
    assert "order,created,status,customer" in played.stdout
