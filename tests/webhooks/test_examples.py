"""The receivers in `examples/webhook-receiver` take a real delivery and refuse a forged one."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from jobs import State, Tickwork
from jobs.handlers.webhook import queue_webhook
from tests.support.requirements import missing
from tests.support.web import ROOT
from tests.webhooks.conftest import PLAIN

FOLDER = ROOT / "examples" / "webhook-receiver"
PAYLOAD = {"event": "incident.created", "data": {"what": "grüße"}}


def command(name: str) -> list[str]:
    if name == "python":
        return [sys.executable, str(FOLDER / "receiver.py"), "0"]
    node = shutil.which("node")
    if node is None:
        missing("node", "the receiver in JavaScript needs node (Debian: apt install nodejs)")
    return [node, str(FOLDER / "receiver.mjs"), "0"]


@contextmanager
def running(arguments: list[str], secret: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    environ = {"PATH": os.environ["PATH"], "WEBHOOK_SECRET": secret, "PYTHONUTF8": "1"}
    with subprocess.Popen(arguments, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline().split()[-1])
        process.terminate()


@pytest.mark.parametrize("name", ["python", "node"])
def test_a_real_delivery_and_a_forged_one(tickwork: Tickwork, name: str) -> None:
    with running(command(name), f"a-new-secret,{PLAIN}") as (process, port):
        url = f"http://127.0.0.1:{port}/hooks"
        job = queue_webhook(url=url, payload=PAYLOAD, secret=PLAIN)
        forged = queue_webhook(url=url, payload=PAYLOAD, secret="another-secret")
        tickwork.tick()
        stale = _stale(port)
        assert process.stdout is not None
        told_id, _, told = process.stdout.readline().partition(" ")

    delivered, refused = tickwork.get(job.id), tickwork.get(forged.id)
    assert delivered is not None
    assert refused is not None
    assert delivered.state == State.COMPLETED, delivered.error
    assert refused.state == State.FAILED
    assert "answered 401" in (refused.error or "")
    assert stale == 401
    assert told_id == job.id
    assert "gr" in told
    if name == "node":
        assert json.loads(told) == PAYLOAD


def _stale(port: int) -> int:
    headers = {
        "webhook-id": "x",
        "webhook-timestamp": "1",
        "webhook-signature": "v1,",
        "x-webhook-timestamp": "1",
        "x-webhook-signature": "",
    }
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as line:
        line.request("POST", "/", b"{}", headers)
        return line.getresponse().status
