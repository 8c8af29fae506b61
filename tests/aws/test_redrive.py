"""Redrive: nothing lost, whatever happens on the way."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.exceptions import ClientError

from jobs.aws.redrive import redrive
from jobs.core.errors import ConfigurationError, TickworkError
from tests.support import sqs
from tests.support.sqs import Queue, make_queue


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one server, and it misses nothing."""
    monkeypatch.setattr("jobs.aws.redrive.LOOK_SECONDS", 0)


@pytest.fixture
def dead(aws: Any) -> Queue:
    return make_queue(aws)


@pytest.fixture
def live(aws: Any, dead: Queue) -> Queue:
    return make_queue(aws, dead_letters=dead.arn)


def bodies(queue: Queue) -> list[str]:
    """Every body in the queue, sorted; they are hidden afterwards."""
    found: list[str] = []
    while records := queue.event()["Records"]:
        found += [record["body"] for record in records]
    return sorted(found)


def test_everything_goes_back(dead: Queue, live: Queue) -> None:
    sent = [f'{{"jobId":"{number:03}"}}' for number in range(25)]
    dead.send(*sent)

    done = redrive(live.client, live.url)

    assert (done.moved, done.failed, done.by_sqs) == (25, 0, False)
    assert (done.source, done.target) == (dead.arn.split(":")[-1], live.arn.split(":")[-1])
    assert dead.count() == (0, 0)
    assert bodies(live) == sent


def test_an_empty_one(live: Queue) -> None:
    assert redrive(live.client, live.url).moved == 0


def test_no_more_than_asked_for(dead: Queue, live: Queue) -> None:
    dead.ring(*"abcdefghijklm")

    assert redrive(live.client, live.url, most=11).moved == 11
    assert live.count() == (11, 0)
    assert redrive(live.client, live.url, most=100).moved == 2


def test_another_dead_letter_queue_may_be_named(aws: Any, dead: Queue) -> None:
    plain = make_queue(aws)
    dead.ring("a")

    with pytest.raises(ConfigurationError, match="name one with --dlq"):
        redrive(aws, plain.url)
    with pytest.raises(ConfigurationError, match="the queue itself"):
        redrive(aws, plain.url, dead_letters_url=plain.url)
    with pytest.raises(ConfigurationError, match="--dlq: there is no such queue"):
        redrive(aws, plain.url, dead_letters_url=f"{dead.url}-not")
    assert redrive(aws, plain.url, dead_letters_url=dead.url).moved == 1
    assert plain.count() == (1, 0)


def test_attributes_and_order_are_kept(aws: Any) -> None:
    dead = make_queue(aws, fifo=True)
    live = make_queue(aws, fifo=True, dead_letters=dead.arn)
    for number in range(12):
        dead.client.send_message(
            QueueUrl=dead.url,
            MessageBody=str(number),
            MessageGroupId="shop 1",
            MessageDeduplicationId=f"d{number}",
            MessageAttributes={"n": {"DataType": "Number", "StringValue": str(number)}},
        )

    assert redrive(live.client, live.url).moved == 12

    first = live.event()["Records"]
    assert [record["body"] for record in first] == [str(number) for number in range(10)]
    assert {record["attributes"]["MessageGroupId"] for record in first} == {"shop 1"}
    assert first[3]["messageAttributes"]["n"]["stringValue"] == "3"


def test_a_message_is_not_thrown_away_as_a_copy_of_itself(aws: Any) -> None:
    """Sent, dead and redriven within the five minutes in which FIFO queues know copies."""
    dead = make_queue(aws, fifo=True)
    live = make_queue(aws, fifo=True, dead_letters=dead.arn, visibility_seconds=0)
    live.ring("a")
    for _ in range(2):
        assert len(live.event()["Records"]) == 1
        assert live.event()["Records"] == []  # received once too often: dead
        assert dead.count() == (1, 0)
        assert redrive(live.client, live.url).moved == 1
        assert live.count() == (1, 0)


@pytest.mark.parametrize("stage", ["SendMessageBatch", "DeleteMessageBatch"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interruption_loses_nothing(
    dead: Queue, live: Queue, stage: str, when: str, sqs_url: str
) -> None:
    """Cut off before or after the second call of either kind."""
    sent = sorted(json.dumps({"jobId": f"{number:03}"}) for number in range(25))
    dead.send(*sent)
    client = sqs.client_of(sqs_url)
    calls = [0]

    def cut(**_: Any) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt

    point = "before-send" if when == "before" else "after-call"
    client.meta.events.register(f"{point}.sqs.{stage}", cut)
    with pytest.raises(KeyboardInterrupt):
        redrive(client, live.url)
    client.close()

    for message in _hidden(dead):
        dead.client.change_message_visibility(
            QueueUrl=dead.url, ReceiptHandle=message, VisibilityTimeout=0
        )
    redrive(live.client, live.url)
    arrived = bodies(live)
    assert sorted(set(arrived)) == sent
    assert len(arrived) - len(sent) in (0, 10), "at most what was under way is there twice"
    assert dead.count() == (0, 0)


def _hidden(queue: Queue) -> list[str]:
    from moto.sqs.models import sqs_backends

    name = queue.arn.split(":")[-1]
    return [
        message.receipt_handle
        for account in sqs_backends.values()
        for backend in account.values()
        if name in backend.queues
        for message in backend.queues[name]._messages
        if not message.visible
    ]


# --- where SQS moves them itself


class Mover:
    """An endpoint before moto's that knows the two actions that moto does not, on the wire.

    ``refusal`` is the code with which it refuses to move, ``fails`` the place of an entry that it
    lets no batch send.
    """

    def __init__(self, behind: str) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.tasks: list[dict[str, Any]] = []
        self.refusal = ""
        self.fails: int | None = None
        mover = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                action = self.headers["X-Amz-Target"].rpartition(".")[2]
                mover.asked.append((action, body))
                status, answer = mover.answer(action, body, dict(self.headers.items()), behind)
                raw = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def answer(
        self, action: str, body: dict[str, Any], headers: dict[str, str], behind: str
    ) -> tuple[int, dict[str, Any]]:
        if action == "StartMessageMoveTask":
            if self.refusal:
                return 400, {"__type": f"com.amazonaws.sqs#{self.refusal}", "message": "no"}
            return 200, {"TaskHandle": "task-1"}
        if action == "ListMessageMoveTasks":
            task = self.tasks.pop(0) if self.tasks else {}
            return 200, {"Results": [task] if task else []}
        failed = []
        if action == "SendMessageBatch" and self.fails is not None:
            entry = body["Entries"].pop(self.fails)
            failed = [{"Id": entry["Id"], "Code": "InternalError", "SenderFault": False}]
        headers = {name: value for name, value in headers.items() if name != "Content-Length"}
        request = urllib.request.Request(  # noqa: S310 - moto
            behind, json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(request) as got:  # noqa: S310
            answer = json.load(got)
        return 200, {**answer, "Failed": failed} if failed else answer

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def mover(sqs_url: str) -> Iterator[Mover]:
    made = Mover(sqs_url)
    yield made
    made.close()


def test_sqs_is_asked_to_move_them(mover: Mover, dead: Queue, live: Queue) -> None:
    running = {"TaskHandle": "task-1", "Status": "RUNNING", "ApproximateNumberOfMessagesMoved": 3}
    ended = {"Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": 7}
    mover.tasks = [{}, running, ended]  # it may not be listed at once
    waits: list[float] = []
    client = sqs.client_of(mover.url)

    done = redrive(client, live.url, wait=waits.append)
    client.close()

    assert (done.moved, done.failed, done.by_sqs) == (7, 0, True)
    assert len(waits) == 2
    asked = dict(mover.asked)
    assert asked["StartMessageMoveTask"] == {"SourceArn": dead.arn, "DestinationArn": live.arn}
    assert asked["ListMessageMoveTasks"]["SourceArn"] == dead.arn
    assert "SendMessageBatch" not in asked


def test_sqs_gives_up_moving(mover: Mover, live: Queue) -> None:
    mover.tasks = [
        {
            "Status": "FAILED",
            "FailureReason": "AWS.SimpleQueueService.NonExistentQueue",
            "ApproximateNumberOfMessagesMoved": 2,
        }
    ]
    client = sqs.client_of(mover.url)

    with pytest.raises(TickworkError, match="stopped moving after 2 messages: FAILED"):
        redrive(client, live.url)
    client.close()


def test_with_a_bound_it_moves_them_itself(mover: Mover, dead: Queue, live: Queue) -> None:
    dead.ring("a", "b")
    client = sqs.client_of(mover.url)

    assert redrive(client, live.url, most=5).by_sqs is False
    client.close()
    assert "StartMessageMoveTask" not in dict(mover.asked)
    assert live.count() == (2, 0)


def test_a_refusal_is_not_taken_for_ignorance(mover: Mover, dead: Queue, live: Queue) -> None:
    """A role that may not is told so; moving by hand would only hide it."""
    dead.ring("a")
    mover.refusal = "AccessDenied"
    client = sqs.client_of(mover.url)

    with pytest.raises(ClientError, match="AccessDenied"):
        redrive(client, live.url)
    client.close()
    assert dead.count() == (1, 0)


@pytest.mark.parametrize("code", ["InvalidAction", "UnsupportedOperation"])
def test_an_endpoint_that_cannot_is_helped(
    mover: Mover, dead: Queue, live: Queue, code: str
) -> None:
    dead.ring("a", "b")
    mover.refusal = code
    client = sqs.client_of(mover.url)

    assert redrive(client, live.url)[:3] == (2, 0, False)
    client.close()


def test_what_the_queue_refuses_stays(
    mover: Mover, dead: Queue, live: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    dead.ring(*"abcde")
    mover.fails = 0
    client = sqs.client_of(mover.url)

    done = redrive(client, live.url, most=100)
    client.close()

    assert (done.moved, done.failed) == (4, 1)
    assert live.count() == (4, 0)
    assert sum(dead.count()) == 1
    assert "refused a message: InternalError" in caplog.text
