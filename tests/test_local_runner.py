"""The local runner: due jobs run by themselves in a process that lives."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from jobs import ConfigurationError, Settings, Snooze, State, StoreUnavailable, Tickwork
from jobs.core.doorbell import Ring
from jobs.core.settings import read_settings
from jobs.runtime.local import should_auto_start
from tests.support.web import eventually

NEVER = 3600.0  # a poll so rare that only the doorbell can have been it


@pytest.fixture(params=["memory", "sqlite"])
def tickwork(request: pytest.FixtureRequest, sqlite_url: str) -> Iterator[Tickwork]:
    url = sqlite_url if request.param == "sqlite" else None
    with closing(Tickwork(url, poll_interval=NEVER)) as system:
        system.create_schema()
        yield system


def all_done(tickwork: Tickwork) -> bool:
    return all(job.state == State.COMPLETED for job in tickwork.list(limit=2000))


def test_it_runs_what_was_there_before_and_what_comes_at_once(tickwork: Tickwork) -> None:
    ran: list[int] = []
    tickwork.register_handler("note", lambda payload: ran.append(payload["n"]))
    tickwork.enqueue_many([("note", {"n": n}) for n in range(20)])

    tickwork.start()
    assert eventually(lambda: all_done(tickwork))
    tickwork.enqueue("note", {"n": 20})
    tickwork.enqueue_many([("note", {"n": n}) for n in range(21, 40)])

    assert eventually(lambda: len(ran) == 40 and all_done(tickwork))
    assert sorted(ran) == list(range(40))


def test_no_ring_is_lost_between_looking_and_resting() -> None:
    """Each round meets slots that are just about to rest."""
    with closing(Tickwork(poll_interval=NEVER)) as tickwork:
        tickwork.register_handler("note", lambda payload: None)
        tickwork.start()

        def produce(rounds: int) -> None:
            for _ in range(rounds):
                job = tickwork.enqueue("note", {})
                assert eventually(lambda: tickwork.get(job.id).status == "completed")  # noqa: B023

        with ThreadPoolExecutor(3) as pool:
            for done in [pool.submit(produce, 100) for _ in range(3)]:
                done.result()


def test_a_ring_while_the_only_slot_finds_nothing_makes_it_look_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closing(Tickwork(poll_interval=NEVER, concurrency=1)) as tickwork:
        tickwork.register_handler("note", lambda payload: None)
        real, looks = tickwork.store.probe, iter(range(1000))

        def probe(**options: Any) -> Any:
            nothing = real(**options)
            if next(looks) == 0:
                tickwork.enqueue("note", {})
            return nothing

        monkeypatch.setattr(tickwork.store, "probe", probe)
        tickwork.start()

        assert eventually(lambda: bool(tickwork.list()) and all_done(tickwork))


def test_without_a_ring_the_poll_finds_it(sqlite_url: str) -> None:
    """As when a job is enqueued from a terminal."""
    with (
        closing(Tickwork(sqlite_url, poll_interval=0.05)) as tickwork,
        closing(Tickwork(sqlite_url)) as terminal,
    ):
        tickwork.create_schema()
        tickwork.register_handler("note", lambda payload: None)
        tickwork.start()

        for delay in (0, 0, 0.2):
            job = terminal.enqueue("note", {}, delay=delay)
            assert eventually(lambda: terminal.get(job.id).status == "completed")  # noqa: B023


@pytest.mark.parametrize(("settings", "expected"), [({}, 3), ({"concurrency": 2}, 2)])
def test_it_runs_so_many_at_once_and_no_more(settings: dict[str, Any], expected: int) -> None:
    with closing(Tickwork(poll_interval=NEVER, **settings)) as tickwork:
        together = threading.Barrier(expected)
        lock, at_once = threading.Lock(), [0, 0]

        @tickwork.handler("meet")
        def meet(_payload: dict[str, Any]) -> None:
            with lock:
                at_once[0] += 1
                at_once[1] = max(at_once)
            together.wait(20)
            with lock:
                at_once[0] -= 1

        tickwork.enqueue_many([("meet", {})] * (expected * 4))
        tickwork.start()

        assert eventually(lambda: all_done(tickwork))
        assert at_once == [0, expected]


def test_a_job_that_hangs_keeps_no_other_waiting(tickwork: Tickwork) -> None:
    go_on, hanging = threading.Event(), threading.Event()

    @tickwork.handler("hang")
    def hang(_payload: dict[str, Any]) -> None:
        hanging.set()
        go_on.wait(20)

    tickwork.register_handler("note", lambda payload: None)
    tickwork.start()
    hung = tickwork.enqueue("hang", {})
    assert hanging.wait(20)

    ids = tickwork.enqueue_many([("note", {})] * 5)

    assert eventually(lambda: all(tickwork.get(each).status == "completed" for each in ids))
    assert tickwork.get(hung.id).status == "processing"
    go_on.set()


def test_a_job_that_hangs_for_ever_is_given_up_and_its_slot_is_free(tickwork: Tickwork) -> None:
    go_on = threading.Event()

    @tickwork.handler("hang", timeout=0.1, max_attempts=1)
    def hang(_payload: dict[str, Any]) -> None:
        go_on.wait(20)

    tickwork.register_handler("note", lambda payload: None)
    tickwork.enqueue_many([("hang", {})] * 3, priority=1)
    tickwork.start()
    tickwork.enqueue("note", {})

    assert eventually(
        lambda: [len(tickwork.list(state=state)) for state in ("failed", "completed")] == [3, 1]
    )
    go_on.set()


def test_starting_twice_and_stopping_twice_is_the_same_as_once(tickwork: Tickwork) -> None:
    assert not tickwork.is_running
    tickwork.start()
    threads = threading.active_count()
    tickwork.start()
    assert tickwork.is_running
    assert threading.active_count() <= threads
    tickwork.stop()
    tickwork.stop()
    assert not tickwork.is_running


def test_stop_waits_for_what_runs_and_starts_no_more() -> None:
    with closing(Tickwork(poll_interval=NEVER, concurrency=1)) as tickwork:
        running, go_on = threading.Event(), threading.Event()

        @tickwork.handler("hold")
        def hold(_payload: dict[str, Any]) -> None:
            running.set()
            go_on.wait(20)

        first, second = (tickwork.enqueue("hold", {}) for _ in range(2))
        tickwork.start()
        assert running.wait(20)
        stopping = threading.Thread(target=tickwork.stop)
        stopping.start()
        stopping.join(0.2)
        assert stopping.is_alive()
        assert not tickwork.is_running
        go_on.set()
        stopping.join(20)

        assert tickwork.get(first.id).status == "completed"
        waiting = tickwork.get(second.id)
        assert (waiting.status, waiting.attempts) == ("pending", 0)

        tickwork.enqueue("hold", {})  # rings nobody now
        assert tickwork.get(second.id).status == "pending"
        tickwork.start()
        assert eventually(lambda: all_done(tickwork))


class RecordingDoorbell:
    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, rings: Sequence[Ring]) -> None:
        self.rung += [ring.job_id for ring in rings]


def test_the_doorbell_that_was_there_still_rings_and_comes_back() -> None:
    outer = RecordingDoorbell()
    with closing(Tickwork(poll_interval=NEVER, doorbell=outer)) as tickwork:
        tickwork.register_handler("note", lambda payload: None)
        tickwork.start()
        during = tickwork.enqueue("note", {})
        assert eventually(lambda: all_done(tickwork))
        tickwork.stop()
        after = tickwork.enqueue("note", {})

        assert outer.rung == [during.id, after.id]
        assert tickwork.get(after.id).status == "pending"


def test_a_tick_that_fails_is_logged_once_and_the_next_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The store breaks for a while, in two ways."""
    caplog.set_level(logging.INFO, "tickwork.local")
    with closing(Tickwork(poll_interval=0.02, concurrency=1)) as tickwork:
        tickwork.register_handler("note", lambda payload: None)
        real, calls = tickwork.store.probe, iter(range(1000))

        def probe(**options: Any) -> Any:
            call = next(calls)
            if call < 3:
                raise StoreUnavailable("gone for lunch")
            if call < 6:
                raise RuntimeError("odd")
            return real(**options)

        monkeypatch.setattr(tickwork.store, "probe", probe)
        tickwork.enqueue("note", {})
        tickwork.start()

        assert eventually(lambda: all_done(tickwork))
        tickwork.stop()
    told = [
        (record.levelname, record.exc_info is not None)
        for record in caplog.records
        if record.name == "tickwork.local"
    ]
    assert told == [("ERROR", False), ("ERROR", True), ("INFO", False)]
    assert "gone for lunch" in caplog.text


def test_a_job_that_snoozes_for_no_time_does_not_spin() -> None:
    with closing(Tickwork(poll_interval=NEVER, concurrency=1)) as tickwork:
        calls: list[float] = []

        @tickwork.handler("later")
        def later(_payload: dict[str, Any]) -> None:
            calls.append(time.monotonic())
            raise Snooze(0)

        tickwork.enqueue("later", {})
        tickwork.start()
        assert eventually(lambda: bool(calls))

        assert not eventually(lambda: len(calls) > 1, seconds=0.3)


def test_without_apscheduler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "apscheduler"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "apscheduler", None)

    with closing(Tickwork()) as tickwork:
        with pytest.raises(ConfigurationError, match=r"pip install 'tickwork\[local\]'"):
            tickwork.start()
        assert not tickwork.is_running


# Whether to start by itself.

DEVELOPMENT = {"JOBS_ENV": "development"}
POSTGRESQL = "postgresql://localhost/shop"


def decide(environ: dict[str, str], **options: Any) -> bool:
    return should_auto_start(read_settings(environ), environ, **options)


@pytest.mark.parametrize(
    "environ",
    [
        {"FLASK_RUN_FROM_CLI": "true"},
        DEVELOPMENT,
        {**DEVELOPMENT, "DATABASE_URL": "sqlite:///dev.db"},
        {**DEVELOPMENT, "DATABASE_URL": "sqlite+pysqlite:////var/dev.db"},
        {**DEVELOPMENT, "DATABASE_URL": POSTGRESQL, "JOBS_AUTO_START": "1"},
        {**DEVELOPMENT, "FLASK_DEBUG": "1", "WERKZEUG_RUN_MAIN": "true"},
        {**DEVELOPMENT, "FLASK_DEBUG": "0"},
        {**DEVELOPMENT, "VERCEL": "1", "VERCEL_ENV": "development"},  # `vercel dev`
    ],
)
def test_on_a_laptop_it_starts(environ: dict[str, str]) -> None:
    assert decide(environ)


@pytest.mark.parametrize(
    "environ",
    [
        {"DATABASE_URL": "sqlite:///prod.db"},
        {"DATABASE_URL": "sqlite:///prod.db", "JOBS_AUTO_START": "1"},
        {"JOBS_ENV": "production", "JOBS_BACKEND": "memory", "JOBS_AUTO_START": "1"},
        {**DEVELOPMENT, "JOBS_AUTO_START": "0"},
        {**DEVELOPMENT, "DATABASE_URL": POSTGRESQL},
        {**DEVELOPMENT, "DATABASE_URL": "mysql://localhost/shop"},
        {**DEVELOPMENT, "DATABASE_URL": "sqlite+libsql://shop.turso.io"},
        {**DEVELOPMENT, "VERCEL": "1"},
        {**DEVELOPMENT, "VERCEL": "1", "JOBS_AUTO_START": "1"},
        {**DEVELOPMENT, "VERCEL_REGION": "fra1"},
        {**DEVELOPMENT, "AWS_LAMBDA_FUNCTION_NAME": "tick", "JOBS_AUTO_START": "1"},
        {**DEVELOPMENT, "K_SERVICE": "shop"},
        {**DEVELOPMENT, "SERVER_SOFTWARE": "gunicorn/23.0.0"},
        {**DEVELOPMENT, "SERVER_SOFTWARE": "gunicorn/23.0.0", "JOBS_AUTO_START": "1"},
        {**DEVELOPMENT, "UWSGI_ORIGINAL_PROC_NAME": "uwsgi"},
        {**DEVELOPMENT, "FLASK_DEBUG": "1"},
        {**DEVELOPMENT, "FLASK_DEBUG": "true", "WERKZEUG_RUN_MAIN": ""},
    ],
)
def test_elsewhere_it_does_not(environ: dict[str, str]) -> None:
    assert not decide(environ)


def test_what_the_server_says_of_reloading_counts_more_than_the_environment() -> None:
    assert decide({**DEVELOPMENT, "FLASK_DEBUG": "1"}, reloading=False)  # --debug --no-reload
    assert not decide(DEVELOPMENT, reloading=True)  # --reload without --debug


def test_the_stub_is_gentler_unless_told() -> None:
    assert Settings().stub_concurrency == 3
    assert read_settings(DEVELOPMENT).stub_concurrency == 3
    assert read_settings({**DEVELOPMENT, "JOBS_CONCURRENCY": "5"}).stub_concurrency == 5
    assert read_settings({**DEVELOPMENT, "QUEUE_CONCURRENCY": "1"}).stub_concurrency == 1
    assert read_settings({**DEVELOPMENT, "JOBS_CONCURRENCY": "5"}).concurrency == 5
    assert read_settings(DEVELOPMENT).poll_interval == 5
