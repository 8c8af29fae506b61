"""Order exports: `POST /api/orders/export` asks for one, the job kind `export-orders` makes it.

It needs a database with the shop's tables, such as the one that the demo leaves behind:

    ONCE=1 tickwork demo
    export JOBS_HANDLERS=jobs.demo.orders DATABASE_URL=sqlite:///.tickwork/demo/shop.db
    tickwork serve --dev

The request writes a record and enqueues the job in one transaction, so there is never one without
the other, and answers at once. The job writes the file, the record, the notification and the mail;
any of its steps may be repeated, and a repeat changes nothing that a person would notice.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, TypedDict
from weakref import WeakSet

import sqlalchemy as sa
from flask import Blueprint, current_app, request, url_for
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue

from jobs.core.backoff import exponential
from jobs.core.codec import cut
from jobs.core.context import JobContext
from jobs.core.errors import Discard, JobCancelled, LeaseLost
from jobs.core.events import JobEvent
from jobs.core.registry import handler
from jobs.demo import records
from jobs.demo.access import admin_only
from jobs.demo.datasets import statement_of
from jobs.demo.records import Record
from jobs.demo.tables import EXPORT_TYPES, users
from jobs.handlers.blob import open_blob_store
from jobs.handlers.errors import MailRefused, PermanentError
from jobs.handlers.exporting import export_statement
from jobs.handlers.mail.message import Mail
from jobs.handlers.mail.send import send_mail
from jobs.handlers.source import open_source
from jobs.handlers.watching import Watch
from jobs.handlers.writers import check_format
from jobs.http.problems import problem
from jobs.stores.sql.engine import READ_ONLY
from jobs.system import Tickwork

log = logging.getLogger("jobs.demo.orders")
blueprint = Blueprint("orders", __name__, url_prefix="/api/orders")

_FIELDS: Final = ("storeId", "userId", "type", "filters", "format")
_ERROR_BYTES: Final = 2_000


class _Payload(TypedDict):
    jobId: str


class ExportOrders(_Payload, total=False):
    """The payload: `jobId` is the record's id; `format` is `csv` (if not said), `jsonl`, `json`."""

    format: str


# --- the request


@blueprint.post("/export")
@admin_only
def enqueue_export() -> ResponseReturnValue:
    """Ask for an export: `{storeId, userId, type?, filters?, format?}`.

    Answers 202 with `{"jobId", "status", "queueJobId"}`: the record's id, `pending`, and the id of
    the job that will make it. A mistake in the body is answered 400, with a problem document.
    """
    try:
        asked = _read(request.get_json(force=True, silent=True))
    except (ValueError, PermanentError) as error:
        return problem(HTTPStatus.BAD_REQUEST, f"{error}.")
    tickwork = _system()
    with tickwork.engine.begin() as connection:
        owner = sa.select(users.c.store_id).where(users.c.id == asked["user_id"])
        if connection.scalar(owner) != asked["store_id"]:
            return problem(HTTPStatus.BAD_REQUEST, "userId: this store has no such user.")
        export_id, job_id = request_export(tickwork, connection, **asked)
    answer = {"jobId": export_id, "status": "pending", "queueJobId": job_id}
    location = url_for("orders.show_export", export_id=export_id)
    return answer, HTTPStatus.ACCEPTED, {"Location": location}


def request_export(
    tickwork: Tickwork,
    connection: sa.Connection,
    *,
    store_id: str,
    user_id: str,
    export_type: str = "orders",
    filters: Mapping[str, Any] | None = None,
    file_format: str = "csv",
) -> tuple[str, str]:
    """Write the record and enqueue its job in the caller's transaction: both commit, or neither.

    Returns the record's id and the job's.
    """
    export_id = str(uuid.uuid4())
    records.create(
        connection,
        export_id=export_id,
        store_id=store_id,
        user_id=user_id,
        export_type=export_type,
        filters=filters or {},
        now=tickwork.clock.now(),
    )
    payload: ExportOrders = {"jobId": export_id, "format": file_format}
    job = tickwork.enqueue("export-orders", payload, session=connection)
    return export_id, job.id


@blueprint.get("/export/<export_id>")
@admin_only
def show_export(export_id: str) -> ResponseReturnValue:
    """The record of an export, as it stands."""
    with _system().engine.connect().execution_options(**READ_ONLY) as connection:
        found = records.find(connection, export_id)
    if found is None:
        return problem(HTTPStatus.NOT_FOUND, "There is no export of that id.")
    return found


def _system() -> Tickwork:
    tickwork: Tickwork = current_app.extensions["tickwork"]
    return tickwork


def _read(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ValueError("the body is a JSON object")
    if unknown := sorted(body.keys() - set(_FIELDS)):
        raise ValueError(f"{unknown[0]!r:.60}: no such field; there are {', '.join(_FIELDS)}")
    for name in ("storeId", "userId"):
        if not isinstance(body.get(name), str):
            raise ValueError(f"{name}: a text is needed")
    export_type = body.get("type", "orders")
    if export_type not in EXPORT_TYPES:
        raise ValueError(f"type: one of {', '.join(EXPORT_TYPES)}")
    filters = body.get("filters") or {}
    if not isinstance(filters, dict):
        raise ValueError("filters: an object of names and values")
    # Both are checked now: whoever asks should hear of a mistake, not find a failed export later.
    statement_of(export_type, body["storeId"], filters)
    return {
        "store_id": body["storeId"],
        "user_id": body["userId"],
        "export_type": export_type,
        "filters": filters,
        "file_format": check_format(body.get("format", "csv")),
    }


# --- the job


@handler(
    "export-orders",
    queue="exports",
    max_attempts=3,
    backoff=exponential(5, factor=5),
    timeout=600,
)
def export_orders(payload: ExportOrders, ctx: JobContext) -> dict[str, Any]:
    """Make the file of an export; then tell the record, the notification and the mail."""
    began = time.monotonic()
    system: Tickwork = export_orders.system
    _listen(system)
    record = records.begin(system.engine, payload["jobId"], system.clock.now())
    if record is None:
        raise Discard(f"there is no export {payload['jobId']!r:.60}: it was deleted, or never made")
    try:
        made = _make(record, payload.get("format", "csv"), system, ctx)
    except LeaseLost:
        raise  # another attempt owns the record now
    except Exception as error:
        for_good = isinstance(error, (PermanentError, Discard, JobCancelled))
        final = for_good or ctx.attempt >= ctx.max_attempts
        text = cut(f"{error}" or type(error).__name__, _ERROR_BYTES)
        records.give_back(system.engine, record, text, system.clock.now(), final=final)
        counted = {"jobId": ctx.job_id, "metrics": {"export.error": 1}}
        log.info("[Metrics] Export job %s failed", record.id, extra=counted)
        if isinstance(error, PermanentError):
            raise Discard(str(error)) from error
        raise
    took = round((time.monotonic() - began) * 1000)
    # By the export's own id, which its page shows; the kind's ``metrics`` would give the job's.
    counted = {"jobId": ctx.job_id, "metrics": {"export.success": 1, "export.duration": took}}
    log.info("[Metrics] Export job %s completed in %dms", record.id, took, extra=counted)
    return made


def _make(record: Record, file_format: str, system: Tickwork, ctx: JobContext) -> dict[str, Any]:
    blobs = open_blob_store(ctx.settings.blob_url)
    key = f"exports/{record.type}/{record.id}.{check_format(file_format)}"
    file_url, total_rows = record.file_url, record.total_rows
    if record.status != "completed" or file_url is None:
        # A connection of its own, which can only read: the pool is for the jobs.
        url = system.engine.url.render_as_string(hide_password=False)
        with open_source(url) as source:
            stored = export_statement(
                statement_of(record.type, record.store_id, record.filters),
                source=source,
                blobs=blobs,
                key=key,
                file_format=file_format,
                # The file goes to somebody who will open it in a spreadsheet.
                spreadsheet_safe=True,
                watch=Watch(ctx.progress, ctx.checkpoint),
            )
        file_url, total_rows = stored.file_url, stored.total_rows
        if not records.complete(system.engine, record, file_url, total_rows, system.clock.now()):
            raise LeaseLost("another attempt has taken this export over")
    # From here on a repeat only mails again, under the same Message-ID.
    email = _mail(record, blobs.link(key), total_rows, ctx)
    return {"fileUrl": file_url, "totalRows": total_rows, "email": email}


def _mail(record: Record, link: str, total_rows: int, ctx: JobContext) -> str:
    mail = Mail(
        to=record.email,
        subject=f"Your export of {record.type} is ready",
        text=(
            f"Your export of {record.type} is ready:\n\n{link}\n\nRows: {total_rows:,}\n\n"
            "Texts that a spreadsheet could take for a formula begin with an apostrophe.\n"
        ),
        idempotency_key=f"export-orders:{record.id}",
    )
    try:
        send_mail(mail, ctx.settings)
    except MailRefused as error:
        # The file stands, and no retry makes the address better.
        log.warning("export %s stands, but its mail was refused: %s", record.id, error)
        return f"refused: {error}"
    return "sent"


# --- what the handler cannot see


_listening: WeakSet[Tickwork] = WeakSet()


@blueprint.record
def _listen_in_app(state: BlueprintSetupState) -> None:
    _listen(state.app.extensions["tickwork"])


def _listen(system: Tickwork) -> None:
    """Hear of exports that failed for good without their handler: by timeout or a lost runner."""
    if system in _listening:
        return
    _listening.add(system)

    def heard(event: JobEvent) -> None:
        if event.kind == "export-orders" and (job := system.get(event.job_id)) is not None:
            error = event.error or "failed"
            records.fail_unheard(system.engine, job.payload["jobId"], error, system.clock.now())

    system.on("failed", heard)
