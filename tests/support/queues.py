"""Queues for the tests: moto as a real HTTP server, and a server that does what a test tells it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import boto3
import moto.sqs.models

from jobs.core.ring import Message
from tests.support import quick_aws

quick_aws.look_at_the_clock_quickly(moto.sqs.models)
REGION = "eu-central-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
}


@cache
def client_of(endpoint: str) -> Any:
    """A client for a server, made once: making one costs more than most calls."""
    return boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


class Queue:
    """One queue of a moto server, seen by who receives from it."""

    def __init__(self, endpoint: str, name: str, **attributes: Any) -> None:
        self.client = client_of(endpoint)
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        made = self.client.create_queue(QueueName=name, Attributes=cast("Any", attributes))
        self.url: str = made["QueueUrl"]

    def take(self, most: int = 10) -> list[dict[str, Any]]:
        """Up to ``most`` (10 at the most) messages that can be had now, deleted at once."""
        answer = self.client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=0,
            AttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        if messages:
            self.client.delete_message_batch(
                QueueUrl=self.url,
                Entries=[
                    {"Id": str(at), "ReceiptHandle": each["ReceiptHandle"]}
                    for at, each in enumerate(messages)
                ],
            )
        return messages

    def take_all(self) -> list[dict[str, Any]]:
        """All that can be had now, deleted."""
        found: list[dict[str, Any]] = []
        while messages := self.take():
            found += messages
        return found

    def messages(self) -> list[Message]:
        """All that can be had now, read, and deleted."""
        return [Message.parse(each["Body"]) for each in self.take_all()]

    def held_back(self) -> int:
        """How many messages wait for their delay to pass."""
        return self._count("ApproximateNumberOfMessagesDelayed")

    def ready(self) -> int:
        """How many messages can be had."""
        return self._count("ApproximateNumberOfMessages")

    def _count(self, name: str) -> int:
        answer = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])
        return int(answer["Attributes"][name])


Answer = Callable[[list[dict[str, Any]]], "tuple[int, dict[str, Any]] | None"]


def sent(entries: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    """What SQS answers when all went well."""
    return 200, {"Successful": [_success(entry) for entry in entries], "Failed": []}


def refusing(*places: int, sender_fault: bool = False) -> Answer:
    """An answer that reports these entries of a batch as failed, and the others as sent."""

    def answer(entries: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        bad = [entry for at, entry in enumerate(entries) if at in places]
        good = [entry for at, entry in enumerate(entries) if at not in places]
        failed = [
            {"Id": entry["Id"], "SenderFault": sender_fault, "Code": "InternalError"}
            for entry in bad
        ]
        return 200, {"Successful": [_success(entry) for entry in good], "Failed": failed}

    return answer


def fault(status: int, code: str) -> Answer:
    """An answer that refuses the whole call."""
    return lambda entries: (status, {"__type": f"com.amazonaws.sqs#{code}", "message": code})


def _success(entry: dict[str, Any]) -> dict[str, Any]:
    md5 = hashlib.md5(entry["MessageBody"].encode(), usedforsecurity=False).hexdigest()
    return {"Id": entry["Id"], "MessageId": f"m-{entry['Id']}", "MD5OfMessageBody": md5}


class Endpoint:
    """What a stub has been sent, and what it answers next (``sent`` once that is used up).

    An answer of ``None`` cuts the line.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.queue_url = f"{url}/123456789012/jobs"
        self.calls: list[list[dict[str, Any]]] = []
        self.answers: list[Answer] = []
        self.always: Answer = sent
        self.lock = threading.Lock()

    def answer(self, entries: list[dict[str, Any]]) -> tuple[int, dict[str, Any]] | None:
        with self.lock:
            self.calls.append(entries)
            chosen = self.answers.pop(0) if self.answers else self.always
        return chosen(entries)

    def jobs(self, call: int) -> list[str]:
        """The ids that a call named."""
        return [Message.parse(entry["MessageBody"]).job_id for entry in self.calls[call]]


@contextmanager
def stub() -> Iterator[Endpoint]:
    """An HTTP server in SQS's place that keeps what it is sent."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = endpoint.answer(body["Entries"])
            if answer is None:
                self.close_connection = True
                return
            status, content = answer
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64  # its default of 5 makes the sixth of a burst wait a second

    server = Server(("127.0.0.1", 0), Handler)
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
