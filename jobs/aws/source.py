"""The event source of a laptop: what AWS does between a queue and its function.

It looks at the queue, makes the event, calls the consumer with a context that counts down, and
deletes what was not reported. One batch at a time; within it jobs run side by side as on Lambda.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobs.aws.consumer import Consumer
from jobs.aws.event import failed_ids, make_event
from jobs.aws.queue import BATCH, brief, in_batches
from jobs.core.errors import ConfigurationError

log = logging.getLogger("tickwork.aws")
STATISTICS_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 30.0
WAIT_SECONDS = 5  # short enough for a SIGTERM's grace, which is ten or more


class Invocation:
    """What Lambda tells a function of the call it is in."""

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self.function_name = "tickwork-worker"
        self._monotonic = monotonic
        self._over_at = monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        """What is left until Lambda would end the function."""
        return max(0, int((self._over_at - self._monotonic()) * 1000))


class QueueSource:
    """Hands what arrives in one queue to a consumer, until told to stop.

    ``function_seconds`` is the function's timeout; the queue's own visibility timeout caps it, as
    AWS demands. ``wait_seconds`` is how long one look waits for messages, 20 at most; a stop waits
    for it. ``say`` is told the statistics every 30 seconds of ``monotonic``.
    """

    def __init__(
        self,
        consumer: Consumer,
        client: Any,
        url: str,
        *,
        function_seconds: float,
        batch_size: int = BATCH,
        wait_seconds: int = WAIT_SECONDS,
        say: Callable[[str], None] = log.info,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.batches = 0
        self.received = 0
        self.deleted = 0
        self._consumer = consumer
        self._client = client
        self._url = url
        self._batch_size = batch_size
        self._wait_seconds = wait_seconds
        self._say = say
        self._monotonic = monotonic
        self._stopping = threading.Event()
        self._failures = 0
        found = self._ask_for_queue()
        self._arn = str(found["QueueArn"])
        self.function_seconds = min(function_seconds, float(found["VisibilityTimeout"]))
        if self.function_seconds < function_seconds:
            log.warning(
                "the queue hides a message for %s s only, so a batch gets no more; raise its "
                "VisibilityTimeout to six times the function's timeout (%g s)",
                found["VisibilityTimeout"],
                function_seconds,
            )
        self._told_at = monotonic()
        self._told: Counter[str] = Counter()

    def _ask_for_queue(self) -> Mapping[str, Any]:
        try:
            answered = self._client.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["QueueArn", "VisibilityTimeout"]
            )
        except self._client.exceptions.QueueDoesNotExist as error:
            raise ConfigurationError(
                "SQS_QUEUE_URL: there is no such queue; is the URL right, and its region?"
            ) from error
        attributes: Mapping[str, Any] = answered["Attributes"]
        return attributes

    def run(self) -> None:
        """Look, call, delete, again and again; returns after :meth:`stop`."""
        while not self._stopping.is_set():
            self.look()

    def stop(self) -> None:
        """Start nothing more: what runs ends, and what has not begun goes back to its queue."""
        self._stopping.set()
        self._consumer.tickwork.stop_starting()

    def look(self) -> int:
        """One look at the queue, and the batch that it finds; returns how many messages."""
        messages: Sequence[Mapping[str, Any]] = ()
        try:
            messages = self._receive()
            self._failures = 0
        except Exception as error:  # noqa: BLE001 - a queue that is away for a while comes back
            self._failures += 1
            pause = min(2.0**self._failures, LONGEST_PAUSE_SECONDS)
            log.warning("the queue cannot be looked at: %s; again in %g s", brief(error), pause)
            self._stopping.wait(pause)
        if messages:
            self._call(messages)
        self._tell_now_and_then()
        return len(messages)

    def _receive(self) -> Sequence[Mapping[str, Any]]:
        answered = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=self._batch_size,
            WaitTimeSeconds=self._wait_seconds,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: Sequence[Mapping[str, Any]] = answered.get("Messages", ())
        return messages

    def _call(self, messages: Sequence[Mapping[str, Any]]) -> None:
        self.batches += 1
        self.received += len(messages)
        receipts = {each["MessageId"]: each["ReceiptHandle"] for each in messages}
        context = Invocation(self.function_seconds, self._monotonic)
        try:
            answered: object = self._consumer.handle(make_event(messages, self._arn), context)
        except Exception:
            log.exception("the function failed; all %d messages come back", len(messages))
            return
        stay = failed_ids(answered, list(receipts))
        self._delete([receipt for each, receipt in receipts.items() if each not in stay])

    def _delete(self, receipts: Sequence[str]) -> None:
        for part in in_batches(receipts):
            entries = [
                {"Id": str(place), "ReceiptHandle": receipt} for place, receipt in enumerate(part)
            ]
            try:
                answered = self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
            except Exception as error:  # noqa: BLE001 - they come back, and their rows have ended
                log.warning("%d messages were not deleted: %s", len(part), brief(error))
                continue
            self.deleted += len(answered.get("Successful", ()))
            for failure in answered.get("Failed", ()):
                log.warning("a message was not deleted: %s", failure.get("Code"))

    def _tell_now_and_then(self) -> None:
        if self._monotonic() - self._told_at >= STATISTICS_SECONDS:
            self._told_at = self._monotonic()
            self.tell()

    def tell(self) -> None:
        """Say what was done so far, and what of it since it was last said."""
        now = Counter({"messages": self.received, **self._consumer.counts})
        shown = [
            f"{count} {name} (+{count - self._told[name]})"
            for name, count in now.items()
            if count or name == "messages"
        ]
        self._told = now
        self._say(f"So far: {', '.join(shown)}.")
