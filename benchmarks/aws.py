"""Lambda's figures: records against ticks, statements of a batch, cold start of the handler."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import event as sqlalchemy_event

from benchmarks.core import Say, fresh, in_new_process, in_turns
from jobs import Tickwork
from jobs.aws.consumer import Consumer
from jobs.stores.sql.engine import normalize_url

BATCH = 10
ARN = "arn:aws:sqs:eu-central-1:123456789012:jobs"


def measure(url: str, jobs: int, say: Say) -> dict[str, Any]:
    """Every part, each on fresh tables; figures by name."""
    figures: dict[str, Any] = {
        "database": url.split(":", 1)[0],
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }
    for name, part in (
        ("records", lambda: records_beside_ticks(url, jobs)),
        ("statements", lambda: _statements(url)),
        ("cold", lambda: _cold(url)),
    ):
        say(f"{name} ...")
        figures.update(part())
    return figures


def event_of(job_ids: list[str]) -> dict[str, Any]:
    """The event of messages that name these jobs."""
    now_ms = str(int(time.time() * 1000))
    return {
        "Records": [
            {
                "messageId": f"message-{place}",
                "receiptHandle": f"receipt-{place}",
                "body": json.dumps({"jobId": job_id, "kind": "noop", "send": 1, "hops": 0}),
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": now_ms,
                    "SenderId": "AIDAIT2UOQQY3AUEKVGXU",
                    "ApproximateFirstReceiveTimestamp": now_ms,
                },
                "messageAttributes": {},
                "md5OfBody": "",
                "eventSource": "aws:sqs",
                "eventSourceARN": ARN,
                "awsRegion": "eu-central-1",
            }
            for place, job_id in enumerate(job_ids)
        ]
    }


class _Context:
    """What Lambda says at the beginning of a function of a minute."""

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def _handled(tickwork: Tickwork, events: list[dict[str, Any]]) -> float:
    """How many messages a second, of these events one after the other."""
    consumer = Consumer(tickwork)
    begun = time.perf_counter()
    answers = [consumer.handle(event, _Context()) for event in events]
    elapsed = time.perf_counter() - begun
    assert answers == [{"batchItemFailures": []}] * len(events)
    return sum(len(event["Records"]) for event in events) / elapsed


def records_beside_ticks(url: str, count: int) -> dict[str, Any]:
    """Batches of ten messages beside ticks of ten jobs, in turns on the same tables."""
    with fresh(url) as tickwork:

        def records() -> float:
            ids = tickwork.enqueue_many([("noop", {"n": 1})] * count)
            batches = [ids[start : start + BATCH] for start in range(0, count, BATCH)]
            return _handled(tickwork, [event_of(batch) for batch in batches])

        def ticks() -> float:
            tickwork.enqueue_many([("noop", {"n": 1})] * count)
            begun, done = time.perf_counter(), 0
            while done < count:
                done += tickwork.tick(limit=BATCH).succeeded
            return count / (time.perf_counter() - begun)

        records(), ticks()  # warm
        per_s, ticked, ratio = in_turns(records, ticks, 7)
    return {
        "records_per_s": round(per_s),
        "ticks_of_10_per_s": round(ticked),
        "records_vs_ticks": round(ratio, 3),
    }


def _statements(url: str) -> dict[str, Any]:
    with fresh(url) as tickwork:
        _counted(tickwork, BATCH)  # learns the pace
        return {
            "statements_per_batch": {
                str(size): _counted(tickwork, size) for size in (1, BATCH, 100)
            }
        }


def _counted(tickwork: Tickwork, size: int) -> int:
    """Statements for one event of that many messages, BEGIN and COMMIT not counted."""
    event = event_of(tickwork.enqueue_many([("noop", {"n": 1})] * size))
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(statement)

    sqlalchemy_event.listen(tickwork.engine, "before_cursor_execute", note)
    try:
        _handled(tickwork, [event])
    finally:
        sqlalchemy_event.remove(tickwork.engine, "before_cursor_execute", note)
    return len(seen)


_BARE = """
import time; begun = time.perf_counter()
import boto3
boto3.client("sqs", region_name="eu-central-1")
from sqlalchemy import create_engine, text
engine = create_engine({url!r})
with engine.connect() as connection:
    connection.execute(text("SELECT 1")).scalar()
print((time.perf_counter() - begun) * 1000)
"""
_DRIVER = """
import time; begun = time.perf_counter()
from sqlalchemy import create_engine, text
engine = create_engine({url!r})
with engine.connect() as connection:
    connection.execute(text("SELECT 1")).scalar()
print((time.perf_counter() - begun) * 1000)
"""
_COLD = """
import json, os, time
event = json.loads(os.environ["EVENT"])
begun = time.perf_counter()
from api.lambda_handlers import records
assert records(event) == {"batchItemFailures": []}
print((time.perf_counter() - begun) * 1000)
"""
_HANDLERS = """
from jobs import handler

@handler("noop")
def noop(payload):
    return None
"""


def _cold(url: str) -> dict[str, Any]:
    """One message in a fresh process beside boto3's client and the driver saying SELECT 1."""
    plain = normalize_url(url).render_as_string(hide_password=False)
    with fresh(url) as tickwork, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bench_tasks.py").write_text(_HANDLERS)
        environment = {
            **os.environ,
            "DATABASE_URL": url,
            "JOBS_TABLE_PREFIX": "bench_",
            "JOBS_HANDLERS": "bench_tasks",
            "PYTHONPATH": os.pathsep.join([str(Path.cwd()), folder]),
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
        }
        # In production a queue stands beside the table; the doorbell is made, and boto3 waits.
        environment |= {"SQS_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs"}

        def ours() -> float:
            event = json.dumps(event_of([tickwork.enqueue("noop", {"n": 1}).id]))
            return in_new_process(_COLD, {**environment, "EVENT": event})

        def beside(code: str) -> Callable[[], float]:
            return lambda: in_new_process(code.format(url=plain), environment)

        ours(), beside(_BARE)()  # caches of files
        cold, bare, ratio = in_turns(ours, beside(_BARE), 9)
        _, driver, of_driver = in_turns(ours, beside(_DRIVER), 9)
    return {
        "records_cold_start_ms": round(cold, 1),
        "boto3_and_driver_cold_start_ms": round(bare, 1),
        "records_cold_start_vs_boto3_and_driver": round(ratio, 3),
        "driver_cold_start_ms": round(driver, 1),
        "records_cold_start_vs_driver": round(of_driver, 3),
    }
