"""Sentry gets jobs that failed for good: the real SDK, and a server in Sentry's place."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).parents[2]
PASSWORD = "hunter2-and-more"
PROGRAM = f"""
    import sys
    import sentry_sdk
    from jobs import Discard, Tickwork

    sentry_sdk.init(sys.argv[1], debug=False)
    tickwork = Tickwork.from_env()
    tickwork.create_schema()

    @tickwork.handler("charge", queue="money", max_attempts=2, backoff=[0])
    def charge(payload):
        card = payload["card"]
        raise ValueError("declined by https://shop:{PASSWORD}@bank.example/?token={PASSWORD}")

    @tickwork.handler("refund", timeout=0.05, max_attempts=1)
    def refund():
        import time
        time.sleep(0.3)

    @tickwork.handler("fine")
    def fine(): ...

    charge.enqueue({{"card": "{PASSWORD}"}}, tenant="org1")
    refund.enqueue()
    fine.enqueue()
"""


@contextmanager
def sentry() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A DSN, and the events that arrive there."""
    events: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            lines = body.split(b"\n")
            for head, item in zip(lines[1::2], lines[2::2], strict=False):
                if json.loads(head or b"{}").get("type") == "event":
                    events.append(json.loads(item))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://key@127.0.0.1:{server.server_port}/1", events
    finally:
        server.shutdown()
        server.server_close()


def run(tmp_path: Path, dsn: str, after: str, **environ: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JOBS_")}
    done = subprocess.run(
        [sys.executable, "-c", dedent(PROGRAM) + dedent(after), dsn],
        env={**clean, "DATABASE_URL": f"sqlite:///{tmp_path}/jobs.db", **environ},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_a_failure_for_good_is_reported_once_without_its_payload(tmp_path: Path) -> None:
    with sentry() as (dsn, events):
        run(tmp_path, dsn, "tickwork.drain(); sentry_sdk.flush(5)")

    by_kind = {event["tags"]["tickwork.kind"]: event for event in events}
    charge, refund = by_kind["charge"], by_kind["refund"]
    (raised,) = charge["exception"]["values"]

    assert len(events) == 2  # neither the attempt that was tried again nor the line of the log
    assert charge["tags"]["tickwork.queue"] == "money"
    assert charge["tags"]["tickwork.tenant"] == "org1"
    assert len(charge["tags"]["tickwork.job_id"]) == 36
    assert charge["contexts"]["job"]["attempt"] == 2
    assert charge["transaction"] == "job charge"
    assert raised["type"] == "ValueError"
    assert raised["value"].startswith("declined by https://shop:***@bank.example/?token=***")
    assert raised["stacktrace"]["frames"][-1]["function"] == "charge"
    assert refund["level"] == "error"
    assert "TimedOut" in refund["message"]
    # The line of code that holds it is shown as every line around an error is; no value is.
    for event in events:
        for value in event.get("exception", {}).get("values", ()):
            for frame in value["stacktrace"]["frames"]:
                frame.pop("context_line", None), frame.pop("pre_context", None)
                frame.pop("post_context", None)
        assert PASSWORD not in json.dumps(event)


def test_before_a_platform_freezes_the_process_what_was_reported_is_sent(tmp_path: Path) -> None:
    """Without the flush the SDK's own thread would send it some time, or never."""
    after = """
        import os
        from jobs.aws import lambdas
        lambdas.tick()
        lambdas.tick()
        os._exit(0)  # no more than a frozen process does
    """
    with sentry() as (dsn, events):
        run(tmp_path, dsn, after, AWS_LAMBDA_FUNCTION_NAME="jobs", JOBS_LOG_FORMAT="off")

    assert {event["tags"]["tickwork.kind"] for event in events} == {"charge", "refund"}


def test_without_sentry_nothing_is_built(tmp_path: Path) -> None:
    from jobs import Tickwork

    assert "sentry_sdk" not in sys.modules or not sys.modules["sentry_sdk"].is_initialized()
    tickwork = Tickwork()
    (_, when) = tickwork._runtime.events._listeners["failed"][0]
    assert when is not None
    assert not when()
