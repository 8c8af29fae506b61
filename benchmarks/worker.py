"""The worker: how soon a job starts by poll and by NOTIFY, what NOTIFY and idleness cost, and its
pace beside a drain's.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event

from benchmarks.core import fresh
from benchmarks.latency import HANDLERS, ROOT, absolute, started
from jobs import Tickwork
from jobs.core.doorbell import SilentDoorbell

POLL_SECONDS = 1.0
IDLE_SECONDS = 30.0
POLLED = 60


def measure(url: str, jobs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Every figure, by name; durations in milliseconds unless the name says otherwise."""
    figures: dict[str, Any] = {"worker_poll_interval_seconds": POLL_SECONDS}
    with fresh(url) as tickwork, tempfile.TemporaryDirectory() as folder:
        say("a worker's pace beside a drain's ...")
        figures.update(_pace(tickwork))
        say("an idle worker ...")
        figures.update(_idle(tickwork))
        say("enqueue to start, by a worker's polls ...")
        with _worker(Path(folder), url):
            apart = lambda: random.uniform(0, POLL_SECONDS)  # noqa: E731 - any phase of a poll
            waits = _starts(tickwork, Path(folder), min(jobs, POLLED), apart)
            figures.update(_named("worker_poll", waits))
    if not url.startswith("postgres"):
        return figures
    with fresh(url) as tickwork, tempfile.TemporaryDirectory() as folder:
        notifying = Tickwork(url, table_prefix="bench_", notify=True)
        say("enqueue to start, by NOTIFY ...")
        with _worker(Path(folder), url, JOBS_NOTIFY="1", JOBS_POLL_INTERVAL="60"):
            waits = _starts(notifying, Path(folder), jobs, lambda: 0.05)
            figures.update(_named("worker_notify", waits))
        say("what NOTIFY costs whoever enqueues ...")
        figures.update(_cost(notifying))
        notifying.close()
    return figures


def _named(name: str, waits: list[float]) -> dict[str, Any]:
    waits.sort()
    return {
        f"{name}_start_p50_ms": round(statistics.median(waits), 1),
        f"{name}_start_p99_ms": round(waits[min(len(waits) - 1, int(len(waits) * 0.99))], 1),
        f"{name}_start_max_ms": round(waits[-1], 1),
        f"{name}_starts_measured": len(waits),
    }


def _starts(
    tickwork: Tickwork, folder: Path, jobs: int, apart_seconds: Callable[[], float]
) -> list[float]:
    waits = []
    for number in range(jobs):
        begun = time.monotonic()
        tickwork.enqueue("noop", {"n": number})
        at = started(folder / "starts", number)
        if number >= 5:  # the first open connections and prepare statements
            waits.append((at - begun) * 1000)
        time.sleep(apart_seconds())
    return waits


def _pace(tickwork: Tickwork, jobs: int = 5000) -> dict[str, Any]:
    """No-op jobs a second, by drain and by worker in turns; best of three each."""
    drained, worked = [], []
    for _ in range(3):
        tickwork.enqueue_many([("noop", {"n": n}) for n in range(jobs)])
        begun = time.perf_counter()
        tickwork.drain(limit=500)
        drained.append(jobs / (time.perf_counter() - begun))
        tickwork.enqueue_many([("noop", {"n": n}) for n in range(jobs)])
        worker = tickwork.worker()
        begun = time.perf_counter()
        worker.start()
        done = 0
        while done < jobs:
            time.sleep(0.01)
            done += worker.take_stats().succeeded
        worked.append(jobs / (time.perf_counter() - begun))
        worker.stop(5)
        worker.wait()
        _go_on(tickwork)
    return {
        "drain_jobs_per_second": round(max(drained)),
        "worker_jobs_per_second": round(max(worked)),
        "worker_pace_of_drain": round(max(worked) / max(drained), 2),
    }


def _go_on(tickwork: Tickwork) -> None:
    """A process whose worker was stopped starts no more jobs; this one does."""
    tickwork._runtime.stopping.clear()
    tickwork._runtime.give_up_at = float("inf")


def _idle(tickwork: Tickwork) -> dict[str, Any]:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            seen.append(statement)

    worker = tickwork.worker()
    worker.start()
    time.sleep(1)
    event.listen(tickwork.engine, "before_cursor_execute", note)
    cpu = time.process_time()
    time.sleep(IDLE_SECONDS)
    cpu = time.process_time() - cpu
    event.remove(tickwork.engine, "before_cursor_execute", note)
    worker.stop(5)
    worker.wait()
    return {
        "worker_idle_statements_per_minute": round(len(seen) * 60 / IDLE_SECONDS, 1),
        "worker_idle_poll_interval_seconds": tickwork.settings.poll_interval,
        "worker_idle_cpu_percent": round(100 * cpu / IDLE_SECONDS, 2),
    }


def _cost(tickwork: Tickwork) -> dict[str, Any]:
    """An enqueue with and without NOTIFY, in turns: the machine's speed drifts."""
    bell, silent = tickwork._runtime.doorbell, SilentDoorbell()

    def enqueue(doorbell: Any, apart_seconds: float) -> float:
        tickwork._runtime.doorbell = doorbell
        begun = time.perf_counter()
        tickwork.enqueue("noop", {"n": -1})
        took = (time.perf_counter() - begun) * 1000
        time.sleep(apart_seconds)
        return took

    pairs = [(enqueue(bell, 0.03), enqueue(silent, 0.03)) for _ in range(200)]
    burst = [(enqueue(bell, 0.0), enqueue(silent, 0.0)) for _ in range(1000)]
    return {
        "enqueue_with_notify_ms": round(statistics.median(with_it for with_it, _ in pairs), 2),
        "notify_ms": round(statistics.median(a - b for a, b in pairs), 2),
        "notify_in_a_burst_ms": round(statistics.median(a - b for a, b in burst), 3),
        "notify_in_a_burst_mean_ms": round(statistics.fmean(a - b for a, b in burst), 3),
    }


@contextmanager
def _worker(folder: Path, url: str, **more: str) -> Iterator[None]:
    (folder / "handlers_of_the_measurement.py").write_text(HANDLERS)
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        "DATABASE_URL": absolute(url),
        "JOBS_TABLE_PREFIX": "bench_",
        "JOBS_HANDLERS": "handlers_of_the_measurement",
        "JOBS_POLL_INTERVAL": str(POLL_SECONDS),
        **more,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", "worker", "--quiet", "--statistics", "0"],
        cwd=folder,
        env=environ,
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(2)  # it listens, or polls, by then
        yield
    finally:
        process.terminate()
        process.wait(30)
