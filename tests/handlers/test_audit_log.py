"""The kind `audit_log_created`: an entry that stands once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jobs import ConfigurationError, Job, PayloadError, State, Tickwork
from jobs.core.access import ChangeFilter
from jobs.core.clock import ManualClock
from jobs.handlers.audit_log import SINKS, AuditEntry, audit_sink
from tests.support.databases import Database

RELEASED = {
    "action": "escrow.released",
    "actor": "ann@example.com",
    "subject": "esc-123",
    "organizationId": "org1",
    "reason": "both sides agreed",
}


@pytest.fixture(autouse=True)
def no_sink() -> Iterator[None]:
    SINKS.clear()
    yield
    SINKS.clear()


@pytest.fixture
def tickwork(database: Database) -> Iterator[Tickwork]:
    system = Tickwork(database.url, handlers=["jobs.handlers.audit_log"], clock=ManualClock())
    system.create_schema()
    yield system
    system.close()


def run(tickwork: Tickwork, payload: dict[str, Any], **options: Any) -> Job:
    job = tickwork.enqueue("audit_log_created", payload, **options)
    tickwork.tick()
    found = tickwork.get(job.id)
    assert found is not None
    return found


def test_an_entry_stands_once_however_often_it_is_written(tickwork: Tickwork) -> None:
    job = run(tickwork, RELEASED)
    assert (job.state, job.result, job.queue) == (State.COMPLETED, "written", "audit")
    assert job.max_attempts == 3
    tickwork.retry(job.id, force=True)  # as after an end that was lost
    tickwork.tick()
    assert tickwork.get(job.id).result == "was written before"  # type: ignore[union-attr]
    (entry,) = tickwork.store.changes(ChangeFilter(), 10)
    assert (entry.id, entry.action, entry.by, entry.subject, entry.tenant, entry.reason) == (
        job.id,
        "escrow.released",
        "ann@example.com",
        "esc-123",
        "org1",
        "both sides agreed",
    )


SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@SQLITE
def test_it_commits_with_what_it_tells_of(tickwork: Tickwork) -> None:
    with tickwork.engine.connect() as connection:
        tickwork.enqueue("audit_log_created", RELEASED, session=connection)
        connection.rollback()
    tickwork.tick()
    assert tickwork.store.changes(ChangeFilter(), 10) == []


@SQLITE
def test_the_tenant_is_the_jobs_own(tickwork: Tickwork) -> None:
    other = run(tickwork, RELEASED, tenant="org2")
    assert other.state == State.FAILED
    assert "not the tenant" in str(other.error)
    without = {name: value for name, value in RELEASED.items() if name != "organizationId"}
    run(tickwork, without, tenant="org2")
    run(tickwork, without)
    tenants = [each.tenant for each in tickwork.store.changes(ChangeFilter(), 10)]
    assert tenants == [None, "org2"]


@SQLITE
def test_a_sink_gets_the_details(tickwork: Tickwork) -> None:
    details = {"amount": 10_000}
    lost = run(tickwork, {**RELEASED, "details": details})
    assert lost.state == State.FAILED
    assert "audit_sink" in str(lost.error)

    entries: list[AuditEntry] = []

    @audit_sink
    def write(entry: AuditEntry) -> None:
        entries.append(entry)

    tickwork.retry(lost.id)
    tickwork.tick()
    (entry,) = entries
    assert (entry.id, entry.tenant, entry.entry.details) == (lost.id, "org1", details)
    assert tickwork.store.changes(ChangeFilter(), 10) == []
    with pytest.raises(ConfigurationError, match="audit sink already"):
        audit_sink(lambda entry: None)


@pytest.mark.parametrize(
    "wrong",
    [{"action": "two words"}, {"actor": ""}, {"subject": "x" * 501}, {"reason": ""}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_mistake_is_refused_at_once(wrong: dict[str, Any]) -> None:
    system = Tickwork(handlers=["jobs.handlers.audit_log"])
    with pytest.raises(PayloadError, match=next(iter(wrong))):
        system.enqueue("audit_log_created", {**RELEASED, **wrong})
    system.close()
