"""The dashboard's figures: what each page takes, warm, with a million jobs."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import event, text

from benchmarks import raw
from benchmarks.core import Say, _vacuum, fresh
from jobs import Tickwork
from jobs.core.flow import flow_of
from jobs.core.ids import new_ids
from jobs.core.job import NewJob
from jobs.http import create_app

HOME = "/api/jobs/dashboard"
ADMIN = "an-admin-token-for-the-benchmark"
TURNS = 9
# Kind, its queue, and the part of all jobs that is its.
KINDS = (
    ("mail", "mails", 55),
    ("thumbnail", "pictures", 30),
    ("export", "exports", 14),
    ("rare", "rare", 1),
)
TENANTS = ("", "", "acme", "globex")
# Of a hundred jobs; the rest has completed.
PENDING, DELAYED, FAILED, CANCELLED = 10, 5, 3, 1


def measure(url: str, rows: int, say: Say) -> dict[str, Any]:
    """Median and worst milliseconds, and statements, of each page; asked as somebody signed in."""
    with fresh(url) as tickwork:
        say(f"filling {rows:,} rows ...")
        _fill(tickwork, rows)
        _vacuum(tickwork)
        for kind, queue, _ in KINDS:
            tickwork.register_handler(kind, lambda payload: None, queue=queue)
        tickwork.tick(limit=10)
        client = _client(tickwork)
        figures = {}
        for name, path in _pages(tickwork).items():
            times, statements = _times(tickwork, client, path)
            figures[name] = {
                "p50_ms": round(statistics.median(times), 1),
                "max_ms": round(max(times), 1),
                "statements": statements,
            }
            say(f"  {name}: {figures[name]}")
    return {"rows": rows, "pages": figures}


def _client(tickwork: Tickwork) -> FlaskClient:
    from msgspec.structs import replace

    tickwork.settings = replace(tickwork.settings, admin_token=ADMIN, secret_key="k" * 40)
    client = create_app(tickwork).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {ADMIN}"
    return client


def _fill(tickwork: Tickwork, rows: int) -> None:
    tickwork.store.insert_many(_jobs(rows))
    store = raw.store_of(tickwork)
    jobs, now = store.statements.jobs, store.sql.now
    # By a digit of the id that is drawn by chance, so that every kind has some of each.
    part = {
        "postgresql": "('x' || substr(id, 29, 6))::bit(24)::int % 100",
        "sqlite": "abs(random()) % 100",
        "mysql": "CAST(CONV(substr(id, 29, 6), 16, 10) AS UNSIGNED) % 100",
    }[store.sql.name]
    bounds = (
        ("pending", PENDING, ""),
        ("pending", DELAYED, f", run_at = {store.sql.later('86400.0')}"),
        (
            "failed",
            FAILED,
            f", error = 'ValueError: order ' || id || ' has no address', attempts = 3, "
            f"finished_at = {now}",
        ),
        ("cancelled", CANCELLED, f", finished_at = {now}"),
        ("completed", 100, f", finished_at = {now}, result = 'true', attempts = 1"),
    )
    with tickwork.engine.begin() as connection:
        connection.execute(
            text(f"CREATE TABLE bench_parts AS SELECT id, {part} AS part FROM {jobs}")
        )
        connection.execute(text("CREATE INDEX bench_parts_id ON bench_parts (id, part)"))
        low = 0
        for state, share, more in bounds:
            high = 100 if share == 100 else low + share
            if state != "pending" or more:
                connection.execute(
                    text(
                        f"UPDATE {jobs} SET state = '{state}'{more} WHERE id IN "
                        f"(SELECT id FROM bench_parts WHERE part >= {low} AND part < {high})"
                    )
                )
            low = high
        connection.execute(text("DROP TABLE bench_parts"))


def _jobs(rows: int) -> Iterator[NewJob]:
    chance = random.Random(1)
    kinds = [(kind, queue) for kind, queue, share in KINDS for _ in range(share)]
    flows = {tenant: flow_of(tenant, None) for tenant in TENANTS}
    for number, job_id in enumerate(new_ids(rows)):
        kind, queue = chance.choice(kinds)
        tenant = chance.choice(TENANTS)
        about = f'"name":"Zo\u00eb Wei\u00df","email":"c{number}@example.org"'
        payload = f'{{"order":{number},"customer":{{{about}}}}}'
        yield NewJob(job_id, kind, payload, queue=queue, tenant=tenant, flow=flows[tenant])


def _pages(tickwork: Tickwork) -> dict[str, str]:
    failed = tickwork.list(state="failed", limit=1)[0].id
    middle = tickwork.list(state="completed", limit=3000)[-1].id
    return {
        "overview": "",
        "jobs": "/jobs",
        "jobs, further on": f"/jobs?before={middle}",
        "failed": "/jobs?state=failed",
        "completed of a rare kind": "/jobs?state=completed&kind=rare",
        "failed of a rare kind": "/jobs?state=failed&kind=rare",
        "delayed": "/jobs?state=delayed",
        "stalled": "/jobs?state=stalled",
        "queue": "/jobs?queue=mails",
        "tenant": "/jobs?tenant=acme",
        "kind, queue and tenant": "/jobs?tenant=acme&kind=mail&queue=mails",
        "last hour": "/jobs?last=1h",
        "text that is there": "/jobs?q=c99",
        "text that is nowhere": "/jobs?q=nowhere-at-all",
        "text in the failed": "/jobs?state=failed&q=address",
        "job": f"/jobs/{failed}",
        "dead letters": "/failed",
        "retry all failed": "/jobs/change?state=failed&change=retry",
        "queues": "/queues",
        "limits": "/limits",
        "schedules": "/schedules",
        "metrics": "/metrics",
        "kinds": "/kinds",
        "audit": "/audit",
    }


def _times(tickwork: Tickwork, client: FlaskClient, path: str) -> tuple[list[float], int]:
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            seen.append(statement)

    times = []
    event.listen(tickwork.engine, "before_cursor_execute", note)
    try:
        for turn in range(TURNS + 1):
            seen.clear()
            begun = time.perf_counter()
            answer = client.get(HOME + path)
            elapsed = (time.perf_counter() - begun) * 1000
            assert answer.status_code == 200, (path, answer.status_code)
            if turn:
                times.append(elapsed)
    finally:
        event.remove(tickwork.engine, "before_cursor_execute", note)
    return times, len(seen)
