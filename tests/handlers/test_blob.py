from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from jobs.handlers.blob import BlobStore, DirectoryStore, check_key, open_blob_store
from jobs.handlers.errors import BlobError
from tests.handlers.shop import content, files_in

KEY = "exports/orders/0190.csv"


class Breaking(io.BytesIO):
    """A file that fails after its first block."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError("the disk is gone")
        return super().read(size)


# --- a directory


def test_a_file_is_kept(tmp_path: Path) -> None:
    store = open_blob_store(str(tmp_path / "blobs é"))
    url = store.put(KEY, io.BytesIO(b"a,b\r\n"), "text/csv")

    assert url == (tmp_path / "blobs é" / KEY).as_uri() == store.link(KEY)
    assert content(url) == b"a,b\r\n"


def test_a_path_can_be_given(tmp_path: Path) -> None:
    source = tmp_path / "source.csv"
    source.write_bytes(b"x" * 1_000_000)

    for given in (source, str(source)):
        assert (
            content(DirectoryStore(tmp_path / "blobs").put(KEY, given, "text/csv")) == b"x" * 10**6
        )
    assert source.exists()


def test_the_same_key_replaces(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.put(KEY, io.BytesIO(b"first, and longer"), "text/csv")
    url = store.put(KEY, io.BytesIO(b"second"), "text/csv")

    assert content(url) == b"second"
    assert files_in(tmp_path) == [KEY]


def test_a_write_that_breaks_leaves_what_was_there(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    with pytest.raises(OSError, match="the disk is gone"):
        store.put(KEY, Breaking(b"x" * 1_000_000), "text/csv")
    assert files_in(tmp_path) == []

    store.put(KEY, io.BytesIO(b"whole"), "text/csv")
    with pytest.raises(OSError, match="the disk is gone"):
        store.put(KEY, Breaking(b"x" * 1_000_000), "text/csv")
    assert files_in(tmp_path) == [KEY]
    assert (tmp_path / KEY).read_bytes() == b"whole"


KILLED_WHILE_STORING = """
import io, os, signal, sys
from pathlib import Path
from jobs.handlers.blob import DirectoryStore

class Deadly(io.BytesIO):
    def read(self, size=-1, /):
        if self.tell():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(size)

DirectoryStore(Path(sys.argv[1])).put("exports/orders/0190.csv", Deadly(b"x" * 1000000), "text/csv")
"""


def test_a_process_killed_while_storing_leaves_no_half_file(tmp_path: Path) -> None:
    root = tmp_path / "blobs"
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_STORING, root])
    assert done.returncode == -signal.SIGKILL
    [leftover] = files_in(root)
    assert leftover.startswith(".incoming/")

    store = DirectoryStore(root)
    store.put(KEY, io.BytesIO(b"whole"), "text/csv")
    assert files_in(root) == [leftover, KEY]  # it could be another runner's, still writing

    yesterday = time.time() - 24 * 3600 - 1
    os.utime(root / leftover, (yesterday, yesterday))
    store.put(KEY, io.BytesIO(b"whole"), "text/csv")
    assert files_in(root) == [KEY]


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    root = tmp_path / "blobs"
    DirectoryStore(root).put(KEY, io.BytesIO(b"x"), "text/csv")

    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE((root / KEY).stat().st_mode) == 0o600


def test_the_default_is_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for url in (None, ""):
        open_blob_store(url).put(KEY, io.BytesIO(b"x"), "text/csv")
    assert files_in(tmp_path) == [f".tickwork/blobs/{KEY}"]


@pytest.mark.parametrize(
    "url", ["file://{}", "file://localhost{}", "{}", "file://{}?public_url=https://x.example/e/"]
)
def test_spellings_of_a_directory(tmp_path: Path, url: str) -> None:
    store = open_blob_store(url.format(tmp_path))
    stored = store.put("a b/é.csv", io.BytesIO(b"x"), "text/csv")

    assert files_in(tmp_path) == ["a b/é.csv"]
    if "public" in url:
        assert stored == store.link("a b/é.csv") == "https://x.example/e/a%20b/%C3%A9.csv"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a/./b",
        "a//b",
        "a/",
        "a\\..\\b",
        "a\0b",
        "a\nb",
        ".incoming/x",
        "x" * 513,
    ],
)
def test_a_key_that_leaves_the_store_is_refused(tmp_path: Path, key: str) -> None:
    root = tmp_path / "blobs"
    with pytest.raises(BlobError, match="blob key"):
        DirectoryStore(root).put(key, io.BytesIO(b"x"), "text/csv")
    with pytest.raises(BlobError, match="blob key"):
        DirectoryStore(root).link(key)
    assert not root.exists()


def test_ordinary_keys_pass() -> None:
    for key in ("a", "a/b.csv", "exports/東京/0190-a_b.json", "a..b"):
        assert check_key(key) == key


def test_a_directory_that_cannot_be_written_names_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BlobError, match=r"cannot write into .*; set BLOB_URL to a directory"):
            DirectoryStore(root).put(KEY, io.BytesIO(b"x"), "text/csv")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file://exports/x", "write file:///exports/x"),
        ("s3://", "names no bucket; write s3://bucket/prefix"),
        ("gs://bucket", "begins with gs://; use a directory, file:// or s3://"),
        (
            "s3://bucket?publik_url=x",
            "unknown option 'publik_url'; known: endpoint_url, public_url",
        ),
        ("file:///x?region=eu", "unknown option 'region'; known: public_url"),
    ],
)
def test_a_wrong_url_says_how_to_write_it(url: str, message: str) -> None:
    with pytest.raises(BlobError, match=message):
        open_blob_store(url)


# --- S3


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server)
    client = boto3.session.Session().client("s3")
    client.create_bucket(
        Bucket="shop", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    yield client
    reset = urllib.request.Request(f"{s3_server}/moto-api/reset", method="POST")  # noqa: S310
    urllib.request.urlopen(reset).close()  # noqa: S310 - loopback
    client.close()


def stored(s3: Any, key: str) -> bytes:
    with s3.get_object(Bucket="shop", Key=key)["Body"] as body:
        data: bytes = body.read()
        return data


def test_a_file_goes_to_s3(s3: Any) -> None:
    store = open_blob_store("s3://shop/nightly/")
    url = store.put(KEY, io.BytesIO(b"a,b\r\n"), "text/csv; charset=utf-8")

    assert url == f"s3://shop/nightly/{KEY}"
    assert stored(s3, f"nightly/{KEY}") == b"a,b\r\n"
    head = s3.head_object(Bucket="shop", Key=f"nightly/{KEY}")
    assert head["ContentType"] == "text/csv; charset=utf-8"
    assert head["ContentDisposition"] == "attachment; filename*=UTF-8''0190.csv"


def test_without_a_prefix_and_again(s3: Any) -> None:
    store = open_blob_store("s3://shop")
    for body in (b"first", b"second"):
        assert store.put(KEY, io.BytesIO(body), "text/csv") == f"s3://shop/{KEY}"
    assert stored(s3, KEY) == b"second"


def test_a_large_file_goes_in_parts(s3: Any, tmp_path: Path) -> None:
    body = bytes(range(256)) * (20 * 4096)  # 20 MiB
    path = tmp_path / "large"
    path.write_bytes(body)
    with path.open("rb") as file:
        open_blob_store("s3://shop").put(KEY, file, "text/csv")

    assert stored(s3, KEY) == body
    assert s3.head_object(Bucket="shop", Key=KEY)["ETag"].endswith('-3"')


def test_an_upload_that_breaks_shows_nothing(s3: Any) -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        open_blob_store("s3://shop").put(KEY, Breaking(b"x" * (20 << 20)), "text/csv")

    assert "Contents" not in s3.list_objects_v2(Bucket="shop")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="shop")


def test_a_link_can_be_opened_without_credentials(s3: Any) -> None:
    store = open_blob_store("s3://shop/x")
    store.put(KEY, io.BytesIO(b"a,b\r\n"), "text/csv")
    link = store.link(KEY)

    assert "X-Amz-Expires=604800" in link
    assert "X-Amz-Signature=" in link
    with urllib.request.urlopen(link) as answer:  # noqa: S310 - loopback
        assert answer.read() == b"a,b\r\n"


def test_options_in_the_url(s3: Any, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    options = f"endpoint_url={s3_server}&region=eu-central-1&public_url=https://files.example.com/x"
    store = open_blob_store(f"s3://shop/x?{options}")

    assert store.put(KEY, io.BytesIO(b"1"), "text/csv") == f"https://files.example.com/x/{KEY}"
    assert store.link(KEY) == f"https://files.example.com/x/{KEY}"
    assert stored(s3, f"x/{KEY}") == b"1"


# --- reading back


def check_reading(store: BlobStore, elsewhere: str) -> None:
    url = store.put("a b/é.csv", io.BytesIO(b"12345"), "text/csv")

    assert store.key_of(url) == "a b/é.csv"
    assert store.read("a b/é.csv", 5) == b"12345"
    with pytest.raises(BlobError, match="has 5 bytes; at most 4 are read"):
        store.read("a b/é.csv", 4)
    with pytest.raises(BlobError, match="there is no file 'a b/ö"):
        store.read("a b/ö.csv", 5)
    with pytest.raises(BlobError, match="no blob key"):
        store.read("../x", 5)
    for foreign in (elsewhere, "http://127.0.0.1/a.csv", "file:///etc/passwd", "", "a b/é.csv"):
        with pytest.raises(BlobError, match="no file of this blob store"):
            store.key_of(foreign)
    with pytest.raises(BlobError, match="no blob key"):
        store.key_of(f"{url.partition('a%20b')[0].partition('a b')[0]}x/%2e%2e/%2e%2e/y")


@pytest.mark.parametrize("public", [None, "https://files.example.com/x/"])
def test_a_file_of_a_directory_is_read_back(tmp_path: Path, public: str | None) -> None:
    store = DirectoryStore(tmp_path / "blobs", public_url=public)
    check_reading(store, (tmp_path / "blobs-of-others" / "a.csv").as_uri())
    (tmp_path / "blobs" / "folder").mkdir()
    with pytest.raises(BlobError, match="there is no file 'folder'"):
        store.read("folder", 5)


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize("more", ["", "?public_url=https://files.example.com"])
def test_a_file_of_s3_is_read_back(more: str) -> None:
    check_reading(open_blob_store(f"s3://shop/x{more}"), "s3://shop/xy/a.csv")


@pytest.mark.usefixtures("s3")
def test_a_wrong_key_is_refused_by_s3_too() -> None:
    with pytest.raises(BlobError, match="blob key"):
        open_blob_store("s3://shop").put("../x", io.BytesIO(b"1"), "text/csv")


def test_without_boto3_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3.session", None)  # as if it were not installed
    with pytest.raises(BlobError, match=r"pip install tickwork\[aws\]"):
        open_blob_store("s3://shop")


def test_boto3_is_loaded_for_s3_only(tmp_path: Path) -> None:
    program = (
        "import sys; from jobs.handlers import exporting, blob, email;"
        f"blob.open_blob_store({str(tmp_path)!r});"
        "late = ('boto3', 'smtplib', 'jinja2', 'urllib3', 'sqlalchemy.orm', 'pydantic');"
        "print([name for name in late if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
