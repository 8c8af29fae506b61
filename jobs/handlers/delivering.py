"""From a written file to whoever waits for it: store it, sign a link, send a mail.

What is common to data exports and reports. The file stands under a key of the job's own before
anything else happens, so a retried attempt replaces its own file.
"""

from __future__ import annotations

import datetime as dt
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final, Self

from jobs.core.context import JobContext
from jobs.handlers.archiving import Archive
from jobs.handlers.blob import BlobStore, open_blob_store
from jobs.handlers.errors import DatasetError
from jobs.handlers.exporting import ExportSettings, told_link
from jobs.handlers.links import Link, download_link
from jobs.handlers.mail.message import check_address
from jobs.handlers.watching import WRITING_ENDS_AT, Watch, rows_text

_MOST_RECIPIENTS: Final = 50


@dataclass(frozen=True)
class Order:
    """Who asked for a file, and how its making is watched.

    job_id: names file and mail, so it is the same at every attempt
    tenant: the job's
    asked_at: when the job was made, or its slot: the same at every attempt
    settings: the system's
    """

    job_id: str
    tenant: str
    asked_at: dt.datetime
    settings: ExportSettings
    watch: Watch = field(default_factory=Watch)

    @classmethod
    def of(cls, ctx: JobContext) -> Self:
        """The order behind a running job."""
        watch = Watch(ctx.progress, ctx.checkpoint)
        return cls(ctx.job_id, ctx.tenant, ctx.slot or made_at(ctx.job_id), ctx.settings, watch)

    def check_organization(self, organization_id: str | None) -> None:
        """Raise DatasetError where a payload names another organization than the job's tenant."""
        if organization_id is not None and organization_id != self.tenant:
            raise DatasetError(
                f"organizationId is {organization_id!r:.80}, but the job's tenant is "
                f"{self.tenant!r}: enqueue it with tenant={organization_id!r:.80}"
            )


@dataclass(frozen=True, slots=True)
class Delivered:
    """A file in the blob store."""

    key: str
    content_type: str
    file_url: str
    fallback_link: str
    download: Link | None
    archive: Archive

    def as_dict(self) -> dict[str, Any]:
        """Return what a job's result says of the file."""
        return {
            "file_url": self.file_url,
            "total_rows": self.archive.total_rows,
            "bytes": self.archive.bytes,
            "sha256": self.archive.sha256,
            **told_link(self.download),
        }


def deliver(
    order: Order, key: str, content_type: str, write: Callable[[IO[bytes]], Archive]
) -> Delivered:
    """Let `write` fill a temporary file, and store it whole under a key.

    A process that dies before leaves no file, neither here nor in the store.
    """
    blobs: BlobStore = open_blob_store(order.settings.blob_url)
    with tempfile.TemporaryFile() as file:
        archive = write(file)
        order.watch.checkpoint()
        order.watch.progress(WRITING_ENDS_AT, f"{rows_text(archive.total_rows)}, storing")
        file.seek(0)
        file_url = blobs.put(key, file, content_type)
    note = f"{rows_text(archive.total_rows)}, {archive.bytes:,} bytes"
    order.watch.progress(100, note)
    download = download_link(blobs, key, order.settings)
    return Delivered(key, content_type, file_url, blobs.link(key), download, archive)


def made_at(job_id: str) -> dt.datetime:
    """When a job was made, by the milliseconds in its UUIDv7 (RFC 9562, section 5.7)."""
    milliseconds = int(job_id.replace("-", "")[:12], 16)
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)


def check_recipients(addresses: Sequence[str]) -> None:
    """Raise MailRefused for what is no address, DatasetError for more than a mail may have."""
    if len(addresses) > _MOST_RECIPIENTS:
        raise DatasetError(f"a mail has {_MOST_RECIPIENTS} recipients at most")
    for address in addresses:
        check_address(address, "recipient")


_unsafe = re.compile(r"[^A-Za-z0-9_.-]+")


def file_stem(name: str) -> str:
    """Return a name as a part of a blob's key: ASCII letters, digits, `_`, `.` and `-`."""
    return _unsafe.sub("-", name).strip("-.")[:64] or "file"
