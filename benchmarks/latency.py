"""How soon after an enqueue its handler starts, by kick alone; and what kicks and idle ticks cost.

A server of its own (gunicorn with threads) answers the kicks. Both processes read one machine's
monotonic clock, so an instant of one can be held against one of the other.
"""

from __future__ import annotations

import http.client
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import event

from benchmarks.core import fresh
from jobs import Tickwork
from jobs.core.doorbell import SilentDoorbell
from jobs.doorbells.http import KickDoorbell

ROOT = Path(__file__).parents[1]
SECRET = "a-secret-of-the-measurement"  # noqa: S105 - of a server that lives for a minute
PATIENCE_SECONDS = 30.0
HANDLERS = """
import os, time
from jobs import handler

@handler("noop")
def noop(payload):
    started = time.monotonic()
    with open("starts", "a") as file:
        file.write(f"{payload['n']} {started}\\n")
"""


def measure(url: str, jobs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Every figure, by name; durations in milliseconds."""
    figures: dict[str, Any] = {
        "database": url.split(":", 1)[0],
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }
    with fresh(url) as tickwork, tempfile.TemporaryDirectory() as folder:
        say("idle ticks ...")
        figures.update(_idle(tickwork))
        say("enqueue to start, by kick ...")
        with _server(Path(folder), url) as port:
            bell = KickDoorbell(f"http://127.0.0.1:{port}", SECRET)
            figures.update(_starts(tickwork, bell, Path(folder), jobs))
            say("what the kick costs whoever enqueues ...")
            figures.update(_cost(tickwork, bell, jobs))
            bell.close()
    return figures


def _idle(tickwork: Tickwork) -> dict[str, Any]:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    # What is delayed is looked past by the claim, and told of by the tick's answer.
    tickwork.enqueue("noop", {"n": 0}, delay=86_400)
    event.listen(tickwork.engine, "before_cursor_execute", note)
    took = []
    for _ in range(200):
        seen.clear()
        begun = time.perf_counter()
        tickwork.tick(look_ahead=True)
        took.append((time.perf_counter() - begun) * 1000)
    event.remove(tickwork.engine, "before_cursor_execute", note)
    return {
        "idle_tick_statements": len([each for each in seen if not each.startswith("BEGIN")]),
        "idle_tick_ms": round(statistics.median(took), 2),
    }


def _starts(tickwork: Tickwork, bell: KickDoorbell, folder: Path, jobs: int) -> dict[str, Any]:
    tickwork._runtime.doorbell = bell
    file = folder / "starts"
    waits = []
    for number in range(jobs):
        begun = time.monotonic()
        tickwork.enqueue("noop", {"n": number})
        at = started(file, number)
        if number >= 10:  # a server's first ticks open connections and prepare statements
            waits.append((at - begun) * 1000)
        # Apart enough for each to be a kick of its own, as orders of a small shop are.
        time.sleep(0.21)
    waits.sort()
    return {
        "start_p50_ms": round(statistics.median(waits), 1),
        "start_p99_ms": round(waits[min(len(waits) - 1, int(len(waits) * 0.99))], 1),
        "start_max_ms": round(waits[-1], 1),
        "starts_measured": len(waits),
    }


def started(file: Path, number: int) -> float:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if file.exists():
            for line in file.read_text().splitlines()[-3:]:
                found, _, at = line.partition(" ")
                if found == str(number) and at:
                    return float(at)
        time.sleep(0.0005)
    raise TimeoutError(f"job {number} was not started within {PATIENCE_SECONDS:g} s")


def _cost(tickwork: Tickwork, bell: KickDoorbell, jobs: int) -> dict[str, Any]:
    """An enqueue with and without the kick, in turns: the machine's speed drifts."""

    def enqueue(doorbell: Any, apart_seconds: float) -> float:
        tickwork._runtime.doorbell = doorbell
        begun = time.perf_counter()
        tickwork.enqueue("noop", {"n": -1})
        took = (time.perf_counter() - begun) * 1000
        time.sleep(apart_seconds)
        return took

    silent = SilentDoorbell()
    pairs = [(enqueue(bell, 0.25), enqueue(silent, 0.05)) for _ in range(min(jobs, 100))]
    # In a burst nearly all are saved by one that was sent just before.
    burst = [(enqueue(bell, 0.0), enqueue(silent, 0.0)) for _ in range(500)]
    return {
        "enqueue_with_kick_ms": round(statistics.median(with_it for with_it, _ in pairs), 2),
        "enqueue_without_ms": round(statistics.median(without for _, without in pairs), 2),
        "kick_ms": round(statistics.median(a - b for a, b in pairs), 2),
        "kick_in_a_burst_ms": round(statistics.median(a - b for a, b in burst), 3),
    }


@contextmanager
def _server(folder: Path, url: str) -> Iterator[int]:
    (folder / "handlers_of_the_measurement.py").write_text(HANDLERS)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        "DATABASE_URL": absolute(url),
        "JOBS_TABLE_PREFIX": "bench_",
        "CRON_SECRET": SECRET,
        "JOBS_HANDLERS": "handlers_of_the_measurement",
        "JOBS_KICK_URL": f"http://127.0.0.1:{port}",
    }
    own = ["--bind", f"127.0.0.1:{port}", "--no-control-socket", "--worker-tmp-dir", str(folder)]
    threads = ["--worker-class=gthread", "--threads=8", "--log-level=error"]
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *own, *threads, "api.index:app"], cwd=folder, env=environ
    )
    try:
        _wait_for(port)
        yield port
    finally:
        server.terminate()
        server.wait(30)


def absolute(url: str) -> str:
    """A relative SQLite file, as the server in another folder is to find it."""
    path = url.removeprefix("sqlite:///")
    return url if path == url or path.startswith("/") else f"sqlite:///{Path(path).resolve()}"


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError):
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            line.request("GET", "/healthz")
            if line.getresponse().status == 200:
                line.close()
                return
        time.sleep(0.05)
    raise TimeoutError("the server did not come up")
