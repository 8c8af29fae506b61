"""Whatever becomes of the messages, every job ends, and once: the row is the truth."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from jobs import State, Tickwork
from jobs.aws.consumer import Consumer
from jobs.core.clock import ManualClock
from jobs.core.ring import Message
from tests.sqs.consuming import consume
from tests.support.crashing import Crasher
from tests.support.databases import Database
from tests.support.queues import CREDENTIALS, Endpoint, Queue
from tests.support.scenarios import EXIT_CODE, build
from tests.support.sqs import Context, record

LIVE = (State.PENDING, State.PROCESSING)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def opened(database: Database, queue_url: str, clock: ManualClock, **settings: Any) -> Tickwork:
    tickwork = Tickwork(
        database.url, clock=clock, backend="sqs", sqs_queue_url=queue_url, **settings
    )
    tickwork.create_schema()
    return tickwork


def test_with_every_message_dropped_all_jobs_end_by_ticks(
    database: Database, queue: Queue, clock: ManualClock
) -> None:
    tickwork = opened(database, queue.url, clock, batch_size=20)
    runs: Counter[str] = Counter()

    @tickwork.handler("mail", max_attempts=2, backoff=5.0)
    def mail(payload: dict[str, Any]) -> None:
        runs[payload["name"]] += 1
        if payload["name"] == "fails":
            raise LookupError

    ids = tickwork.enqueue_many([("mail", {"name": f"m{n}"}) for n in range(40)])
    ids += [
        tickwork.enqueue("mail", {"name": "fails"}).id,
        tickwork.enqueue("mail", {"name": "later"}, delay=2000).id,
    ]
    for _ in range(60):
        tickwork.tick()
        queue.take_all()  # and lost
        clock.advance(60)
    assert not any(tickwork.list(state=state) for state in LIVE)
    assert len(tickwork.list(state=State.COMPLETED, limit=100)) == 41
    assert runs == {**{f"m{n}": 1 for n in range(40)}, "fails": 2, "later": 1}
    tickwork.close()


# -- a runner that dies between the commit and the send ------------------------------------------


@pytest.fixture(scope="module")
def crasher() -> Iterator[Crasher]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        with Crasher() as crasher:
            yield crasher


@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_death_between_commit_and_send(
    database: Database, queue: Queue, crasher: Crasher, tmp_path: Path, in_transaction: bool
) -> None:
    settings = {"backend": "sqs", "sqs_queue_url": queue.url}
    log = str(tmp_path / "log")
    tickwork = build(database.url, log, **settings)
    tickwork.create_schema()

    ended = crasher.run(
        "enqueue_and_die",
        url=database.url,
        log=log,
        settings=settings,
        in_transaction=in_transaction,
    )

    assert ended == EXIT_CODE
    (job,) = tickwork.list()
    assert job.state is State.PENDING
    assert queue.messages() == []
    assert tickwork.tick().processed == 0
    assert queue.messages() == [], "its grace is not over"
    store: Any = tickwork.store
    jobs = store.tables.jobs
    with tickwork.engine.begin() as connection:  # move time: the grace is over
        connection.execute(jobs.update().values(ring_at=jobs.c.created_at))
    tickwork.tick()
    messages = queue.messages()
    assert [(message.job_id, message.send) for message in messages] == [(job.id, 2)]
    consume(tickwork, messages)
    done = tickwork.get(job.id)
    assert done is not None
    assert done.result == "noted"
    tickwork.close()


# -- a queue that loses, repeats and mixes up ----------------------------------------------------


class Weather:
    """Between the queue and its consumer: messages are lost, repeated, late and out of order."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.late: list[Message] = []
        self.seen: Counter[str] = Counter()

    def through(self, messages: list[Message]) -> list[Message]:
        arriving, self.late = [*self.late, *messages], []
        found: list[Message] = []
        for message in arriving:
            fate = self.dice.random()
            if fate < 0.1:
                self.seen["lost"] += 1
            elif fate < 0.2:
                self.seen["late"] += 1
                self.late.append(message)
            else:
                copies = 1 + (fate < 0.35) + (fate < 0.25)
                self.seen["repeated"] += copies - 1
                found += [message] * copies
        self.dice.shuffle(found)
        return found


@pytest.mark.parametrize(("kind", "seed"), [("sqlite", 1), ("postgresql", 2)])
def test_every_job_ends_once_and_none_is_lost(
    request: pytest.FixtureRequest, queue: Queue, clock: ManualClock, kind: str, seed: int
) -> None:
    database: Database = request.getfixturevalue(f"{kind}_database")
    run_through_weather(database, queue.url, queue.messages, clock, jobs=200, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), [("sqlite", 3), ("postgresql", 4)])
def test_of_ten_thousand_jobs_every_one_ends_once(
    request: pytest.FixtureRequest, endpoint: Endpoint, clock: ManualClock, kind: str, seed: int
) -> None:
    """Received from a stub: moto looks at every message there is for each that it is sent."""
    database: Database = request.getfixturevalue(f"{kind}_database")

    def messages() -> list[Message]:
        with endpoint.lock:
            calls, endpoint.calls = endpoint.calls, []
        return [Message.parse(entry["MessageBody"]) for call in calls for entry in call]

    run_through_weather(database, endpoint.queue_url, messages, clock, jobs=10_000, seed=seed)


def run_through_weather(
    database: Database,
    queue_url: str,
    messages: Callable[[], list[Message]],
    clock: ManualClock,
    *,
    jobs: int,
    seed: int,
) -> None:
    """Functions of three copies at once, each with a batch of ten, and a tick in between."""
    effects: Counter[int] = Counter()
    ended: Counter[str] = Counter()
    lock = threading.Lock()

    def count(payload: dict[str, Any]) -> int:
        number: int = payload["n"]
        with lock:
            effects[number] += 1
            fails = effects[number] == 1 and number % 10 == 0  # each tenth fails once
        if fails:
            raise LookupError
        return number

    def note(event: Any) -> None:
        with lock:
            ended[event.job_id] += 1

    with ExitStack() as stack:
        copies = []
        for _ in range(3):
            copy = opened(database, queue_url, clock, batch_size=100, retry_delay=0.0)
            stack.enter_context(closing(copy))
            copy.register_handler("count", count, max_attempts=5)
            for name in ("completed", "failed"):
                copy.on(name, note)
            copies.append(copy)
        functions = stack.enter_context(ThreadPoolExecutor(len(copies)))
        consumers = [Consumer(copy) for copy in copies]
        weather = Weather(seed)
        ids = copies[0].enqueue_many([("count", {"n": n}) for n in range(jobs)])
        for _ in range(400):
            waiting = weather.through(messages())
            while waiting:
                batches, waiting = [waiting[at : at + 10] for at in (0, 10, 20)], waiting[30:]
                # As an event source brings them back: what waits comes through the weather again.
                for kept in functions.map(delivered, consumers, batches):
                    weather.late += kept
            if not any(copies[0].list(state=state, limit=1) for state in LIVE):
                break
            clock.advance(30)
            copies[0].tick()
    assert ended == dict.fromkeys(ids, 1)
    assert effects == {n: 2 if n % 10 == 0 else 1 for n in range(jobs)}
    assert weather.seen.keys() == {"lost", "late", "repeated"}


def delivered(consumer: Consumer, batch: list[Message]) -> list[Message]:
    """Those of a batch that come back, by what the function answers."""
    # No queue knows of these copies, so there is no receipt by which one could be hidden.
    records = [
        record(message.to_body(), f"{at}", receiptHandle="") for at, message in enumerate(batch)
    ]
    answer = consumer.handle({"Records": records}, Context())
    return [batch[int(each["itemIdentifier"])] for each in answer["batchItemFailures"]]
