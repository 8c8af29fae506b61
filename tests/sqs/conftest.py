"""A moto server for the session, a queue for each test, and the environment that boto3 reads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from moto.server import ThreadedMotoServer

from jobs.doorbells import sqs
from tests.support.queues import CREDENTIALS, Endpoint, Queue, stub

MakeQueue = Callable[..., Queue]
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def sqs_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Keys that open nothing, and nothing of this machine's own."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


@pytest.fixture
def make_queue(aws: pytest.MonkeyPatch, sqs_endpoint: str) -> MakeQueue:
    aws.setenv("AWS_ENDPOINT_URL_SQS", sqs_endpoint)
    # A busy machine may need longer than a sender waits; what is left out is another test's matter.
    for patience in ("CONNECT_SECONDS", "READ_SECONDS", "SEND_SECONDS"):
        aws.setattr(sqs, patience, 60.0)

    def make(*, fifo: bool = False, **attributes: str) -> Queue:
        name = f"jobs-{next(_numbers)}{'.fifo' if fifo else ''}"
        return Queue(sqs_endpoint, name, **attributes)

    return make


@pytest.fixture
def queue(make_queue: MakeQueue) -> Queue:
    return make_queue()


@pytest.fixture
def endpoint(aws: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A stub in the queue's place."""
    with stub() as endpoint:
        aws.setenv("AWS_ENDPOINT_URL_SQS", endpoint.url)
        yield endpoint
