"""A queue at moto's server, a system, and the consumer between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from jobs import Discard, Job, JobContext, Retry, Snooze, Tickwork
from jobs.aws.consumer import Consumer
from jobs.core.backoff import fixed
from jobs.core.clock import ManualClock
from tests.support import sqs
from tests.support.databases import Database


@pytest.fixture(scope="session")
def sqs_url() -> Iterator[str]:
    with sqs.server() as url:
        yield url


@pytest.fixture
def aws(sqs_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of one's own, and an environment that sends boto3 to moto."""
    for name, value in {**sqs.ENVIRON, "AWS_ENDPOINT_URL_SQS": sqs_url}.items():
        monkeypatch.setenv(name, value)
    client = sqs.client_of(sqs_url)
    yield client
    client.close()


@pytest.fixture
def queue(aws: Any) -> sqs.Queue:
    return sqs.make_queue(aws)


@pytest.fixture
def fifo(aws: Any) -> sqs.Queue:
    return sqs.make_queue(aws, fifo=True)


@pytest.fixture
def queue_clock(monkeypatch: pytest.MonkeyPatch) -> sqs.QueueClock:
    return sqs.QueueClock(monkeypatch)


class Clock(ManualClock):
    """A clock whose monotonic time can be spent as well, as by a handler that takes long."""

    spent_seconds = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.spent_seconds

    def spend(self, seconds: float) -> None:
        self.spent_seconds += seconds


@dataclass
class Place:
    """A system with the handlers of these tests, its consumer, and what ran, in order."""

    tickwork: Tickwork
    consumer: Consumer
    clock: Clock
    ran: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def put(self, kind: str = "note", payload: Any = None, **options: Any) -> str:
        return self.tickwork.enqueue(kind, payload or {}, **options).id

    def job(self, job_id: str) -> Job:
        job = self.tickwork.get(job_id)
        assert job is not None
        return job

    def states(self, *job_ids: str) -> list[str]:
        return [self.job(job_id).status for job_id in job_ids]

    def handle(self, event: object, seconds: float = 60.0) -> list[str]:
        """What the consumer reports of an event; the answer's form is checked."""
        answer = self.consumer.handle(event, sqs.Context(seconds))
        assert list(answer) == ["batchItemFailures"]
        for each in answer["batchItemFailures"]:
            assert list(each) == ["itemIdentifier"]
        return [each["itemIdentifier"] for each in answer["batchItemFailures"]]

    def work_off(self, queue: sqs.Queue, seconds: float = 60.0) -> list[str]:
        """What an event source does: receive, call, delete; returns what was reported."""
        event = queue.event()
        reported = self.handle(event, seconds)
        queue.take_off(event, {"batchItemFailures": [{"itemIdentifier": i} for i in reported]})
        return reported


def add_handlers(place: Place) -> None:
    @place.tickwork.handler("note")
    def note(payload: dict[str, Any], ctx: JobContext) -> str:
        place.ran.append(ctx.job_id)
        return "noted"

    @place.tickwork.handler("boom", max_attempts=3, backoff=fixed(40, jitter=0))
    def boom(payload: dict[str, Any], ctx: JobContext) -> None:
        place.ran.append(ctx.job_id)
        raise ValueError("boom")

    @place.tickwork.handler("steered")
    def steered(payload: dict[str, Any], ctx: JobContext) -> None:
        place.ran.append(ctx.job_id)
        how = {"retry": Retry, "snooze": Snooze, "discard": Discard}[payload["how"]]
        if payload["how"] == "retry":
            raise Retry(after=payload["seconds"])
        raise how(payload.get("seconds", "no use"))

    @place.tickwork.handler("hold")
    def hold(payload: dict[str, Any], ctx: JobContext) -> None:
        place.ran.append(ctx.job_id)
        assert place.gate.wait(30)

    @place.tickwork.handler("spend")
    def spend(payload: dict[str, Any], ctx: JobContext) -> None:
        place.ran.append(ctx.job_id)
        place.clock.spend(payload["seconds"])


@pytest.fixture
def sql_url(database: Database) -> str:
    """An empty database of each kind in turn."""
    return database.url


MakePlace = Callable[..., Place]


@pytest.fixture
def make_place(aws: Any) -> Iterator[MakePlace]:
    made: list[Place] = []

    def make(url: str, **settings: Any) -> Place:
        # Now and not a made-up day: messages carry the queue's own times.
        clock = Clock(datetime.now(UTC))
        tickwork = Tickwork(url, clock=clock, **settings)
        tickwork.create_schema()
        made.append(Place(tickwork, Consumer(tickwork), clock))
        add_handlers(made[-1])
        return made[-1]

    yield make
    for place in made:
        place.gate.set()
        place.tickwork.close()


@pytest.fixture
def place(make_place: MakePlace, sql_url: str) -> Place:
    """On each database in turn."""
    return make_place(sql_url)


@pytest.fixture
def lite(make_place: MakePlace, sqlite_url: str) -> Place:
    """On SQLite alone: for what does not touch the database in a new way."""
    return make_place(sqlite_url)
