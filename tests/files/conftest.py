"""A small shop of several tenants, its files in one folder, behind a real Tickwork."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import Tickwork
from jobs.core.job import Job
from tests.files.sales import DATASETS, build
from tests.support.databases import Database

HANDLERS = ("jobs.handlers.data_export", "jobs.handlers.report", "jobs.handlers.insights")
SECRET = "a secret key for these tests only"
Open = Callable[..., Tickwork]


@pytest.fixture
def open_system(tmp_path: Path) -> Iterator[Open]:
    """Opens systems over a database, with files and mails in one folder; closes them at the end."""
    opened: list[Tickwork] = []

    def open_one(database: Database, **settings: Any) -> Tickwork:
        build(database.url)
        (tmp_path / "datasets.toml").write_text(DATASETS, "utf-8")
        system = Tickwork(
            database.url,
            handlers=list(HANDLERS),
            **{
                "export_datasets": str(tmp_path / "datasets.toml"),
                "blob_url": str(tmp_path / "blobs"),
                "smtp_url": str(tmp_path / "outbox"),
                "email_from": "Shop <shop@example.com>",
                "admin_token": "an admin token of some length",
                "tick_limit": 900,
                "time_budget": 800,
                **settings,
            },
        )
        system.create_schema()
        opened.append(system)
        return system

    yield open_one
    for system in opened:
        system.close()


@pytest.fixture
def tickwork(sqlite_database: Database, open_system: Open) -> Tickwork:
    return open_system(sqlite_database)


def run(tickwork: Tickwork, job: Job) -> Job:
    """Run what is due and return the job as it then stands."""
    tickwork.tick()
    found = tickwork.get(job.id)
    assert found is not None
    return found
