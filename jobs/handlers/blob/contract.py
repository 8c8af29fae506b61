"""What a blob store is, and what a key is, whichever store it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Final, NamedTuple, Protocol
from urllib.parse import quote, unquote

from jobs.handlers.errors import BlobError

LINK_SECONDS: Final = 7 * 24 * 3600
"""How long a link to a private S3 object is asked to work: the longest that S3 allows."""

KEYS_AT_ONCE: Final = 1000  # what S3 lists, and deletes, in one call
_KEY_CHARACTERS: Final = 512


class OldFiles(NamedTuple):
    """A part of a listing: the keys of files that are old enough, and where to go on.

    looked_to: the key that was looked at last, to be given as `after`; None at the end
    """

    keys: list[str]
    looked_to: str | None


class BlobStore(Protocol):
    """Where finished files are kept."""

    def put(self, key: str, content: str | Path | IO[bytes], content_type: str) -> str:
        """Store a file under a key, replacing what was there, and return its lasting URL.

        key: a relative path such as `exports/orders/0190.csv`
        content: a path, or a file open for reading bytes, read from where it stands (boto3 closes
            it at the end)
        content_type: the media type, for example `text/csv`
        Raises BlobError for a key that leaves the store; errors of the disk or of S3 are passed on.
        """
        ...

    def link(self, key: str) -> str:
        """Return a URL at which a person can open the file; it may stop working (LINK_SECONDS)."""
        ...

    def read(self, key: str, max_bytes: int) -> bytes:
        """Return a file whole, if it is no larger than that.

        Raises BlobError where there is none of that key, or it is larger.
        """
        ...

    def key_of(self, url: str) -> str:
        """Return the key of a file by the lasting URL that `put` gave.

        Raises BlobError for every other URL: nothing is fetched from elsewhere.
        """
        ...

    def old_files(
        self, prefix: str, before: datetime, *, after: str | None = None, limit: int = 1000
    ) -> OldFiles:
        """Look at up to `limit` files (1,000 at most) below a prefix, in the store's own order.

        prefix: a key such as `exports/orders`; the files are those below it, as in a folder
        before: an aware datetime; files last written earlier are returned
        after: `looked_to` of the part before
        """
        ...

    def delete(self, keys: Sequence[str]) -> int:
        """Delete files by their keys, 1,000 at most; one that is gone already is no error.

        Returns how many are gone. Raises BlobError if the store keeps some, and says why.
        """
        ...


_bad_segment = re.compile(r"[\\\x00-\x1f\x7f]|^\.").search


def check_key(key: str) -> str:
    """Return a key if it is a relative path that stays inside the store; raise BlobError otherwise.

    Refused: an absolute path, empty parts, parts that begin with a dot (so also `..`), backslashes,
    control characters, and more than 512 characters.
    """
    if not key or len(key) > _KEY_CHARACTERS:
        raise BlobError(f"a blob key has 1 to {_KEY_CHARACTERS} characters, not {len(key)}")
    if any(not part or _bad_segment(part) for part in key.split("/")):
        raise BlobError(
            f"{key!r:.100} is no blob key: write a relative path, no part beginning with a dot"
        )
    return key


def served(public_url: str, key: str) -> str:
    """The URL of a key where the store's files are served."""
    return f"{public_url.rstrip('/')}/{quote(key)}"


def key_below(url: str, *bases: str) -> str:
    """The key of a file below one of the places where a store's files are."""
    for base in bases:
        if base and url.startswith(f"{base.rstrip('/')}/"):
            return check_key(unquote(url[len(base.rstrip("/")) + 1 :]))
    raise BlobError(f"{url!r:.200} is no file of this blob store (BLOB_URL)")


def too_large(key: str, found_bytes: int, max_bytes: int) -> BlobError:
    """What `read` raises of a file over its limit."""
    return BlobError(f"the file {key!r} has {found_bytes:,} bytes; at most {max_bytes:,} are read")


@contextmanager
def readable(content: str | Path | IO[bytes]) -> Iterator[IO[bytes]]:
    """Content as an open file; one that was open stays open."""
    if isinstance(content, (str, Path)):
        with Path(content).open("rb") as file:
            yield file
    else:
        yield content
