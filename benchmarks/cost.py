"""What a million jobs cost on AWS: measured milliseconds and memory, times prices that are named.

    python -m benchmarks.cost --database postgresql://... --round-trip-ms 1

The prices are assumptions (list prices, us-east-1, November 2026, without free tiers): put your own
in PRICES. docs/deploy/aws.md explains the formula.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
from typing import Any

from sqlalchemy import event

from benchmarks.core import fresh
from jobs import Tickwork
from jobs.aws.consumer import Consumer

PRICES = {
    "lambda_gb_second": 0.0000166667,  # x86_64; arm64 is a fifth less
    "lambda_request": 0.20 / 1e6,
    "sqs_request": 0.40 / 1e6,
}
BATCH = 10
MEMORY_MB = 512  # as in serverless.yml
# Lambda gives a whole processor at 1,769 MB, and a share of one below.
SLOWER_BY = max(1.0, 1769 / MEMORY_MB)
GB = MEMORY_MB / 1024
TICKS_PER_MONTH = 60 * 24 * 30
# Lambda's pollers ask an idle queue every 20 seconds, from five connections.
IDLE_POLLS_PER_MONTH = 5 * 3 * TICKS_PER_MONTH


def main() -> None:
    """Measure, reckon, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__)
    parser.add_argument("--database", required=True, help="a URL; tables under bench_ are replaced")
    parser.add_argument("--batches", type=int, default=300, help="batches of ten no-op jobs")
    parser.add_argument(
        "--round-trip-ms", type=float, default=1.0, help="between your function and your database"
    )
    parser.add_argument(
        "--job-ms", type=float, default=0.0, help="what a handler of yours takes, one at a time"
    )
    options = parser.parse_args()
    with fresh(options.database) as tickwork:
        figures = _measure(tickwork, options.batches)
    figures |= _reckon(figures, options.round_trip_ms, options.job_ms)
    print(json.dumps({"python": platform.python_version(), **figures}, indent=2))


def _measure(tickwork: Tickwork, batches: int) -> dict[str, float]:
    consumer = Consumer(tickwork)
    statements = 0

    def count(*_: Any) -> None:
        nonlocal statements
        statements += 1

    event.listen(tickwork.engine, "before_cursor_execute", count)
    batch_ms, tick_ms = [], []
    for number in range(batches):
        ids = tickwork.enqueue_many([("noop", {"i": i}) for i in range(BATCH)])
        records = {"Records": [_record(number, job_id) for job_id in ids]}
        statements = 0
        begun = time.perf_counter()
        answer = consumer.handle(records)
        batch_ms.append((time.perf_counter() - begun) * 1000)
        assert answer == {"batchItemFailures": []}
        per_batch = statements
    for _ in range(max(10, batches // 10)):
        statements = 0
        begun = time.perf_counter()
        tickwork.tick()
        tick_ms.append((time.perf_counter() - begun) * 1000)
    return {
        "batch_ms": round(statistics.median(batch_ms), 2),
        "batch_statements": per_batch,
        "idle_tick_ms": round(statistics.median(tick_ms), 2),
        "idle_tick_statements": statements,
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def _record(number: int, job_id: str) -> dict[str, Any]:
    return {
        "messageId": f"{number}-{job_id}",
        "receiptHandle": "r",
        "body": json.dumps({"jobId": job_id}),
        "attributes": {"ApproximateReceiveCount": "1"},
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:jobs",
    }


def _reckon(figures: dict[str, float], round_trip_ms: float, job_ms: float) -> dict[str, float]:
    """Dollars for a million jobs in batches of ten, and for a month of doing nothing."""
    batches = 1e6 / BATCH
    # Jobs of a batch run five at once (JOBS_CONCURRENCY), so two after each other.
    invocation_ms = (
        figures["batch_ms"] * SLOWER_BY
        + figures["batch_statements"] * round_trip_ms
        + job_ms * BATCH / 5
    )
    tick_ms = figures["idle_tick_ms"] * SLOWER_BY + figures["idle_tick_statements"] * round_trip_ms
    gb_second = PRICES["lambda_gb_second"]
    duration = batches * invocation_ms / 1000 * GB * gb_second
    requests = batches * PRICES["lambda_request"]
    # A send for each job, a receive and a delete for each batch.
    queue = (1e6 + 2 * batches) * PRICES["sqs_request"]
    ticks = TICKS_PER_MONTH * (tick_ms / 1000 * GB * gb_second + PRICES["lambda_request"])
    polls = IDLE_POLLS_PER_MONTH * PRICES["sqs_request"]
    return {
        "reckoned_batch_ms": round(invocation_ms, 1),
        "per_million_lambda_duration": round(duration, 3),
        "per_million_lambda_requests": round(requests, 3),
        "per_million_sqs": round(queue, 3),
        "per_million": round(duration + requests + queue, 2),
        "idle_month_ticks": round(ticks, 3),
        "idle_month_polls": round(polls, 3),
        "idle_month": round(ticks + polls, 2),
    }


if __name__ == "__main__":
    main()
