"""What a job's life says in the log: fields that machines read, and nothing of its payload."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from jobs import ConfigurationError, Discard, JobContext, Tickwork
from jobs.core.events import EVENT_NAMES
from jobs.ops.logs import JsonFormatter, TextFormatter

PASSWORD = "hunter2-and-more"


@dataclass
class Release:
    transaction: str
    email: str
    secret: str


class Lines(logging.Handler):
    """The lines of `tickwork.jobs`, as JSON would show them."""

    def __init__(self, formatter: logging.Formatter | None = None) -> None:
        super().__init__()
        self.setFormatter(formatter or JsonFormatter())
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))

    @property
    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written]

    def with_status(self, status: str) -> dict[str, Any]:
        (line,) = [each for each in self.said if each.get("status") == status]
        return line


@pytest.fixture
def lines() -> Iterator[Lines]:
    log, lines = logging.getLogger("tickwork.jobs"), Lines()
    log.addHandler(lines)
    log.setLevel(logging.INFO)
    yield lines
    log.removeHandler(lines)
    log.setLevel(logging.NOTSET)


def among(part: dict[str, Any], whole: dict[str, Any]) -> bool:
    return part.items() <= whole.items()


def test_the_four_shapes(lines: Lines) -> None:
    tickwork = Tickwork()

    @tickwork.handler("mail", queue="email", log_context=["to"])
    def mail(payload: dict[str, Any]) -> None:
        if payload["to"] == "nobody":
            raise Discard("no such address")

    sent = mail.enqueue({"to": "user@example.com", "password": PASSWORD}, tenant="org1")
    tickwork.tick()
    added, processing, completed = lines.said
    own = {"jobId": sent.id, "queue": "email", "kind": "mail", "tenant": "org1"}
    run = {**own, "attempt": 1, "maxAttempts": 3}

    assert among({**own, "to": "user@example.com", "level": "info"}, added)
    assert "status" not in added
    assert among({**run, "status": "processing"}, processing)
    assert among({**run, "status": "completed"}, completed)
    assert isinstance(completed["duration"], int)
    assert processing["tick"] == completed["tick"] != ""
    assert PASSWORD not in "".join(lines.written)

    refused = mail.enqueue({"to": "nobody"})
    tickwork.tick()
    failed = lines.with_status("failed")

    assert among({"jobId": refused.id, "queue": "email", "level": "error"}, failed)
    assert among({"error": "Discard: no such address", "attempts": 1}, failed)
    assert failed["tick"] != completed["tick"]


def test_an_attempt_that_is_tried_again_is_a_warning(lines: Lines) -> None:
    tickwork = Tickwork()

    @tickwork.handler("flaky", backoff=[7])
    def flaky() -> None:
        raise ValueError("not today")

    flaky.enqueue()
    tickwork.tick()
    line = lines.with_status("retrying")

    assert line["level"] == "warning"
    assert line["retryInSeconds"] == pytest.approx(7, rel=0.2)
    assert line["error"] == "ValueError: not today"


def test_log_context_as_a_function_of_a_typed_payload(lines: Lines) -> None:
    tickwork = Tickwork()

    @tickwork.handler(
        "release",
        log_context=lambda release: {
            "transactionId": release.transaction,
            "recipientEmail": release.email,
        },
    )
    def release(payload: Release) -> None: ...

    release.enqueue(Release("t-1", "user@example.com", PASSWORD))
    tickwork.tick()

    assert len(lines.said) == 3
    for line in lines.said:
        assert among({"transactionId": "t-1", "recipientEmail": "user@example.com"}, line)
    assert among({"attempt": 1, "maxAttempts": 3}, lines.said[1])
    assert PASSWORD not in "".join(lines.written)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (["name", "jobId"], {"name_": "Ada"}),  # logging has a `name`, and an id is ours to say
        (["absent"], {}),
        (["long"], {"long": f"{'x' * 100} ... {'x' * 100}"}),
        (lambda payload: payload["absent"], {"logContextError": "KeyError"}),
        (lambda payload: {"n": [1]}, {"n": "[1]"}),
        (lambda payload: None, {"logContextError": "AttributeError"}),
    ],
)
def test_whatever_log_context_says_a_line_is_a_line(
    said: Any, shown: dict[str, Any], lines: Lines
) -> None:
    tickwork = Tickwork()
    tickwork.register_handler("greet", lambda payload: None, log_context=said)
    job = tickwork.enqueue("greet", {"name": "Ada", "jobId": "mine", "long": "x" * 5000})

    assert tickwork.tick().succeeded == 1
    assert all(among({**shown, "jobId": job.id}, line) for line in lines.said)


@pytest.mark.parametrize("said", ["to", 5, [1], [""]])
def test_a_log_context_that_is_none_is_refused(said: Any) -> None:
    with pytest.raises(ConfigurationError, match="log_context is a list of the payload's keys"):
        Tickwork().handler("greet", log_context=said)(lambda payload: None)


FAKE = '\n2026-01-01T00:00:00Z ERROR tickwork: all jobs lost\r\x1b[2J"}\n{"level": "error"}\u2028'
LEAKY = (
    f"{FAKE} postgresql://app:{PASSWORD}@db.example/shop "
    f"https://api.example/?token={PASSWORD}&page=2 {{'password': '{PASSWORD}'}} "
    f"Authorization: Bearer {PASSWORD} " + "y" * 50_000
)


@pytest.mark.parametrize("formatter", [JsonFormatter, TextFormatter])
def test_one_line_per_event_without_credentials_whatever_an_error_says(
    formatter: type[logging.Formatter],
) -> None:
    log, lines = logging.getLogger("tickwork.jobs"), Lines(formatter())
    log.addHandler(lines)
    log.setLevel(logging.INFO)
    try:
        tickwork = Tickwork()

        @tickwork.handler("boom", max_attempts=1, log_context=["note"])
        def boom(payload: dict[str, Any], ctx: JobContext) -> None:
            ctx.log(LEAKY, note=LEAKY)
            raise RuntimeError(LEAKY)

        boom.enqueue({"note": LEAKY})
        tickwork.tick()
    finally:
        log.removeHandler(lines)
        log.setLevel(logging.NOTSET)

    assert len(lines.written) == 4
    for line in lines.written:
        assert line.isprintable()
        assert PASSWORD not in line
        assert len(line) < 5_000


@pytest.mark.parametrize("formatter", [JsonFormatter, TextFormatter])
def test_a_traceback_shows_no_password_and_passes_for_no_event(
    formatter: type[logging.Formatter],
) -> None:
    lines = Lines(formatter())
    log = logging.getLogger("tickwork.test-of-traces")
    log.addHandler(lines)
    try:
        raise RuntimeError(LEAKY)
    except RuntimeError:
        log.exception("it went wrong: %s", LEAKY)
    finally:
        log.removeHandler(lines)
    (written,) = lines.written
    first, *rest = written.split("\n")

    assert PASSWORD not in written
    assert first.isprintable()
    assert all(line.startswith("    | ") and line.isprintable() for line in rest)
    assert "RuntimeError" in written
    assert "test_lines.py" in written


def test_ctx_log_bears_the_ids_of_its_job(lines: Lines) -> None:
    tickwork = Tickwork()

    @tickwork.handler("count")
    def count(payload: dict[str, Any], ctx: JobContext) -> None:
        ctx.log("page read", page=3, jobId="mine", name="of a page")
        ctx.log("too much to say", level="debug")

    job = count.enqueue()
    tickwork.tick()
    (line,) = [each for each in lines.said if each["message"] == "page read"]

    assert among({"jobId": job.id, "queue": "default", "kind": "count", "page": 3}, line)
    assert among({"attempt": 1, "maxAttempts": 3, "name_": "of a page"}, line)
    assert line["tick"] == lines.with_status("completed")["tick"]
    assert len(lines.said) == 4
    assert tickwork.get(job.id).progress_note is None  # type: ignore[union-attr]


def test_the_ends_of_a_kind_are_counted_by_its_metrics(lines: Lines) -> None:
    tickwork = Tickwork()

    @tickwork.handler("make", metrics="export", max_attempts=2, backoff=[0])
    def make(payload: dict[str, Any]) -> None:
        if payload["fails"]:
            raise ValueError("no")

    good, bad = make.enqueue({"fails": False}), make.enqueue({"fails": True})
    while tickwork.tick().processed:
        pass
    counted = [line for line in lines.said if "metrics" in line]
    metrics = [(line["jobId"], line["metrics"]) for line in counted]
    (done,) = [line for line in counted if line["jobId"] == good.id]
    took = done["metrics"]["export.duration"]

    assert done["message"] == f"[Metrics] Export job {good.id} completed in {took}ms"
    assert metrics.count((good.id, {"export.success": 1, "export.duration": took})) == 1
    assert metrics.count((bad.id, {"export.error": 1})) == 2
    assert len(metrics) == 3


def test_of_very_many_jobs_enqueued_together_there_is_one_line(lines: Lines) -> None:
    tickwork = Tickwork()
    heard: list[str] = []
    tickwork.on("enqueued", lambda event: heard.append(event.job_id))
    tickwork.enqueue_many([("mail", {})] * 100)
    assert len(lines.said) == 100
    lines.written.clear()
    ids = tickwork.enqueue_many([("mail", {}), ("note", {})] * 100, queue="bulk")
    said = [(line["kind"], line["queue"], line["count"]) for line in lines.said]

    assert said == [("mail", "bulk", 100), ("note", "bulk", 100)]
    assert heard[100:] == ids


def test_lines_that_nobody_reads_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def built(*_: object, **__: object) -> None:
        raise AssertionError("built")

    log = logging.getLogger("tickwork.jobs")
    monkeypatch.setattr("jobs.core.events.JobEvent.of", built)
    monkeypatch.setattr(log, "level", logging.CRITICAL)
    log._cache.clear()  # type: ignore[attr-defined]
    try:
        tickwork = Tickwork()
        tickwork.register_handler("greet", lambda: None, log_context=built)
        tickwork.enqueue("greet")

        assert tickwork.tick().succeeded == 1
        assert not any(map(tickwork._runtime.events.wanted, EVENT_NAMES))
    finally:
        log._cache.clear()  # type: ignore[attr-defined]
