"""Signed links: who may open which file, and until when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from jobs import Tickwork
from jobs.core.clock import ManualClock
from jobs.handlers.blob import LINK_SECONDS, DirectoryStore, open_blob_store
from jobs.handlers.links import download_link, is_signed, sign
from jobs.http import create_app
from tests.files.conftest import SECRET

KEY = "data-exports/0190/Grüße aus Łódź.csv"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Place:
    """An application over a store with one file."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = ManualClock(NOW)
        self.folder = folder / "blobs"
        settings = {"secret_key": SECRET, "blob_url": str(self.folder), **settings}
        self.tickwork = Tickwork(backend="memory", env="production", clock=self.clock, **settings)
        self.store = DirectoryStore(self.folder)
        (folder / "file").write_bytes(b"<script>alert(1)</script>")
        self.store.put(KEY, folder / "file", "text/csv")
        (folder / "outside.txt").write_text("not yours")
        self.client: FlaskClient = create_app(self.tickwork).test_client()

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.client.get(path, buffered=True, **more)

    def path(self, key: str = KEY, lasts_s: int = 60, secret: str = SECRET) -> str:
        ends = int(NOW.timestamp()) + lasts_s
        return f"/files/{quote(key)}?expires={ends}&signature={sign(secret, key, ends)}"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_link_of_a_file_opens_it(place: Place) -> None:
    link = download_link(place.store, KEY, place.tickwork.settings, clock=NOW.timestamp)
    assert link is not None
    answer = place.get(link.url)

    assert (answer.status_code, answer.data) == (200, b"<script>alert(1)</script>")
    assert not link.is_absolute
    assert link.expires_at == NOW + timedelta(seconds=LINK_SECONDS)
    headers = answer.headers
    assert headers["Content-Disposition"].startswith("attachment; ")
    assert quote("Grüße aus Łódź.csv") in headers["Content-Disposition"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert headers["Cache-Control"] == "private, no-store"
    assert headers["Content-Type"] == "application/octet-stream"


def test_a_part_of_a_file_can_be_had(place: Place) -> None:
    answer = place.get(place.path(), headers={"Range": "bytes=1-6"})
    assert (answer.status_code, answer.data) == (206, b"script")


def test_it_ends(place: Place) -> None:
    link = place.path(lasts_s=60)
    place.clock.advance(59)
    assert place.get(link).status_code == 200
    place.clock.advance(1)
    answer = place.get(link)
    assert answer.status_code == 410
    assert b"script" not in answer.data


def changed(link: str, **values: str) -> str:
    parts = urlsplit(link)
    given = {name: found[0] for name, found in parse_qs(parts.query).items()} | values
    return parts.path + "?" + "&".join(f"{name}={quote(value)}" for name, value in given.items())


@pytest.mark.parametrize(
    "values",
    [
        {"signature": ""},
        {"signature": "0" * 64},
        {"signature": "Łódź"},
        {"signature": "\udcff"},
        {"expires": "99999999999"},
        {"expires": ""},
        {"expires": "-1"},
        {"expires": "1e9"},
        {"expires": "٣"},  # a digit, though not of ASCII
        {"expires": "9" * 5000},
    ],
    ids=lambda values: "-".join(ascii(each)[:30] for pair in values.items() for each in pair),
)
def test_a_link_that_was_changed_opens_nothing(place: Place, values: dict[str, str]) -> None:
    values = {name: value.encode("utf-8", "replace").decode() for name, value in values.items()}
    assert place.get(changed(place.path(), **values)).status_code == 404


def test_nothing_opens_without_the_right_secret(place: Place) -> None:
    assert place.get(f"/files/{quote(KEY)}").status_code == 404
    assert place.get(place.path(secret=SECRET + "x")).status_code == 404


def test_a_link_opens_its_own_file_only(place: Place, tmp_path: Path) -> None:
    place.store.put("other.csv", tmp_path / "file", "text/csv")
    own = urlsplit(place.path())
    assert place.get(f"/files/other.csv?{own.query}").status_code == 404
    assert place.get(place.path("other.csv")).status_code == 200


@pytest.mark.parametrize(
    "key",
    [
        "../outside.txt",
        "data-exports/../../outside.txt",
        "/etc/passwd",
        ".incoming/x",
        "data-exports",
        "..%2foutside.txt",
        "nul\0byte",
        "link.txt",
        "missing.csv",
    ],
)
def test_even_a_signature_leads_nowhere_else(place: Place, tmp_path: Path, key: str) -> None:
    """A signed key that leaves the store: by dots, by a link, or not there at all."""
    (place.folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    answer = place.get(place.path(key))
    assert answer.status_code == 404
    assert b"not yours" not in answer.data


def test_who_may_not_read_learns_nothing(place: Place) -> None:
    there = place.get(changed(place.path(), signature="0" * 64))
    missing = place.get(changed(place.path("missing.csv"), signature="0" * 64))
    assert (there.status_code, there.data) == (missing.status_code, missing.data)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_is_read_only(place: Place, method: str) -> None:
    assert place.client.open(place.path(), method=method).status_code == 405


@pytest.mark.parametrize("settings", [{"secret_key": None}, {"blob_url": "s3://bucket/files"}])
def test_it_is_off_where_nothing_can_be_signed_or_served(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    place = Place(tmp_path, **settings)
    assert place.get(place.path()).status_code == 404
    assert "/files/<path:key>" not in map(str, create_app(place.tickwork).url_map.iter_rules())


def test_no_secret_no_link(place: Place) -> None:
    bare = Tickwork(backend="memory", env="production", blob_url=str(place.folder)).settings
    assert download_link(place.store, KEY, bare) is None


def test_a_served_store_has_links_that_last(place: Place) -> None:
    store = open_blob_store(f"file://{place.folder}?public_url=https://files.example.com/x")
    link = download_link(store, "a/b.csv", place.tickwork.settings)
    assert link is not None
    assert (link.url, link.expires_at) == ("https://files.example.com/x/a/b.csv", None)


@given(st.text(), st.integers(0, 10**11), st.text(), st.integers(0, 10**11))
def test_a_signature_is_for_one_key_and_one_end(
    key: str, ends: int, other_key: str, other_ends: int
) -> None:
    same = (key, ends) == (other_key, other_ends)
    assert is_signed(SECRET, other_key, str(other_ends), sign(SECRET, key, ends)) is same
