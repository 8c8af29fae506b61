"""A Lambda function as Lambda runs it: its own runtime client, fed over the runtime API.

The client is the `awslambdaric` that AWS's images contain; only the service behind it is ours.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60.0
PREFIX = "/2018-06-01/runtime"
FUNCTION = "tickwork-test-function"


class FunctionFailed(Exception):
    """The function raised, or could not be imported; the message is what Lambda was told."""


@dataclass
class Function:
    """A running function."""

    log_file: Path
    timeout_seconds: float
    _events: queue.Queue[Any] = field(default_factory=queue.Queue)
    _answers: queue.Queue[tuple[str, Any]] = field(default_factory=queue.Queue)

    def invoke(self, event: object) -> Any:
        """What the function returns for an event.

        Raises:
            FunctionFailed: it raised, or never came up.
        """
        self._events.put(event)
        try:
            kind, answer = self._answers.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            raise FunctionFailed(f"no answer; its log:\n{self.log}") from None
        if kind != "response":
            raise FunctionFailed(f"{answer}; its log:\n{self.log}")
        return answer

    @property
    def log(self) -> str:
        """What the function has printed so far."""
        return self.log_file.read_text(errors="replace")

    def _next(self) -> tuple[str, object]:
        return f"request-{time.monotonic_ns()}", self._events.get()


@contextmanager
def running(
    task: Path, runtime: Path, handler: str, environ: Mapping[str, str], *, log_file: Path
) -> Iterator[Function]:
    """Run ``handler`` of the unpacked package ``task`` until the block ends.

    Args:
        task: the function's own folder, Lambda's `/var/task`.
        runtime: what Lambda's image brings: the client and boto3.
        environ: the function's variables; it sees no others of this process.
    """
    function = Function(log_file, timeout_seconds=60.0)

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            request_id, event = function._next()
            self.send_response(200)
            self.send_header("Lambda-Runtime-Aws-Request-Id", request_id)
            deadline = int((time.time() + function.timeout_seconds) * 1000)
            self.send_header("Lambda-Runtime-Deadline-Ms", str(deadline))
            arn = f"arn:aws:lambda:eu-central-1:123456789012:function:{FUNCTION}"
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", arn)
            self._finish(json.dumps(event).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(202)
            self._finish(b"{}")
            function._answers.put((self.path.rpartition("/")[2], body))

        def _finish(self, body: bytes) -> None:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not into the tests' output."""

    service = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    service.daemon_threads = True
    threading.Thread(target=service.serve_forever, daemon=True).start()
    own = {
        "PATH": os.environ["PATH"],
        # As on Lambda: the function's folder before the runtime's, and nothing of this machine.
        "PYTHONPATH": os.pathsep.join([str(task), str(runtime)]),
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{service.server_port}",
        "AWS_LAMBDA_FUNCTION_NAME": FUNCTION,
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.12",
        "LAMBDA_TASK_ROOT": str(task),
        "PYTHONDONTWRITEBYTECODE": "1",  # the folder is read-only there
        "LAMBDA_DISABLE_PREVIEW_WARN": "1",
        **environ,
    }
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            # Without this machine's site-packages.
            [sys.executable, "-S", "-m", "awslambdaric", handler],
            cwd=task,
            env=own,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield function
    finally:
        process.kill()
        process.wait()
        service.shutdown()
        service.server_close()
