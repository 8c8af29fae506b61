"""Files of the blob store that go with a mail: payloads hold references, never the files."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from typing import Final

import msgspec

from jobs.core.errors import PayloadError
from jobs.handlers.blob import BlobStore
from jobs.handlers.errors import MailRefused
from jobs.handlers.mail.message import Attachment, check_content_type, check_file_name

MOST_FILES: Final = 10
MOST_BYTES: Final = 10 * 1024 * 1024
"""Of all files of a mail together: base64 adds a third, and many servers stop at 20 MB."""


class AttachmentRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file of the blob store, by exactly one of `key` and `file_url`.

    key: as it was put there
    file_url: the lasting URL that the store gave, as in the result of an export
    name: what the reader sees; the last part of the key if not given
    content_type: its media type; by its name if not given
    """

    key: str | None = None
    file_url: str | None = None
    name: str | None = None
    content_type: str | None = None

    def __post_init__(self) -> None:
        if (self.key is None) == (self.file_url is None):
            raise PayloadError("$", "say which file: by exactly one of key and file_url")
        try:
            if self.name is not None:
                check_file_name(self.name)
            if self.content_type is not None:
                check_content_type(self.content_type)
        except MailRefused as error:
            raise PayloadError("$", str(error)) from None


def fetch(references: Sequence[AttachmentRef], blobs: BlobStore) -> list[Attachment]:
    """Read the files.

    Raises MailRefused when they are more than MOST_BYTES together, BlobError when one is missing or
    lies elsewhere; errors of the disk and of S3 as they are.
    """
    found: list[Attachment] = []
    left = MOST_BYTES
    for each in references:
        key = blobs.key_of(each.file_url) if each.file_url is not None else each.key or ""
        name = each.name or key.rpartition("/")[2]
        content = blobs.read(key, MOST_BYTES)
        left -= len(content)
        if left < 0:
            raise MailRefused(
                f"the attachments have more than {MOST_BYTES:,} bytes together: mail a link instead"
            )
        guessed = mimetypes.guess_type(name)[0] or "application/octet-stream"
        found.append(Attachment(name, content, each.content_type or guessed))
    return found
