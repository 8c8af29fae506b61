"""The kind `email`, run by the real loop, with a real mail server."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from jobs import ConfigurationError, Job, PayloadError, State, Tickwork
from jobs.core.clock import ManualClock
from jobs.handlers.blob import open_blob_store
from jobs.handlers.email import AttachmentRef, EmailJob, aqueue_email, email, queue_email
from jobs.handlers.mail import attach
from jobs.managing import Managing
from tests.handlers.shop import files_in
from tests.mail.samples import SAMPLES
from tests.support.databases import Database
from tests.support.postman import Postman, body
from tests.support.receiver import OK, receiver

A, B, C = "a@example.com", "b@example.com", "c@example.com"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tickwork(tmp_path: Path, plain_port: int, clock: ManualClock) -> Iterator[Tickwork]:
    system = Tickwork(
        handlers=["jobs.handlers.email"],
        clock=clock,
        smtp_url=f"smtp://127.0.0.1:{plain_port}",
        email_from="Shop <shop@example.com>",
        blob_url=str(tmp_path / "blobs"),
    )
    yield system
    system.close()


@pytest.fixture(scope="module")
def producer() -> Iterator[Tickwork]:
    """A system that is only asked to enqueue."""
    system = Tickwork(handlers=["jobs.handlers.email"])
    yield system
    system.close()


@pytest.fixture
def sql_tickwork(sqlite_database: Database) -> Iterator[Tickwork]:
    system = Tickwork(sqlite_database.url, handlers=["jobs.handlers.email"])
    system.create_schema()
    yield system
    system.close()


def run(tickwork: Tickwork, payload: object, kind: str = "email", **options: Any) -> Job:
    job = tickwork.enqueue(kind, payload, **options)
    tickwork.tick()
    return get(tickwork, job)


def get(tickwork: Tickwork, job: Job) -> Job:
    found = tickwork.get(job.id)
    assert found is not None
    return found


def plain(**more: Any) -> dict[str, Any]:
    return {"to": A, "subject": "x", "text": "1", **more}


# --- what is sent


def test_a_mail_with_a_body(tickwork: Tickwork, postman: Postman) -> None:
    job = run(
        tickwork,
        {
            "to": [A, "Ben <b@example.com>"],
            "subject": "Welcome!",
            "html": "<h1>Welcome</h1>",
            "text": "Welcome",
            "from": "noreply@hse.example",
            "cc": C,
            "bcc": "d@example.com",
            "reply_to": "help@example.com",
        },
    )
    [message] = postman.messages()

    assert job.state == State.COMPLETED, job.error
    assert job.result == {
        "sent": True,
        "message_id": message["Message-ID"],
        "transport": "smtp",
    }
    assert (job.queue, job.max_attempts) == ("email", 5)
    assert str(message["From"]) == "noreply@hse.example"
    assert (str(message["To"]), str(message["Cc"])) == (f"{A}, Ben <{B}>", C)
    assert (str(message["Reply-To"]), message["Bcc"]) == ("help@example.com", None)
    assert postman.letters[0].rcpt_tos == [A, B, C, "d@example.com"]
    assert body(message, "plain").strip() == "Welcome"
    assert body(message, "html").strip() == "<h1>Welcome</h1>"


@pytest.mark.parametrize("kind", ["email", "send-order-confirmation"])
def test_a_mail_by_a_template(tickwork: Tickwork, postman: Postman, kind: str) -> None:
    payload = {
        "to": A,
        "subject": "Order Confirmed",
        "template": "order_confirmation",
        "data": SAMPLES["order-confirmation"],
    }
    job = run(tickwork, payload, kind)
    [message] = postman.messages()

    assert job.state == State.COMPLETED, job.error
    assert str(message["Subject"]) == "Order Confirmed"
    assert "2026-10427" in body(message, "plain")
    assert "2026-10427" in body(message, "html")
    assert ">Shop</td>" in body(message, "html")  # the sender's name


def test_a_template_brings_a_subject(tickwork: Tickwork, postman: Postman) -> None:
    run(tickwork, {"to": A, "template": "welcome", "data": {"name": "Ada"}})

    assert str(postman.messages()[0]["Subject"]) == "Welcome to Shop"


def test_templates_of_ones_own(tmp_path: Path, postman: Postman, plain_port: int) -> None:
    (tmp_path / "hello.txt").write_text("Hello {{ name }} from {{ brand }}")
    system = Tickwork(
        handlers=["jobs.handlers.email"],
        smtp_url=f"smtp://127.0.0.1:{plain_port}",
        email_from="shop@example.com",
        email_templates=str(tmp_path),
    )
    done = run(system, {"to": A, "subject": "x", "template": "hello", "data": {"name": "Ada"}})
    lost = run(system, {"to": A, "template": "hello", "data": {"name": "Ada"}})
    system.close()

    assert done.state == State.COMPLETED, done.error
    assert body(postman.messages()[0], "plain").strip() == "Hello Ada from example.com"
    assert lost.state == State.FAILED
    assert "no subject: say one, or give hello.subject a text" in str(lost.error)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"template": "nothing"}, "there is no template 'nothing'"),
        ({"template": "welcome"}, "'name' is undefined; put it into data"),
        ({"text": "1", "attachments": [{"key": "gone.csv"}]}, "there is no file 'gone.csv'"),
        ({"text": "1", "attachments": [{"key": "../x"}]}, "is no blob key"),
        (
            {"text": "1", "attachments": [{"file_url": "http://127.0.0.1/x"}]},
            "is no file of this blob store",
        ),
    ],
    ids=["template", "variable", "file", "path", "elsewhere"],
)
def test_a_mistake_is_a_dead_letter_at_once(
    tickwork: Tickwork, postman: Postman, payload: dict[str, Any], said: str
) -> None:
    job = run(tickwork, {"to": A, "subject": "x", **payload})

    assert (job.state, job.attempts) == (State.FAILED, 1)
    assert said in str(job.error)
    assert postman.letters == []


# --- attachments


def test_files_of_the_blob_store_go_with_it(
    tickwork: Tickwork, postman: Postman, tmp_path: Path
) -> None:
    blobs = open_blob_store(str(tmp_path / "blobs"))
    url = blobs.put("exports/orders/1.csv", _file(tmp_path, "a,b\n1,2\n"), "text/csv")
    blobs.put("r.pdf", _file(tmp_path, "%PDF"), "application/pdf")
    job = run(
        tickwork,
        plain(
            attachments=[
                {"file_url": url},
                {"key": "r.pdf", "name": "Bericht März.pdf"},
                {"key": "r.pdf", "name": "x", "content_type": "text/x-own"},
            ]
        ),
    )
    [message] = postman.messages()
    files = [
        (each.get_filename(), each.get_content_type(), each.get_content())
        for each in message.iter_attachments()
    ]

    assert job.state == State.COMPLETED, job.error
    assert files[0][:2] == ("1.csv", "text/csv")
    assert files[0][2].replace("\r\n", "\n") == "a,b\n1,2\n"
    assert files[1] == ("Bericht März.pdf", "application/pdf", b"%PDF")
    assert files[2][:2] == ("x", "text/x-own")
    assert body(message, "plain").strip() == "1"


def test_files_are_bounded_together(
    tickwork: Tickwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "MOST_BYTES", 10)
    open_blob_store(str(tmp_path / "blobs")).put("6", _file(tmp_path, "6" * 6), "text/plain")
    open_blob_store(str(tmp_path / "blobs")).put("11", _file(tmp_path, "1" * 11), "text/plain")
    together = run(tickwork, plain(attachments=[{"key": "6"}, {"key": "6"}]))
    alone = run(tickwork, plain(attachments=[{"key": "11"}]))

    assert "more than 10 bytes together: mail a link instead" in str(together.error)
    assert "'11' has 11 bytes; at most 10 are read" in str(alone.error)
    assert {together.attempts, alone.attempts} == {1}


def _file(folder: Path, text: str) -> Path:
    path = folder / "made"
    path.write_text(text)
    return path


# --- mistakes in a payload, named with their place

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nobody": ({"to": []}, "$.to: a mail needs a recipient"),
    "empty": ({"to": ""}, "$.to: the address is empty"),
    "no address": ({"to": "ann"}, "$.to: the address 'ann' is not one mail address"),
    "one of several": ({"to": [A, "ann"]}, "$.to[1]: the address 'ann' is not"),
    "two in one": ({"to": f"{A}, {B}"}, "$.to: the address"),
    "injection": ({"to": "a@b.example\r\nBcc: x@y.example"}, "$.to: the address holds a line"),
    "too many": ({"to": [f"a{n}@b.example" for n in range(51)]}, "$.to: 51 recipients, over"),
    "type": ({"to": 7}, "$.to: Expected `str | array`, got `int`"),
    "cc": ({"cc": [A, 7]}, "$.cc[1]: Expected `str`, got `int`"),
    "bcc": ({"bcc": "x"}, "$.bcc: the address 'x'"),
    "from": ({"from": "Shop"}, "$.from: the address 'Shop' is not one mail address"),
    "reply": ({"reply_to": "x"}, "$.reply_to: the address 'x'"),
    "unknown": ({"body": "x"}, "$: Object contains unknown field `body`"),
    "subject": ({"subject": "a\nb"}, "$.subject: the subject holds a line break"),
    "no subject": ({"subject": None}, "$.subject: a mail needs a subject"),
    "no body": ({"text": None}, "$: a mail needs a body: html, text or both, or a template"),
    "both": ({"template": "welcome"}, "$.template: either a template or a body"),
    "data": ({"data": {"a": 1}}, "$.data: data are for a template"),
    "priority": ({"priority": 9}, "$.priority: priority is a whole number from 1"),
    "which file": ({"attachments": [{}]}, "$.attachments[0]: say which file"),
    "both files": (
        {"attachments": [{"key": "a"}, {"key": "a", "file_url": "b"}]},
        "$.attachments[1]: say which file: by exactly one",
    ),
    "file name": (
        {"attachments": [{"key": "a", "name": "../a"}]},
        "$.attachments[0]: '../a' is no name of an attachment",
    ),
    "file type": (
        {"attachments": [{"key": "a", "content_type": "text"}]},
        "$.attachments[0]: 'text' is no media type",
    ),
    "files": ({"attachments": [{"key": "a"}] * 11}, "$.attachments: over the limit of 10 files"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_is_named_with_its_place(producer: Tickwork, what: str) -> None:
    change, said = WRONG[what]
    payload = {name: value for name, value in plain(**change).items() if value is not None}
    with pytest.raises(PayloadError) as caught:
        producer.enqueue("email", payload)

    assert str(caught.value).startswith(said)
    assert producer.list() == []


def test_a_payload_as_an_object() -> None:
    with pytest.raises(PayloadError, match=r"\$\.to: the address"):
        EmailJob(to="ann", subject="x", text="1")
    assert EmailJob(to=A, subject="x", text="1", from_=B).from_ == B


def test_both_ways_to_write_it(tickwork: Tickwork) -> None:
    written = EmailJob(to=A, subject="x", text="1", from_=B, attachments=[AttachmentRef(key="k")])
    job = tickwork.enqueue("email", written)

    assert get(tickwork, job).payload == plain(**{"from": B, "attachments": [{"key": "k"}]})


def test_the_seeds_payload_passes(tickwork: Tickwork) -> None:
    job = run(
        tickwork,
        {
            "to": "user@example.com",
            "subject": "Welcome to BizInsights",
            "template": "welcome",
            "data": {"name": "John Doe"},
            "organizationId": "org-1",
            "priority": 2,
        },
    )
    assert job.state == State.COMPLETED, job.error


# --- refused and put off


def test_one_that_is_refused_for_good_costs_the_others_nothing(
    tickwork: Tickwork, postman: Postman
) -> None:
    postman.to_recipient[B] = "550 no such user"
    job = run(tickwork, plain(to=[A, B, C]))

    assert (job.state, job.attempts) == (State.COMPLETED, 1)
    assert job.result["refused"] == [B]
    assert [each.rcpt_tos for each in postman.letters] == [[A, C]]


def test_whoever_has_it_gets_no_second_one(
    tickwork: Tickwork, postman: Postman, clock: ManualClock
) -> None:
    postman.to_recipient = {B: "550 no such user", C: "450 greylisted, come back"}
    job = run(tickwork, plain(to=[A, B, C]))
    assert (job.state, job.attempts) == (State.PENDING, 1)
    assert f"not accepted now for {C}: 450 greylisted" in str(job.errors[0])

    clock.advance(60)
    tickwork.tick()  # still
    postman.to_recipient[C] = "250 OK"
    clock.advance(3600)
    tickwork.tick()
    job = get(tickwork, job)

    assert (job.state, job.attempts) == (State.COMPLETED, 3)
    assert job.result["refused"] == [B]
    assert [each.rcpt_tos for each in postman.letters] == [[A], [C]]
    assert len({str(each["Message-ID"]) for each in postman.messages()}) == 1
    assert {str(each["To"]) for each in postman.messages()} == {f"{A}, {B}, {C}"}


def test_one_put_off_and_then_refused_ends_well_for_the_others(
    tickwork: Tickwork, postman: Postman, clock: ManualClock
) -> None:
    postman.to_recipient[B] = "450 later"
    job = run(tickwork, plain(to=[A, B]))
    postman.to_recipient[B] = "550 never"
    clock.advance(3600)
    tickwork.tick()
    job = get(tickwork, job)

    assert (job.state, job.result["refused"]) == (State.COMPLETED, [B])
    assert job.result["message_id"] == str(postman.messages()[0]["Message-ID"])
    assert [each.rcpt_tos for each in postman.letters] == [[A]]


def test_one_put_off_to_the_end_is_a_dead_letter_that_says_so(
    tickwork: Tickwork, postman: Postman, clock: ManualClock
) -> None:
    postman.to_recipient[B] = "450 later"
    job = tickwork.enqueue("email", plain(to=[A, B]), max_attempts=2)
    for _ in range(3):
        tickwork.tick()
        clock.advance(3600)
    failed = get(tickwork, job)

    assert (failed.state, failed.attempts) == (State.FAILED, 2)
    assert f"the recipient {B} was not accepted now: the mail server answered 450 later" in str(
        failed.error
    )
    assert [each.rcpt_tos for each in postman.letters] == [[A]]
    # A person may put it back, and still nobody gets it twice.
    postman.to_recipient.clear()
    tickwork.retry(job.id)
    tickwork.tick()
    assert [each.rcpt_tos for each in postman.letters] == [[A], [B]]


@pytest.mark.parametrize(
    ("answer", "state"), [("550 never", State.FAILED), ("451 later", State.PENDING)]
)
def test_what_all_are_told_decides(
    tickwork: Tickwork, postman: Postman, answer: str, state: State
) -> None:
    postman.to_recipient[A] = answer
    job = run(tickwork, plain())

    assert (job.state, job.attempts) == (state, 1)
    assert answer in str(job.error or job.errors[0])


def test_a_line_that_breaks_at_the_end_is_tried_again_under_the_same_id(
    tickwork: Tickwork, postman: Postman, clock: ManualClock
) -> None:
    postman.hangs_up_at = "DATA"
    job = run(tickwork, plain())
    assert job.state == State.PENDING
    postman.hangs_up_at = ""
    clock.advance(3600)
    tickwork.tick()

    assert get(tickwork, job).state == State.COMPLETED
    assert len({str(each["Message-ID"]) for each in postman.messages()}) == 1


CRASH = """
import os, sys
from jobs import Tickwork
from jobs.handlers import email

def and_die(mail, ctx, deliver=email.deliver_mail):
    deliver(mail, ctx)
    os._exit(9)

email.deliver_mail = and_die
options = dict(each.split("=", 1) for each in sys.argv[2:])
Tickwork(sys.argv[1], handlers=["jobs.handlers.email"], **options).tick()
"""


@pytest.mark.parametrize("way", ["smtp", pytest.param("resend", marks=pytest.mark.slow)])
def test_a_runner_that_dies_after_sending(
    sqlite_database: Database, postman: Postman, plain_port: int, way: str
) -> None:
    with receiver() as place:
        said = b'{"id": "1"}'
        place.answer = lambda _: OK.replace(b": 2", b": 11").replace(b"{}", said)
        by: Mapping[str, str] = {
            "smtp": {"smtp_url": f"smtp://127.0.0.1:{plain_port}"},
            "resend": {"resend_api_key": "re_1", "resend_api_url": place.url},
        }[way]
        options: dict[str, Any] = {**by, "email_from": "shop@example.com"}
        # The other process lives by the host's clock, this one an hour later.
        later = ManualClock(datetime.now(UTC) + timedelta(hours=1))
        system = Tickwork(
            sqlite_database.url, handlers=["jobs.handlers.email"], clock=later, **options
        )
        system.create_schema()
        job = system.enqueue("email", plain(), run_at=datetime(2020, 1, 1, tzinfo=UTC))
        program = [sys.executable, "-c", CRASH, sqlite_database.url]
        program += [f"{name}={value}" for name, value in options.items()]
        assert subprocess.run(program, timeout=60).returncode == 9
        system.tick()
        later.advance(3600)
        system.tick()
        done = get(system, job)
        system.close()

    assert (done.state, done.attempts) == (State.COMPLETED, 2)
    if way == "smtp":
        ids = [str(each["Message-ID"]) for each in postman.messages()]
    else:
        ids = [each.headers["idempotency-key"] for each in place.requests]
    assert len(ids) == 2
    assert len(set(ids)) == 1


# --- producers


def test_queue_email_by_the_seeds_name(tickwork: Tickwork, postman: Postman) -> None:
    job = queue_email(
        to=A,
        subject="Welcome!",
        html="<h1>Welcome</h1>",
        text="Welcome",
        from_="noreply@hse.example",
        organization_id="org-1",
        priority=2,
        delay=60,
        tickwork=tickwork,
    )
    waiting = get(tickwork, job)

    assert (waiting.tenant, waiting.priority, waiting.kind) == ("org-1", 2, "email")
    assert waiting.payload == {
        "to": A,
        "subject": "Welcome!",
        "html": "<h1>Welcome</h1>",
        "text": "Welcome",
        "from": "noreply@hse.example",
    }
    assert tickwork.tick().processed == 0


def test_the_seeds_organization_is_the_tenant(producer: Tickwork) -> None:
    said: Any = {"to": A, "subject": "x", "text": "1", "organizationId": "org-7"}
    job = queue_email(tickwork=producer, **said)

    assert get(producer, job).tenant == "org-7"
    producer.clear()


def test_queue_email_finds_the_system_it_is_registered_with(tickwork: Tickwork) -> None:
    assert queue_email(to=A, template="welcome", data={"name": "Ada"}).kind == "email"
    assert [job.kind for job in tickwork.list()] == ["email"]


def test_queue_email_belongs_to_nobody_without_a_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email, "system", None)
    with pytest.raises(ConfigurationError, match="JOBS_HANDLERS"):
        queue_email(to=A, subject="x", text="1")


def test_queue_email_in_the_callers_transaction(sql_tickwork: Tickwork) -> None:
    tickwork = sql_tickwork
    with Session(tickwork.engine) as session:
        queue_email(to=A, subject="x", text="1", session=session, tickwork=tickwork)
        session.rollback()
    assert tickwork.list() == []
    with Session(tickwork.engine) as session, session.begin():
        queue_email(to=A, subject="x", text="1", session=session, tickwork=tickwork)
    assert len(tickwork.list()) == 1


async def _enqueue_async(tickwork: Tickwork, url: str) -> None:
    engine = create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"))
    async with AsyncSession(engine) as session, session.begin():
        await session.execute(sa.text("SELECT 1"))
        await aqueue_email(to=A, subject="x", text="1", session=session, tickwork=tickwork)
    await aqueue_email(to=B, subject="x", text="1", tickwork=tickwork)
    await aqueue_email(to=C, subject="x", text="1")
    await engine.dispose()


def test_queue_email_from_async_code(sql_tickwork: Tickwork, sqlite_database: Database) -> None:
    tickwork = sql_tickwork
    import asyncio

    asyncio.run(_enqueue_async(tickwork, sqlite_database.url))
    assert sorted(job.payload["to"] for job in tickwork.list()) == [A, B, C]


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ({"to": "ann", "subject": "x", "text": "1"}, PayloadError, r"\$\.to: "),
        ({"to": A, "subject": "x", "text": "1", "colour": 1}, PayloadError, "`colour`"),
        (
            {"to": A, "subject": "x", "text": "1", "organization_id": "a", "tenant": "b"},
            ConfigurationError,
            "organization_id and tenant",
        ),
        ({"to": A, "subject": "x", "text": "1", "priority": 9}, ConfigurationError, "priority"),
    ],
    ids=["address", "unknown", "tenant", "priority"],
)
def test_a_mistake_is_found_before_any_row(
    producer: Tickwork, said: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        queue_email(tickwork=producer, **said)
    assert producer.list() == []


# --- what is seen of it


def test_lines_name_the_recipients_and_no_more(
    tickwork: Tickwork, postman: Postman, caplog: pytest.LogCaptureFixture
) -> None:
    postman.to_recipient[B] = "450 later"
    with caplog.at_level(logging.DEBUG):
        run(tickwork, plain(to=[A, B], text="the code is 123-hunter2"))
        run(tickwork, plain(html="<p>hunter2</p>"))
    ours = [record for record in caplog.records if record.name != "mail.log"]  # the server's
    lines = [vars(record) for record in ours if record.name == "tickwork.jobs"]

    assert {line["to"] for line in lines if "to" in line} == {f"{A}, {B}", A}
    assert all("to" in line for line in lines if line.get("status") == "completed")
    assert "hunter2" not in str([vars(record) for record in ours])


def test_bodies_and_links_that_let_somebody_in_are_hidden(producer: Tickwork) -> None:
    reset = {"name": "Ada", "resetUrl": "https://shop.example/hunter2"}
    jobs = [
        producer.enqueue("email", {"to": A, "template": "password-reset", "data": reset}),
        producer.enqueue("email", plain(text="hunter2", html="hunter2")),
    ]
    shown = [Managing(producer, "ada").shown(get(producer, job)) for job in jobs]
    producer.clear()

    assert "hunter2" not in str(shown)
    assert shown[0]["payload"]["data"]["name"] == "Ada"


def test_the_console_shows_mail_in_development(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    system = Tickwork(handlers=["jobs.handlers.email"])
    job = run(system, plain(text="Hello\nthere", bcc=B))
    system.close()
    shown = capsys.readouterr().err

    assert job.result["transport"] == "console"
    assert f"To:      {A}, {B}\nSubject: x\n\nHello\nthere\n---" in shown
    assert files_in(tmp_path) == []
