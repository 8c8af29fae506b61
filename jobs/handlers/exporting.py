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

import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Protocol

import sqlalchemy as sa

from jobs.handlers.blob import LINK_SECONDS, BlobStore, open_blob_store
from jobs.handlers.datasets import Dataset, find_dataset
from jobs.handlers.errors import DatasetError, HandlerError, SourceError
from jobs.handlers.mail.message import Mail, check_address
from jobs.handlers.mail.send import MailSettings, send_mail
from jobs.handlers.source import Source, open_source
from jobs.handlers.writers import CONTENT_TYPES, Written, check_format, write_rows

log = logging.getLogger("jobs.handlers.export")

CHECKPOINT_SECONDS: Final = 1.0
"""How often an export asks whether to go on: each time is a statement on the jobs' database."""
_ROWS_PER_LOOK: Final = 100
_ROWS_PER_NOTE: Final = 10_000
_WRITING_ENDS_AT: Final = 95.0
"""Percent of the progress that the rows make up; what remains is storing and mailing."""

Progress = Callable[[float, str], object]
Checkpoint = Callable[[], object]
Send = Callable[[Mail], object]


class ExportSettings(MailSettings, Protocol):
    """What an export needs to know; the project's settings have it."""

    @property
    def database_url(self) -> str | None: ...
    @property
    def export_datasets(self) -> str | None: ...
    @property
    def export_source_url(self) -> str | None: ...
    @property
    def blob_url(self) -> str | None: ...


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
    """The result of the kind `export`; `email` is None, `sent`, or `failed: ` and the reason."""

    file_url: str
    total_rows: int
    bytes: int
    sha256: str
    email: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it; `email` is there only if a mail was asked for."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def run_export(
    request: ExportRequest,
    *,
    settings: ExportSettings,
    job_id: str,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    send: Send | None = None,
    find: Callable[[str, str | None], Dataset] = find_dataset,
    monotonic: Callable[[], float] = time.monotonic,
) -> ExportResult:
    """Export a dataset: check, write, store, mail.

    request: what to export
    settings: the URLs of source, blob store and mail server, the file of the datasets, the sender
    job_id: names the file and the mail, so it must be the same at every attempt
    progress: called with a percentage and a note, at most about a hundred times
    checkpoint: called before the first row, every CHECKPOINT_SECONDS while rows come, before the
        file is stored and before it is mailed; what it raises ends the export there
    send: sends the mail; by default now, as the settings say
    find: finds a dataset by its name and the file of EXPORT_DATASETS
    monotonic: the clock of the checkpoints, in seconds
    Returns the result; see ExportResult.
    Raises PermanentError when a retry cannot help; errors of database, disk and S3 as they are.
    """
    check_format(request.format)
    if not isinstance(request.filters, Mapping):
        raise DatasetError("filters must be an object: filter names and their values")
    if request.notify_email is not None:
        check_address(request.notify_email, "notify_email")
    dataset = find(request.dataset, settings.export_datasets)
    statement = dataset.statement(request.filters)
    source_url = settings.export_source_url or settings.database_url
    if not source_url:
        raise SourceError("there is no database to export from; set EXPORT_SOURCE_URL")
    safe = request.spreadsheet_safe
    if safe is None:
        safe = request.notify_email is not None

    with open_source(source_url) as source:
        stored = export_statement(
            statement,
            source=source,
            blobs=open_blob_store(settings.blob_url),
            key=f"exports/{dataset.name}/{job_id}.{request.format}",
            file_format=request.format,
            spreadsheet_safe=safe,
            count=dataset.count,
            progress=progress,
            checkpoint=checkpoint,
            monotonic=monotonic,
        )
    email = None
    if request.notify_email is not None:
        if checkpoint:
            checkpoint()
        mail = _mail(request, stored, job_id, safe)
        email = _notify(mail, send or (lambda message: send_mail(message, settings)), job_id)
    return ExportResult(stored.file_url, stored.total_rows, stored.bytes, stored.sha256, email)


def export_statement(
    statement: sa.Executable,
    *,
    source: Source,
    blobs: BlobStore,
    key: str,
    file_format: str = "csv",
    spreadsheet_safe: bool = False,
    count: bool = True,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> StoredFile:
    """Write the rows of a statement into a file and store it, in constant memory.

    statement: a select, or a text with its parameters bound
    source, blobs: where to read and where to keep the file
    key: the file's key in the store; a file of that key is replaced
    file_format, spreadsheet_safe: as for `write_rows`
    count: count the rows first, so that progress is a percentage
    progress, checkpoint, monotonic: as for `run_export`
    Returns the stored file.
    """
    check_format(file_format)
    progress = progress or (lambda percent, note: None)
    checkpoint = checkpoint or (lambda: None)
    expected_rows = source.count(statement) if count else None
    progress(0, "writing" if expected_rows is None else f"0 of {expected_rows:,} rows")
    checkpoint()

    # A temporary file rather than an open upload: a slow store does not hold the database's cursor,
    # and a file without a name disappears with the process, however that ends.
    with tempfile.TemporaryFile() as file:
        with source.stream(statement) as rows:
            written = write_rows(
                file,
                rows.columns,
                _watched(rows, expected_rows, progress, checkpoint, monotonic),
                file_format=file_format,
                spreadsheet_safe=spreadsheet_safe,
            )
        checkpoint()
        progress(_WRITING_ENDS_AT, f"{_rows(written)}, storing")
        file.seek(0)
        file_url = blobs.put(key, file, CONTENT_TYPES[file_format])
    progress(100, f"{_rows(written)}, {written.bytes:,} bytes")
    return StoredFile(file_url, blobs.link(key), written.total_rows, written.bytes, written.sha256)


def _watched(
    rows: Iterable[Sequence[Any]],
    expected_rows: int | None,
    progress: Progress,
    checkpoint: Checkpoint,
    monotonic: Callable[[], float],
) -> Iterator[Sequence[Any]]:
    """Pass rows on; now and then ask whether to go on, and report when the percentage moves."""
    reported = 0
    asked_at = monotonic()
    for done, row in enumerate(rows, start=1):
        yield row
        if done % _ROWS_PER_LOOK:
            continue
        if expected_rows:
            percent = min(int(_WRITING_ENDS_AT * done / expected_rows), int(_WRITING_ENDS_AT))
            if percent > reported:
                progress(percent, f"{done:,} of {expected_rows:,} rows")
                reported = percent
        elif done % _ROWS_PER_NOTE == 0:
            progress(0, f"{done:,} rows")
        now = monotonic()
        if now - asked_at >= CHECKPOINT_SECONDS:
            asked_at = now
            checkpoint()


def _rows(written: Written) -> str:
    return f"{written.total_rows:,} row{'' if written.total_rows == 1 else 's'}"


# --- the mail


def _mail(request: ExportRequest, stored: StoredFile, job_id: str, safe: bool) -> Mail:
    lines = [
        f"The export of {request.dataset} is ready:",
        "",
        stored.link,
        "",
        f"Rows: {stored.total_rows:,}",
        f"Size: {stored.bytes:,} bytes ({request.format})",
        f"SHA-256: {stored.sha256}",
    ]
    if "X-Amz-Signature=" in stored.link:
        lines += ["", f"The link works for {LINK_SECONDS // 86400} days at most."]
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


def _notify(mail: Mail, send: Send, job_id: str) -> str:
    try:
        send(mail)
    except HandlerError as error:
        log.warning("export %s stands, but its mail was not sent: %s", job_id, error)
        return f"failed: {error}"
    return "sent"
