"""The job kind `report`: a registered report, or a dataset as one, as JSON, CSV or PDF.

    queue_report(type="weekly", organization_id="org-1", format="pdf",
                 notify_email="ann@example.com")
    tickwork.schedule("weekly-org-1", "0 8 * * 1", "report", {"reportId": "recurring",
        "reportType": "weekly", "organizationId": "org-1", "period": "7d",
        "recipientEmails": ["team@example.com"]}, tenant="org-1")

The result is `{"file_url", "total_rows", "bytes", "sha256", "sections", "period"}`, with
`download_url` and `expires_at` where a link can be signed, and `email` if a mail was asked for.
`POST /api/jobs/reports` makes such a job as well, once this module is named in JOBS_HANDLERS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final, Literal, Unpack

from jobs.core.context import JobContext
from jobs.core.errors import Discard, PayloadError
from jobs.core.job import Job
from jobs.core.registry import handler
from jobs.handlers.archiving import ZIP, Archive
from jobs.handlers.blob import open_blob_store
from jobs.handlers.delivering import Delivered, Order, check_recipients, deliver, file_stem
from jobs.handlers.errors import PermanentError, ReportError
from jobs.handlers.exporting import open_settings_source
from jobs.handlers.mail.message import Attachment, Mail, brand_of
from jobs.handlers.notifying import link_for_mail, notify, sender
from jobs.handlers.queueing import enqueue, from_outside
from jobs.handlers.reports.building import BuiltReport, build_report
from jobs.handlers.reports.definition import find_report
from jobs.handlers.reports.writing import write_csv, write_json
from jobs.handlers.source import Source
from jobs.handlers.writers import CONTENT_TYPES
from jobs.runtime.enqueue import EnqueueOptions

__all__ = ["ReportJob", "producers", "queue_report", "report"]

ATTACHED_BYTES: Final = 5 * 1024 * 1024
"""The largest file that goes with the mail where no link can be opened, or it was asked for."""
TEMPLATE: Final = "report-delivery"
_SUBJECT_CHARACTERS: Final = 200
_PDF: Final = "application/pdf"
_PERIODS: Final = {"weekly": "last-week", "monthly": "last-month", "quarterly": "last-quarter"}


@dataclass(frozen=True)
class ReportJob:
    """The payload of the kind `report`, in both ways of forerunners.

    type: the name of a report, or of a dataset; or else `reportType`, and `reportId`, which is
        looked for first and need not be one
    format: `json`, `csv` or `pdf`; by default `pdf` where `reportType` is given, else `json`
    filters: values by the names that the datasets declare
    period: for example `7d`, `last-week`, `2024-Q2`; by default the report's, or for `weekly`,
        `monthly` and `quarterly` the week, month or quarter before
    organizationId: whose report; it must be the job's tenant
    userId: who asked, for whoever reads the job
    notifyEmail, recipientEmails: who gets a mail
    delivery: `link`, or `attachment` for a file of up to 5 MB; null means the attachment where no
        link can be signed
    """

    type: str | None = None
    reportType: str | None = None  # noqa: N815 - forerunners' names
    reportId: str | None = None  # noqa: N815
    format: Literal["json", "csv", "pdf"] | None = None
    filters: dict[str, Any] = field(default_factory=dict)
    period: str | None = None
    organizationId: str | None = None  # noqa: N815
    userId: str | None = None  # noqa: N815
    notifyEmail: str | None = None  # noqa: N815
    recipientEmails: list[str] = field(default_factory=list)  # noqa: N815
    delivery: Literal["link", "attachment"] | None = None

    def __post_init__(self) -> None:
        if not self.names:
            raise PayloadError("$.type", "name a report")

    @property
    def names(self) -> list[str]:
        """The names that a report is looked for by, in this order."""
        return [name for name in (self.reportId, self.type, self.reportType) if name]

    @property
    def file_format(self) -> str:
        return self.format or ("pdf" if self.reportType else "json")

    @property
    def recipients(self) -> list[str]:
        own = [] if self.notifyEmail is None else [self.notifyEmail]
        return list(dict.fromkeys([*own, *self.recipientEmails]))


@handler("report", queue="reports", max_attempts=3, timeout=300)
def report(request: ReportJob, ctx: JobContext) -> dict[str, Any]:
    """Write the report; a mistake in the request or the settings gives the job up at once."""
    order = Order.of(ctx)
    try:
        built = build(request, order)
        delivered = write_report(request, built, order)
    except PermanentError as error:
        raise Discard(str(error)) from error
    period = built.head()["period"]
    result = {**delivered.as_dict(), "sections": dict(delivered.archive.rows), "period": period}
    if request.recipients:
        ctx.checkpoint()
        result["email"] = notify(
            lambda: _mail(request, built, delivered, order),
            sender(ctx.settings),
            f"report {order.job_id}",
        )
    return result


def build(request: ReportJob, order: Order) -> BuiltReport:
    """Check the whole request, before there is any file."""
    check_recipients(request.recipients)
    order.check_organization(request.organizationId)
    if request.file_format == "pdf":
        _pdf_writer()
    found = find_report(request.names, order.settings.export_datasets)
    period = request.period
    if period is None and found.period is None:
        period = _PERIODS.get(request.reportType or "")
    return build_report(found, period, request.filters, order)


def write_report(request: ReportJob, built: BuiltReport, order: Order) -> Delivered:
    """Write and store the file, under `reports/<job id>/`."""
    file_format = request.file_format
    content_type = {**CONTENT_TYPES, "pdf": _PDF}[file_format]
    ending = file_format
    if file_format == "csv" and len(built.sections) > 1:
        ending, content_type = "zip", ZIP
    label = f"-{file_stem(built.period.label)}" if built.period else ""
    key = f"reports/{order.job_id}/{file_stem(built.report.name)}{label}.{ending}"

    with open_settings_source(order.settings) as source:
        return deliver(
            order, key, content_type, lambda file: _write(request, built, source, order, file)
        )


def _write(
    request: ReportJob, built: BuiltReport, source: Source, order: Order, file: IO[bytes]
) -> Archive:
    match request.file_format:
        case "json":
            return write_json(file, built, source, order.watch)
        case "csv":
            safe = bool(request.recipients)
            return write_csv(file, built, source, order.watch, spreadsheet_safe=safe)
    fonts = order.settings.report_fonts
    archive: Archive = _pdf_writer()(file, built, source, order.watch, fonts=fonts)
    return archive


def _pdf_writer() -> Any:
    try:
        from jobs.handlers.reports.pdf import write_pdf  # late: fonts and drawing, only for PDF
    except ModuleNotFoundError as error:
        raise ReportError(
            f"a PDF needs {error.name}, which is not installed: pip install tickwork[reports]"
        ) from error
    return write_pdf


def _mail(request: ReportJob, built: BuiltReport, delivered: Delivered, order: Order) -> Mail:
    """The mail, by the template `report-delivery`: the shipped one, or the application's own."""
    from jobs.handlers.mail.render import render  # late: Jinja2, only where a report is mailed

    settings, title = order.settings, built.report.title
    attachments = _attachments(request, delivered, order)
    data: dict[str, Any] = {"title": title, "summary": _summary(delivered)}
    data |= {"note": "It is attached to this mail."} if attachments else _place(delivered)
    if built.period:
        data["period"] = built.period.label
    brand = brand_of(settings.email_from)
    filled = render(TEMPLATE, data, directory=settings.email_templates, brand=brand)
    return Mail(
        to=request.recipients,
        subject=(filled.subject or title)[:_SUBJECT_CHARACTERS],
        text=filled.text,
        html=filled.html,
        idempotency_key=f"report:{order.job_id}",
        attachments=attachments,
    )


def _attachments(request: ReportJob, delivered: Delivered, order: Order) -> list[Attachment]:
    has_link = delivered.download is not None and delivered.download.is_absolute
    wanted = request.delivery or ("link" if has_link else "attachment")
    if wanted != "attachment" or delivered.archive.bytes > ATTACHED_BYTES:
        return []
    content = open_blob_store(order.settings.blob_url).read(delivered.key, ATTACHED_BYTES)
    return [Attachment(delivered.key.rpartition("/")[2], content, delivered.content_type)]


def _summary(delivered: Delivered) -> list[dict[str, str]]:
    archive = delivered.archive
    said = {
        "Rows": f"{archive.total_rows:,}",
        "Size": f"{archive.bytes:,} bytes",
        "SHA-256": archive.sha256,
    }
    return [{"label": label, "value": value} for label, value in said.items()]


def _place(delivered: Delivered) -> dict[str, str]:
    """Where the file is: a button only for what a browser opens."""
    link, until = link_for_mail(delivered.download, delivered.fallback_link)
    if not link.startswith(("https://", "http://")):
        return {"note": f"The file is at {link}"}
    said = "".join(until)
    return {"reportUrl": link, **({"note": said} if said else {})}


# --- producers


class ReportOptions(EnqueueOptions, total=False):
    """What `queue_report` takes: the payload's fields, and the options of `enqueue`."""

    type: str
    report_type: str
    report_id: str
    format: str
    filters: Mapping[str, Any]
    period: str
    organization_id: str
    user_id: str
    notify_email: str
    recipient_emails: Sequence[str]
    delivery: str


def queue_report(
    *, session: Any = None, tickwork: Any = None, **said: Unpack[ReportOptions]
) -> Job:
    """Enqueue a report and return its job.

    session: the caller's SQLAlchemy session or connection; the job commits with it or not at all
    tickwork: the system; the one that this module is registered with if not given
    said: the fields of ReportJob in snake case, `organization_id` (which is the tenant) among
        them, and the options of `Tickwork.enqueue`
    Raises PayloadError for a mistake in the request.
    """
    return enqueue(report, said, session=session, tickwork=tickwork)


producers = {
    "reports": from_outside(report, ("type", "filters", "format", "period", "notifyEmail"))
}
