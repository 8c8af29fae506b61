"""What travels on a queue: the message that names a job, and when a row is rung.

Pure: a message names a row and nothing more. Whether the job runs is decided by the row.
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import Any, NamedTuple

from jobs.core.errors import MalformedMessage
from jobs.core.names import NAME

# AWS cuts chains of Lambda to SQS to Lambda after about sixteen rounds, messages and all.
MOST_HOPS = 12

# How long after it is due a row whose ring was sent may stay pending before a tick rings it again.
RING_GRACE_SECONDS = 10.0
# The wait after each further ring of one row: this, doubled every time, up to the longest.
RING_AGAIN_SECONDS = 60.0
LONGEST_RING_AGAIN_SECONDS = 3600.0
# A queue hides a received message for at most twelve hours; an hour may have passed meanwhile.
LONGEST_KEEP_SECONDS = 11 * 3600.0

# Set by a consumer while it runs the handlers of a batch: the highest ``hops`` of its messages.
current_hops: ContextVar[int | None] = ContextVar("tickwork_hops", default=None)


def next_hops() -> int:
    """The ``hops`` of a ring made here: 0 outside a consumer, inside one more than its own."""
    hops = current_hops.get()
    return 0 if hops is None else hops + 1


class RingRules(NamedTuple):
    """When a row is rung, by what its queue can do with a message.

    ``longest_delay_seconds`` is how long the queue holds a message back (0: not at all). A row due
    later is left to a tick, which rings it ``lead_seconds`` ahead.
    """

    longest_delay_seconds: float
    lead_seconds: float

    def rings_at_once(self, delay_seconds: float) -> bool:
        """Whether a row that is due so far ahead is rung now, its message held back."""
        return delay_seconds <= self.longest_delay_seconds

    def ring_after(self, delay_seconds: float) -> float:
        """Seconds until a tick is to ring the row, if it is still pending then."""
        if self.rings_at_once(delay_seconds):
            return delay_seconds + RING_GRACE_SECONDS
        return delay_seconds - self.lead_seconds

    def kept_after(self, delay_seconds: float) -> float:
        """As :meth:`ring_after`, for a row whose message its runner keeps until it is due."""
        if delay_seconds <= LONGEST_KEEP_SECONDS:
            return delay_seconds + RING_GRACE_SECONDS
        return self.ring_after(delay_seconds)


class Message(NamedTuple):
    """One ring on its way: which job to look at.

    ``namespace`` is ``None`` when a foreign producer left it out: the reader's own is meant then.
    ``send`` counts the sends of this row from 1, ``hops`` how many consumer-started rings led to
    this one.

    >>> Message.parse(Message("0190", "export", "").to_body()).job_id
    '0190'
    """

    job_id: str
    kind: str = ""
    namespace: str | None = None
    send: int = 1
    hops: int = 0

    def to_body(self) -> str:
        """The body as JSON: ids only, so that no size limit and no reader of the queue matters."""
        named: dict[str, Any] = {"jobId": self.job_id, "kind": self.kind}
        if self.namespace is not None:
            named["namespace"] = self.namespace
        return json.dumps({**named, "send": self.send, "hops": self.hops}, separators=(",", ":"))

    @classmethod
    def parse(cls, body: object) -> Message:
        """The message of a body; ``{"jobId": "..."}`` alone is enough, unknown keys are left.

        Raises :class:`~jobs.core.errors.MalformedMessage` for everything that names no job.
        """
        if not isinstance(body, str):
            raise MalformedMessage(f"the body is {_shape(body)}, not text")
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            raise MalformedMessage("the body is not JSON") from None
        if not isinstance(found, dict):
            raise MalformedMessage(f"the body holds {_shape(found)}, not an object with a jobId")
        job_id = found.get("jobId")
        if not isinstance(job_id, str) or not NAME.fullmatch(job_id):
            raise MalformedMessage("jobId is missing, or no job's id")
        return cls(
            job_id,
            kind=_text(found, "kind") or "",
            namespace=_text(found, "namespace"),
            send=_count(found, "send", 1),
            hops=_count(found, "hops", 0),
        )


def _text(found: dict[str, Any], key: str) -> str | None:
    value = found.get(key)
    if value is not None and not isinstance(value, str):
        raise MalformedMessage(f"{key} is {_shape(value)}, not text")
    return value


def _count(found: dict[str, Any], key: str, least: int) -> int:
    value = found.get(key)
    if value is None:
        return least
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise MalformedMessage(f"{key} is not a whole number from {least} on")
    return value


def _shape(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    names |= {int: "a number", float: "a number", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")
