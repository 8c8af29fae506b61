"""The event that an SQS event source hands to its function: read here, and made for a laptop.

Whoever reads one takes nothing for granted: what names no message cannot be answered for, and what
names no job is told from what does.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jobs.core.errors import MalformedMessage
from jobs.core.ring import Message


class Record(NamedTuple):
    """One message of an event.

    ``message`` is ``None`` where the body names no job; ``problem`` then says why. ``group`` is the
    message group on a FIFO queue. ``first_received_at`` is in epoch seconds, ``None`` where the
    queue did not say.
    """

    message_id: str
    receipt_handle: str
    queue_arn: str
    message: Message | None
    problem: str = ""
    group: str | None = None
    receive_count: int = 1
    first_received_at: float | None = None

    @property
    def is_ordered(self) -> bool:
        """Whether it came from a FIFO queue."""
        return self.queue_arn.endswith(".fifo")


def read_records(event: object) -> tuple[list[Record], list[str]]:
    """The messages of an event, and what is wrong with what is none."""
    if not isinstance(event, Mapping):
        return [], [f"the event is a {type(event).__name__}, not an object with Records"]
    found = event.get("Records")
    if not isinstance(found, list):
        return [], ["the event has no list of Records: is this function's trigger an SQS queue?"]
    records: list[Record] = []
    problems: list[str] = []
    for place, raw in enumerate(found):
        if not isinstance(raw, Mapping):
            problems.append(f"record {place} is a {type(raw).__name__}, not an object")
        elif not _text(raw, "messageId"):
            problems.append(f"record {place} has no messageId, so nothing can be said of it")
        else:
            records.append(_read(raw))
    return records, problems


def _read(raw: Mapping[str, Any]) -> Record:
    message, problem = None, ""
    try:
        message = Message.parse(raw.get("body"))
    except MalformedMessage as error:
        problem = str(error)
    attributes = raw.get("attributes")
    if not isinstance(attributes, Mapping):
        attributes = {}
    queue_arn = _text(raw, "eventSourceARN")
    group = _text(attributes, "MessageGroupId") if queue_arn.endswith(".fifo") else None
    first = _whole(attributes, "ApproximateFirstReceiveTimestamp")
    return Record(
        _text(raw, "messageId"),
        _text(raw, "receiptHandle"),
        queue_arn,
        message,
        problem,
        group,
        _whole(attributes, "ApproximateReceiveCount") or 1,
        None if first is None else first / 1000,
    )


def _text(holder: Mapping[str, Any], key: str) -> str:
    value = holder.get(key)
    return value if isinstance(value, str) else ""


def _whole(holder: Mapping[str, Any], key: str) -> int | None:
    value = _text(holder, key)
    # A forged one may be longer than any instant, and than what Python reads.
    return int(value) if value.isascii() and value.isdigit() and len(value) < 18 else None


def answer(message_ids: Sequence[str]) -> dict[str, Any]:
    """The partial batch response: these come back, all others are taken off the queue."""
    named = dict.fromkeys(message_ids)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in named]}


def failed_ids(answered: object, message_ids: Sequence[str]) -> frozenset[str]:
    """Which of a batch's messages stay on the queue after this answer, as AWS reads it.

    Nothing, an empty object or an empty list means that all are done; an entry without a proper
    identifier, or with one that is not of the batch, that all have failed.
    """
    if answered is None:
        return frozenset()
    everything = frozenset(message_ids)
    if not isinstance(answered, Mapping):
        return everything
    failures = answered.get("batchItemFailures")
    if failures is None:
        return frozenset()
    if not isinstance(failures, list):
        return everything
    found = set()
    for failure in failures:
        named = failure.get("itemIdentifier") if isinstance(failure, Mapping) else None
        if not isinstance(named, str) or named not in everything:
            return everything
        found.add(named)
    return frozenset(found)


def make_event(messages: Sequence[Mapping[str, Any]], queue_arn: str) -> dict[str, Any]:
    """The event for messages as ``ReceiveMessage`` returned them."""
    return {"Records": [_made(message, queue_arn) for message in messages]}


def _made(message: Mapping[str, Any], queue_arn: str) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": {name: str(value) for name, value in message.get("Attributes", {}).items()},
        "messageAttributes": {
            name: _made_attribute(value)
            for name, value in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": region_of(queue_arn),
    }


def _made_attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "StringValue" in value:
        made["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        made["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode("ascii")
    return {
        **made,
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": value["DataType"],
    }


def region_of(queue_arn: str) -> str:
    """The region that an ARN names; empty where it names none."""
    parts = queue_arn.split(":")
    return parts[3] if len(parts) == 6 else ""
