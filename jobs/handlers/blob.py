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

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from jobs.handlers.errors import BlobError
from jobs.handlers.files import files_below, replace_file

DEFAULT_BLOB_URL: Final = ".tickwork/blobs"
LINK_SECONDS: Final = 7 * 24 * 3600
"""How long a link to a private S3 object is asked to work: the longest that S3 allows."""

_S3_PART_BYTES: Final = 8 * 1024 * 1024
_S3_PARTS_AT_ONCE: Final = 2
_S3_TIMEOUT_SECONDS: Final = 60
_KEY_CHARACTERS: Final = 512
_KEYS_AT_ONCE: Final = 1000  # what S3 lists, and deletes, in one call


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


def _served(public_url: str, key: str) -> str:
    return f"{public_url.rstrip('/')}/{quote(key)}"


def _key_below(url: str, *bases: str) -> str:
    """The key of a file below one of the places where a store's files are."""
    for base in bases:
        if base and url.startswith(f"{base.rstrip('/')}/"):
            return check_key(unquote(url[len(base.rstrip("/")) + 1 :]))
    raise BlobError(f"{url!r:.200} is no file of this blob store (BLOB_URL)")


def _too_large(key: str, found_bytes: int, max_bytes: int) -> BlobError:
    return BlobError(f"the file {key!r} has {found_bytes:,} bytes; at most {max_bytes:,} are read")


@contextmanager
def _readable(content: str | Path | IO[bytes]) -> Iterator[IO[bytes]]:
    if isinstance(content, (str, Path)):
        with Path(content).open("rb") as file:
            yield file
    else:
        yield content


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
            with _readable(content) as file:
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
        return _served(self.public_url, key) if self.public_url else target.as_uri()

    def read(self, key: str, max_bytes: int) -> bytes:
        try:
            with (self.root / check_key(key)).open("rb") as file:
                found_bytes = os.fstat(file.fileno()).st_size
                if found_bytes > max_bytes:
                    raise _too_large(key, found_bytes, max_bytes)
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
        return _key_below(url, self.public_url or "", self.root.as_uri())

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
            if looked >= min(limit, _KEYS_AT_ONCE):
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


class S3Store:
    """A bucket in S3, or in a store that speaks its protocol. Needs boto3.

    bucket, prefix: where the files go; the prefix may be empty
    public_url: where the prefix is served, if it is; otherwise `put` returns an `s3://` URL and
        `link` a signed one, which works for LINK_SECONDS or until the credentials end
    endpoint_url, region: for another maker's S3; boto3 also reads AWS_ENDPOINT_URL_S3, AWS_REGION
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        public_url: str | None = None,
        endpoint_url: str | None = None,
        region: str | None = None,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.public_url = public_url
        self._client = _s3_client(endpoint_url, region)

    def put(self, key: str, content: str | Path | IO[bytes], content_type: str) -> str:
        from boto3.s3.transfer import TransferConfig

        name = check_key(key).rpartition("/")[2]
        extra: Mapping[str, Any] = {
            "ContentType": content_type,
            "ContentDisposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        }
        transfer = TransferConfig(
            multipart_threshold=_S3_PART_BYTES,
            multipart_chunksize=_S3_PART_BYTES,
            max_concurrency=_S3_PARTS_AT_ONCE,
        )
        # Parts of an open file wait in memory for their turn, ten of them if nothing is said.
        transfer.max_in_memory_upload_chunks = _S3_PARTS_AT_ONCE
        with _readable(content) as file:
            self._client.upload_fileobj(
                file, self._bucket, self._prefix + key, ExtraArgs=extra, Config=transfer
            )
        if self.public_url:
            return _served(self.public_url, key)
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def link(self, key: str) -> str:
        if self.public_url:
            return _served(self.public_url, check_key(key))
        return str(
            self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": self._prefix + check_key(key)},
                ExpiresIn=LINK_SECONDS,
            )
        )

    def read(self, key: str, max_bytes: int) -> bytes:
        from botocore.exceptions import ClientError

        try:
            found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + check_key(key))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                raise BlobError(f"there is no file {key!r} in the bucket {self._bucket}") from error
            raise
        with found["Body"] as body:
            if found["ContentLength"] > max_bytes:
                raise _too_large(key, found["ContentLength"], max_bytes)
            return bytes(body.read(max_bytes))

    def key_of(self, url: str) -> str:
        return _key_below(url, self.public_url or "", f"s3://{self._bucket}/{self._prefix}")

    def old_files(
        self, prefix: str, before: datetime, *, after: str | None = None, limit: int = 1000
    ) -> OldFiles:
        begin = {"StartAfter": self._prefix + after} if after else {}
        listed = self._client.list_objects_v2(
            Bucket=self._bucket,
            Prefix=f"{self._prefix}{check_key(prefix)}/",
            MaxKeys=min(limit, _KEYS_AT_ONCE),
            **begin,
        )
        found = [
            (entry["Key"].removeprefix(self._prefix), entry["LastModified"])
            for entry in listed.get("Contents", ())
        ]
        keys = [key for key, written_at in found if written_at < before.astimezone(UTC)]
        return OldFiles(keys, found[-1][0] if found and listed["IsTruncated"] else None)

    def delete(self, keys: Sequence[str]) -> int:
        if not keys:
            return 0
        objects = [{"Key": self._prefix + key} for key in keys]
        answer = self._client.delete_objects(
            Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
        )
        if errors := answer.get("Errors"):
            first = errors[0]
            raise BlobError(
                f"{len(errors)} files cannot be deleted from the bucket {self._bucket}; the first, "
                f"{first.get('Key')!r}: {first.get('Code')}"
            )
        return len(keys)


def _s3_client(endpoint_url: str | None, region: str | None) -> Any:
    try:
        from boto3.session import Session
        from botocore.config import Config
    except ModuleNotFoundError as error:
        raise BlobError(
            "BLOB_URL=s3://... needs boto3, which is not installed: pip install tickwork[aws]"
        ) from error
    # A session of our own: boto3's default one must not be used from several threads at once.
    return Session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        config=Config(
            signature_version="s3v4",
            connect_timeout=10,
            read_timeout=_S3_TIMEOUT_SECONDS,
            retries={"mode": "standard"},
        ),
    )
