"""Keeps finished files: in a local directory, or in S3.

    store = open_blob_store("s3://my-bucket/tickwork")
    url = store.put("exports/orders/0190.csv", file, "text/csv")
    store.link("exports/orders/0190.csv")          # what a person can open

`BLOB_URL` chooses the store:

    .tickwork/blobs                     the default: a directory, relative to the working directory
    /srv/exports, file:///srv/exports   a directory
    s3://bucket/prefix                  S3, with credentials and region as boto3 finds them

Options, as `?name=value`: `public_url=https://files.example.com` is where the directory or bucket
is served, and URLs then begin with it; for S3 also `endpoint_url` (another maker's S3), `region`.

The same key again replaces the file, so a retried attempt leaves one file. A killed process leaves
none under the final name: locally the file is renamed into place when it is whole, and S3 shows an
object only when its upload is complete (a lifecycle rule "abort incomplete multipart uploads"
clears away what a kill leaves unseen).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from jobs.handlers.blob.contract import LINK_SECONDS, BlobStore, OldFiles, check_key
from jobs.handlers.blob.directory import DirectoryStore
from jobs.handlers.blob.s3 import S3Store
from jobs.handlers.errors import BlobError

__all__ = [
    "LINK_SECONDS",
    "BlobStore",
    "DirectoryStore",
    "OldFiles",
    "S3Store",
    "check_key",
    "open_blob_store",
]
DEFAULT_BLOB_URL: Final = ".tickwork/blobs"


def open_blob_store(url: str | None = None) -> BlobStore:
    """Open the blob store that a URL names.

    url: as in the module's text; None or empty means DEFAULT_BLOB_URL
    Raises BlobError when the URL makes no sense, or boto3 is needed and not installed.
    """
    url = url or DEFAULT_BLOB_URL
    if "://" not in url:
        return DirectoryStore(Path(url))
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise BlobError(f"BLOB_URL {url!r}: write file:///{parts.netloc}{parts.path}")
        options = _options(parts.query, {"public_url"})
        return DirectoryStore(Path(unquote(parts.path)), **options)
    if parts.scheme == "s3":
        if not parts.netloc:
            raise BlobError("BLOB_URL names no bucket; write s3://bucket/prefix")
        options = _options(parts.query, {"public_url", "endpoint_url", "region"})
        return S3Store(parts.netloc, unquote(parts.path).strip("/"), **options)
    raise BlobError(f"BLOB_URL begins with {parts.scheme}://; use a directory, file:// or s3://")


def _options(query: str, allowed: set[str]) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(options.keys() - allowed):
        raise BlobError(
            f"BLOB_URL has the unknown option {unknown[0]!r}; known: {', '.join(sorted(allowed))}"
        )
    return options
