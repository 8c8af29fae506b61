"""The kind `cleanup`: old jobs, old files, and what one's own cleaners find."""

from __future__ import annotations

import io
import os
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from jobs import ConfigurationError, Job, PayloadError, State, Tickwork
from jobs.core.clock import ManualClock
from jobs.handlers import cleanup as cleanup_module
from jobs.handlers.blob import DirectoryStore, open_blob_store
from jobs.handlers.cleanup import CLEANERS, cleaner
from jobs.handlers.errors import BlobError
from tests.support.databases import Database

DAY = 86_400


@pytest.fixture(autouse=True)
def no_cleaners() -> Iterator[None]:
    CLEANERS.clear()
    yield
    CLEANERS.clear()


class Place:
    """A system with jobs of every state and age, and a folder of files."""

    def __init__(self, url: str, folder: Path) -> None:
        self.clock = ManualClock(datetime(2026, 6, 1, tzinfo=UTC))
        self.folder = folder
        self.tickwork = Tickwork(
            url,
            handlers=["jobs.handlers.cleanup"],
            clock=self.clock,
            blob_url=str(folder),
            # Jobs stay until they are cleaned.
            keep_completed=365 * DAY,
            keep_failed=365 * DAY,
        )
        self.tickwork.create_schema()

        @self.tickwork.handler("work", max_attempts=1)
        def work(payload: dict[str, Any]) -> None:
            if payload.get("fails"):
                raise ValueError

    def fill(self, tenant: str = "", queue: str = "default") -> None:
        """Two jobs for each of three states."""
        more: Any = {"tenant": tenant, "queue": queue}
        for fails in (False, False, True, True):
            self.tickwork.enqueue("work", {"fails": fails}, **more)
        self.tickwork.tick(limit=100)
        for _ in range(2):
            self.tickwork.cancel(self.tickwork.enqueue("work", delay=3600, **more).id)

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for job in self.tickwork.list(kind="work", limit=1000):
            found[job.state] = found.get(job.state, 0) + 1
        return found

    def clean(self, payload: dict[str, Any] | None = None, **options: Any) -> Job:
        job = self.tickwork.enqueue("cleanup", payload or {}, **options)
        for _ in range(20):
            self.tickwork.tick()
            found = self.tickwork.get(job.id)
            assert found is not None
            if found.finished_at is not None:
                return found
            self.clock.advance(1)
        raise AssertionError("it never ends")

    def file(self, key: str, age_days: float) -> Path:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)
        at = self.clock.now().timestamp() - age_days * DAY
        os.utime(path, (at, at))
        return path


@pytest.fixture
def place(database: Database, tmp_path: Path) -> Iterator[Place]:
    made = Place(database.url, tmp_path / "blobs")
    yield made
    made.tickwork.close()


SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def test_ended_jobs_go_by_state_and_age(place: Place) -> None:
    place.fill()
    waiting = place.tickwork.enqueue("work", delay=365 * DAY)
    place.clock.advance(2 * DAY)
    assert place.clean().result["jobs"] == {"completed": 2, "failed": 0, "cancelled": 0}
    assert place.counts() == {"failed": 2, "cancelled": 2, "pending": 1}
    place.clock.advance(6 * DAY)
    # The cleanup of six days before is itself a completed job; what was cancelled goes by itself.
    payload = {"states": ["completed", "failed"]}
    assert place.clean(payload).result["jobs"] == {"completed": 1, "failed": 2}
    assert place.tickwork.get(waiting.id) is not None


@SQLITE
def test_what_is_said_holds(place: Place) -> None:
    place.fill()
    place.fill(queue="other")
    place.clock.advance(2 * DAY)
    assert place.clean({"states": []}).result["jobs"] == {}
    young = place.clean({"olderThanDays": 3, "states": ["failed"]})
    assert young.result["jobs"] == {"failed": 0}
    one = place.clean({"olderThanDays": 1.5, "states": ["failed"], "queue": "other"})
    assert one.result["jobs"] == {"failed": 2}
    assert place.counts() == {"completed": 4, "failed": 2, "cancelled": 4}
    dry = place.clean({"olderThanDays": 1, "dryRun": True})
    assert dry.result == {
        "jobs": {"cancelled": 4, "completed": 4, "failed": 2},
        "files": 0,
        "cleaners": {},
        "dryRun": True,
    }
    assert place.counts() == {"completed": 4, "failed": 2, "cancelled": 4}


@SQLITE
def test_a_tenants_own_cleanup_touches_nobody_else(place: Place) -> None:
    place.fill("org1")
    place.fill("org2")
    place.clock.advance(30 * DAY)
    assert place.clean({"states": ["completed", "failed"]}, tenant="org1").result["jobs"] == {
        "completed": 2,
        "failed": 2,
    }
    left = place.tickwork.list(kind="work", limit=100)
    assert {job.tenant for job in left} == {"org2"}
    assert len(left) == 4
    refused = place.clean({"blobs": "exports", "olderThanDays": 1}, tenant="org1")
    assert refused.state == State.FAILED
    assert "not a tenant's" in str(refused.error)
    assert place.clean().result["jobs"]["failed"] == 2


@SQLITE
def test_many_parts_go_on_in_the_next_tick(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup_module, "JOBS_PER_PART", 3)
    monkeypatch.setattr(cleanup_module, "FILES_PER_PART", 2)
    monkeypatch.setattr("jobs.core.context.JobContext.should_stop", lambda self, margin=5.0: True)
    for _ in range(4):
        place.fill()
    for n in range(5):
        place.file(f"exports/{n}.csv", age_days=40)
    place.clock.advance(30 * DAY)
    job = place.clean({"olderThanDays": 20, "blobs": "exports", "states": ["completed", "failed"]})
    assert job.result["jobs"] == {"completed": 8, "failed": 8}
    assert job.result["files"] == 5
    assert job.attempts == 1
    assert place.counts() == {}


@SQLITE
def test_jobs_of_an_open_group_stay_and_hold_nothing_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup_module, "JOBS_PER_PART", 3)
    with place.tickwork.group() as group:
        group.enqueue_many([("work", {})] * 7)
        group.enqueue("work", {}, delay=300 * DAY)
    place.tickwork.tick(limit=100)
    place.fill()
    place.clock.advance(30 * DAY)
    assert place.clean().result["jobs"]["completed"] == 2
    assert place.counts() == {"completed": 7, "pending": 1}


@SQLITE
def test_old_files_below_a_prefix_go(place: Place) -> None:
    old = [place.file(f"exports/{name}", age_days=31) for name in ("a.csv", "b/c.csv", "b/d.csv")]
    young = place.file("exports/b/e.csv", age_days=29)
    others = [place.file(name, age_days=99) for name in ("exports2/a.csv", "reports/a.csv")]
    hidden = place.file(".incoming/tmp1", age_days=99)
    (place.folder / "exports/link").symlink_to(place.folder / "reports")

    payload = {"states": [], "blobs": "exports", "olderThanDays": 30}
    assert place.clean({**payload, "dryRun": True}).result["files"] == 3
    assert all(path.exists() for path in old)
    assert place.clean(payload).result["files"] == 3
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in (young, hidden, *others))
    assert place.clean({**payload, "blobs": "nowhere"}).result["files"] == 0


@SQLITE
def test_ones_own_cleaners(place: Place) -> None:
    carts = list(range(25))
    calls: list[tuple[datetime, int, bool]] = []

    @cleaner("carts", days=2, limit=10)
    def clean_carts(before: datetime, limit: int, dry_run: bool) -> int:
        calls.append((before, limit, dry_run))
        some = carts[:limit]
        if not dry_run:
            del carts[:limit]
        return len(some)

    cleaner("nothing")(lambda before, limit, dry_run: 0)

    assert place.clean({"dryRun": True}).result["cleaners"] == {"carts": 10, "nothing": 0}
    assert len(carts) == 25
    calls.clear()
    now = place.clock.now()
    assert place.clean({"cleaners": ["carts"]}).result["cleaners"] == {"carts": 25}
    assert calls == [(now - timedelta(days=2), 10, False)] * 3
    assert place.clean({"olderThanDays": 9}).result["cleaners"] == {"carts": 0, "nothing": 0}
    assert calls[-1][0] == now - timedelta(days=9)
    unknown = place.clean({"cleaners": ["baskets"]})
    assert "no cleaner is called 'baskets' here (there are: carts, nothing)" in str(unknown.error)
    with pytest.raises(ConfigurationError):
        cleaner("carts", limit=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"olderThanDays": -1},
        {"olderThanDays": 1e300},
        {"states": ["pending"]},
        {"blobs": "exports"},
        {"blobs": "../x", "olderThanDays": 1},
        {"blobs": "", "olderThanDays": 1},
    ],
    ids=str,
)
def test_a_mistake_is_refused_at_once(wrong: dict[str, Any]) -> None:
    system = Tickwork(handlers=["jobs.handlers.cleanup"])
    with pytest.raises(PayloadError):
        system.enqueue("cleanup", wrong)
    system.close()


# --- listing and deleting


NOW = datetime(2026, 6, 1, tzinfo=UTC)
NAMES = ["a-b/1", "a/1", "a/2/x", "a/2/y", "a/3", "b"]


def test_a_directory_is_listed_in_parts(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    for name in NAMES:
        store.put(f"top/{name}", io.BytesIO(b"x"), "text/plain")
    later = datetime.now(UTC) + timedelta(days=1)
    found: list[str] = []
    after = None
    for _ in range(20):
        keys, after = store.old_files("top", later, after=after, limit=2)
        assert len(keys) <= 2
        found += keys
        store.delete(keys)  # what was there to go on from is gone, and it goes on all the same
        if after is None:
            break
    assert sorted(found) == [f"top/{name}" for name in sorted(NAMES)]
    assert store.old_files("top", later) == ([], None)
    assert store.delete(["top/a/1", "never/was"]) == 2
    with pytest.raises(BlobError):
        store.delete(["../x"])
    with pytest.raises(BlobError):
        store.old_files("..", later)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client("s3")
    client.create_bucket(
        Bucket="shop", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    yield client
    client.close()
    # What moto keeps is the process's, not the server's.
    reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()  # noqa: S310 - loopback
    server.stop()


def test_a_bucket_is_listed_in_parts_and_cleaned(bucket: Any) -> None:
    store = open_blob_store("s3://shop/nightly")
    for name in NAMES:
        store.put(f"top/{name}", io.BytesIO(b"x"), "text/plain")
    bucket.put_object(Bucket="shop", Key="top/elsewhere", Body=b"x")
    bucket.put_object(Bucket="shop", Key="nightly/top2/x", Body=b"x")
    later, earlier = (datetime.now(UTC) + timedelta(days=days) for days in (1, -1))
    assert store.old_files("top", earlier) == ([], None)
    found: list[str] = []
    after = None
    for _ in range(20):
        keys, after = store.old_files("top", later, after=after, limit=2)
        found += keys
        assert store.delete(keys) == len(keys)
        if after is None:
            break
    assert found == [f"top/{name}" for name in sorted(NAMES)]
    left = [entry["Key"] for entry in bucket.list_objects_v2(Bucket="shop")["Contents"]]
    assert left == ["nightly/top2/x", "top/elsewhere"]
    assert store.delete([]) == 0
