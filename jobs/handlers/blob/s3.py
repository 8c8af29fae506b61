"""A blob store in a bucket of S3. boto3 is imported when one is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

from jobs.handlers.blob.contract import (
    KEYS_AT_ONCE,
    LINK_SECONDS,
    OldFiles,
    check_key,
    key_below,
    readable,
    served,
    too_large,
)
from jobs.handlers.errors import BlobError

_PART_BYTES: Final = 8 * 1024 * 1024
_PARTS_AT_ONCE: Final = 2
_TIMEOUT_SECONDS: Final = 60


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
        self._client = _client_of(endpoint_url, region)

    def put(self, key: str, content: str | Path | IO[bytes], content_type: str) -> str:
        from boto3.s3.transfer import TransferConfig

        name = check_key(key).rpartition("/")[2]
        extra: Mapping[str, Any] = {
            "ContentType": content_type,
            "ContentDisposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        }
        transfer = TransferConfig(
            multipart_threshold=_PART_BYTES,
            multipart_chunksize=_PART_BYTES,
            max_concurrency=_PARTS_AT_ONCE,
        )
        # Parts of an open file wait in memory for their turn, ten of them if nothing is said.
        transfer.max_in_memory_upload_chunks = _PARTS_AT_ONCE
        with readable(content) as file:
            self._client.upload_fileobj(
                file, self._bucket, self._prefix + key, ExtraArgs=extra, Config=transfer
            )
        if self.public_url:
            return served(self.public_url, key)
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def link(self, key: str) -> str:
        if self.public_url:
            return served(self.public_url, check_key(key))
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
                raise too_large(key, found["ContentLength"], max_bytes)
            return bytes(body.read(max_bytes))

    def key_of(self, url: str) -> str:
        return key_below(url, self.public_url or "", f"s3://{self._bucket}/{self._prefix}")

    def old_files(
        self, prefix: str, before: datetime, *, after: str | None = None, limit: int = 1000
    ) -> OldFiles:
        begin = {"StartAfter": self._prefix + after} if after else {}
        listed = self._client.list_objects_v2(
            Bucket=self._bucket,
            Prefix=f"{self._prefix}{check_key(prefix)}/",
            MaxKeys=min(limit, KEYS_AT_ONCE),
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


def _client_of(endpoint_url: str | None, region: str | None) -> Any:
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
            read_timeout=_TIMEOUT_SECONDS,
            retries={"mode": "standard"},
        ),
    )
