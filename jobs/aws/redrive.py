"""Redrive: messages of a dead-letter queue back to the queue they came from.

Where SQS moves them itself it is asked to. Otherwise each is sent before it is deleted, so that an
interruption at any point leaves it in one of the two, or for a while in both: never in neither.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jobs.aws.queue import BATCH, brief, in_batches, name_of_arn, url_of_arn
from jobs.core.errors import ConfigurationError, TickworkError

log = logging.getLogger("tickwork.aws")
# For how long a message may take from being received to being deleted.
HIDDEN_SECONDS = 60
POLL_SECONDS = 1.0
# One that waits asks all of the queue's servers; one that does not may miss what is there.
LOOK_SECONDS = 1
# How endpoints say that they do not know an action; AWS knows it, some stand-ins do not.
_UNKNOWN = frozenset(
    {"InvalidAction", "NotImplemented", "UnknownOperation", "UnknownOperationException"}
    | {"UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", "404", "500", "501"}
)


class Redriven(NamedTuple):
    """What a redrive did.

    ``failed`` are messages that the queue refused; they stay where they were. ``by_sqs`` says that
    SQS moved them itself. The queues are told by name.
    """

    moved: int
    failed: int
    by_sqs: bool
    source: str
    target: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self._asdict()


def redrive(
    client: Any,
    url: str,
    *,
    dead_letters_url: str | None = None,
    most: int | None = None,
    wait: Callable[[float], object] = time.sleep,
) -> Redriven:
    """Move messages, all or up to ``most``, from the dead-letter queue of ``url`` back to it.

    The queue's redrive policy names the dead-letter queue unless its URL is given. ``wait`` passes
    seconds while SQS is at work.

    Raises :class:`~jobs.core.errors.ConfigurationError` if there is no dead-letter queue, and
    :class:`~jobs.core.errors.TickworkError` if SQS gives up moving.
    """
    target = _attributes(client, url, "SQS_QUEUE_URL")
    if dead_letters_url is None:
        dead_letters_arn = _dead_letters_of(target)
        dead_letters_url = url_of_arn(client, dead_letters_arn)
    else:
        dead_letters_arn = _attributes(client, dead_letters_url, "--dlq")["QueueArn"]
    names = (name_of_arn(dead_letters_arn), name_of_arn(target["QueueArn"]))
    if names[0] == names[1]:
        raise ConfigurationError("--dlq is the queue itself: give the URL of its dead-letter queue")
    if most is None:
        moved = _by_sqs(client, dead_letters_arn, target["QueueArn"], wait)
        if moved is not None:
            return Redriven(moved, 0, True, *names)
    done = _by_hand(client, dead_letters_url, url, most)
    return Redriven(done[0], done[1], False, *names)


def _attributes(client: Any, url: str, name: str) -> Mapping[str, str]:
    try:
        answered = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    except client.exceptions.QueueDoesNotExist as error:
        raise ConfigurationError(
            f"{name}: there is no such queue; is the URL right, and its region?"
        ) from error
    attributes: Mapping[str, str] = answered["Attributes"]
    return attributes


def _dead_letters_of(attributes: Mapping[str, str]) -> str:
    policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    arn = policy.get("deadLetterTargetArn")
    if not arn:
        raise ConfigurationError(
            "the queue has no dead-letter queue: set its RedrivePolicy, or name one with --dlq URL"
        )
    return str(arn)


# -- by SQS itself -------------------------------------------------------------------------------


def _by_sqs(
    client: Any, source_arn: str, target_arn: str, wait: Callable[[float], object]
) -> int | None:
    """How many SQS moved; ``None`` where it does not know how."""
    from botocore.exceptions import ClientError  # late: with boto3

    try:
        handle = client.start_message_move_task(SourceArn=source_arn, DestinationArn=target_arn)[
            "TaskHandle"
        ]
    except ClientError as error:
        if brief(error) not in _UNKNOWN:
            raise
        log.info("this endpoint moves no messages itself (%s)", brief(error))
        return None
    while True:
        task = _task(client, source_arn, handle)
        if task["Status"] == "COMPLETED":
            return int(task.get("ApproximateNumberOfMessagesMoved", 0))
        if task["Status"] not in ("RUNNING", "CANCELLING"):
            reason = task.get("FailureReason", "no reason given")
            moved = task.get("ApproximateNumberOfMessagesMoved", 0)
            raise TickworkError(
                f"SQS stopped moving after {moved} messages: {task['Status']}, {reason}; "
                "those left are still in the dead-letter queue"
            )
        wait(POLL_SECONDS)


def _task(client: Any, source_arn: str, handle: str) -> Mapping[str, Any]:
    tasks = client.list_message_move_tasks(SourceArn=source_arn, MaxResults=10)["Results"]
    for task in tasks:
        # A task that has ended is told without its handle; the newest comes first.
        if task.get("TaskHandle", handle) == handle:
            found: Mapping[str, Any] = task
            return found
    return {"Status": "RUNNING"}


# -- by hand -------------------------------------------------------------------------------------


def _by_hand(client: Any, source_url: str, target_url: str, most: int | None) -> tuple[int, int]:
    """How many were moved, and how many were refused."""
    moved, refused = 0, set[str]()
    while most is None or moved < most:
        messages = client.receive_message(
            QueueUrl=source_url,
            MaxNumberOfMessages=BATCH if most is None else min(BATCH, most - moved),
            VisibilityTimeout=HIDDEN_SECONDS,
            WaitTimeSeconds=LOOK_SECONDS,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        sent = _send(client, target_url, messages)
        _delete(client, source_url, [message["ReceiptHandle"] for message in sent])
        moved += len(sent)
        there = {message["MessageId"] for message in sent}
        refused |= {each["MessageId"] for each in messages} - there
        if not sent:
            break
    return moved, len(refused)


def _send(client: Any, url: str, messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Send copies; returns the messages whose copy the queue has taken."""
    from botocore.exceptions import ClientError

    if not messages:
        return []
    entries = [_copy(str(place), message) for place, message in enumerate(messages)]
    try:
        answered = client.send_message_batch(QueueUrl=url, Entries=entries)
    except ClientError as error:
        if not brief(error).endswith("BatchRequestTooLong") or len(messages) == 1:
            raise
        # Each may be sent, but all together are more than one request may hold.
        return [sent for message in messages for sent in _send(client, url, [message])]
    for failure in answered.get("Failed", ()):
        log.warning("the queue refused a message: %s", failure.get("Code"))
    return [messages[int(done["Id"])] for done in answered.get("Successful", ())]


def _copy(entry_id: str, message: Mapping[str, Any]) -> dict[str, Any]:
    """The message as an entry to send: its body, attributes and group."""
    copy: dict[str, Any] = {"Id": entry_id, "MessageBody": message["Body"]}
    if message.get("MessageAttributes"):
        copy["MessageAttributes"] = message["MessageAttributes"]
    attributes = message.get("Attributes", {})
    if "MessageGroupId" in attributes:
        copy["MessageGroupId"] = attributes["MessageGroupId"]
    if "MessageDeduplicationId" in attributes:
        # Not the one it had: within five minutes the queue would take the copy and throw it away.
        # This one is of this very message, so that a copy sent again after an interruption is one.
        copy["MessageDeduplicationId"] = f"redrive-{message['MessageId']}"
    if "AWSTraceHeader" in attributes:
        trace = {"StringValue": attributes["AWSTraceHeader"], "DataType": "String"}
        copy["MessageSystemAttributes"] = {"AWSTraceHeader": trace}
    return copy


def _delete(client: Any, url: str, receipts: Sequence[str]) -> None:
    for part in in_batches(receipts):
        entries = [
            {"Id": str(place), "ReceiptHandle": receipt} for place, receipt in enumerate(part)
        ]
        for failure in client.delete_message_batch(QueueUrl=url, Entries=entries).get("Failed", ()):
            log.warning("a moved message was not deleted: %s", failure.get("Code"))
