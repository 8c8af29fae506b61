"""NOTIFY beside other doorbells, and what is said of JOBS_NOTIFY where it cannot be."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from jobs import Tickwork
from jobs.core.doorbell import Kicker, Ring
from jobs.core.errors import ConfigurationError
from jobs.core.settings import read_settings
from jobs.doorbells.postgres import NotifyDoorbell, channel_of
from tests.support.databases import Database
from tests.support.proxy import Proxy


def test_it_needs_postgresql() -> None:
    with pytest.raises(ConfigurationError, match="JOBS_NOTIFY=1 needs PostgreSQL"):
        read_settings({"DATABASE_URL": "sqlite:///jobs.db", "JOBS_NOTIFY": "1"})
    assert not read_settings({"DATABASE_URL": "sqlite:///jobs.db"}).notify
    assert read_settings({"DATABASE_URL": "postgres://u@h/d", "JOBS_NOTIFY": "1"}).notify


def test_deployments_in_one_database_have_channels_of_their_own() -> None:
    channels = {
        channel_of("tickwork_", "", None),
        channel_of("tickwork_", "preview-1", None),
        channel_of("tickwork_", "", "jobs"),
        channel_of("other_", "", None),
        channel_of("p" * 30, "n" * 200, "s" * 30),
    }
    assert len(channels) == 5
    assert max(map(len, channels)) <= 63


class Ear:
    """A connection that listens."""

    def __init__(self, url: str, channel: str) -> None:
        import psycopg

        plain = url.replace("postgresql+psycopg", "postgresql")
        self.connection = psycopg.connect(plain, autocommit=True)
        self.connection.execute(f'LISTEN "{channel}"'.encode())

    def count(self, seconds: float = 0.3) -> int:
        return sum(1 for _ in self.connection.notifies(timeout=seconds))


def test_a_burst_is_few_notifications_and_the_last_one_follows_the_last_commit(
    postgresql_database: Database,
) -> None:
    tickwork = Tickwork(postgresql_database.url, notify=True)
    tickwork.create_schema()
    ear = Ear(postgresql_database.url, "tickwork_jobs")
    bell = NotifyDoorbell(tickwork.engine, "tickwork_jobs", debounce_seconds=0.2)
    for number in range(50):
        bell.ring([Ring(str(number), "x", 0.0)])
    assert ear.count(0.1) == 1
    assert ear.count(0.5) == 1
    bell.ring([Ring("later", "x", 30.0)])
    assert ear.count(0.3) == 0, "a worker knows by itself when a delayed job is due"
    ear.connection.close()
    tickwork.close()


def test_nothing_is_notified_after_a_rollback(postgresql_database: Database) -> None:
    from sqlalchemy.orm import Session

    tickwork = Tickwork(postgresql_database.url, notify=True)
    tickwork.create_schema()
    ear = Ear(postgresql_database.url, "tickwork_jobs")
    with Session(tickwork.engine) as session:
        tickwork.enqueue("x", session=session)
        session.rollback()
    assert ear.count() == 0
    tickwork.enqueue("x")
    assert ear.count() == 1
    ear.connection.close()
    tickwork.close()


def test_a_kick_and_notify_both_ring_and_ticks_can_still_chain(
    postgresql_database: Database,
) -> None:
    settings = {"notify": True, "kick_url": "http://127.0.0.1:9", "cron_secret": "s" * 20}
    tickwork = Tickwork(postgresql_database.url, **settings)  # type: ignore[arg-type]
    tickwork.create_schema()
    bell = tickwork._runtime.doorbell
    assert isinstance(bell, Kicker)
    assert isinstance(tickwork._runtime.doorbell, Kicker)
    kicked: list[Sequence[Ring]] = []
    first = bell._both[0]  # type: ignore[attr-defined]
    first.ring = kicked.append
    ear = Ear(postgresql_database.url, "tickwork_jobs")
    tickwork.enqueue("x")
    assert ear.count() == 1
    assert len(kicked) == 1
    ear.connection.close()
    tickwork.close()


def test_a_notification_that_fails_breaks_no_enqueue(
    postgresql_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """The doorbell's line is cut; the enqueue's is not."""
    from sqlalchemy import create_engine, make_url

    direct = make_url(postgresql_database.url)
    proxy = Proxy(direct.host or "", direct.port or 0)
    through = create_engine(direct.set(host="127.0.0.1", port=proxy.port))
    tickwork = Tickwork(
        postgresql_database.url, doorbell=NotifyDoorbell(through, "c", debounce_seconds=0)
    )
    tickwork.create_schema()
    tickwork.enqueue("x")
    proxy.down()
    begun = time.monotonic()
    for _ in range(3):
        tickwork.enqueue("x")
    assert time.monotonic() - begun < 5
    assert len(tickwork.list()) == 4
    assert sum("were not notified" in message for message in caplog.messages) == 1
    through.dispose()
    tickwork.close()
