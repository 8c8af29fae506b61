"""Signed links, with which somebody without an account opens one file until a certain time.

A file in S3 has S3's own presigned URL. One in a local directory is served by the application, at
`/files/<key>?expires=...&signature=...`, where the signature is an HMAC-SHA256 over key and expiry
with a key derived from SECRET_KEY. Without SECRET_KEY there are no such links.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote

from jobs.handlers.blob import LINK_SECONDS, BlobStore, DirectoryStore, S3Store

PATH: Final = "/files/"
_PURPOSE: Final = b"tickwork file links, version 1"


class LinkSettings(Protocol):
    """What links need to know; the project's settings have it."""

    @property
    def secret_key(self) -> str | None: ...
    @property
    def kick_url(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Link:
    """Where a person downloads a file, and until when (None: for as long as it is served).

    A `url` without a host, where the application's own is not known, is of use to whoever is on
    its pages already.
    """

    url: str
    expires_at: dt.datetime | None = None

    @property
    def is_absolute(self) -> bool:
        return "://" in self.url


def download_link(
    blobs: BlobStore,
    key: str,
    settings: LinkSettings,
    *,
    clock: Callable[[], float] = time.time,
) -> Link | None:
    """Return a link to a file, or None where nothing serves it.

    blobs, key: the store that keeps it, and its key there
    settings: SECRET_KEY, and JOBS_KICK_URL for the application's own address
    clock: seconds since 1970
    """
    expires_s = int(clock()) + LINK_SECONDS
    expires_at = dt.datetime.fromtimestamp(expires_s, dt.UTC)
    if isinstance(blobs, (DirectoryStore, S3Store)) and blobs.public_url:
        return Link(blobs.link(key))
    if isinstance(blobs, S3Store):
        return Link(blobs.link(key), expires_at)
    if not isinstance(blobs, DirectoryStore) or not settings.secret_key:
        return None
    signature = sign(settings.secret_key, key, expires_s)
    path = f"{PATH}{quote(key)}?expires={expires_s}&signature={signature}"
    return Link((settings.kick_url or "").rstrip("/") + path, expires_at)


def sign(secret_key: str, key: str, expires_s: int) -> str:
    """Return the signature of a file's key and of when its link ends, in seconds since 1970."""
    derived = hmac.digest(secret_key.encode(), _PURPOSE, "sha256")
    # The number first: no key can be made to look like another key with another end.
    signed = f"{expires_s}\n{key}".encode("utf-8", "surrogatepass")
    return hmac.new(derived, signed, hashlib.sha256).hexdigest()


def is_signed(secret_key: str, key: str, expires: str, signature: str) -> bool:
    """Whether a link is one of ours. Its end is not looked at."""
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        return False
    expected = sign(secret_key, key, int(expires))
    # As bytes: a text that is not ASCII would be an error instead of a no.
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))
