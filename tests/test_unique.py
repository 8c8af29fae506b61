"""Names that one job holds, where it takes two connections or two processes to see it."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text

from jobs import Job, State, Tickwork
from jobs.core.clock import ManualClock
from jobs.core.errors import JobStateConflict
from jobs.core.job import Claimed, NewJob
from jobs.core.store import JobFilter, Revival, Verdict
from jobs.stores.memory import MemoryStore
from jobs.stores.sql import SqlStore
from jobs.stores.sql.engine import normalize_url
from jobs.testing.areas.base import claim, claim_one, completed, failed, in_threads, new_job
from tests.support.databases import Database

ROOT = Path(__file__).parents[1]


@pytest.fixture(params=["postgresql", "mysql"])
def concurrent_database(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(f"{request.param}_database")
    return database


def opened(database: Database, clock: ManualClock | None = None) -> SqlStore:
    store = SqlStore(database.url, clock=clock)
    store.create_schema()
    return store


@pytest.fixture
def store(database: Database) -> Iterator[SqlStore]:
    store = opened(database, ManualClock())
    yield store
    store.close()


@pytest.fixture
def concurrent_store(concurrent_database: Database) -> Iterator[SqlStore]:
    store = opened(concurrent_database, ManualClock())
    yield store
    store.close()


def keyed(key: str = "k", **fields: Any) -> NewJob:
    return new_job(dedupe_key=key, dedupe_window_seconds=0.0, **fields)


def put(store: SqlStore | MemoryStore, key: str = "k", session: Any = None, **fields: Any) -> Job:
    return store.insert([keyed(key, **fields)], session)[0]


def die(store: SqlStore | MemoryStore, job: Job) -> Job:
    store.settle([failed(claim_one(store, ids=[job.id]), error="no")])
    found = store.get(job.id)
    assert found is not None
    assert found.state is State.FAILED
    return found


def ids(store: SqlStore) -> list[str]:
    return [job.id for job in store.list(JobFilter(), 1000)]


class InThread:
    """Work that another thread has begun; whether it waits, and what came of it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._pool = ThreadPoolExecutor(1)
        begun = threading.Event()

        def run() -> Any:
            begun.set()
            return work()

        self._future = self._pool.submit(run)
        assert begun.wait(60)

    @property
    def waits(self) -> bool:
        try:
            self._future.exception(0.3)
        except TimeoutError:
            return True
        return False

    def result(self) -> Any:
        found = self._future.result(60)
        self._pool.shutdown()
        return found


# -- races ---------------------------------------------------------------------------------------


def test_of_many_that_wait_for_one_that_rolls_back_one_is_made(concurrent_store: SqlStore) -> None:
    store = concurrent_store
    with store.engine.connect() as first:
        gone = put(store, session=first)
        waiting = [InThread(lambda: put(store)) for _ in range(6)]
        assert all(each.waits for each in waiting)
        first.rollback()
        jobs = [each.result() for each in waiting]
    assert len({job.id for job in jobs}) == 1
    assert sum(job.existing for job in jobs) == 5
    assert ids(store) == [jobs[0].id] != [gone.id]


def test_two_that_take_a_free_key_over_in_open_transactions(concurrent_store: SqlStore) -> None:
    store = concurrent_store
    die(store, put(store))
    with store.engine.connect() as first:
        job = put(store, session=first)
        assert not job.existing
        second = InThread(lambda: put(store))
        assert second.waits
        first.commit()
        assert second.result().id == job.id


@pytest.mark.parametrize("taker", ["enqueue", "retry", "enqueue and upkeep"])
def test_a_key_that_is_taken_between_the_look_and_the_lock(
    concurrent_store: SqlStore, concurrent_database: Database, taker: str
) -> None:
    """The second caller saw that the key was free; by the time it has the row, it is not."""
    store = concurrent_store
    first = die(store, put(store))
    store.clock.advance(7200)  # type: ignore[attr-defined]
    other = SqlStore(concurrent_database.url, clock=store.clock)
    taken: list[str] = []

    def in_between(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if taken or "k.held_until >" not in statement:
            return
        taken.append("")
        if taker == "retry":
            retry(other, first)
            taken[0] = first.id
        else:
            if taker != "enqueue":
                assert other.purge_keys(10) == 1
            taken[0] = put(other).id

    event.listen(store.engine, "after_cursor_execute", in_between)
    try:
        job = put(store)
    finally:
        event.remove(store.engine, "after_cursor_execute", in_between)
        other.close()
    assert taken == [job.id]
    assert job.existing
    assert job.state is State.PENDING
    live = store.list(JobFilter(state=State.PENDING), 10)
    assert [each.id for each in live] == [job.id]


def test_a_key_that_upkeep_frees_between_the_look_and_the_lock(
    concurrent_store: SqlStore, concurrent_database: Database
) -> None:
    store = concurrent_store
    die(store, put(store))
    store.clock.advance(7200)  # type: ignore[attr-defined]
    other = SqlStore(concurrent_database.url, clock=store.clock)
    swept: list[int] = []

    def in_between(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not swept and "k.held_until >" in statement:
            swept.append(0)
            swept[0] = other.purge_keys(10)

    event.listen(store.engine, "after_cursor_execute", in_between)
    try:
        job = put(store)
    finally:
        event.remove(store.engine, "after_cursor_execute", in_between)
        other.close()
    assert swept == [1]
    assert not job.existing
    assert put(store).id == job.id


def test_callers_that_find_a_held_key_do_not_wait_for_each_other(
    concurrent_store: SqlStore,
) -> None:
    store = concurrent_store
    job = put(store)
    with store.engine.connect() as first:
        assert put(store, session=first).id == job.id
        with store.engine.connect() as second:
            assert InThread(lambda: put(store, session=second)).result().id == job.id
        # Nor does a claim, a settle or another key.
        assert not put(store, "other").existing
        store.settle([completed(claim_one(store, ids=[job.id]))])


def test_an_open_transaction_holds_its_own_keys_alone(concurrent_store: SqlStore) -> None:
    store = concurrent_store
    dead = [die(store, put(store, key)) for key in ("b", "d")]
    with store.engine.connect() as first:
        assert not put(store, "c", session=first, alias="c").existing
        assert not put(store, "d", session=first).existing  # taken over
        others = InThread(lambda: store.insert_many([keyed(key) for key in "abefg"]))
        assert others.result() == 5
        assert not InThread(lambda: put(store, "c", tenant="acme")).result().existing
        first.commit()
    assert len(ids(store)) == len(dead) + 8


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_session_of_either_isolation(concurrent_database: Database, level: Any) -> None:
    """The caller's own engine: MySQL's default is REPEATABLE READ."""
    store = opened(concurrent_database)
    engine = create_engine(normalize_url(concurrent_database.url), isolation_level=level)
    try:
        with engine.connect() as theirs:
            theirs.execute(text("SELECT count(*) FROM tickwork_jobs")).scalar()  # the snapshot
            job = put(store)
            if level == "REPEATABLE READ" and concurrent_database.name == "postgresql":
                # As for every other statement there: the transaction is to be tried again.
                with pytest.raises(Exception, match="could not serialize access"):
                    put(store, session=theirs)
                theirs.rollback()
            found = put(store, session=theirs)
            assert (found.id, found.existing, found.state) == (job.id, True, State.PENDING)
            assert not put(store, "mine", session=theirs).existing
            theirs.commit()
        assert len(ids(store)) == 2
    finally:
        engine.dispose()
        store.close()


def test_a_try_whose_answer_was_lost_is_not_taken_for_another(store: SqlStore) -> None:
    """The store tries again with the same job, which its first try has committed."""
    new = keyed(alias="a")
    first, again = store.insert([new])[0], store.insert([new])[0]
    assert (again.id, again.existing) == (first.id, False)
    store.settle([completed(claim_one(store))])
    after = store.insert([new])[0]
    assert (after.id, after.existing, after.state) == (first.id, False, State.COMPLETED)
    assert ids(store) == [first.id]


def test_whatever_happens_at_once_a_key_has_one_live_job(store: SqlStore) -> None:
    """Enqueues, ends, retries and upkeep in six threads; looked at after every step."""
    twice = text(
        "SELECT dedupe_key, count(*) FROM tickwork_jobs WHERE state IN ('pending', 'processing') "
        "GROUP BY dedupe_key HAVING count(*) > 1"
    )

    def end(settle: Callable[[Claimed], Verdict]) -> None:
        store.settle([settle(job) for job in claim(store, 1)])

    def retry_one(dice: random.Random) -> None:
        dead = store.list(JobFilter(state=State.FAILED), 5)
        if dead:
            store.revive([Revival(dice.choice(dead), 0.0)])

    def work(number: int) -> int:
        dice, made = random.Random(number), 0
        for _ in range(50):
            key = dice.choice("ab")
            match dice.randrange(8):
                case 0 | 1 | 2:
                    made += not put(store, key).existing
                case 3:
                    made += store.insert_many([keyed("b"), keyed("a"), keyed(key)])
                case 4:
                    end(completed)
                case 5:
                    end(failed)
                case 6:
                    retry_one(dice)
                case 7:
                    store.clock.advance(700)  # type: ignore[attr-defined]
                    store.purge_keys(10)
            with store.engine.connect() as connection:
                assert connection.execute(twice).all() == []
        return made

    assert sum(in_threads(6, work)) == len(ids(store)) > 2


PROCESS = """
import sys
from jobs import Tickwork
tickwork = Tickwork(sys.argv[1])
tickwork.store.engine.connect().close()
print("ready", flush=True)
sys.stdin.readline()
for number in range(25):
    job = tickwork.enqueue("alpha", dedupe_key=f"k{number}", job_id=f"a{number}")
    print(job.id, int(job.existing))
"""


def test_eight_processes_on_sqlite(sqlite_database: Database) -> None:
    store = opened(sqlite_database)
    command = [sys.executable, "-c", PROCESS, sqlite_database.url]
    pipe = subprocess.PIPE
    runners = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)
        for _ in range(8)
    ]
    try:
        for runner in runners:
            assert runner.stdout is not None
            assert runner.stdout.readline() == "ready\n"
        with ThreadPoolExecutor(len(runners)) as pool:
            outputs = list(pool.map(lambda runner: runner.communicate("\n", timeout=120), runners))
    finally:
        for runner in runners:
            runner.kill()
            runner.communicate()
    assert [runner.returncode for runner in runners] == [0] * 8, outputs
    told = [line.split() for output, _ in outputs for line in output.splitlines()]
    assert Counter(existing for _, existing in told) == {"0": 25, "1": 175}
    assert set(Counter(job_id for job_id, _ in told).values()) == {8}
    assert sorted(ids(store)) == sorted({job_id for job_id, _ in told})
    store.close()


def test_it_works_behind_a_transaction_pooler(pgbouncer_database: Database) -> None:
    store = opened(pgbouncer_database)
    jobs = in_threads(12, lambda _: put(store))
    assert len({job.id for job in jobs}) == 1
    assert store.insert_many([keyed(str(n)) for n in range(50)]) == 50
    store.close()


# -- a failed job that is to wait again ----------------------------------------------------------


def retry(store: SqlStore | MemoryStore, job: Job) -> str | None:
    """Who has its key, if it is refused."""
    refused: dict[str, str] = {}
    written = store.revive([Revival(job, 0.0)], refused=refused)
    assert written == (0 if refused else 1)
    return refused.get(job.id)


def test_a_retried_job_takes_its_key_again(store: SqlStore) -> None:
    job = die(store, put(store))
    retry(store, job)
    assert put(store).id == job.id


def test_a_retried_job_keeps_its_window(store: SqlStore) -> None:
    (job,) = store.insert([new_job(dedupe_key="k", dedupe_window_seconds=3600.0)])
    retry(store, die(store, job))
    store.settle([completed(claim_one(store))])
    assert put(store).id == job.id
    store.clock.advance(3600)  # type: ignore[attr-defined]
    assert not put(store).existing


def test_a_retried_job_whose_key_was_swept_takes_it_again(store: SqlStore) -> None:
    job = die(store, put(store))
    store.clock.advance(7200)  # type: ignore[attr-defined]
    assert store.purge_keys(10) == 1
    retry(store, job)
    assert put(store).id == job.id
    store.clock.advance(7200)  # type: ignore[attr-defined]
    assert store.purge_keys(10) == 0
    assert put(store).id == job.id


def test_a_retry_is_refused_while_another_job_has_the_key(store: SqlStore) -> None:
    job = die(store, put(store))
    other = put(store)
    assert retry(store, job) == other.id
    held = claim_one(store)
    assert retry(store, job) == other.id
    assert store.get(job.id) == job
    store.settle([completed(held)])
    assert retry(store, job) is None
    assert put(store).id == job.id


def test_many_are_retried_at_once(store: SqlStore) -> None:
    jobs = [die(store, put(store, str(n))) for n in range(6)]
    others = {jobs[n].id: put(store, str(n)).id for n in (1, 4)}
    again = die(store, put(store, "0"))
    plain = die(store, store.insert([new_job()])[0])
    refused: dict[str, str] = {}
    revivals = [Revival(job, 0.0) for job in [*jobs, again, plain]]
    assert store.revive(revivals, refused=refused) == 5
    assert refused == {**others, again.id: jobs[0].id}


def test_the_stub_retries_too() -> None:
    store = MemoryStore(clock=ManualClock())
    job = die(store, put(store))
    other = put(store)
    assert retry(store, job) == other.id
    die(store, other)
    assert retry(store, job) is None
    assert put(store).id == job.id


def test_a_refused_retry_names_the_holder(store: SqlStore) -> None:
    tickwork = Tickwork(store=store, clock=store.clock)
    job = die(store, store.insert([keyed(alias="mine")])[0])
    other = put(store)
    with pytest.raises(JobStateConflict, match=f"'k' is held by job {other.id}; let that one end"):
        tickwork.retry("mine")
    assert tickwork.retry_many() == 0
    tickwork.cancel(other.id)
    assert tickwork.retry("mine").id == job.id
    assert put(store).id == job.id


def test_an_enqueue_waits_for_an_open_retry(concurrent_store: SqlStore) -> None:
    store = concurrent_store
    job = die(store, put(store))
    with store.engine.connect() as first:
        assert store._keys.retake(first, [job], store._parameters()) == {}
        assert store._edits.revive(first, [Revival(job, 0.0)], store._parameters(run_at=None)) == 1
        second = InThread(lambda: put(store))
        assert second.waits
        first.commit()
        assert second.result().id == job.id


def test_a_retry_waits_for_an_open_enqueue(concurrent_store: SqlStore) -> None:
    store = concurrent_store
    job = die(store, put(store))
    with store.engine.connect() as first:
        other = put(store, session=first)
        second = InThread(lambda: retry(store, job))
        assert second.waits
        first.commit()
        assert second.result() == other.id


# -- upkeep and cost -----------------------------------------------------------------------------


def test_upkeep_passes_by_what_is_in_somebodys_hands(concurrent_store: SqlStore) -> None:
    store = concurrent_store
    die(store, put(store))
    die(store, put(store, "free"))
    store.clock.advance(7200)  # type: ignore[attr-defined]
    with store.engine.connect() as first:
        job = put(store, session=first)
        assert InThread(lambda: store.purge_keys(10)).result() == 1
        first.commit()
    assert put(store).id == job.id


def statements(store: SqlStore, work: Callable[[], Any]) -> list[str]:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(store.engine, "before_cursor_execute", note)
    return seen


@pytest.mark.parametrize("rows", [10, 300])
def test_a_bulk_makes_few_statements_however_many_keys(store: SqlStore, rows: int) -> None:
    def put_many(*, expected: int) -> Callable[[], None]:
        jobs = [keyed(str(n)) for n in range(rows)]

        def work() -> None:
            assert store.insert_many(jobs) == expected

        return work

    assert len(statements(store, put_many(expected=rows))) <= 6
    assert len(statements(store, put_many(expected=0))) <= 4
    for job in store.list(JobFilter(), rows):
        store.cancel(job.id)
    assert len(statements(store, put_many(expected=rows))) <= 8


def test_one_makes_few_statements(store: SqlStore) -> None:
    assert len(statements(store, lambda: put(store))) <= 4
    assert len(statements(store, lambda: put(store))) <= 4
    assert len(statements(store, lambda: store.insert([new_job()]))) == 1


def test_a_plain_deployment_never_touches_the_keys(database: Database) -> None:
    tickwork = Tickwork(database.url)
    tickwork.create_schema()
    tickwork.register_handler("alpha", lambda payload: None)

    def work() -> None:
        tickwork.enqueue("alpha")
        tickwork.enqueue_many([("alpha", {})] * 3)
        assert tickwork.tick().succeeded == 4

    store: Any = tickwork.store
    seen = [each for each in statements(store, work) if "tickwork_keys" in each]
    assert all("SELECT 'lane' AS what" in each for each in seen), "but for the probe"
    tickwork.close()
