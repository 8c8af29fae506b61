"""A blob store in a local directory."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import IO

from jobs.handlers.blob.contract import (
    KEYS_AT_ONCE,
    OldFiles,
    check_key,
    key_below,
    readable,
    served,
    too_large,
)
from jobs.handlers.errors import BlobError
from jobs.handlers.files import files_below, replace_file


class DirectoryStore:
    """A local directory. Files and directories that it makes are readable by their owner only.

    root: the directory; made when the first file is put
    public_url: where the directory is served, if it is
    """

    def __init__(self, root: Path, *, public_url: str | None = None) -> None:
        self.root = root.absolute()
        self.public_url = public_url

    def put(self, key: str, content: str | Path | IO[bytes], content_type: str) -> str:
        target = self.root / check_key(key)
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with readable(content) as file:
                # A key cannot begin with a dot, so nothing can be stored under `.incoming`.
                replace_file(target, file, incoming=self.root / ".incoming")
        except OSError as error:
            if error.errno in (errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EEXIST):
                raise BlobError(
                    f"cannot write into {str(self.root)!r} ({error.strerror}); set BLOB_URL to a "
                    "directory that can be written, or to s3://bucket/prefix"
                ) from error
            raise
        return self.link(key)

    def link(self, key: str) -> str:
        target = self.root / check_key(key)
        return served(self.public_url, key) if self.public_url else target.as_uri()

    def read(self, key: str, max_bytes: int) -> bytes:
        try:
            with (self.root / check_key(key)).open("rb") as file:
                found_bytes = os.fstat(file.fileno()).st_size
                if found_bytes > max_bytes:
                    raise too_large(key, found_bytes, max_bytes)
                return file.read(max_bytes)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise BlobError(f"there is no file {key!r} in {str(self.root)!r}") from error

    def path(self, key: str) -> Path:
        """Return where a stored file lies, to be served.

        Raises BlobError where there is none of that key, and for a symbolic link out of the store.
        """
        path = (self.root / check_key(key)).resolve()
        if not path.is_file() or not path.is_relative_to(self.root.resolve()):
            raise BlobError(f"there is no file {key!r} in {str(self.root)!r}")
        return path

    def key_of(self, url: str) -> str:
        return key_below(url, self.public_url or "", self.root.as_uri())

    def old_files(
        self, prefix: str, before: datetime, *, after: str | None = None, limit: int = 1000
    ) -> OldFiles:
        begin = tuple(after.split("/")) if after else ()
        keys: list[str] = []
        folder = tuple(check_key(prefix).split("/"))
        for looked, (parts, written_at) in enumerate(files_below(self.root, folder, begin), 1):
            key = "/".join(parts)
            if written_at < before.timestamp():
                keys.append(key)
            if looked >= min(limit, KEYS_AT_ONCE):
                return OldFiles(keys, key)
        return OldFiles(keys, None)

    def delete(self, keys: Sequence[str]) -> int:
        for key in keys:
            try:
                (self.root / check_key(key)).unlink(missing_ok=True)
            except NotADirectoryError:
                continue
            except OSError as error:
                raise BlobError(f"the file {key!r} cannot be deleted: {error.strerror}") from error
        return len(keys)
