"""An export, from the first check to the mail; the job kind in `export.py` only calls it.

1. Check the whole request: dataset, filters, format, address. A mistake is found before there is
   any file.
2. Stream the rows into an unnamed temporary file, reporting progress.
3. Put the file into the blob store under a key of its own, `exports/<dataset>/<job id>.<format>`,
   so that a retried attempt replaces its own file. No database connection is held any more.
4. Mail the link, if asked to.

Once the file stands, the export has succeeded: a mail that fails does not fail it, because a retry
would write the whole file again and end at the same mail server. The result then says
`"email": "failed: ..."` and the log has a warning. The mail's Message-ID is derived from the job's
id.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import sqlalchemy as sa

from jobs.handlers.blob import BlobStore, open_blob_store
from jobs.handlers.datasets import Dataset, find_dataset
from jobs.handlers.errors import DatasetError, SourceError
from jobs.handlers.links import Link, LinkSettings, download_link
from jobs.handlers.mail.message import Mail, check_address
from jobs.handlers.mail.send import MailSettings
from jobs.handlers.notifying import Send, link_for_mail, notify, sender
from jobs.handlers.source import Source, open_source
from jobs.handlers.watching import (
    UNWATCHED,
    WRITING_ENDS_AT,
    Watch,
    rows_text,
)
from jobs.handlers.writers import CONTENT_TYPES, check_format, write_rows

__all__ = [
    "ExportRequest",
    "ExportResult",
    "ExportSettings",
    "StoredFile",
    "export_statement",
    "open_settings_source",
    "run_export",
]


class ExportSettings(MailSettings, LinkSettings, Protocol):
    """What an export needs to know; the project's settings have it."""

    @property
    def database_url(self) -> str | None: ...
    @property
    def export_datasets(self) -> str | None: ...
    @property
    def export_source_url(self) -> str | None: ...
    @property
    def report_fonts(self) -> tuple[str, ...]: ...
    @property
    def blob_url(self) -> str | None: ...
    @property
    def email_templates(self) -> str | None: ...


@dataclass(frozen=True)
class ExportRequest:
    """The payload of the kind `export`.

    dataset: the name of a registered dataset, or of one in the file of EXPORT_DATASETS
    format: `csv`, `jsonl` (one object a line) or `json` (one array)
    filters: values by the names that the dataset declares
    notify_email: who gets a mail with the link
    spreadsheet_safe: defuse formulas in a CSV; null means: exactly when it is mailed
    """

    dataset: str
    format: Literal["csv", "json", "jsonl"] = "csv"
    filters: dict[str, Any] = field(default_factory=dict)
    notify_email: str | None = None
    spreadsheet_safe: bool | None = None


@dataclass(frozen=True)
class StoredFile:
    """A finished file: `file_url` lasts; `link` is what a person can open, perhaps for a while."""

    file_url: str
    link: str
    total_rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ExportResult:
    """The result of the kind `export`; `email` is None, `sent`, or `failed: ` and the reason.

    download_url: a link for a person, where there is one; it works until `expires_at`, in UTC
    """

    file_url: str
    total_rows: int
    bytes: int
    sha256: str
    email: str | None = None
    download_url: str | None = None
    expires_at: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it, without what is not known or was not asked for."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def run_export(
    request: ExportRequest,
    *,
    settings: ExportSettings,
    job_id: str,
    tenant: str = "",
    watch: Watch = UNWATCHED,
    send: Send | None = None,
    find: Callable[[str, str | None], Dataset] = find_dataset,
) -> ExportResult:
    """Export a dataset: check, write, store, mail.

    request: what to export
    settings: the URLs of source, blob store and mail server, the file of the datasets, the sender
    job_id: names the file and the mail, so it must be the same at every attempt
    tenant: the job's, which a dataset with a tenant filter is narrowed to
    watch: how it reports; its checkpoint is also called before the first row, before the file is
        stored and before it is mailed
    send: sends the mail; by default now, as the settings say
    find: finds a dataset by its name and the file of EXPORT_DATASETS
    Returns the result; see ExportResult.
    Raises PermanentError when a retry cannot help; errors of database, disk and S3 as they are.
    """
    check_format(request.format)
    if not isinstance(request.filters, Mapping):
        raise DatasetError("filters must be an object: filter names and their values")
    if request.notify_email is not None:
        check_address(request.notify_email, "notify_email")
    dataset = find(request.dataset, settings.export_datasets)
    statement = dataset.statement(request.filters, tenant)
    safe = request.spreadsheet_safe
    if safe is None:
        safe = request.notify_email is not None

    blobs = open_blob_store(settings.blob_url)
    key = f"exports/{dataset.name}/{job_id}.{request.format}"
    with open_settings_source(settings) as source:
        stored = export_statement(
            statement,
            source=source,
            blobs=blobs,
            key=key,
            file_format=request.format,
            spreadsheet_safe=safe,
            count=dataset.count,
            watch=watch,
        )
    download = download_link(blobs, key, settings)
    email = None
    if request.notify_email is not None:
        watch.checkpoint()
        email = notify(
            lambda: _mail(request, stored, download, job_id, safe),
            send or sender(settings),
            f"export {job_id}",
        )
    return ExportResult(
        stored.file_url,
        stored.total_rows,
        stored.bytes,
        stored.sha256,
        email,
        **told_link(download),
    )


def told_link(download: Link | None) -> dict[str, str]:
    """Return what a result says of a link: `download_url`, and `expires_at` if it ends."""
    if download is None:
        return {}
    told = {"download_url": download.url}
    if download.expires_at is not None:
        told["expires_at"] = download.expires_at.isoformat()
    return told


def open_settings_source(settings: ExportSettings) -> Source:
    """Open the database that exports read: EXPORT_SOURCE_URL, else DATABASE_URL.

    Raises SourceError when neither is set, or it cannot be used.
    """
    source_url = settings.export_source_url or settings.database_url
    if not source_url:
        raise SourceError("there is no database to export from; set EXPORT_SOURCE_URL")
    return open_source(source_url)


def export_statement(
    statement: sa.Executable,
    *,
    source: Source,
    blobs: BlobStore,
    key: str,
    file_format: str = "csv",
    spreadsheet_safe: bool = False,
    count: bool = True,
    watch: Watch = UNWATCHED,
) -> StoredFile:
    """Write the rows of a statement into a file and store it, in constant memory.

    statement: a select, or a text with its parameters bound
    source, blobs: where to read and where to keep the file
    key: the file's key in the store; a file of that key is replaced
    file_format, spreadsheet_safe: as for `write_rows`
    count: count the rows first, so that progress is a percentage
    watch: as for `run_export`
    Returns the stored file.
    """
    check_format(file_format)
    expected_rows = source.count(statement) if count else None
    watch.progress(0, "writing" if expected_rows is None else f"0 of {expected_rows:,} rows")
    watch.checkpoint()

    # A temporary file rather than an open upload: a slow store does not hold the database's cursor,
    # and a file without a name disappears with the process, however that ends.
    with tempfile.TemporaryFile() as file:
        with source.stream(statement) as rows:
            written = write_rows(
                file,
                rows.columns,
                watch.over(rows, expected_rows),
                file_format=file_format,
                spreadsheet_safe=spreadsheet_safe,
            )
        watch.checkpoint()
        watch.progress(WRITING_ENDS_AT, f"{rows_text(written.total_rows)}, storing")
        file.seek(0)
        file_url = blobs.put(key, file, CONTENT_TYPES[file_format])
    watch.progress(100, f"{rows_text(written.total_rows)}, {written.bytes:,} bytes")
    return StoredFile(file_url, blobs.link(key), written.total_rows, written.bytes, written.sha256)


# --- the mail


def _mail(
    request: ExportRequest, stored: StoredFile, download: Link | None, job_id: str, safe: bool
) -> Mail:
    link, until = link_for_mail(download, stored.link)
    lines = [
        f"The export of {request.dataset} is ready:",
        "",
        link,
        "",
        f"Rows: {stored.total_rows:,}",
        f"Size: {stored.bytes:,} bytes ({request.format})",
        f"SHA-256: {stored.sha256}",
    ]
    lines += until
    if safe and request.format == "csv":
        lines += [
            "",
            "Texts that a spreadsheet could take for a formula begin with an apostrophe.",
        ]
    return Mail(
        to=request.notify_email or "",
        subject=f"Your export of {request.dataset} is ready",
        text="\n".join(lines) + "\n",
        idempotency_key=f"export:{job_id}",
    )
