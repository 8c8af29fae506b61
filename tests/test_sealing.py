"""Encryption at rest: the same promises, over rows that hold no clear text."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine, create_engine, text

from jobs import Continue, JobContext, Tickwork
from jobs.core.clock import Clock, ManualClock
from jobs.core.errors import ConfigurationError, PayloadError
from jobs.core.group import NewGroup
from jobs.core.job import Claimed, Job, NewJob
from jobs.core.redact import Redactor
from jobs.core.schedule import Schedule
from jobs.core.sealed import SEALED
from jobs.core.store import CancelReport, Settled, Store, Touch, Verdict
from jobs.stores.memory import MemoryStore
from jobs.stores.sealing import KeyRing, Sealing, sealed
from jobs.stores.sql import SqlStore
from jobs.stores.sql.engine import make_engine
from jobs.testing.conformance import MakeStore, RuntimeConformance, StoreConformance
from tests.support.databases import Database

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
CLEAR = "hunter2-in-clear"
_numbers = itertools.count(1)


class Unsearched:
    """Payloads that are encrypted cannot be looked through for text: those tests are left out."""

    test_text_is_looked_for_where_people_would = None
    test_all_conditions_hold_together = None
    test_a_window_bounds_what_is_looked_at = None


@pytest.mark.slow
class TestSealedMemory(Unsearched, StoreConformance, RuntimeConformance):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        store = sealed(MemoryStore, [NEW, OLD])
        return lambda clock, namespace="": store(namespace=namespace, clock=clock)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path_factory.mktemp('sealed') / 'jobs.db'}")
    SqlStore(engine).create_schema()
    yield engine
    engine.dispose()


@pytest.mark.slow
class TestSealedSqlite(Unsearched, StoreConformance, RuntimeConformance):
    @pytest.fixture
    def make_store(self, engine: Engine) -> MakeStore:
        number, store = next(_numbers), sealed(SqlStore, [NEW, OLD])

        def make(clock: Clock, namespace: str = "") -> Any:
            return store(engine, namespace=f"s{number}{namespace}", clock=clock)

        return make


def opened(url: str, *keys: str, **more: Any) -> Tickwork:
    tickwork = Tickwork(url, encryption_keys=keys, **more)
    tickwork.create_schema()

    @tickwork.handler("echo", api=True)
    def echo(payload: dict[str, Any]) -> dict[str, Any]:
        assert payload["word"] == CLEAR, payload
        return {"said": payload["word"]}

    @tickwork.handler("long")
    def long(payload: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
        if ctx.state is None:
            raise Continue({"at": payload["word"]})
        assert ctx.state == {"at": CLEAR}
        return {"said": ctx.state["at"]}

    return tickwork


def everything(url: str) -> str:
    """All that the tables hold, as text."""
    engine = create_engine(url)
    with closing(engine.connect()) as connection:
        found = [
            str(connection.execute(text(f"SELECT * FROM tickwork_{name}")).all())
            for name in ("jobs", "groups", "schedules", "keys", "controls", "audit")
        ]
    engine.dispose()
    return "\n".join(found)


def test_rows_hold_no_clear_text_and_handlers_see_it(database: Database) -> None:
    with closing(opened(database.url, NEW)) as tickwork:
        payload = {"word": CLEAR}
        ids = [tickwork.enqueue("echo", payload).id, *tickwork.enqueue_many([("echo", payload)])]
        ids.append(tickwork.enqueue("long", payload).id)
        ids.append(tickwork.enqueue("echo", payload, job_id="a", delay=1000).id)
        tickwork.chain([("echo", payload), ("echo", payload)])
        with tickwork.group(on_done=("echo", payload)) as group:
            group.enqueue("echo", payload)
        tickwork.schedules.add("often", "* * * * *", "echo", payload)
        tickwork.schedules.run("often")
        with tickwork.engine.begin() as connection:
            tickwork.enqueue("echo", payload, session=connection)
        for _ in range(4):
            tickwork.tick(limit=50)
        tickwork.retry(ids[0], force=True)
        tickwork.tick(limit=50)
        tickwork.cancel("a")

        jobs = tickwork.list(limit=100)
        assert len(jobs) >= 10
        assert {str(job.state) for job in jobs} == {"completed", "cancelled"}
        assert all(job.payload["word"] == CLEAR for job in jobs)
        assert all(job.result["said"] == CLEAR for job in jobs if job.state == "completed")
        assert tickwork.schedules.list()[0].payload == payload
    held = everything(database.url)
    assert CLEAR not in held
    assert SEALED in held


def test_a_transactional_result_is_sealed(sqlite_url: str) -> None:
    with closing(opened(sqlite_url, NEW)) as tickwork:

        @tickwork.handler("pay", transactional=True)
        def pay(payload: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
            tickwork.enqueue("echo", payload, session=ctx.session)
            return {"said": payload["word"]}

        job = tickwork.enqueue("pay", {"word": CLEAR})
        tickwork.tick()
        tickwork.tick()
        found = tickwork.get(job.id)
        assert found is not None
        assert found.result == {"said": CLEAR}
        assert {str(each.state) for each in tickwork.list()} == {"completed"}
    assert CLEAR not in everything(sqlite_url)


def test_keys_are_changed_while_rows_wait(sqlite_url: str) -> None:
    with closing(opened(sqlite_url, OLD)) as before:
        first = before.enqueue("echo", {"word": CLEAR}).id
    with closing(opened(sqlite_url, NEW, OLD)) as during:
        second = during.enqueue("echo", {"word": CLEAR}).id
        found = during.get(first)
        assert found is not None
        assert found.payload == {"word": CLEAR}
    with closing(opened(sqlite_url, NEW)) as after:
        found = after.get(second)
        assert found is not None
        assert found.payload == {"word": CLEAR}
        locked = after.get(first)
        assert locked is not None
        assert CLEAR not in str(locked)


@pytest.mark.parametrize("keys", [(), (OTHER,)], ids=["no key", "another key"])
def test_without_the_key_it_is_shown_as_encrypted_and_waits(
    sqlite_url: str, keys: tuple[str, ...]
) -> None:
    with closing(opened(sqlite_url, NEW)) as tickwork:
        job_id = tickwork.enqueue("echo", {"word": CLEAR}, max_attempts=1).id
    clock = ManualClock()
    with closing(opened(sqlite_url, *keys, clock=clock)) as stranger:
        found = stranger.get(job_id)
        assert found is not None
        assert Redactor().job(found.as_dict())["payload"] == "<encrypted>"
        clock.advance(86_400 * 365 * 5)
        for _ in range(3):
            stranger.tick()
            clock.advance(61)
        waiting = stranger.get(job_id)
        assert waiting is not None
        assert (str(waiting.state), waiting.attempts) == ("pending", 0)
        assert "JOBS_ENCRYPTION_KEYS" in str(waiting.error)
    with closing(opened(sqlite_url, NEW, clock=clock)) as owner:
        clock.advance(61)
        owner.tick()
        done = owner.get(job_id)
        assert done is not None
        assert done.result == {"said": CLEAR}


def test_rows_from_before_there_were_keys_still_run(sqlite_url: str) -> None:
    with closing(opened(sqlite_url)) as before:
        job_id = before.enqueue("echo", {"word": CLEAR}).id
    with closing(opened(sqlite_url, NEW)) as after:
        after.tick()
        found = after.get(job_id)
        assert found is not None
        assert (found.payload, found.result) == ({"word": CLEAR}, {"said": CLEAR})


def test_a_payload_cannot_pretend(sqlite_url: str) -> None:
    with (
        closing(opened(sqlite_url, NEW)) as tickwork,
        pytest.raises(PayloadError, match="taken"),
    ):
        tickwork.enqueue("echo", {SEALED: "gAAAAA"})


@pytest.mark.parametrize(
    "key",
    ["", "short", "x" * 44, "\ud800", OLD[:-2]],
    ids=["empty", "short", "no base64", "surrogate", "cut off"],
)
def test_what_is_no_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(ConfigurationError, match="JOBS_ENCRYPTION_KEYS") as refused:
        KeyRing([NEW, key])
    assert not key or key not in str(refused.value)


# What brings payloads in or out by these, a sealed store must come between.
CARRIERS = (Job, NewJob, Claimed, Verdict, Touch, Schedule, CancelReport, Settled, NewGroup)
# They hand jobs on without a look at their data: to revive, to weigh, to ring for, to tell of.
PASSED_ON = {"revive", "discard", "ahead", "check_groups", "after_commit", "remove_schedule"}


def test_no_operation_of_a_store_is_forgotten() -> None:
    """One that is added to the contract and carries payloads is to be sealed as well."""
    names = {carrier.__name__ for carrier in CARRIERS}
    carrying = {
        name
        for name, operation in vars(Store).items()
        if callable(operation)
        and not name.startswith("_")
        and names & set(re.findall(r"\w+", " ".join(map(str, operation.__annotations__.values()))))
    }
    assert len(carrying) > 15
    assert carrying - set(vars(Sealing)) - PASSED_ON == set()


def test_keys_stand_in_no_message() -> None:
    with closing(Tickwork(encryption_keys=(NEW,))) as tickwork:
        assert NEW not in repr(tickwork.settings)
