"""An SQS queue as the consumer, the local event source and redrive see it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from jobs.core.errors import ConfigurationError

log = logging.getLogger("tickwork.aws")
BATCH = 10  # entries of one request
Item = TypeVar("Item")


def open_client(
    region: str | None = None, *, wait_seconds: float = 0.0, patient: bool = True
) -> Any:
    """A client for SQS; ``wait_seconds`` is how long its longest look at a queue waits.

    One that is not ``patient`` gives up within three seconds and tries once: for a function whose
    time is counted. Credentials and endpoint come from the environment, as boto3 has it. Raises
    :class:`~jobs.core.errors.ConfigurationError` where boto3 is missing.
    """
    try:
        import boto3  # late: a batch in which every job ends well never needs it
        from botocore.config import Config
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "SQS needs boto3: pip install 'tickwork[aws]' (Lambda's own runtime has it)"
        ) from error
    return boto3.session.Session().client(
        "sqs",
        region_name=region or None,
        config=Config(
            connect_timeout=3 if patient else 1,
            read_timeout=(5 if patient else 2) + wait_seconds,
            retries={"mode": "standard", "total_max_attempts": 3 if patient else 1},
        ),
    )


def name_of_arn(arn: str) -> str:
    """The queue's name, from its ARN."""
    return arn.rpartition(":")[2]


def name_of_url(url: str) -> str:
    """The queue's name, from its URL."""
    return urlsplit(url).path.rstrip("/").rpartition("/")[2]


def url_of_arn(client: Any, arn: str) -> str:
    """The URL of the queue that an ARN names."""
    parts = arn.split(":")
    asked = {"QueueName": parts[-1], "QueueOwnerAWSAccountId": parts[4]}
    url: str = client.get_queue_url(**asked)["QueueUrl"]
    return url


def set_visibility(
    client: Any,
    url: str,
    seconds_by_receipt: Mapping[str, int],
    *,
    in_time: Callable[[], bool] = lambda: True,
) -> int:
    """Have messages come back in so many seconds; returns how many of them will.

    Never raises: a message that could not be told comes back when the queue has it so. Nothing is
    asked any more once a request failed altogether, or when ``in_time`` says that time is up.
    """
    done = 0
    for part in in_batches(list(seconds_by_receipt.items())):
        entries = [
            {"Id": str(place), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
            for place, (receipt, seconds) in enumerate(part)
        ]
        try:
            if not in_time():
                raise TimeoutError
            answered = client.change_message_visibility_batch(QueueUrl=url, Entries=entries)
        except Exception as error:  # noqa: BLE001 - any error of boto3's
            left = len(seconds_by_receipt) - done
            log.warning("sqs: %d messages come back early: %s", left, brief(error))
            break
        done += len(answered.get("Successful", ()))
        for failure in answered.get("Failed", ()):
            log.warning("sqs: a message was not told when to come back: %s", failure.get("Code"))
    return done


def in_batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """In parts of as many as one request takes."""
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def brief(error: Exception) -> str:
    """What went wrong with AWS, in a line without URLs or keys."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, Mapping) else None
    return str(code or type(error).__name__)
