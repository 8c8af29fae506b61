"""The SQS doorbell on the wire: what is sent, what is sent again, and what is left to a tick."""

from __future__ import annotations

import contextvars
import json
import logging
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from jobs import ConfigurationError
from jobs.core.doorbell import Ring
from jobs.core.ids import new_ids
from jobs.core.ring import MOST_HOPS, Message, current_hops
from jobs.doorbells import sqs
from jobs.doorbells.sqs import SqsDoorbell, message_group, region_of
from tests.sqs.conftest import MakeQueue
from tests.support.queues import Endpoint, Queue, fault, refusing, sent


def rings(count: int, **facts: object) -> list[Ring]:
    return [Ring(job_id, "mail", 0.0, **facts) for job_id in new_ids(count)]  # type: ignore[arg-type]


def ids(rung: list[Ring]) -> list[str]:
    return [ring.job_id for ring in rung]


# -- what is sent ------------------------------------------------------------------------------


def test_a_message_names_the_job(queue: Queue) -> None:
    bell = SqsDoorbell(queue.url, namespace="preview")

    assert bell.ring([Ring("job-1", "mail", 0.0), Ring("job-2", "mail", 0.0, send=3)]) == []

    bodies = sorted((json.loads(each["Body"]) for each in queue.take_all()), key=str)
    named = {"kind": "mail", "namespace": "preview", "hops": 0}
    assert bodies == [
        {"jobId": "job-1", "send": 1, **named},
        {"jobId": "job-2", "send": 3, **named},
    ]


def test_many_go_in_batches_of_ten(queue: Queue) -> None:
    rung = rings(95)

    assert SqsDoorbell(queue.url).ring(rung) == []

    assert sorted(message.job_id for message in queue.messages()) == ids(rung)


def test_nothing_is_sent_for_nothing(endpoint: Endpoint) -> None:
    assert SqsDoorbell(endpoint.queue_url).ring([]) == []
    assert endpoint.calls == []


@pytest.mark.parametrize(
    ("delay", "seconds"), [(0.0, 0), (-3.0, 0), (1.2, 2), (2.0, 2), (899.1, 900), (900.0, 900)]
)
def test_a_delay_is_rounded_up(endpoint: Endpoint, delay: float, seconds: int) -> None:
    assert SqsDoorbell(endpoint.queue_url).ring([Ring("a", "mail", delay)]) == []
    assert endpoint.calls[0][0]["DelaySeconds"] == seconds


def test_a_delay_is_held_by_the_queue(queue: Queue) -> None:
    bell = SqsDoorbell(queue.url)
    assert bell.ring([Ring("a", "mail", 600.0), Ring("b", "mail", 0.0)]) == []
    assert [message.job_id for message in queue.messages()] == ["b"]
    assert queue.held_back() == 1


def test_what_a_queue_cannot_hold_back_is_left_to_a_tick(endpoint: Endpoint) -> None:
    bell = SqsDoorbell(endpoint.queue_url)
    assert bell.ring([Ring("a", "mail", 901.0)]) == []
    assert endpoint.calls == []
    assert bell.ring([Ring("a", "mail", 901.0), Ring("b", "mail", 1.0)]) == []
    assert endpoint.jobs(0) == ["b"]


def test_a_fifo_queue_gets_groups_and_ids(make_queue: MakeQueue) -> None:
    queue = make_queue(fifo=True)
    bell = SqsDoorbell(queue.url)
    rung = [
        Ring("a", "mail", 0.0, tenant="acme"),
        Ring("b", "mail", 0.0),
        Ring("c", "mail", 0.0, tenant="acme", key="order-7"),
        Ring("d", "mail", 5.0),
    ]
    assert bell.ring(rung) == []
    assert bell.ring([rung[0]]) == [], "within five minutes it is the same message"
    assert bell.ring([rung[0]._replace(send=2)]) == []

    found = [
        (
            Message.parse(each["Body"]).job_id,
            each["Attributes"]["MessageGroupId"],
            each["Attributes"]["MessageDeduplicationId"],
        )
        for each in queue.take_all()
    ]
    assert sorted(found) == [
        ("a", "acme", "a-1"),
        ("a", "acme", "a-2"),
        ("b", "mail", "b-1"),
        ("c", "acme/order-7", "c-1"),
    ]


def test_a_fifo_group_keeps_its_order(make_queue: MakeQueue) -> None:
    queue = make_queue(fifo=True)
    rung = rings(35)
    assert SqsDoorbell(queue.url).ring(rung) == []
    assert [message.job_id for message in queue.messages()] == ids(rung)


@pytest.mark.parametrize("tenant", ["Müller & Söhne", "a b", "x" * 129, "\U0001f600"])
def test_a_group_that_sqs_would_refuse_is_replaced(make_queue: MakeQueue, tenant: str) -> None:
    queue = make_queue(fifo=True)
    group = message_group(Ring("a", "mail", 0.0, tenant=tenant))
    assert re.fullmatch(r"[0-9a-f]{64}", group)
    assert group != message_group(Ring("a", "mail", 0.0, tenant=f"{tenant}!"))
    assert SqsDoorbell(queue.url).ring([Ring("a", "mail", 0.0, tenant=tenant)]) == []
    assert len(queue.messages()) == 1


# -- what fails --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before a further try, noted and not waited for."""
    paused: list[float] = []
    monkeypatch.setattr(sqs, "pause", paused.append)
    return paused


def test_only_what_failed_is_sent_again(endpoint: Endpoint, without_pauses: list[float]) -> None:
    endpoint.answers = [refusing(2)]
    rung = rings(10)

    assert SqsDoorbell(endpoint.queue_url).ring(rung) == []

    assert [endpoint.jobs(0), endpoint.jobs(1)] == [ids(rung), [rung[2].job_id]]
    assert 0 < sum(without_pauses) < 0.5


def test_what_fails_again_and_again_is_left_to_a_tick(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.answers = [refusing(2), refusing(0), refusing(0)]
    rung = rings(10)

    with caplog.at_level(logging.WARNING, "tickwork"):
        assert SqsDoorbell(endpoint.queue_url).ring(rung) == [rung[2].job_id]

    assert len(endpoint.calls) == 3
    assert rung[2].job_id in caplog.text


def test_a_senders_fault_is_not_sent_again(endpoint: Endpoint) -> None:
    endpoint.answers = [refusing(2, sender_fault=True)]
    rung = rings(10)

    assert SqsDoorbell(endpoint.queue_url).ring(rung) == [rung[2].job_id]
    assert len(endpoint.calls) == 1


@pytest.mark.parametrize(
    "trouble", [fault(500, "InternalFailure"), fault(400, "ThrottlingException"), lambda _: None]
)
def test_a_call_that_passing_trouble_met_is_made_again(endpoint: Endpoint, trouble: object) -> None:
    endpoint.answers = [trouble]  # type: ignore[list-item]
    rung = rings(3)

    assert SqsDoorbell(endpoint.queue_url).ring(rung) == []
    assert [endpoint.jobs(0), endpoint.jobs(1)] == [ids(rung), ids(rung)]


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        ("AccessDenied", "sqs:SendMessage"),
        ("QueueDoesNotExist", "SQS_QUEUE_URL"),
        ("InvalidClientTokenId", "credentials"),
    ],
)
def test_a_refusal_is_told_once_with_its_mend(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture, code: str, mend: str
) -> None:
    endpoint.always = fault(403, code)
    bell = SqsDoorbell(endpoint.queue_url)
    rung = rings(3)

    with caplog.at_level(logging.WARNING, "tickwork"):
        assert bell.ring(rung) == ids(rung)
        assert bell.ring(rung) == ids(rung)

    assert len(endpoint.calls) == 1, "while it rests nobody waits for it"
    assert len(caplog.records) == 1
    assert mend in caplog.text


def test_it_is_rung_again_after_a_rest(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(sqs, "monotonic", lambda: now[0])
    bell = SqsDoorbell(endpoint.queue_url)
    endpoint.answers = [fault(403, "AccessDenied")]
    (ring,) = rings(1)
    assert bell.ring([ring]) == [ring.job_id]
    now[0] += sqs.REST_SECONDS - 0.1
    assert bell.ring([ring]) == [ring.job_id]
    now[0] += 0.1
    assert bell.ring([ring]) == []


def test_what_is_not_sent_in_time_is_left_to_a_tick(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that is slow, not dead: each call takes a second here."""
    now = [1000.0]
    monkeypatch.setattr(sqs, "monotonic", lambda: now[0])

    def slow(entries: list[dict[str, object]]) -> tuple[int, dict[str, object]]:
        now[0] += 1.0
        return sent(entries)

    endpoint.always = slow
    endpoint.queue_url += ".fifo"  # one call after the other
    rung = rings(100)

    unsent = SqsDoorbell(endpoint.queue_url).ring(rung)

    assert len(endpoint.calls) == 3
    assert unsent == ids(rung)[30:]


@pytest.fixture
def nobody(aws: pytest.MonkeyPatch) -> str:
    """The address of a port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    aws.setenv("AWS_ENDPOINT_URL_SQS", url)
    return f"{url}/1/jobs"


def test_a_dead_queue_holds_nobody_up(nobody: str, without_pauses: list[float]) -> None:
    rung = rings(100)
    assert sorted(SqsDoorbell(nobody).ring(rung)) == ids(rung)
    assert without_pauses == []


@pytest.fixture
def silence(aws: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of somebody who takes every line and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        aws.setenv("AWS_ENDPOINT_URL_SQS", url)
        yield f"{url}/1/jobs"


def test_a_silent_queue_is_hung_up_on(silence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqs, "READ_SECONDS", 0.1)
    rung = rings(3)
    assert SqsDoorbell(silence).ring(rung) == ids(rung)


def test_without_credentials_it_says_so(
    endpoint: Endpoint,
    aws: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    empty = tmp_path_factory.mktemp("home")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        aws.delenv(name)
    aws.setenv("AWS_SHARED_CREDENTIALS_FILE", str(empty / "none"))
    aws.setenv("AWS_CONFIG_FILE", str(empty / "none"))
    with caplog.at_level(logging.WARNING, "tickwork"):
        assert SqsDoorbell(endpoint.queue_url).ring([Ring("a", "mail", 0.0)]) == ["a"]
    assert "credentials" in caplog.text
    assert endpoint.calls == []


def test_without_boto3_it_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['boto3'] = None\n"
        "from jobs.doorbells.sqs import SqsDoorbell\n"
        "from jobs import ConfigurationError\n"
        "try: SqsDoorbell('https://sqs.eu-west-1.amazonaws.com/1/q')\n"
        "except ConfigurationError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'tickwork[aws]'" in run.stdout, run.stderr
    assert issubclass(ConfigurationError, Exception)


def test_boto3_is_loaded_by_the_first_ring(endpoint: Endpoint) -> None:
    program = (
        "import sys\n"
        "from jobs.doorbells.sqs import SqsDoorbell\n"
        "from jobs.core.doorbell import Ring\n"
        f"bell = SqsDoorbell({endpoint.queue_url!r})\n"
        "assert 'boto3' not in sys.modules\n"
        "assert bell.ring([Ring('a', 'mail', 0.0)]) == []\n"
        "assert 'boto3' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert endpoint.jobs(0) == ["a"]


# -- chains, threads, regions ------------------------------------------------------------------


def in_a_consumer(hops: int, bell: SqsDoorbell, rung: list[Ring]) -> list[str]:
    def run() -> list[str]:
        current_hops.set(hops)
        return bell.ring(rung)

    return contextvars.copy_context().run(run)


def test_a_chain_of_rings_is_counted_and_ends(queue: Queue) -> None:
    bell = SqsDoorbell(queue.url)
    for hops in range(MOST_HOPS - 1):
        assert in_a_consumer(hops, bell, rings(12)) == []
        assert {message.hops for message in queue.messages()} == {hops + 1}
    rung = rings(12)
    assert in_a_consumer(MOST_HOPS - 1, bell, rung) == ids(rung)
    assert queue.messages() == []
    assert bell.ring(rung) == [], "the tick begins a new chain"
    assert {message.hops for message in queue.messages()} == {0}


def test_many_threads_share_one_client(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    make = sqs.make_client
    monkeypatch.setattr(sqs, "make_client", lambda url: made.append(url) or make(url))
    bell = SqsDoorbell(endpoint.queue_url)
    start = threading.Barrier(8)
    unsent: list[str] = []

    def ring() -> None:
        start.wait(10)
        unsent.extend(bell.ring(rings(1)))

    threads = [threading.Thread(target=ring) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert unsent == []
    assert len(made) == 1
    assert len({endpoint.jobs(call)[0] for call in range(8)}) == 8


@pytest.mark.parametrize(
    ("url", "environ", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/q", {"AWS_REGION": "us-west-2"}, "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", {}, "cn-north-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", {}, "us-gov-west-1"),
        ("https://eu-west-2.queue.amazonaws.com/1/q", {}, "eu-west-2"),
        ("https://vpce-1.sqs.eu-west-3.vpce.amazonaws.com/1/q", {}, "eu-west-3"),
        ("https://queue.amazonaws.com/1/q", {}, "us-east-1"),
        ("http://localhost:9324/1/q", {"AWS_REGION": "us-west-2"}, "us-west-2"),
        ("http://localhost:9324/1/q", {"AWS_DEFAULT_REGION": "us-west-2"}, "us-west-2"),
        ("http://localhost:9324/1/q", {"AWS_REGION": ""}, "us-east-1"),
        ("http://localhost:9324/1/q", {}, "us-east-1"),
    ],
)
def test_the_region_is_the_queues_own(url: str, environ: dict[str, str], region: str) -> None:
    assert region_of(url, environ) == region
