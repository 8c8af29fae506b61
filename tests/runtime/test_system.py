"""Tickwork's own face, over the stub: enqueue, steer, listen, and be made from settings."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from jobs import (
    CapabilityError,
    ConfigurationError,
    JobContext,
    JobEvent,
    JobNotFound,
    JobStateConflict,
    PayloadError,
    PayloadTooLarge,
    Settings,
    Tickwork,
    handler,
)
from jobs.core.clock import ManualClock
from jobs.core.doorbell import Ring
from jobs.core.store import Verdict
from jobs.stores.memory import MemoryStore

ROOT = Path(__file__).parents[2]
START = datetime(2026, 1, 1, tzinfo=UTC)
INDIA = timezone(timedelta(hours=5, minutes=30))


class Bell:
    """A doorbell that remembers who rang, and whether the rows were there by then."""

    def __init__(self) -> None:
        self.rings: list[Ring] = []
        self.times = 0

    def ring(self, rings: Any) -> None:
        self.times += 1
        self.rings += rings


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def tickwork(clock: ManualClock) -> Iterator[Tickwork]:
    system = Tickwork(clock=clock)
    yield system
    system.close()


@dataclass
class Export:
    store_id: str
    rows: int = 0


# -- options of an enqueue ---------------------------------------------------------------------


def test_every_option(tickwork: Tickwork) -> None:
    job = tickwork.enqueue(
        "mail",
        {"to": "ada"},
        queue="mails",
        priority=1,
        delay=timedelta(minutes=1),
        max_attempts=5,
        timeout=timedelta(minutes=5),
        backoff={"type": "exponential", "delay": 2000},
        expires_in=3600,
        tenant="org1",
    )

    assert (job.queue, job.priority, job.max_attempts, job.tenant) == ("mails", 1, 5, "org1")
    assert job.run_at == START + timedelta(minutes=1)
    assert job.timeout_seconds == 300
    assert job.expires_at == START + timedelta(hours=1)
    shown = job.as_dict()
    assert shown["backoff"]["type"] == "exponential"
    assert shown["backoff"]["base"] == 2
    assert shown["run_at"] == "2026-01-01T00:01:00Z"


def test_the_jobs_options_win_over_the_kinds_over_the_settings(clock: ManualClock) -> None:
    tickwork = Tickwork(clock=clock, max_attempts=7)
    tickwork.register_handler("plain", lambda payload: None)
    tickwork.register_handler("own", lambda payload: None, queue="q", priority=2, max_attempts=4)

    def shown(kind: str, **options: Any) -> tuple[str, int, int]:
        job = tickwork.enqueue(kind, {}, **options)
        return job.queue, job.priority, job.max_attempts

    assert shown("plain") == ("default", 3, 7)
    assert shown("own") == ("q", 2, 4)
    assert shown("own", queue="z", priority=5, max_attempts=1) == ("z", 5, 1)
    assert shown("own", queue=None, priority=None, max_attempts=None) == ("q", 2, 4)


WRONG_OPTIONS: list[dict[str, Any]] = [
    {"prioritty": 1},
    {"priority": 0},
    {"priority": 6},
    {"priority": "high"},
    {"queue": "all"},
    {"queue": "a/b"},
    {"queue": ["a"]},
    {"max_attempts": 0},
    {"max_attempts": "3"},
    {"timeout": 0},
    {"timeout": timedelta(days=8)},
    {"timeout": "60"},
    {"delay": -1},
    {"delay": "60"},
    {"delay": True},
    {"delay": float("nan")},
    {"delay": float("inf")},
    {"delay": 10**400},
    {"delay": timedelta(days=4000)},
    {"run_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - the point of it
    {"run_at": "2026-01-01T00:00:00Z"},
    {"run_at": 1_800_000_000},
    {"run_at": datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))},
    {"run_at": START, "delay": 5},
    {"expires_in": -1},
    {"expires_in": timedelta(days=4000)},
    {"backoff": "fast"},
    {"backoff": {"type": "cubic"}},
    {"tenant": "a\nb"},
    {"tenant": 5},
]


@pytest.mark.parametrize("options", WRONG_OPTIONS, ids=str)
def test_a_wrong_option_is_refused_and_nothing_written(
    tickwork: Tickwork, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError):
        tickwork.enqueue("mail", {}, **options)
    with pytest.raises(ConfigurationError):
        tickwork.enqueue_many([("mail", {}), ("mail", {}, options)])
    with pytest.raises(ConfigurationError):
        tickwork.enqueue_many([("mail", {})], **options)

    assert tickwork.list() == []


def test_an_unknown_option_is_named_with_those_there_are(tickwork: Tickwork) -> None:
    with pytest.raises(ConfigurationError, match=r"called prioritty: there are .*priority"):
        tickwork.enqueue("mail", {}, prioritty=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", ["", "a b", "a/b", "x" * 101, None, 5], ids=str)
def test_a_wrong_kind_is_refused(tickwork: Tickwork, kind: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^kind "):
        tickwork.enqueue(kind, {})


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ([1], "$"),
        ("text", "$"),
        ({"a": float("nan")}, "$.a"),
        ({"a": [{"b": "\x00"}]}, "$.a[0].b"),
        ({"a": "\ud800"}, "$.a"),
        ({"a": b"x"}, "$.a"),
        ({1: 2}, "$"),
    ],
    ids=ascii,
)
def test_an_unfit_payload_is_refused_by_its_path(
    tickwork: Tickwork, payload: Any, path: str
) -> None:
    with pytest.raises(PayloadError) as caught:
        tickwork.enqueue("mail", payload)
    assert caught.value.path == path
    with pytest.raises(PayloadError):
        tickwork.enqueue_many([("mail", {}), ("mail", payload)])

    assert tickwork.list() == []


def test_the_limit_of_payloads_is_a_setting() -> None:
    tickwork = Tickwork(payload_max_bytes=1_000)
    fill = "x" * (1_000 - len('{"a":""}'))

    assert tickwork.enqueue("mail", {"a": fill})
    with pytest.raises(PayloadTooLarge):
        tickwork.enqueue("mail", {"a": fill + "x"})


def test_no_payload_is_an_empty_one(tickwork: Tickwork) -> None:
    assert tickwork.enqueue("mail").payload == {}
    assert tickwork.enqueue("mail", None).payload == {}


def test_a_date_in_another_zone_is_the_same_instant(tickwork: Tickwork) -> None:
    when = datetime(2026, 1, 1, 6, 0, tzinfo=INDIA)
    job = tickwork.enqueue("mail", {}, run_at=when)

    assert job.run_at == when
    assert job.as_dict()["run_at"] == "2026-01-01T00:30:00Z"


def test_a_date_gone_by_is_due_at_once(tickwork: Tickwork) -> None:
    tickwork.register_handler("mail", lambda payload: None)
    tickwork.enqueue("mail", {}, run_at=START - timedelta(days=3))

    assert tickwork.tick().succeeded == 1


# -- typed payloads ----------------------------------------------------------------------------


def test_a_typed_payload_is_checked_on_both_sides(tickwork: Tickwork) -> None:
    seen: list[Any] = []

    @tickwork.handler("export")
    def export(order: Export) -> None:
        seen.append(order)

    export.enqueue(Export("s1", 5))
    export.enqueue({"store_id": "s2"})
    with pytest.raises(PayloadError) as caught:
        export.enqueue({"store_id": 5})
    assert caught.value.path == "$.store_id"
    assert tickwork.tick(concurrency=1).succeeded == 2
    assert seen == [Export("s1", 5), Export("s2")]


def test_a_row_that_does_not_fit_its_handler_is_given_up_at_once(tickwork: Tickwork) -> None:
    """Written by another deployment, or before the type changed: trying again cannot help."""
    job = tickwork.enqueue("export", {"store_id": 5})

    @tickwork.handler("export")
    def export(order: Export) -> None:
        raise AssertionError("not called")

    assert tickwork.tick().failed == 1
    found = tickwork.get(job.id)
    assert found is not None
    assert (found.status, found.attempts) == ("failed", 1)
    assert "does not fit" in (found.error or "")
    assert "$.store_id" in (found.error or "")


# -- enqueue_many ------------------------------------------------------------------------------


def test_enqueue_many_takes_every_form(tickwork: Tickwork) -> None:
    ids = tickwork.enqueue_many(
        [
            ("mail", {"n": 0}),
            ("mail", {"n": 1}, {"priority": 1}),
            ["mail", {"n": 2}],
            {"kind": "mail", "payload": {"n": 3}, "queue": "q"},
            {"kind": "mail"},
            ("export", Export("s1")),
        ],
        tenant="org1",
    )
    jobs = [tickwork.get(job_id) for job_id in ids]

    assert ids == sorted(ids)
    assert [job and job.payload for job in jobs] == [
        *({"n": n} for n in range(4)),
        {},
        {"store_id": "s1", "rows": 0},
    ]
    assert [job and (job.priority, job.queue, job.tenant) for job in jobs] == [
        (3, "default", "org1"),
        (1, "default", "org1"),
        (3, "default", "org1"),
        (3, "q", "org1"),
        (3, "default", "org1"),
        (3, "default", "org1"),
    ]


def test_a_jobs_own_options_win_over_those_for_all(tickwork: Tickwork) -> None:
    ids = tickwork.enqueue_many([("mail", {}, {"priority": 1}), ("mail", {})], priority=5)

    assert [job and job.priority for job in map(tickwork.get, ids)] == [1, 5]


def test_enqueue_many_takes_a_generator_and_is_all_or_nothing(tickwork: Tickwork) -> None:
    assert len(tickwork.enqueue_many(("mail", {"n": n}) for n in range(1_000))) == 1_000
    assert tickwork.enqueue_many([]) == []
    tickwork.clear()

    def breaks() -> Iterator[Any]:
        yield "mail", {}
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        tickwork.enqueue_many(breaks())
    assert tickwork.list() == []


@pytest.mark.parametrize(
    "job", ["mail", ("mail",), (), ("mail", {}, {}, {}), {"payload": {}}, 5, None], ids=str
)
def test_what_is_no_job_is_refused(tickwork: Tickwork, job: Any) -> None:
    with pytest.raises(ConfigurationError, match="a job of enqueue_many is"):
        tickwork.enqueue_many([job])


def test_a_handler_enqueues_many_of_its_kind(tickwork: Tickwork) -> None:
    declared = tickwork.register_handler("mail", lambda payload: None, priority=2)
    ids = declared.enqueue_many([{"n": 1}, {"n": 2}], delay=5)

    assert [job and job.payload["n"] for job in map(tickwork.get, ids)] == [1, 2]
    assert {job.priority for job in tickwork.list()} == {2}


# -- async and careful enqueues ----------------------------------------------------------------


def test_aenqueue(tickwork: Tickwork) -> None:
    declared = tickwork.register_handler("mail", lambda payload: None)

    async def produce() -> list[Any]:
        return [
            await tickwork.aenqueue("mail", {"n": 1}, priority=1),
            await declared.aenqueue({"n": 2}),
        ]

    one, two = asyncio.run(produce())
    assert (one.payload, one.priority) == ({"n": 1}, 1)
    assert tickwork.get(two.id) == two


def test_aenqueue_refuses_a_plain_session(tickwork: Tickwork) -> None:
    with pytest.raises(CapabilityError, match="AsyncSession"):
        asyncio.run(tickwork.aenqueue("mail", {}, session=object()))


def test_aenqueue_refuses_like_enqueue(tickwork: Tickwork) -> None:
    with pytest.raises(PayloadError):
        asyncio.run(tickwork.aenqueue("mail", {"a": b""}))
    with pytest.raises(ConfigurationError):
        asyncio.run(tickwork.aenqueue("mail", {}, priority=9))


def test_try_enqueue_never_raises(tickwork: Tickwork, caplog: pytest.LogCaptureFixture) -> None:
    job = tickwork.try_enqueue("mail", {"n": 1}, priority=1)
    assert job is not None
    assert tickwork.get(job.id) == job

    with caplog.at_level(logging.ERROR, "tickwork"):
        assert tickwork.try_enqueue("mail", {"a": b""}) is None
        assert tickwork.try_enqueue("mail", {}, priority=9) is None
    assert len(caplog.records) == 2
    assert "was not enqueued" in caplog.text


# -- cancel ------------------------------------------------------------------------------------


def test_cancel_of_what_is_not_there(tickwork: Tickwork) -> None:
    with pytest.raises(JobNotFound) as caught:
        tickwork.cancel("unheard-of")

    assert caught.value.job_id == "unheard-of"


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled"])
def test_cancel_of_what_has_ended(tickwork: Tickwork, state: str) -> None:
    tickwork.register_handler("completed", lambda payload: None)
    tickwork.register_handler("failed", lambda payload: 1 / 0, max_attempts=1)
    job = tickwork.enqueue(state, {})
    if state == "cancelled":
        tickwork.cancel(job.id)
    tickwork.tick()
    before = tickwork.get(job.id)

    with pytest.raises(JobStateConflict, match=f"is {state}: it cannot be cancelled") as caught:
        tickwork.cancel(job.id)
    assert (caught.value.state, caught.value.action) == (state, "cancelled")
    assert tickwork.get(job.id) == before


class Ends(MemoryStore):
    """A job that ends, or goes, between the look at it and the cancel."""

    def cancel(self, job_id: str) -> Any:
        found = self.get(job_id)
        if found is not None and found.kind == "gone":
            return None
        (job,) = self.claim(1, kinds={"mail"}, lease_seconds=60)
        self.settle([Verdict(job.id, job.fence, "completed")])
        return super().cancel(job_id)


def test_cancel_that_comes_too_late() -> None:
    tickwork = Tickwork(store=Ends())
    job, gone = tickwork.enqueue("mail", {}), tickwork.enqueue("gone", {})

    with pytest.raises(JobStateConflict, match="completed"):
        tickwork.cancel(job.id)
    with pytest.raises(JobNotFound):
        tickwork.cancel(gone.id)


# -- events ------------------------------------------------------------------------------------


def test_events_of_a_life(tickwork: Tickwork, clock: ManualClock) -> None:
    heard: list[JobEvent] = []
    for name in ("enqueued", "started", "completed", "failed", "retried", "progress", "released"):
        tickwork.on(name, heard.append)  # type: ignore[arg-type]

    @tickwork.handler("mail", queue="mails", max_attempts=2, backoff={"delay": 5000})
    def send(payload: dict[str, Any], ctx: JobContext) -> dict[str, int]:
        ctx.progress(50)
        if payload["fails"] >= ctx.attempt:
            raise ValueError(f"no {ctx.attempt}")
        return {"sent": ctx.attempt}

    def life(fails: int) -> list[JobEvent]:
        heard.clear()
        job = send.enqueue({"fails": fails}, tenant="org1")
        for _ in range(3):
            tickwork.tick()
            clock.advance(6)
        assert {(event.job_id, event.kind, event.queue, event.tenant) for event in heard} == {
            (job.id, "mail", "mails", "org1")
        }
        return list(heard)

    def names(events: list[JobEvent]) -> list[str]:
        return [event.name for event in events]

    attempt = ["started", "progress"]
    good, healed, dead = life(0), life(1), life(2)
    assert names(good) == ["enqueued", *attempt, "completed"]
    assert names(healed) == ["enqueued", *attempt, "retried", *attempt, "completed"]
    assert names(dead) == ["enqueued", *attempt, "retried", *attempt, "failed"]
    completed, retried, failed = good[-1], healed[3], dead[-1]
    assert (completed.result, completed.attempt, completed.error) == ({"sent": 1}, 1, None)
    assert completed.duration_ms is not None
    assert (retried.error, retried.attempt, retried.delay_seconds) == ("ValueError: no 1", 1, 5)
    assert (failed.error, failed.attempt, failed.max_attempts) == ("ValueError: no 2", 2, 2)
    assert good[2].percent == 50


def test_the_row_is_written_when_its_end_is_told(tickwork: Tickwork) -> None:
    states: list[str] = []

    def look(event: JobEvent) -> None:
        job = tickwork.get(event.job_id)
        assert job is not None
        states.append(job.status)

    tickwork.on("enqueued", look)
    tickwork.on("started", look)
    tickwork.on("completed", look)
    tickwork.register_handler("mail", lambda payload: None)
    tickwork.enqueue("mail", {})
    tickwork.tick()

    assert states == ["pending", "processing", "completed"]


def test_enqueue_many_tells_of_each(tickwork: Tickwork) -> None:
    heard: list[str] = []
    tickwork.on("enqueued", lambda event: heard.append(event.job_id))

    assert tickwork.enqueue_many([("mail", {})] * 3) == heard


def test_released_jobs_are_told(tickwork: Tickwork) -> None:
    """A job that says it needs longer than is left goes back, with its attempt."""
    heard: list[JobEvent] = []
    tickwork.on("released", heard.append)

    @tickwork.handler("long", timeout=600, max_attempts=1)
    def long(payload: dict[str, Any]) -> None:
        raise ValueError("and nobody knows how long it would have taken")

    ids = tickwork.enqueue_many([("long", {})] * 3)
    result = tickwork.tick(concurrency=1, tick_limit=60)

    assert (result.failed, result.released) == (1, 2)
    assert sorted(event.job_id for event in heard) == ids[1:]
    assert [job.attempts for job in tickwork.list(state="pending")] == [0, 0]


def test_a_listener_that_raises_breaks_nothing(
    tickwork: Tickwork, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def broken(event: JobEvent) -> None:
        raise RuntimeError("listener")

    for name in ("enqueued", "started", "completed"):
        tickwork.on(name, broken)  # type: ignore[arg-type]
        assert tickwork.on(name, lambda event: heard.append(event.name)) is not None  # type: ignore[arg-type]
    tickwork.register_handler("mail", lambda payload: "ok")
    job = tickwork.enqueue("mail", {})
    with caplog.at_level(logging.ERROR, "tickwork"):
        assert tickwork.tick().succeeded == 1

    assert heard == ["enqueued", "started", "completed"]
    found = tickwork.get(job.id)
    assert found is not None
    assert found.result == "ok"
    assert job.id in caplog.text


@pytest.mark.parametrize("name", ["finished", "", None, "complete"])
def test_there_is_no_such_event(tickwork: Tickwork, name: Any) -> None:
    with pytest.raises(ValueError, match="there are enqueued, started, completed"):
        tickwork.on(name, print)


# -- the doorbell ------------------------------------------------------------------------------


def test_the_bell_is_rung_once_for_what_is_committed(clock: ManualClock) -> None:
    bell = Bell()
    tickwork = Tickwork(clock=clock, doorbell=bell)
    one = tickwork.enqueue("mail", {}, delay=5)
    dated = tickwork.enqueue("mail", {}, run_at=START + timedelta(seconds=9))
    assert bell.rings == [Ring(one.id, "mail", 5.0), Ring(dated.id, "mail", 9.0)]
    bell.times = 0
    ids = tickwork.enqueue_many([("mail", {}), ("export", {}, {"delay": 7})])

    assert bell.times == 1, "one ring for many"
    assert bell.rings[2:] == [Ring(ids[0], "mail", 0.0), Ring(ids[1], "export", 7.0)]
    with pytest.raises(PayloadError):
        tickwork.enqueue("mail", {"a": b""})
    assert bell.times == 1


# -- ticks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, -1])
def test_a_tick_wants_a_limit(tickwork: Tickwork, limit: int) -> None:
    with pytest.raises(ConfigurationError, match="limit"):
        tickwork.tick(limit=limit)


def test_what_is_left_is_counted_up_to_a_thousand(tickwork: Tickwork) -> None:
    tickwork.register_handler("mail", lambda payload: None)
    tickwork.enqueue_many([("mail", {})] * 1_021)
    first, second = tickwork.tick(limit=10), tickwork.tick(limit=11)

    assert (first.remaining, first.more) == (1_000, True)
    assert (second.remaining, second.more) == (1_000, False)
    assert first.as_dict().keys() == {
        *("processed", "succeeded", "failed", "retried", "released", "remaining", "more"),
        *("jobs", "duration_ms", "next_due_at"),
    }
    assert first.as_dict()["jobs"] == list(first.jobs)


def test_overlapping_ticks_run_each_job_once(tickwork: Tickwork) -> None:
    runs: list[int] = []
    tickwork.register_handler("mail", lambda payload: runs.append(payload["n"]))
    tickwork.enqueue_many([("mail", {"n": n}) for n in range(200)])
    results: list[int] = []
    ready = threading.Barrier(4)

    def work() -> None:
        ready.wait(10)
        results.append(sum(tickwork.tick(limit=25).processed for _ in range(4)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(runs) == list(range(200))
    assert sum(results) == 200


# -- made from settings ------------------------------------------------------------------------


def test_without_anything_it_is_the_stub() -> None:
    tickwork = Tickwork()

    assert isinstance(tickwork.store, MemoryStore)
    assert tickwork.settings.backend == "memory"
    assert tickwork.settings.env == "development"


def test_settings_may_be_given_or_overridden() -> None:
    assert Tickwork(settings=Settings(batch_size=3)).settings.batch_size == 3
    assert Tickwork(batch_size=3, namespace="preview").store.namespace == "preview"
    with pytest.raises(ConfigurationError, match="no setting is called 'batchsize'"):
        Tickwork(batchsize=3)


def test_the_environment_does_not_leak_into_what_is_made_by_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOBS_BATCH_SIZE", "77")
    monkeypatch.setenv("DATABASE_URL", "sqlite:///elsewhere.db")

    assert Tickwork().settings.batch_size == 10
    assert Tickwork.from_env(os.environ, backend="memory").settings.batch_size == 77


def test_from_env_with_an_environment_is_new_each_time() -> None:
    environ = {"JOBS_ENV": "development", "JOBS_BATCH_SIZE": "4"}
    one, other = Tickwork.from_env(environ), Tickwork.from_env(environ)

    assert one is not other
    assert one.settings.batch_size == 4
    with pytest.raises(ConfigurationError, match="DATABASE_URL is not set"):
        Tickwork.from_env({})


def test_one_handler_may_move_to_another_system() -> None:
    """As in tests: the last system that it was bound to gets its jobs."""

    @handler("mail")
    def send(payload: dict[str, Any]) -> None: ...

    one, other = Tickwork(), Tickwork()
    one.register(send)
    send.enqueue({})
    other.register(send)
    send.enqueue({})

    assert (len(one.list()), len(other.list())) == (1, 1)


def test_clear_is_only_the_stubs_without_force(tickwork: Tickwork) -> None:
    tickwork.enqueue("mail", {})

    assert tickwork.clear() == 1
    assert tickwork.clear(force=True) == 0


# -- one per process, in processes of their own ------------------------------------------------


def run(folder: Path, program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JOBS_", "DATABASE_", "QUEUE_", "CRON_", "FLASK_", "VERCEL"))
    }
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**clean, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **environ},
    )


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project with its handlers in two modules: one asks for the system, the other does not."""
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tasks.py").write_text(
        "from jobs import Tickwork\n"
        "tickwork = Tickwork.from_env()\n"
        "@tickwork.handler('mail')\n"
        "def mail(payload: dict) -> str:\n"
        "    return 'sent'\n"
    )
    (package / "library.py").write_text(
        "from jobs import handler\n"
        "@handler('export')\n"
        "def export(payload: dict) -> str:\n"
        "    return 'exported'\n"
        "again = export\n"
    )
    (package / "broken.py").write_text("import not_installed_anywhere\n")
    return tmp_path


DEVELOPMENT = {"JOBS_ENV": "development"}
BOTH = {**DEVELOPMENT, "JOBS_HANDLERS": "shop.tasks, shop.library"}


@pytest.mark.parametrize(
    "first", ["from shop.tasks import tickwork", "import shop.library", "pass"], ids=str
)
def test_from_env_is_one_per_process_whoever_asks_first(shop: Path, first: str) -> None:
    done = run(
        shop,
        f"{first}\n"
        "from jobs import Tickwork\n"
        "tickwork = Tickwork.from_env()\n"
        "import shop.tasks, shop.library\n"
        "assert tickwork is Tickwork.from_env() is shop.tasks.tickwork\n"
        "jobs = [shop.tasks.mail.enqueue({}), shop.library.export.enqueue({})]\n"
        "assert tickwork.settings.handlers == ('shop.tasks', 'shop.library')\n"
        "assert tickwork.tick().succeeded == 2\n"
        "print(*sorted(tickwork.registry.kinds), *(tickwork.get(job.id).result for job in jobs))\n",
        **BOTH,
    )

    assert done.stdout.split() == ["export", "mail", "sent", "exported"], done.stderr


def test_from_env_is_one_for_all_threads(shop: Path) -> None:
    done = run(
        shop,
        "import threading\n"
        "from jobs import Tickwork\n"
        "ready, found = threading.Barrier(8), []\n"
        "def ask():\n"
        "    ready.wait(10)\n"
        "    found.append(Tickwork.from_env())\n"
        "threads = [threading.Thread(target=ask) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join(10) for thread in threads]\n"
        "print(len(found), len(set(map(id, found))), *sorted(found[0].registry.kinds))\n",
        **BOTH,
    )

    assert done.stdout.split() == ["8", "1", "export", "mail"], done.stderr


def test_handlers_by_name_without_the_environment(shop: Path) -> None:
    done = run(
        shop,
        "from jobs import Tickwork\n"
        "tickwork = Tickwork(handlers=['shop.library'])\n"
        "again = tickwork.load_handlers('shop.library')\n"
        "print(*tickwork.registry.kinds, *[declared.kind for declared in again])\n",
    )

    assert done.stdout.split() == ["export", "export", "export"], done.stderr


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("shop.nowhere", "JOBS_HANDLERS: there is no module 'shop.nowhere'"),
        ("nowhere", "JOBS_HANDLERS: there is no module 'nowhere'"),
        ("nowhere.tasks", "JOBS_HANDLERS: there is no module 'nowhere.tasks'"),
        ("shop.broken", "ModuleNotFoundError: No module named 'not_installed_anywhere'"),
    ],
)
def test_a_module_that_cannot_be_loaded_is_told_apart(shop: Path, named: str, told: str) -> None:
    done = run(
        shop, "import jobs; jobs.Tickwork.from_env()", **{**DEVELOPMENT, "JOBS_HANDLERS": named}
    )

    assert done.returncode == 1
    assert told in done.stderr
    assert ("there is no module" in done.stderr) == ("there is no module" in told)


def test_a_module_whose_name_only_begins_like_the_missing_one(shop: Path) -> None:
    """What is missing is what the named module imports, and not the named module."""
    (shop / "shopping.py").write_text("import shopp\n")
    done = run(
        shop,
        "import jobs; jobs.Tickwork.from_env()",
        **{**DEVELOPMENT, "JOBS_HANDLERS": "shopping"},
    )

    assert "No module named 'shopp'" in done.stderr
    assert "there is no module" not in done.stderr


def test_a_start_that_failed_may_be_tried_again(shop: Path) -> None:
    done = run(
        shop,
        "import os, jobs\n"
        "try:\n"
        "    jobs.Tickwork.from_env()\n"
        "except jobs.ConfigurationError:\n"
        "    os.environ['JOBS_HANDLERS'] = 'shop.library'\n"
        "print(*jobs.Tickwork.from_env().registry.kinds)\n",
        **{**DEVELOPMENT, "JOBS_HANDLERS": "shop.library,shop.nowhere"},
    )

    assert done.stdout.split() == ["export"], done.stderr


def test_production_without_a_database_refuses_to_start(shop: Path) -> None:
    done = run(shop, "import jobs; jobs.Tickwork.from_env()")

    assert done.returncode == 1
    assert "DATABASE_URL is not set" in done.stderr


def test_no_password_is_told_when_the_start_fails(shop: Path) -> None:
    done = run(
        shop,
        "import jobs; jobs.Tickwork.from_env()",
        DATABASE_URL="postgres://jobs:hunter2xyz@localhost/shop",
        CRON_SECRET="hunter2xyz",
        JOBS_BATCH_SIZE="many",
        JOBS_TIMEOUT="0",
    )

    assert done.returncode == 1
    assert "JOBS_BATCH_SIZE" in done.stderr
    assert "JOBS_TIMEOUT" in done.stderr
    assert "hunter2xyz" not in done.stderr + done.stdout
