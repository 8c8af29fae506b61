"""The event of an event source: what it looks like, and how AWS reads the answer to it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from jobs.aws.event import answer, failed_ids, read_records
from tests.support.sqs import REGION, Queue, make_queue

IDS = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("answered", "failed"),
    [
        (None, set()),
        ({}, set()),
        ({"batchItemFailures": []}, set()),
        ({"batchItemFailures": None}, set()),
        ({"failures": [{"itemIdentifier": "a"}]}, set()),  # misnamed, so nobody reads it
        ({"batchItemFailures": [{"itemIdentifier": "a"}]}, {"a"}),
        (answer(["a", "c", "a"]), {"a", "c"}),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, set(IDS)),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, set(IDS)),
        ({"batchItemFailures": [{"itemIdentifier": "a"}, {"id": "b"}]}, set(IDS)),
        ({"batchItemFailures": [{"itemIdentifier": "of another batch"}]}, set(IDS)),
        ({"batchItemFailures": ["a"]}, set(IDS)),
        ({"batchItemFailures": {"a": 1}}, set(IDS)),
        ("done", set(IDS)),
        ([], set(IDS)),
    ],
)
def test_an_answer_is_read_as_aws_reads_it(answered: object, failed: set[str]) -> None:
    assert failed_ids(answered, IDS) == failed


def test_an_answer_names_each_message_once() -> None:
    assert answer(["b", "a", "b"]) == {
        "batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "a"}]
    }
    assert answer([]) == {"batchItemFailures": []}


def test_an_event_is_made_as_aws_makes_it(queue: Queue) -> None:
    body = '{"jobId": "0190", "kind": "é"}'
    queue.client.send_message(
        QueueUrl=queue.url,
        MessageBody=body,
        MessageAttributes={
            "note": {"DataType": "String", "StringValue": "hello"},
            "blob": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
        },
    )

    (made,) = queue.event()["Records"]

    assert made.keys() == {
        *("messageId", "receiptHandle", "body", "attributes", "messageAttributes"),
        *("md5OfBody", "eventSource", "eventSourceARN", "awsRegion"),
    }
    assert made["body"] == body
    assert made["md5OfBody"] == hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
    assert made["eventSource"] == "aws:sqs"
    assert (made["eventSourceARN"], made["awsRegion"]) == (queue.arn, REGION)
    assert {
        "ApproximateReceiveCount",
        "SentTimestamp",
        "SenderId",
        "ApproximateFirstReceiveTimestamp",
    } <= made["attributes"].keys()
    assert all(isinstance(value, str) for value in made["attributes"].values())
    empty: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    assert made["messageAttributes"] == {
        "note": {"stringValue": "hello", **empty, "dataType": "String"},
        "blob": {"binaryValue": "AAE=", **empty, "dataType": "Binary"},
    }


def test_a_record_is_read_back(aws: Any) -> None:
    fifo = make_queue(aws, fifo=True)
    (message_id,) = fifo.ring("0190", group="shop 1")

    ((read,), problems) = read_records(fifo.event())

    assert problems == []
    assert read.message is not None
    assert (read.message_id, read.message.job_id, read.group) == (message_id, "0190", "shop 1")
    assert (read.is_ordered, read.receive_count) == (True, 1)
    assert read.first_received_at is not None


def test_a_group_on_a_standard_queue_orders_nothing(queue: Queue) -> None:
    """There it is only a hint for fairness, and messages come in any order."""
    queue.ring("0190")
    event = queue.event()
    event["Records"][0]["attributes"]["MessageGroupId"] = "one"

    ((read,), _) = read_records(event)

    assert read.group is None
