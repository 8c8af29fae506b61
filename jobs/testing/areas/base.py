"""What every area stands on: a clock, a store, a system, and skips by declared capability."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import pytest

from jobs.core.clock import Clock, ManualClock, SystemClock
from jobs.core.ids import new_id
from jobs.core.job import Claimed, Job, NewJob, State
from jobs.core.store import Capability, Store, Verdict
from jobs.system import Tickwork

Test = TypeVar("Test", bound=Callable[..., Any])
LEASE_SECONDS = 60.0
KINDS = frozenset({"alpha", "beta", "gamma"})


class MakeStore(Protocol):
    """The one fixture a user brings: a store over the rows of this test.

    The first call of a test finds no rows. A further call opens the same rows once more (where the
    store has ``Capability.SHARED``), in the given namespace.
    """

    def __call__(self, clock: Clock, namespace: str = "") -> Store: ...


class MakeTickwork(Protocol):
    """A system over the test's store; keyword arguments are settings by field name."""

    def __call__(self, **settings: Any) -> Tickwork: ...


def requires(*capabilities: Capability) -> Callable[[Test], Test]:
    """Skip the test on a store that does not declare these capabilities."""

    def declare(test: Test) -> Test:
        test.__dict__["requires_capabilities"] = capabilities
        return test

    return declare


class Conformance:
    """Fixtures of every area.

    A test that asks for ``manual_clock`` moves time and runs on a manual clock alone; the others
    run once more on the store's own time.
    """

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "clock" in metafunc.fixturenames:
            moves_time = "manual_clock" in metafunc.fixturenames
            clocks = ["manual"] if moves_time else ["manual", "own"]
            metafunc.parametrize("clock", clocks, indirect=True)

    @pytest.fixture
    def clock(self, request: pytest.FixtureRequest) -> Clock:
        return ManualClock() if request.param == "manual" else SystemClock()

    @pytest.fixture
    def manual_clock(self, clock: Clock) -> ManualClock:
        assert isinstance(clock, ManualClock)
        return clock

    @pytest.fixture
    def store(
        self, request: pytest.FixtureRequest, make_store: MakeStore, clock: Clock
    ) -> Iterator[Store]:
        store = make_store(clock)
        wanted = frozenset(getattr(request.function, "requires_capabilities", ()))
        lacking = sorted(wanted - store.capabilities)
        if lacking:
            pytest.skip(f"the store declares no {', '.join(lacking)}")
        yield store
        store.close()

    @pytest.fixture
    def make_tickwork(self, store: Store, clock: Clock) -> Iterator[MakeTickwork]:
        made: list[Tickwork] = []

        def make(**settings: Any) -> Tickwork:
            over = settings.pop("store", store)
            made.append(Tickwork(store=over, clock=clock, **settings))
            return made[-1]

        yield make
        for tickwork in made:
            tickwork.close()

    @pytest.fixture
    def tickwork(self, make_tickwork: MakeTickwork) -> Tickwork:
        return make_tickwork()

    @pytest.fixture
    def gate(self) -> Iterator[threading.Event]:
        """What a hanging handler waits for; opened when the test is over at the latest."""
        gate = threading.Event()
        yield gate
        gate.set()


def new_job(kind: str = "alpha", **fields: Any) -> NewJob:
    """A job as a store gets it."""
    return NewJob(new_id(), kind, fields.pop("payload", "{}"), **fields)


def put(store: Store, *jobs: NewJob) -> list[str]:
    """Insert; returns the ids."""
    return [job.id for job in store.insert(jobs)]


def put_one(store: Store, kind: str = "alpha", **fields: Any) -> str:
    """Insert one job; returns its id."""
    return put(store, new_job(kind, **fields))[0]


def claim(store: Store, limit: int = 10, **options: Any) -> list[Claimed]:
    """Claim with the suite's kinds and lease unless told otherwise."""
    options = {"kinds": KINDS, "lease_seconds": LEASE_SECONDS, **options}
    return store.claim(limit, **options)


def claim_one(store: Store, **options: Any) -> Claimed:
    """Claim the one job that is due."""
    (claimed,) = claim(store, **options)
    return claimed


def claimed_ids(jobs: list[Claimed]) -> list[str]:
    return [job.id for job in jobs]


def fetch(store: Store | Tickwork, job_id: str) -> Job:
    """The job, which must be there."""
    job = store.get(job_id)
    assert job is not None
    return job


def completed(claimed: Claimed, **fields: Any) -> Verdict:
    return Verdict(claimed.id, claimed.fence, State.COMPLETED, **fields)


def pending(claimed: Claimed, **fields: Any) -> Verdict:
    return Verdict(claimed.id, claimed.fence, State.PENDING, **fields)


def failed(claimed: Claimed, **fields: Any) -> Verdict:
    return Verdict(claimed.id, claimed.fence, State.FAILED, **fields)


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """``work(0)`` to ``work(count - 1)``, begun at once; their results, or the first error."""
    start = threading.Barrier(count)
    results: list[Any] = [None] * count
    errors: list[BaseException] = []

    def run(number: int) -> None:
        start.wait()
        try:
            results[number] = work(number)
        except BaseException as error:  # noqa: BLE001 - told to the test below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]
    return results
