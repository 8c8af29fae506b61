"""An alert reaches people, once by each channel: real receivers, and the job that delivers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from jobs import ConfigurationError, State, StoreUnavailable, Tickwork
from jobs.alarms import Unreachable
from jobs.core.clock import ManualClock
from jobs.core.look import ALERT_KIND, EVERY_SECONDS
from jobs.core.settings import read_settings
from jobs.core.store import JobFilter
from jobs.runtime.watch import look_at_alerts
from jobs.stores.memory import MemoryStore

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Arrived:
    headers: dict[str, str]
    body: str

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Inbox:
    url: str = ""
    arrived: list[Arrived] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)  # then 200


@contextmanager
def listening() -> Iterator[Inbox]:
    inbox = Inbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            inbox.arrived.append(Arrived({k.lower(): v for k, v in self.headers.items()}, body))
            status = inbox.answers.pop(0) if inbox.answers else 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", inbox.url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    inbox.url = f"http://127.0.0.1:{server.server_port}/in"
    try:
        yield inbox
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with listening() as inbox:
        yield inbox


class Post:
    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@pytest.fixture
def post() -> Iterator[tuple[int, Post]]:
    post = Post()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    controller = Controller(post, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port, post
    finally:
        controller.stop()


def system(clock: ManualClock, **settings: Any) -> Tickwork:
    tickwork = Tickwork(store=MemoryStore(clock=clock), clock=clock, **settings)
    tickwork.alert("depth", warning=None, alert=2)
    return tickwork


def raise_alert(tickwork: Tickwork, queue: str = "email") -> None:
    for _ in range(3):
        tickwork.enqueue("mail", {}, queue=queue)
    look_at_alerts(tickwork._runtime)


def delivery(tickwork: Tickwork) -> Any:
    (job,) = tickwork.store.list(JobFilter(kind=ALERT_KIND), 10)
    return job


def test_a_signed_webhook_that_its_receivers_library_verifies(inbox: Inbox) -> None:
    tickwork = system(
        ManualClock(),
        alert_webhook_url=inbox.url,
        alert_webhook_secret=SECRET,
        namespace="shop",
    )
    raise_alert(tickwork)
    tickwork.drain()
    (arrived,) = inbox.arrived
    verified = Webhook(SECRET).verify(arrived.body, arrived.headers)

    assert verified == arrived.document
    assert arrived.document["type"] == "alert.alert"
    data = arrived.document["data"]
    assert (data["name"], data["subject"], data["level"]) == ("depth", "email", "alert")
    assert (data["value"], data["threshold"], data["namespace"]) == (3, 2, "shop")
    assert data["words"].startswith("alert: depth (email) is 3, alert beyond 2; 3 jobs wait")
    assert arrived.headers["webhook-id"] == delivery(tickwork).id
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(arrived.body.replace("email", "other"), arrived.headers)


def test_each_change_is_delivered_once_and_so_is_that_it_is_over(inbox: Inbox) -> None:
    clock = ManualClock()
    tickwork = system(clock, alert_slack_url=inbox.url)
    raise_alert(tickwork)
    for _ in range(5):
        clock.advance(EVERY_SECONDS)
        look_at_alerts(tickwork._runtime)
        tickwork.drain()
    assert len(inbox.arrived) == 1
    tickwork.register_handler("mail", lambda: None)
    tickwork.drain()
    for _ in range(5):
        clock.advance(EVERY_SECONDS)
        look_at_alerts(tickwork._runtime)
        tickwork.drain()

    first, last = (arrived.document["text"].splitlines()[0] for arrived in inbox.arrived)
    assert first == "[Tickwork] alert: depth (email)"
    assert last == "[Tickwork] over: depth (email)"


def test_by_mail(post: tuple[int, Post]) -> None:
    port, box = post
    tickwork = system(
        ManualClock(),
        smtp_url=f"smtp://127.0.0.1:{port}",
        email_from="tickwork@shop.example",
        alert_email=("ada@shop.example", "bob@shop.example"),
    )
    raise_alert(tickwork)
    tickwork.drain()
    (mail,) = box.mails

    assert mail["Subject"] == "[Tickwork] alert: depth (email)"
    assert mail["To"] == "ada@shop.example, bob@shop.example"
    assert "3 jobs wait in queue email" in mail.get_content()
    assert "tickwork alerts ack depth --by NAME" in mail.get_content()


def test_a_channel_that_is_down_keeps_nothing_from_the_others(inbox: Inbox, tmp_path: Path) -> None:
    clock = ManualClock()
    tickwork = system(
        clock,
        alert_slack_url="http://127.0.0.1:9/none",
        alert_webhook_url=inbox.url,
        alert_webhook_secret=SECRET,
        alert_email=("ada@shop.example",),
        smtp_url=str(tmp_path),
    )
    raise_alert(tickwork)
    tickwork.drain()
    jobs = tickwork.store.list(JobFilter(kind=ALERT_KIND), 10)
    states = {job.payload["channel"]: job.state for job in jobs}

    assert states == {
        "webhook": State.COMPLETED,
        "email": State.COMPLETED,
        "slack": State.PENDING,
    }
    assert len(inbox.arrived) == 1
    assert len(list(tmp_path.glob("*.eml"))) == 1
    (waiting,) = [job for job in jobs if job.state == State.PENDING]
    assert "127.0.0.1:9" not in (waiting.error or "")


def test_it_is_tried_again_with_the_same_id(inbox: Inbox) -> None:
    clock = ManualClock()
    tickwork = system(clock, alert_webhook_url=inbox.url, alert_webhook_secret=SECRET)
    inbox.answers = [500, 429]
    raise_alert(tickwork)
    for _ in range(4):
        tickwork.drain()
        clock.advance(600)

    assert len(inbox.arrived) == 3
    assert len({arrived.headers["webhook-id"] for arrived in inbox.arrived}) == 1
    assert delivery(tickwork).state == State.COMPLETED


@pytest.mark.parametrize("status", [400, 404, 410])
def test_a_receiver_that_refuses_for_good_is_asked_once(status: int, inbox: Inbox) -> None:
    tickwork = system(ManualClock(), alert_slack_url=inbox.url)
    inbox.answers = [status]
    raise_alert(tickwork)
    tickwork.drain()
    job = delivery(tickwork)

    assert (job.state, len(inbox.arrived)) == (State.FAILED, 1)
    assert f"the Slack webhook answered {status}" in job.error


def test_a_redirect_is_not_followed(inbox: Inbox) -> None:
    tickwork = system(ManualClock(), alert_slack_url=inbox.url)
    inbox.answers = [302]
    raise_alert(tickwork)
    tickwork.drain()

    assert len(inbox.arrived) == 1
    assert delivery(tickwork).state == State.PENDING


def test_names_are_no_mentions_in_a_chat(inbox: Inbox) -> None:
    from jobs.handlers.alerting import deliver

    settings = read_settings({"JOBS_ENV": "development", "JOBS_ALERT_SLACK_URL": inbox.url})
    alert = {"level": "alert", "name": "x", "words": "<!channel> & <https://x|y>", "since": "now"}
    deliver("slack", alert, settings, "id")

    assert "<" not in inbox.arrived[0].document["text"]
    assert "&lt;!channel&gt; &amp;" in inbox.arrived[0].document["text"]


def test_without_a_channel_nothing_is_enqueued(caplog: pytest.LogCaptureFixture) -> None:
    tickwork = system(ManualClock())
    raise_alert(tickwork)

    assert ALERT_KIND not in tickwork.registry.kinds
    assert tickwork.store.list(JobFilter(kind=ALERT_KIND), 10) == []
    assert [record.levelname for record in caplog.records if record.name == "tickwork.alerts"] == [
        "ERROR"
    ]
    assert "alert: depth (email) is 3" in caplog.text


# -- the store that cannot be reached --------------------------------------------------------------


class Away(MemoryStore):
    away = False

    def probe(self, *, rings: bool = False) -> Any:
        if self.away:
            raise StoreUnavailable("no route to postgresql://app:hunter2@db/shop")
        return super().probe(rings=rings)


def test_a_store_that_is_away_is_told_of_past_it_once_and_when_it_is_back(inbox: Inbox) -> None:
    clock = ManualClock()
    store = Away(clock=clock)
    tickwork = Tickwork(store=store, clock=clock, alert_slack_url=inbox.url)
    store.away = True
    for _ in range(3):
        clock.advance(60)
        with pytest.raises(StoreUnavailable):
            tickwork.tick()
    assert len(inbox.arrived) == 1
    store.away = False
    tickwork.tick()
    tickwork.tick()
    texts = [arrived.document["text"] for arrived in inbox.arrived]

    assert len(texts) == 2
    assert texts[0].startswith("[Tickwork] alert: store_unreachable\n")
    assert "app:***@db" in texts[0]
    assert texts[1].startswith("[Tickwork] over: store_unreachable\n")


def test_while_it_is_away_it_is_told_again_every_hour(inbox: Inbox) -> None:
    settings = read_settings({"JOBS_ENV": "development", "JOBS_ALERT_SLACK_URL": inbox.url})
    watch = Unreachable(settings, ManualClock())
    told = []
    for minute in range(0, 125, 5):
        with pytest.raises(StoreUnavailable), watch.watched(minute * 60.0):
            raise StoreUnavailable("no route")
        told.append(len(inbox.arrived))

    assert told == [1] * 12 + [2] * 12 + [3]


def test_a_channel_that_is_down_as_well_hides_no_error() -> None:
    clock = ManualClock()
    store = Away(clock=clock)
    store.away = True
    tickwork = Tickwork(store=store, clock=clock, alert_slack_url="http://127.0.0.1:9/none")

    with pytest.raises(StoreUnavailable, match="no route"):
        tickwork.tick()


# -- settings --------------------------------------------------------------------------------------

DEVELOPMENT = {"JOBS_ENV": "development"}


def test_the_places_of_alerts_are_secrets() -> None:
    settings = read_settings(
        {
            **DEVELOPMENT,
            "JOBS_ALERT_WEBHOOK_URL": "https://hooks.example/very-secret-path",
            "JOBS_ALERT_WEBHOOK_SECRET": SECRET,
            "JOBS_ALERT_SLACK_URL": "https://hooks.example/another-secret",
            "JOBS_ALERT_EMAIL": "ada@shop.example, bob@shop.example",
        }
    )

    assert settings.alert_email == ("ada@shop.example", "bob@shop.example")
    assert "secret-path" not in repr(settings)
    assert "another-secret" not in repr(settings)
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"JOBS_ALERT_WEBHOOK_URL": "https://x.example"}, "needs JOBS_ALERT_WEBHOOK_SECRET"),
        ({"JOBS_ALERT_WEBHOOK_SECRET": "short-one"}, "JOBS_ALERT_WEBHOOK_SECRET: its value is not"),
        ({"JOBS_ALERT_SLACK_URL": "hooks.example"}, "JOBS_ALERT_SLACK_URL: its value is not"),
        ({"JOBS_ALERT_EMAIL": "ada"}, "JOBS_ALERT_EMAIL"),
        ({"JOBS_ALERTS": "maybe"}, "JOBS_ALERTS"),
    ],
)
def test_mistakes_are_reported_by_name(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as refused:
        read_settings({**DEVELOPMENT, **environ})
    assert "short-one" not in str(refused.value)
