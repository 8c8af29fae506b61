"""An order export from the request to the file, mail and notification, on every database."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import threading
from email import message_from_bytes
from email.policy import default as modern
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from jobs import JobEvent, State
from jobs.demo import records
from jobs.demo.datasets import statement_of
from jobs.demo.orders import request_export
from jobs.demo.tables import export_jobs, orders, stores, users
from jobs.handlers.writers import defuse_formula
from tests.demo.conftest import ADMIN, ATHENS, KOELN, Open, Postman, StormCom, csv_of, jsonl_of
from tests.support.databases import Database

HEADER = ["order", "created", "status", "customer", "email", "country", "items", "total"]
HEADER += ["currency", "note"]


def as_text(value: Any) -> str:
    """A value as the CSV holds it: the formulas of a text defused."""
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return defuse_formula(value) if isinstance(value, str) else str(value)


# --- create the record, enqueue


def test_asking_creates_the_record(any_shop: StormCom) -> None:
    export_id, _ = any_shop.asked(type="orders")

    assert str(UUID(export_id)) == export_id
    assert any_shop.record(export_id) == {
        "id": export_id,
        "storeId": KOELN.store_id,
        "userId": KOELN.user_id,
        "type": "orders",
        "status": "pending",
        "filters": {},
        "totalRows": 0,
        "fileUrl": None,
        "error": None,
        "createdAt": "2026-01-01T00:00:00Z",
        "startedAt": None,
        "completedAt": None,
    }


def test_asking_enqueues_the_job(shop: StormCom) -> None:
    answer = shop.ask()

    assert answer.status_code == 202
    made = json.loads(answer.data)
    export_id, job_id = made["jobId"], made["queueJobId"]
    assert made == {"jobId": export_id, "status": "pending", "queueJobId": job_id}
    assert answer.headers["Location"] == f"/api/orders/export/{export_id}"
    job = shop.job(job_id)
    assert (job.kind, job.queue, job.state) == ("export-orders", "exports", State.PENDING)
    assert job.payload == {"jobId": export_id, "format": "csv"}


def test_filters_are_stored_as_json(any_shop: StormCom) -> None:
    filters = {"status": "paid", "from": "2025-02-01", "country": None}
    export_id, _ = any_shop.asked(filters=filters)

    [(stored,)] = any_shop.rows(
        sa.select(export_jobs.c.filters).where(export_jobs.c.id == export_id)
    )
    assert json.loads(stored) == filters


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_record_and_job_commit_or_roll_back_together(any_shop: StormCom, ending: str) -> None:
    with any_shop.tickwork.engine.connect() as connection:
        export_id, job_id = request_export(
            any_shop.tickwork, connection, store_id=KOELN.store_id, user_id=KOELN.user_id
        )
        getattr(connection, ending)()

    job = any_shop.tickwork.get(job_id)
    assert any_shop.records() == (ending == "commit")
    assert (job is not None) == (ending == "commit")
    if job is not None:
        assert job.payload["jobId"] == export_id


def test_a_record_whose_job_cannot_be_written_is_not_there(shop: StormCom) -> None:
    shop.tickwork.clear(force=True)
    with shop.tickwork.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE tickwork_jobs RENAME TO elsewhere")

    answer = shop.ask()

    assert answer.status_code >= 500
    assert shop.records() == 0


# --- process


def test_an_export_is_processed_through_the_cron(any_shop: StormCom) -> None:
    export_id, job_id = any_shop.asked()

    tick = any_shop.cron()

    assert (tick["processed"], tick["succeeded"], tick["jobs"]) == (1, 1, [job_id])
    job, record = any_shop.job(job_id), any_shop.record(export_id)
    assert (job.state, job.attempts, job.progress) == (State.COMPLETED, 1, 100)
    assert record["status"] == "completed"
    assert record["totalRows"] == len(csv_of(record)) - 1 > 0
    assert record["startedAt"] == record["completedAt"] == "2026-01-01T00:00:00Z"
    assert record["error"] is None
    assert job.result["fileUrl"] == record["fileUrl"]


def test_the_csv_is_uploaded_to_the_blob_store(shop: StormCom) -> None:
    export_id, _ = shop.asked()
    shop.cron()

    path = shop.folder / "files" / "exports" / "orders" / f"{export_id}.csv"
    assert shop.record(export_id)["fileUrl"] == path.as_uri()
    assert path.is_file()


def test_the_csv_has_a_valid_header_and_lines(shop: StormCom) -> None:
    export_id, _ = shop.asked()
    shop.cron()
    rows = csv_of(shop.record(export_id))

    assert rows[0] == HEADER
    assert {len(row) for row in rows} == {len(HEADER)}


def test_the_csv_holds_all_orders_row_for_row(any_shop: StormCom) -> None:
    export_id, _ = any_shop.asked()
    any_shop.cron()

    held = any_shop.rows(sa.select(orders.c.number).where(orders.c.store_id == KOELN.store_id))
    rows = csv_of(any_shop.record(export_id))[1:]
    expected = any_shop.rows(statement_of("orders", KOELN.store_id, {}))  # type: ignore[arg-type]
    assert rows == [[as_text(value) for value in row] for row in expected]
    assert sorted(row[0] for row in rows) == sorted(number for (number,) in held)
    # The generated shop brings what exports stumble over.
    notes = "".join(row[-1] for row in rows)
    assert all(
        text in notes
        for text in ('"twice"', "line\nsecond line\r\nthird", "'=HYPERLINK", "🎁", "يرجى")
    )


def test_filters_are_applied(any_shop: StormCom) -> None:
    filters = {"status": "delivered", "from": "2025-03-01", "to": "2025-06-30"}
    export_id, _ = any_shop.asked(filters=filters)
    any_shop.cron()

    expected = any_shop.rows(
        sa.select(orders.c.number).where(
            orders.c.store_id == KOELN.store_id,
            orders.c.status == "delivered",
            orders.c.created_at >= dt.datetime(2025, 3, 1),  # noqa: DTZ001
            orders.c.created_at < dt.datetime(2025, 7, 1),  # noqa: DTZ001
        )
    )
    record = any_shop.record(export_id)
    numbers = [row[0] for row in csv_of(record)[1:]]
    assert 0 < len(expected) == record["totalRows"]
    assert sorted(numbers) == sorted(number for (number,) in expected)


@pytest.mark.parametrize("export_type", ["orders", "customers", "products"])
def test_every_type_as_json_lines(shop: StormCom, export_type: str) -> None:
    export_id, _ = shop.asked(type=export_type, format="jsonl")
    shop.cron()
    record = shop.record(export_id)

    expected = shop.rows(statement_of(export_type, KOELN.store_id, {}))  # type: ignore[arg-type]
    found = jsonl_of(record)
    assert len(found) == record["totalRows"] == len(expected) > 0
    for line, row in zip(found, expected, strict=True):
        assert list(line) == list(row._fields)
        assert line[row._fields[0]] == row[0]


def test_no_filter_reaches_another_store(shop: StormCom) -> None:
    ours, _ = shop.asked()
    theirs, _ = shop.asked(storeId=ATHENS.store_id, userId=ATHENS.user_id)
    shop.cron()

    one = {row[0] for row in csv_of(shop.record(ours))[1:]}
    other = {row[0] for row in csv_of(shop.record(theirs))[1:]}
    assert one
    assert other
    assert not one & other


def test_a_log_line_says_how_long_it_took(shop: StormCom, caplog: pytest.LogCaptureFixture) -> None:
    export_id, _ = shop.asked()
    with caplog.at_level(logging.INFO, "jobs.demo"):
        shop.cron()

    pattern = re.escape(f"[Metrics] Export job {export_id} completed in ") + r"\d+ms"
    assert any(re.fullmatch(pattern, record.getMessage()) for record in caplog.records)


# --- tell


def test_a_mail_is_sent_through_a_mail_server(
    open_shop: Open, sqlite_database: Database, postman: Postman
) -> None:
    shop = open_shop(sqlite_database, smtp_url=f"smtp://127.0.0.1:{postman.port}")
    export_id, job_id = shop.asked()
    shop.cron()

    [letter] = postman.letters
    message = message_from_bytes(letter, policy=modern)
    record = shop.record(export_id)
    assert message["To"] == KOELN.email
    assert message["From"] == "StormCom <shop@example.com>"
    assert message["Subject"] == "Your export of orders is ready"
    text = message.get_content()
    assert record["fileUrl"] in text
    assert f"Rows: {record['totalRows']:,}" in text
    assert shop.job(job_id).result["email"] == "sent"


def test_a_mail_is_left_in_the_outbox(shop: StormCom) -> None:
    shop.asked()
    shop.cron()

    [path] = shop.mails()
    message = message_from_bytes(path.read_bytes(), policy=modern)
    assert (message["To"], message["Subject"]) == (KOELN.email, "Your export of orders is ready")


def test_an_in_app_notification_is_created(any_shop: StormCom) -> None:
    export_id, _ = any_shop.asked()
    any_shop.cron()

    [notice] = any_shop.notices()
    record = any_shop.record(export_id)
    assert notice.userId == KOELN.user_id
    assert (notice.type, notice.title) == ("export.completed", "Your export of orders is ready")
    assert notice.message == f"{record['totalRows']:,} rows"
    assert (notice.link, notice.readAt) == (record["fileUrl"], None)


def test_a_mail_server_that_is_away_costs_no_second_export(
    open_shop: Open, sqlite_database: Database, postman: Postman
) -> None:
    shop = open_shop(sqlite_database, smtp_url=f"smtp://127.0.0.1:{postman.port}")
    postman.answer = "451 later"
    export_id, job_id = shop.asked()
    assert shop.cron()["retried"] == 1
    first = shop.record(export_id)
    assert first["status"] == "completed"
    Path.unlink(file := shop.folder / "files" / "exports" / "orders" / f"{export_id}.csv")

    postman.answer = "250 OK"
    shop.clock.advance(6)
    assert shop.cron()["succeeded"] == 1

    assert shop.record(export_id) == first
    assert not file.exists()  # it was not written again
    assert len(postman.letters) == 1
    assert len(shop.notices()) == 1
    assert shop.job(job_id).state == State.COMPLETED


def test_an_address_that_is_refused_does_not_fail_the_export(
    open_shop: Open, sqlite_database: Database, postman: Postman
) -> None:
    shop = open_shop(sqlite_database, smtp_url=f"smtp://127.0.0.1:{postman.port}")
    postman.answer = "550 no such mailbox"
    export_id, job_id = shop.asked()
    shop.cron()

    assert shop.record(export_id)["status"] == "completed"
    assert shop.job(job_id).state == State.COMPLETED
    assert shop.job(job_id).result["email"].startswith("refused: ")


# --- fail, retry, repeat


def break_orders(shop: StormCom, *, mend: bool = False) -> None:
    names = ("away", "order_items") if mend else ("order_items", "away")
    with shop.tickwork.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {names[0]} RENAME TO {names[1]}")


def test_a_failed_export_is_retried(any_shop: StormCom) -> None:
    export_id, job_id = any_shop.asked()
    break_orders(any_shop)
    assert any_shop.cron()["retried"] == 1
    waiting = any_shop.record(export_id)
    assert waiting["status"] == "pending"
    assert "order_items" in waiting["error"]
    assert waiting["completedAt"] is None

    break_orders(any_shop, mend=True)
    assert any_shop.cron()["processed"] == 0  # not yet
    any_shop.clock.advance(6)
    assert any_shop.cron()["succeeded"] == 1

    record, job = any_shop.record(export_id), any_shop.job(job_id)
    assert (record["status"], record["error"]) == ("completed", None)
    assert record["startedAt"] == "2026-01-01T00:00:06Z"
    assert (job.state, job.attempts) == (State.COMPLETED, 2)
    assert len(any_shop.notices()) == len(any_shop.mails()) == 1


def test_a_failure_is_handled_when_all_attempts_are_used(any_shop: StormCom) -> None:
    export_id, job_id = any_shop.asked()
    break_orders(any_shop)

    seen = []
    for _ in range(3):
        any_shop.cron()
        seen.append(any_shop.record(export_id)["status"])
        any_shop.clock.advance(60)

    assert seen == ["pending", "pending", "failed"]
    record, job = any_shop.record(export_id), any_shop.job(job_id)
    assert (job.state, job.attempts) == (State.FAILED, 3)
    assert "order_items" in record["error"]
    assert record["completedAt"] == "2026-01-01T00:02:00Z"
    assert record["fileUrl"] is None
    assert any_shop.notices() == any_shop.mails() == []


def test_a_store_that_cannot_be_written_fails_at_once(
    open_shop: Open, sqlite_database: Database
) -> None:
    shop = open_shop(sqlite_database, blob_url="ftp://nowhere")
    export_id, job_id = shop.asked()
    shop.cron()

    assert shop.record(export_id)["status"] == "failed"
    assert "BLOB_URL" in shop.record(export_id)["error"]
    assert (shop.job(job_id).state, shop.job(job_id).attempts) == (State.FAILED, 1)


def test_a_repeat_of_a_finished_export_changes_nothing(any_shop: StormCom) -> None:
    """The runner died after the work and before its end was written, so the job runs again."""
    export_id, _ = any_shop.asked()
    any_shop.cron()
    first, [mail] = any_shop.record(export_id), any_shop.mails()
    identity = message_from_bytes(mail.read_bytes())["Message-ID"]
    any_shop.clock.advance(60)
    any_shop.tickwork.enqueue("export-orders", {"jobId": export_id})
    assert any_shop.cron()["succeeded"] == 1

    assert any_shop.record(export_id) == first
    assert len(any_shop.notices()) == 1
    [mail] = any_shop.mails()
    assert message_from_bytes(mail.read_bytes())["Message-ID"] == identity


def test_an_attempt_that_was_given_up_changes_nothing(any_shop: StormCom) -> None:
    export_id, _ = any_shop.asked()
    engine, clock = any_shop.tickwork.engine, any_shop.clock
    old = records.begin(engine, export_id, clock.now())
    clock.advance(1)
    new = records.begin(engine, export_id, clock.now())
    assert old is not None
    assert new is not None

    assert not records.complete(engine, old, "file:///old", 1, clock.now())
    assert not records.give_back(engine, old, "too late", clock.now(), final=True)
    assert any_shop.record(export_id)["status"] == "processing"
    assert any_shop.notices() == []
    assert records.complete(engine, new, "file:///new", 2, clock.now())
    assert any_shop.record(export_id)["fileUrl"] == "file:///new"


def test_an_export_whose_runner_dies_at_the_last_attempt_is_failed(shop: StormCom) -> None:
    export_id, job_id = shop.asked()
    store = shop.tickwork.store
    attempts = []
    for _ in range(3):
        [claimed] = store.claim(
            1, kinds=frozenset({"export-orders"}), lease_seconds=10, mark=1, lanes=None
        )
        attempts.append(claimed.attempt)
        records.begin(shop.tickwork.engine, export_id, shop.clock.now())
        shop.clock.advance(11)
        shop.tickwork.reclaim()
        shop.clock.advance(600)

    assert attempts == [1, 2, 3]
    assert shop.job(job_id).state == State.FAILED
    record = shop.record(export_id)
    assert record["status"] == "failed"
    assert "runner lost" in record["error"]


def test_an_export_that_takes_too_long_is_failed_and_stays_so(shop: StormCom) -> None:
    export_id, first_job = shop.asked()
    shop.tickwork.cancel(first_job)
    job = shop.tickwork.enqueue("export-orders", {"jobId": export_id}, timeout=0.2, max_attempts=1)
    go_on = threading.Event()
    held: list[threading.Thread] = []

    def hold(event: JobEvent) -> None:
        held.append(threading.current_thread())
        go_on.wait(30)

    shop.tickwork.on("progress", hold)
    try:
        assert shop.cron()["failed"] == 1
        failed = shop.record(export_id)
    finally:
        go_on.set()
    held[0].join(30)  # the attempt that was given up, on its way to nothing

    assert not held[0].is_alive()
    assert shop.job(job.id).state == State.FAILED
    assert failed["status"] == "failed"
    assert "gave up after 0.2 s" in failed["error"]
    assert shop.record(export_id) == failed
    assert shop.notices() == shop.mails() == []


def test_an_export_that_was_cancelled_is_not_made(shop: StormCom) -> None:
    export_id, job_id = shop.asked()
    asked = threading.Event()

    def cancel(event: JobEvent) -> None:
        if not asked.is_set():
            asked.set()
            shop.tickwork.cancel(job_id)

    shop.tickwork.on("progress", cancel)
    shop.cron()

    record = shop.record(export_id)
    assert shop.job(job_id).state == State.CANCELLED
    assert (record["status"], record["fileUrl"]) == ("failed", None)
    assert record["error"] == "somebody asked to cancel this job"
    assert shop.notices() == shop.mails() == []


def test_an_export_that_was_deleted_is_given_up(shop: StormCom) -> None:
    _, job_id = shop.asked()
    with shop.tickwork.engine.begin() as connection:
        connection.execute(sa.delete(export_jobs))
    shop.cron()

    job = shop.job(job_id)
    assert (job.state, job.attempts) == (State.FAILED, 1)
    assert "it was deleted, or never made" in (job.error or "")


# --- the record's table


def test_the_record_has_the_columns_and_indexes_of_its_schema(any_shop: StormCom) -> None:
    look = sa.inspect(any_shop.tickwork.engine)
    columns = {column["name"]: column for column in look.get_columns("export_jobs")}
    indexes = {tuple(index["column_names"]) for index in look.get_indexes("export_jobs")}
    keys = {
        (*key["constrained_columns"], key["referred_table"], key["options"].get("ondelete"))
        for key in look.get_foreign_keys("export_jobs")
    }

    nullable = {name for name, column in columns.items() if column["nullable"]}
    assert nullable == {"fileUrl", "error", "startedAt", "completedAt"}
    assert set(columns) - nullable == {
        *("id", "storeId", "userId", "type", "status", "filters", "totalRows", "createdAt")
    }
    assert isinstance(columns["totalRows"]["type"], sa.Integer)
    assert {("storeId", "status", "createdAt"), ("userId", "createdAt")} <= indexes
    assert keys == {("storeId", "stores", "CASCADE"), ("userId", "users", "CASCADE")}


@pytest.mark.parametrize("owner", ["store", "user"])
def test_records_go_with_their_owner(any_shop: StormCom, owner: str) -> None:
    any_shop.asked()
    with any_shop.tickwork.engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            # Not within a transaction, and off unless a shop asks for it.
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.execute(sa.delete(orders))
        if owner == "store":
            connection.exec_driver_sql("DELETE FROM customers")
            connection.exec_driver_sql("DELETE FROM products")
            connection.execute(sa.delete(stores).where(stores.c.id == KOELN.store_id))
        else:
            connection.execute(sa.delete(users).where(users.c.id == KOELN.user_id))

    assert any_shop.records() == 0


# --- who may, and what is refused


WRONG = ["", "Bearer ", "Bearer None", ADMIN["Authorization"] + "x", "Basic x", "Bearer \xe9"]


@pytest.mark.parametrize("headers", [{}, *({"Authorization": wrong} for wrong in WRONG)])
def test_without_the_token_nothing_happens(shop: StormCom, headers: dict[str, str]) -> None:
    answer = shop.ask(headers=headers)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert shop.client.get("/api/orders/export/x", headers=headers).status_code == 401
    assert shop.records() == 0
    assert shop.tickwork.list() == []


def test_production_without_a_token_is_closed(open_shop: Open, sqlite_database: Database) -> None:
    shop = open_shop(sqlite_database, admin_token=None)

    assert shop.ask(headers={}).status_code == 503
    assert shop.ask(headers={"Authorization": "Bearer None"}).status_code == 503
    assert shop.records() == 0


def test_development_is_open_to_the_machine_itself(
    open_shop: Open, sqlite_database: Database
) -> None:
    shop = open_shop(sqlite_database, admin_token=None, env="development", auto_start=False)

    assert shop.ask(headers={}).status_code == 202
    assert shop.ask(headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 503
    shop.client.environ_base["REMOTE_ADDR"] = "203.0.113.7"
    assert shop.ask(headers={}).status_code == 503
    assert shop.records() == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"type": "invoices"}, "type: one of orders, customers, products"),
        ({"type": ["orders"]}, "type: one of"),
        ({"storeId": 1}, "storeId: a text is needed"),
        ({"userId": ATHENS.user_id}, "userId: this store has no such user"),
        ({"userId": "' OR 1=1 --"}, "userId: this store has no such user"),
        ({"storeId": ATHENS.store_id}, "userId: this store has no such user"),
        ({"filters": ["status"]}, "filters: an object"),
        ({"filters": {"storeId": ATHENS.store_id}}, "cannot be filtered by 'storeId'"),
        ({"filters": {"1=1; --": 1}}, "cannot be filtered by '1=1; --'; only by status, from"),
        ({"filters": {"status": "lost"}}, "must be one of pending, paid"),
        ({"filters": {"from": "yesterday"}}, 'expects a date such as "2024-05-31"'),
        ({"filters": {"minTotal": "0 OR 1=1"}}, "expects a number such as 12.5"),
        ({"format": "xlsx"}, "no file format 'xlsx'"),
        ({"format": ["csv"]}, "no file format"),
        ({"limit": 1}, "'limit': no such field"),
    ],
)
def test_a_mistake_is_answered_with_a_problem(
    shop: StormCom, body: dict[str, Any], said: str
) -> None:
    answer = shop.ask(**body)

    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert said in json.loads(answer.data)["detail"]
    assert shop.records() == 0
    assert shop.tickwork.list() == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b"\xff"])
def test_a_body_that_is_no_object_is_refused(shop: StormCom, body: bytes) -> None:
    answer = shop.client.post("/api/orders/export", data=body, headers=ADMIN)

    assert answer.status_code == 400
    assert "the body is a JSON object" in json.loads(answer.data)["detail"]


def test_an_export_that_does_not_exist(shop: StormCom) -> None:
    answer = shop.client.get("/api/orders/export/nothing", headers=ADMIN)

    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"
