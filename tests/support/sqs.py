"""SQS as moto's server speaks it over HTTP; boto3 is left as it is."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import moto.sqs.models
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from jobs.aws.event import failed_ids, make_event
from jobs.aws.queue import name_of_arn
from tests.support import quick_aws

quick_aws.look_at_the_clock_quickly(moto.sqs.models)
REGION = "eu-central-1"
ENVIRON = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
}


@contextmanager
def server() -> Iterator[str]:
    """A moto server for the length of the block; yields its URL."""
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


class QueueClock:
    """The clock by which moto hides messages, moved by hand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._ahead_ms = 0.0
        patch.setattr(moto.sqs.models, "unix_time_millis", self._now_ms)

    def _now_ms(self) -> float:
        return quick_aws.now_ms() + self._ahead_ms

    def advance(self, seconds: float) -> None:
        """Move forward by ``seconds``."""
        self._ahead_ms += seconds * 1000
        for account in moto.sqs.models.sqs_backends.values():
            for backend in account.values():
                for queue in backend.queues.values():
                    # moto looks at a hidden message when it comes by, and holds the whole group
                    # back for those it has not come by yet: the last of a group would go first.
                    back = {message for message in queue.pending_messages if message.visible}
                    queue.pending_messages.difference_update(back)


@dataclass
class Context:
    """What Lambda tells its function of the time left."""

    seconds: float = 60.0

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


@dataclass
class Queue:
    """One queue, and what a Lambda event source would do with it."""

    client: Any
    url: str
    arn: str
    receipts: dict[str, str] = field(default_factory=dict)

    @property
    def is_fifo(self) -> bool:
        return self.arn.endswith(".fifo")

    def send(self, *bodies: str | dict[str, Any], group: str = "one") -> list[str]:
        """Send these; returns the ids of the messages."""
        sent = []
        for body in bodies:
            text = body if isinstance(body, str) else json.dumps(body)
            more: dict[str, str] = {}
            if self.is_fifo:
                more = {"MessageGroupId": group, "MessageDeduplicationId": secrets.token_hex(8)}
            answer = self.client.send_message(QueueUrl=self.url, MessageBody=text, **more)
            sent.append(answer["MessageId"])
        return sent

    def ring(self, *job_ids: str, group: str = "one") -> list[str]:
        """Send a message for each job; returns the ids of the messages."""
        return self.send(*({"jobId": job_id} for job_id in job_ids), group=group)

    def event(self, most: int = 10) -> dict[str, Any]:
        """The event for what is visible now."""
        answer = self.client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=most,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return make_event(answer.get("Messages", []), self.arn)

    def take_off(self, event: dict[str, Any], answer: object) -> list[str]:
        """Delete what the answer does not report; returns the ids of what stays."""
        receipts = {each["messageId"]: each["receiptHandle"] for each in event["Records"]}
        stay = failed_ids(answer, list(receipts))
        for message_id, receipt in receipts.items():
            if message_id not in stay:
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=receipt)
        return sorted(stay)

    def count(self) -> tuple[int, int]:
        """How many messages are visible, and how many hidden."""
        found = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        visible, hidden = (int(found["Attributes"][name]) for name in names)
        return visible, hidden


def make_queue(
    client: Any, *, fifo: bool = False, visibility_seconds: int = 360, dead_letters: str = ""
) -> Queue:
    """A new queue; ``dead_letters`` is the ARN of its dead-letter queue."""
    attributes = {"VisibilityTimeout": str(visibility_seconds)}
    if fifo:
        attributes["FifoQueue"] = "true"
    if dead_letters:
        policy = {"deadLetterTargetArn": dead_letters, "maxReceiveCount": 1}
        attributes["RedrivePolicy"] = json.dumps(policy)
    name = f"jobs-{secrets.token_hex(4)}{'.fifo' if fifo else ''}"
    url = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    arn = found["Attributes"]["QueueArn"]
    assert name_of_arn(arn) == name
    return Queue(client, url, arn)


def record(body: object, message_id: str = "m1", **changes: Any) -> dict[str, Any]:
    """A record as AWS sends it, made up: nothing on any queue stands behind it."""
    text = body if isinstance(body, str) else json.dumps(body)
    now_ms = int(time.time() * 1000)
    made = {
        "messageId": message_id,
        "receiptHandle": f"receipt-{message_id}",
        "body": text,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": str(now_ms - 1),
            "SenderId": "AIDAIT2UOQQY3AUEKVGXU",
            "ApproximateFirstReceiveTimestamp": str(now_ms),
        },
        "messageAttributes": {},
        "md5OfBody": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:123456789012:jobs",
        "awsRegion": REGION,
    }
    return {**made, **changes}


def client_of(url: str) -> Any:
    """An SQS client of its own at this endpoint."""
    return boto3.session.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION
    ).client("sqs", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))
