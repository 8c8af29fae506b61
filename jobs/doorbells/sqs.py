"""The SQS doorbell: a message per committed job, which names it and nothing more."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import math
import os
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from time import monotonic
from time import sleep as pause
from typing import Any
from urllib.parse import urlsplit

from jobs.core.doorbell import Ring
from jobs.core.errors import ConfigurationError
from jobs.core.ring import MOST_HOPS, Message, RingRules, next_hops

log = logging.getLogger("tickwork.sqs")
LONGEST_DELAY_SECONDS = 900
STANDARD_RULES = RingRules(longest_delay_seconds=LONGEST_DELAY_SECONDS, lead_seconds=840)
# A FIFO queue knows no delay of a single message.
FIFO_RULES = RingRules(longest_delay_seconds=0, lead_seconds=0)
ENTRIES_PER_CALL = 10
CALLS_AT_ONCE = 8
# Past a second, after which a lost first packet is sent again.
CONNECT_SECONDS = 1.5
READ_SECONDS = 2.0
# A request waits for its ring: what is not sent by then is left to a tick.
SEND_SECONDS = 3.0
PAUSES_SECONDS = (0.05, 0.15)
# After a queue could not be reached: so long nobody waits for it again.
REST_SECONDS = 5.0
DEFAULT_REGION = "us-east-1"
_GROUP = re.compile(r"""[A-Za-z0-9!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}""")
_REGION_IN_HOST = re.compile(
    r"(?:^|\.)sqs(?:-fips)?\.([a-z0-9-]+)\.|^([a-z]{2}(?:-[a-z]+)+-\d)\.queue\.amazonaws\."
)


class SqsDoorbell:
    """Sends to one queue, standard or FIFO (its URL ends in ``.fifo``). Safe in many threads.

    Raises :class:`~jobs.core.errors.ConfigurationError` if boto3 is not installed. Credentials, and
    an endpoint of one's own, come from where boto3 looks for them (``AWS_ENDPOINT_URL_SQS``).
    """

    def __init__(self, queue_url: str, *, namespace: str = "") -> None:
        if importlib.util.find_spec("boto3") is None:
            raise ConfigurationError("JOBS_BACKEND=sqs needs boto3: pip install 'tickwork[aws]'")
        self.queue_url = queue_url
        self.namespace = namespace
        self.is_fifo = queue_url.endswith(".fifo")
        self.rules = FIFO_RULES if self.is_fifo else STANDARD_RULES
        self._lock = threading.Lock()
        self._client: Any = None
        self._client_pid: int | None = None
        self._resting_until = 0.0

    def ring(self, rings: Sequence[Ring]) -> list[str]:
        """Send a message for each that is due soon enough; returns the ids not sent for.

        A job that is due later than the queue can hold a message back is left to a tick. So is all
        that a handler of this consumer rings for when its chain has grown too long.
        """
        soon = [ring for ring in rings if self.rules.rings_at_once(ring.delay_seconds)]
        if not soon:
            return []
        ids = [ring.job_id for ring in soon]
        hops = next_hops()
        if hops >= MOST_HOPS:
            log.warning("a chain of %d rings: %d jobs are left to the next tick", hops, len(ids))
            return ids
        if monotonic() < self._resting_until:
            return ids
        entries = [(ring.job_id, self._entry(ring, hops)) for ring in soon]
        calls = [
            entries[at : at + ENTRIES_PER_CALL] for at in range(0, len(entries), ENTRIES_PER_CALL)
        ]
        deadline = monotonic() + SEND_SECONDS
        if len(calls) == 1 or self.is_fifo:  # one after the other, which is the order of a group
            unsent = [self._send(call, deadline) for call in calls]
        else:
            with ThreadPoolExecutor(min(CALLS_AT_ONCE, len(calls)), "tickwork-sqs") as pool:
                unsent = list(pool.map(lambda call: self._send(call, deadline), calls))
        return list(chain.from_iterable(unsent))

    def _entry(self, ring: Ring, hops: int) -> dict[str, Any]:
        body = Message(ring.job_id, ring.kind, self.namespace, ring.send, hops).to_body()
        if self.is_fifo:
            return {
                "MessageBody": body,
                "MessageGroupId": message_group(ring),
                "MessageDeduplicationId": f"{ring.job_id}-{ring.send}",
            }
        # Rounded up, so that it never comes before its job is due.
        return {"MessageBody": body, "DelaySeconds": max(0, math.ceil(ring.delay_seconds))}

    def _send(self, call: Sequence[tuple[str, dict[str, Any]]], deadline: float) -> list[str]:
        """Send up to ten; returns the ids that could not be sent for."""
        left = list(call)
        given_up: list[str] = []
        for seconds in (*PAUSES_SECONDS, None):
            now = monotonic()
            if now >= deadline or now < self._resting_until:
                break
            entries = [{"Id": str(at), **entry} for at, (_, entry) in enumerate(left)]
            try:
                answer = self._sqs().send_message_batch(QueueUrl=self.queue_url, Entries=entries)
            except Exception as error:  # noqa: BLE001 - whatever it was, the row is the truth
                if not _is_passing(error) or seconds is None:
                    self._rest(error)
                    break
            else:
                failed = {int(each["Id"]): each for each in answer.get("Failed", ())}
                for at, each in failed.items():
                    if each.get("SenderFault") or seconds is None:
                        log.warning(
                            "job %s: the queue refused its message (%s); the next tick rings",
                            left[at][0],
                            each.get("Code"),
                        )
                given_up += [left[at][0] for at in failed if failed[at].get("SenderFault")]
                left = [left[at] for at in failed if not failed[at].get("SenderFault")]
                if not left:
                    break
            if seconds is not None:
                pause(seconds)
        return given_up + [job_id for job_id, _ in left]

    def _rest(self, error: Exception) -> None:
        with self._lock:
            told = monotonic() < self._resting_until
            self._resting_until = monotonic() + REST_SECONDS
        if not told:
            log.warning(
                "the queue cannot be rung (%s); ticks ring until it can: %s",
                mend_of(error),
                _first_line(error),
            )

    def _sqs(self) -> Any:
        with self._lock:
            # A process that was forked must not share the sockets of its parent.
            if self._client is None or self._client_pid != os.getpid():
                self._client = make_client(self.queue_url)
                self._client_pid = os.getpid()
            return self._client


def make_client(queue_url: str) -> Any:
    """A boto3 client for the queue's region that gives up soon and never tries by itself."""
    import boto3  # late: it costs a quarter of a second to import
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=CALLS_AT_ONCE,
    )
    region = region_of(queue_url, os.environ)
    return boto3.session.Session().client("sqs", region_name=region, config=config)


def region_of(queue_url: str, environ: Mapping[str, str]) -> str:
    """The region that the queue's host names, else the environment's, else ``us-east-1``."""
    found = _REGION_IN_HOST.search(urlsplit(queue_url).hostname or "")
    if found is not None:
        return found[1] or found[2]
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION


def message_group(ring: Ring) -> str:
    """What keeps its order on a FIFO queue: the concurrency key (of its tenant), else the tenant,
    else the kind. A name that SQS would refuse is replaced by its digest.
    """
    group = ring.tenant or ring.kind
    if ring.key:
        group = f"{ring.tenant}/{ring.key}"
    if _GROUP.fullmatch(group):
        return group
    return hashlib.sha256(group.encode()).hexdigest()


def mend_of(error: Exception) -> str:
    """What to look at when the queue cannot be rung."""
    match _code_of(error) or type(error).__name__:
        case "NoCredentialsError" | "PartialCredentialsError" | "InvalidClientTokenId":
            return "are there AWS credentials here?"
        case "AccessDenied" | "AccessDeniedException":
            return "the role needs sqs:SendMessage on this queue"
        case "AWS.SimpleQueueService.NonExistentQueue" | "QueueDoesNotExist":
            return "does SQS_QUEUE_URL name a queue of this account and region?"
    return "is SQS_QUEUE_URL right, and AWS_ENDPOINT_URL_SQS if set?"


def _is_passing(error: Exception) -> bool:
    """Whether the call is worth making again: a throttle, a fault of the server, a cut line."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return type(error).__name__ in ("ConnectionClosedError", "ReadTimeoutError")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or "Throttl" in (_code_of(error) or "")


def _code_of(error: Exception) -> str | None:
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return None
    code = response.get("Error", {}).get("Code")
    return None if code is None else str(code)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
