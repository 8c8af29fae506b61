"""The heart's figures: enqueue, process, statements, claim time with history, cold start."""

from __future__ import annotations

import compileall
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event, text

import jobs as package
from benchmarks import raw
from jobs import Tickwork
from jobs.core.ids import new_ids
from jobs.core.job import NewJob

PARTS = ("enqueue", "process", "statements", "claim", "cold")
Say = Callable[[str], None]
BULK = 50_000


def measure(url: str, jobs: int, rows: int, only: list[str], say: Say) -> dict[str, Any]:
    """Every part (or those in ``only``), each on fresh tables; figures by name."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "enqueue": lambda: _enqueue(url),
        "process": lambda: _process(url, jobs, say),
        "statements": lambda: _statements(url),
        "claim": lambda: _claim(url, rows, say),
        "cold": lambda: _cold(url),
    }
    figures: dict[str, Any] = {
        "database": url.split(":", 1)[0],
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }
    for name, part in parts.items():
        if not only or name in only:
            say(f"{name} ...")
            figures.update(part())
    figures["peak_rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    return figures


@contextmanager
def fresh(url: str) -> Iterator[Tickwork]:
    """A system at default settings on empty tables, with one kind: a handler that does nothing."""
    tickwork = Tickwork(url, table_prefix="bench_")
    _drop(tickwork)
    tickwork.create_schema()

    @tickwork.handler("noop")
    def noop(payload: dict[str, int]) -> None:
        return None

    try:
        yield tickwork
    finally:
        _drop(tickwork)
        tickwork.close()


def _drop(tickwork: Tickwork) -> None:
    tables = raw.store_of(tickwork).tables
    tables.metadata.drop_all(tickwork.engine)
    with tickwork.engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {tables.version_table}")


def _vacuum(tickwork: Tickwork) -> None:
    store = raw.store_of(tickwork)
    statements = {
        "postgresql": f"VACUUM ANALYZE {store.statements.jobs}",
        "sqlite": "ANALYZE",
        "mysql": f"ANALYZE TABLE {store.statements.jobs}",
    }
    engine = tickwork.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statements[store.sql.name])


def in_turns(ours: Callable[[], float], theirs: Callable[[], float], turns: int) -> Any:
    """Medians of both, and of their ratio pair by pair: the machine's speed drifts."""
    pairs = [(ours(), theirs()) for _ in range(turns)]
    return (
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(pair[0] / pair[1] for pair in pairs),
    )


def _enqueue(url: str) -> dict[str, Any]:
    with fresh(url) as tickwork:

        def one() -> float:
            begun = time.perf_counter()
            for number in range(100):
                tickwork.enqueue("noop", {"n": number})
            return 100 / (time.perf_counter() - begun)

        def many() -> float:
            jobs = [("noop", {"n": 1})] * BULK
            begun = time.perf_counter()
            tickwork.enqueue_many(jobs)
            return BULK / (time.perf_counter() - begun)

        one(), raw.enqueue_one_per_s(tickwork, 100)  # warm
        # Many short turns: a disk that is busy for a moment spoils one of them.
        one_per_s, bare, one_ratio = in_turns(one, lambda: raw.enqueue_one_per_s(tickwork, 100), 25)
        many_per_s, raw_many, many_ratio = in_turns(
            many, lambda: raw.enqueue_many_per_s(tickwork, BULK), 3
        )
    return {
        "enqueue_one_per_s": round(one_per_s),
        "bare_insert_per_s": round(bare),
        "enqueue_one_vs_bare": round(one_ratio, 3),
        "enqueue_many_per_s": round(many_per_s),
        "raw_bulk_per_s": round(raw_many),
        "enqueue_many_vs_raw": round(many_ratio, 3),
    }


def _process(url: str, count: int, say: Say) -> dict[str, Any]:
    """Both loops over ``count`` queued jobs of their own, in turns, rows and results kept."""

    def ours() -> float:
        with fresh(url) as tickwork:
            tickwork.enqueue_many([("noop", {"n": 1})] * count)
            _vacuum(tickwork)
            begun = time.perf_counter()
            done = sum(result.succeeded for result in tickwork.drain(limit=1000))
            rate = done / (time.perf_counter() - begun)
            _check_all_completed(tickwork, count)
        say(f"  processed {rate:,.0f}/s")
        return rate

    def theirs() -> float:
        with fresh(url) as tickwork:
            tickwork.enqueue_many([("noop", {"n": 1})] * count)
            _vacuum(tickwork)
            done, rate = raw.process_per_s(tickwork)
            assert done == count, (done, count)
        say(f"  raw {rate:,.0f}/s")
        return rate

    process, limit, ratio = in_turns(ours, theirs, 3)
    return {
        "process_per_s": round(process),
        "raw_process_per_s": round(limit),
        "process_vs_raw": round(ratio, 3),
    }


def _check_all_completed(tickwork: Tickwork, count: int) -> None:
    counts = tickwork.counts()
    if counts != {("default", "noop", "completed"): count}:
        raise SystemExit(f"not all {count} jobs are recorded completed: {counts}")


def _statements(url: str) -> dict[str, Any]:
    with fresh(url) as tickwork:
        tickwork.tick()
        idle = _counted(tickwork, 0)
        figures = {"10": _counted(tickwork, 10), "1000": _counted(tickwork, 1000)}
    with fresh(url) as tickwork:  # a tick of a process that has not learnt the pace
        figures["10 in a fresh process"] = _counted(tickwork, 10)
    with fresh(url) as tickwork:
        figures["1000 in a fresh process"] = _counted(tickwork, 1000)
    return {"statements_per_tick": figures, "idle_tick_statements": idle}


def _counted(tickwork: Tickwork, jobs: int) -> int:
    """Statements of one tick over that many due jobs, begin and commit not counted."""
    tickwork.enqueue_many([("noop", {"n": 1})] * jobs)
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(statement)

    event.listen(tickwork.engine, "before_cursor_execute", note)
    try:
        result = tickwork.tick(limit=max(jobs, 1))
    finally:
        event.remove(tickwork.engine, "before_cursor_execute", note)
    assert result.succeeded == jobs
    return len(seen)


def _claim(url: str, rows: int, say: Say) -> dict[str, Any]:
    """Median time of a claim of 10, beside history, backlog and delayed jobs of better priority."""
    figures: dict[str, float] = {}
    few = 1000
    for what, fill in (("history", _history), ("backlog", _backlog), ("delayed", _delayed)):
        with fresh(url) as tickwork:
            fill(tickwork, few)
            figures[f"{what}_{few}"] = _claim_ms(tickwork)
            fill(tickwork, rows - few)
            _vacuum(tickwork)
            figures[f"{what}_{rows}"] = _claim_ms(tickwork)
        say(f"  {what}: {figures}")
    return {"claim_ms_p50": figures}


def _claim_ms(tickwork: Tickwork) -> float:
    tickwork.enqueue_many([("noop", {"n": 1})] * 600)
    store, times = tickwork.store, []
    for _ in range(50):
        begun = time.perf_counter()
        claimed = store.claim(10, kinds={"noop"}, lease_seconds=60, mark=5)
        times.append((time.perf_counter() - begun) * 1000)
        assert len(claimed) == 10
    return round(statistics.median(times), 3)


def _history(tickwork: Tickwork, count: int) -> None:
    _backlog(tickwork, count)
    store = raw.store_of(tickwork)
    now = store.sql.now
    with tickwork.engine.begin() as connection:
        connection.execute(
            text(
                f"UPDATE {store.statements.jobs} SET state = 'completed', attempts = 1, "
                f"finished_at = {now}, keep_until = {store.sql.later('86400')} "
                "WHERE state = 'pending'"
            )
        )
    _vacuum(tickwork)


def _backlog(tickwork: Tickwork, count: int) -> None:
    _fill(tickwork, count, 3, None)


def _delayed(tickwork: Tickwork, count: int) -> None:
    _fill(tickwork, count, 1, datetime.now(UTC) + timedelta(days=30))


def _fill(tickwork: Tickwork, count: int, priority: int, run_at: datetime | None) -> None:
    tickwork.store.insert_many(
        NewJob(job_id, "noop", '{"n":1}', priority=priority, run_at=run_at)
        for job_id in new_ids(count)
    )


_BARE = """
import time; begun = time.perf_counter()
import flask
from sqlalchemy import create_engine, text
from jobs.stores.sql.engine import normalize_url
engine = create_engine({url!r})
app = flask.Flask("bare")
with engine.connect() as connection:
    connection.execute(text("SELECT 1")).scalar()
print((time.perf_counter() - begun) * 1000)
"""
_COLD = """
import io, os, time; begun = time.perf_counter()
from jobs.http import create_app
app = create_app()
environ = {  # as a platform's server calls it; a test client would bring imports of its own
    "REQUEST_METHOD": "GET", "PATH_INFO": "/cron/process-jobs", "QUERY_STRING": "",
    "HTTP_AUTHORIZATION": "Bearer " + os.environ["CRON_SECRET"], "SERVER_NAME": "localhost",
    "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "10.0.0.1",
    "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(),
    "wsgi.errors": io.StringIO(), "wsgi.multithread": True, "wsgi.multiprocess": False,
    "wsgi.run_once": False}
said = []
body = b"".join(app(environ, lambda status, headers, *_: said.append(status)))
assert said == ["200 OK"], (said, body)
print((time.perf_counter() - begun) * 1000)
"""


def _cold(url: str) -> dict[str, Any]:
    """One tick in a fresh process beside flask, SQLAlchemy and the driver saying SELECT 1.

    With bytecode, as deployments ship it and pip leaves that of the others: a checkout whose
    environment forbids writing it (``PYTHONDONTWRITEBYTECODE``) would be measured compiling.
    """
    compileall.compile_dir(Path(package.__file__).parent, quiet=2)
    from jobs.stores.sql.engine import normalize_url

    plain = normalize_url(url).render_as_string(hide_password=False)
    bare_code = _BARE.replace("from jobs.stores.sql.engine import normalize_url\n", "")
    with fresh(url) as tickwork:
        environment = {
            **os.environ,
            "DATABASE_URL": url,
            "JOBS_TABLE_PREFIX": "bench_",
            "CRON_SECRET": "a secret for the benchmark only",
            "JOBS_ENV": "production",
        }
        assert tickwork.counts() == {}
        cold, bare, ratio = in_turns(
            lambda: in_new_process(_COLD, environment),
            lambda: in_new_process(bare_code.format(url=plain), environment),
            9,
        )
    return {
        "cold_start_ms": round(cold, 1),
        "bare_cold_start_ms": round(bare, 1),
        "cold_start_vs_bare": round(ratio, 3),
    }


def in_new_process(code: str, environment: dict[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.splitlines()[-1])
