"""The job kind `data-export`: several datasets (entities) into one file.

    queue_data_export(organization_id="org-1", entities=["orders", "customers"], format="csv",
                      notify_email="ann@example.com")

One entity is a plain file, several are a zip. The result is `{"file_url", "total_rows", "bytes",
"sha256", "entities"}`, with `download_url` and `expires_at` where a link can be signed, and `email`
if a mail was asked for. `POST /api/jobs/data-exports` makes such a job as well, once this module is
named in JOBS_HANDLERS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Unpack

from jobs.core.context import JobContext
from jobs.core.errors import Discard, PayloadError
from jobs.core.job import Job
from jobs.core.registry import handler
from jobs.handlers.archiving import FileFormat, Part, archive_name, write_parts
from jobs.handlers.datasets import find_dataset
from jobs.handlers.delivering import Delivered, Order, check_recipients, deliver
from jobs.handlers.errors import PermanentError
from jobs.handlers.exporting import open_settings_source
from jobs.handlers.mail.message import Mail
from jobs.handlers.notifying import link_for_mail, notify, sender
from jobs.handlers.queueing import enqueue, from_outside
from jobs.runtime.enqueue import EnqueueOptions

__all__ = ["DataExport", "data_export", "producers", "queue_data_export"]

MOST_ENTITIES: Final = 50


@dataclass(frozen=True)
class DataExport:
    """The payload of the kind `data-export`.

    entities: names of datasets, in the order of the archive
    format: `csv`, `json` (one array), `jsonl` (one object a line) or `parquet`
    filters: by entity, what `export` calls filters
    organizationId: whose data; it must be the job's tenant
    userId: who asked, for whoever reads the job
    notifyEmail: who gets a mail with the link
    spreadsheetSafe: defuse formulas in a CSV; null means: exactly when it is mailed
    """

    entities: list[str]
    format: Literal["csv", "json", "jsonl", "parquet"] = "csv"
    filters: dict[str, dict[str, Any]] = field(default_factory=dict)
    organizationId: str | None = None  # noqa: N815 - forerunners' names
    userId: str | None = None  # noqa: N815
    notifyEmail: str | None = None  # noqa: N815
    spreadsheetSafe: bool | None = None  # noqa: N815

    def __post_init__(self) -> None:
        if not 1 <= len(self.entities) <= MOST_ENTITIES:
            raise PayloadError("$.entities", f"name 1 to {MOST_ENTITIES} entities")
        if len(set(self.entities)) < len(self.entities):
            raise PayloadError("$.entities", "name each entity once")
        for name in self.filters:
            if name not in self.entities:
                raise PayloadError(f"$.filters.{name}", "there is no such entity in this export")

    @property
    def file_format(self) -> FileFormat:
        safe = self.spreadsheetSafe
        return FileFormat(self.format, self.notifyEmail is not None if safe is None else safe)


@handler("data-export", queue="data-exports", max_attempts=2, timeout=600)
def data_export(request: DataExport, ctx: JobContext) -> dict[str, Any]:
    """Export the entities; a mistake in the request or the settings gives the job up at once."""
    order = Order.of(ctx)
    try:
        parts = parts_of(request, order)
        delivered = write_export(request, parts, order)
    except PermanentError as error:
        raise Discard(str(error)) from error
    result = {**delivered.as_dict(), "entities": dict(delivered.archive.rows)}
    if request.notifyEmail is not None:
        ctx.checkpoint()
        result["email"] = notify(
            lambda: _mail(request, delivered, order.job_id),
            sender(ctx.settings),
            f"data export {order.job_id}",
        )
    return result


def parts_of(request: DataExport, order: Order) -> list[Part]:
    """Check the whole request, before there is any file, and return what is to be written."""
    request.file_format.check()
    if request.notifyEmail is not None:
        check_recipients([request.notifyEmail])
    order.check_organization(request.organizationId)
    parts = []
    for name in request.entities:
        dataset = find_dataset(name, order.settings.export_datasets)
        dataset.check_access(order.tenant)
        statement = dataset.statement(request.filters.get(name), order.tenant)
        parts.append(Part(name, statement, dataset.count))
    return parts


def write_export(request: DataExport, parts: Sequence[Part], order: Order) -> Delivered:
    """Write and store the file, under `data-exports/<job id>/`."""
    name, content_type = archive_name(parts, request.file_format, "export")
    with open_settings_source(order.settings) as source:
        return deliver(
            order,
            f"data-exports/{order.job_id}/{name}",
            content_type,
            lambda file: write_parts(file, parts, source, request.file_format, order.watch),
        )


def _mail(request: DataExport, delivered: Delivered, job_id: str) -> Mail:
    link, until = link_for_mail(delivered.download, delivered.fallback_link)
    archive = delivered.archive
    lines = [
        "Your data export is ready:",
        "",
        link,
        *until,
        "",
        *(f"{name}: {rows:,} rows" for name, rows in archive.rows.items()),
        f"Size: {archive.bytes:,} bytes",
        f"SHA-256: {archive.sha256}",
    ]
    if request.file_format == FileFormat("csv", spreadsheet_safe=True):
        defused = "Texts that a spreadsheet could take for a formula begin with an apostrophe."
        lines += ["", defused]
    return Mail(
        to=request.notifyEmail or "",
        subject="Your data export is ready",
        text="\n".join(lines) + "\n",
        idempotency_key=f"data-export:{job_id}",
    )


# --- producers


class DataExportOptions(EnqueueOptions, total=False):
    """What `queue_data_export` takes: the payload's fields, and the options of `enqueue`."""

    entities: Sequence[str]
    format: str
    filters: Mapping[str, Mapping[str, Any]]
    organization_id: str
    user_id: str
    notify_email: str
    spreadsheet_safe: bool


def queue_data_export(
    *, session: Any = None, tickwork: Any = None, **said: Unpack[DataExportOptions]
) -> Job:
    """Enqueue a data export and return its job.

    session: the caller's SQLAlchemy session or connection; the job commits with it or not at all
    tickwork: the system; the one that this module is registered with if not given
    said: `entities`, `format`, `filters`, `organization_id` (which is the tenant), `user_id`,
        `notify_email`, `spreadsheet_safe`, and the options of `Tickwork.enqueue`
    Raises PayloadError for a mistake in the request.
    """
    return enqueue(data_export, said, session=session, tickwork=tickwork)


producers = {"data-exports": from_outside(data_export, ("entities", "format", "notifyEmail"))}
