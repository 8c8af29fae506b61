"""One trace from the enqueue to the run, by way of the job's row: with the real SDK."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from jobs import Discard, JobContext, Snooze, Tickwork
from tests.support.databases import Database

ROOT = Path(__file__).parents[2]
PASSWORD = "hunter2-and-more"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # A process has one global provider for good, and the other tests are to run without.
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def only(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = named(spans, name)
    return span


def test_one_trace_from_the_request_to_the_run(
    database: Database, spans: InMemorySpanExporter
) -> None:
    tickwork = Tickwork(database.url)
    tickwork.create_schema()
    tracer = trace.get_tracer("the application")

    @tickwork.handler("resize", queue="media")
    def resize(payload: dict[str, Any]) -> None:
        with tracer.start_as_current_span("inside"):
            tickwork.enqueue("resize", {"again": False}) if payload["again"] else None

    with tracer.start_as_current_span("request"):
        job = resize.enqueue({"again": True, "password": PASSWORD}, tenant="org1")
    tickwork.close()
    # Another process reads the trace from the row alone.
    tickwork = Tickwork(database.url)
    tickwork.register_handler("resize", resize.function, queue="media")
    tickwork.tick()
    tickwork.tick()
    tickwork.close()

    request, inside = only(spans, "request"), named(spans, "inside")
    enqueues, runs = named(spans, "enqueue media"), named(spans, "process media")
    first = next(run for run in runs if run.attributes["messaging.message.id"] == job.id)
    sent = next(each for each in enqueues if each.attributes["messaging.message.id"] == job.id)

    assert len(enqueues) == len(runs) == len(inside) == 2
    assert {span.context.trace_id for span in (*enqueues, *runs, *inside)} == {
        request.context.trace_id
    }
    assert sent.kind is SpanKind.PRODUCER
    assert sent.parent.span_id == request.context.span_id
    assert first.kind is SpanKind.CONSUMER
    assert first.parent.span_id == sent.context.span_id
    assert first.parent.is_remote
    assert [link.context.span_id for link in first.links] == [sent.context.span_id]
    assert first.context.span_id in [span.parent.span_id for span in inside]
    assert first.status.status_code is StatusCode.UNSET
    assert dict(first.attributes) | {"tickwork.tick": "", "messaging.message.body.size": 0} == {
        "messaging.system": "tickwork",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "media",
        "messaging.message.id": job.id,
        "messaging.message.body.size": 0,
        "tickwork.kind": "resize",
        "tickwork.attempt": 1,
        "tickwork.max_attempts": 3,
        "tickwork.tick": "",
        "tickwork.tenant": "org1",
    }
    assert all(PASSWORD not in span.to_json() for span in spans.get_finished_spans())


def test_jobs_of_a_bulk_a_chain_and_a_group_bear_the_trace(
    database: Database, spans: InMemorySpanExporter
) -> None:
    tickwork = Tickwork(database.url)
    tickwork.create_schema()
    tickwork.register_handler("step", lambda: None)
    with trace.get_tracer("the application").start_as_current_span("request"):
        tickwork.enqueue_many([("step", {})] * 7)
        tickwork.chain(["step", "step"])
        tickwork.group([("step", {})], on_done="step")
    tickwork.drain()
    tickwork.close()
    runs = named(spans, "process default")
    bulk = only(spans, "enqueue")

    assert len(runs) == 11
    assert {run.context.trace_id for run in runs} == {only(spans, "request").context.trace_id}
    assert bulk.attributes["messaging.batch.message_count"] == 7
    assert sum(run.parent.span_id == bulk.context.span_id for run in runs) == 7


def test_an_attempt_that_fails_is_an_error_and_the_next_joins_the_same_trace(
    spans: InMemorySpanExporter,
) -> None:
    tickwork = Tickwork()

    @tickwork.handler("flaky", max_attempts=4, backoff=[0])
    def flaky(payload: None, ctx: JobContext) -> None:
        if ctx.attempt == 1:
            raise ValueError(f"no: postgresql://app:{PASSWORD}@db/shop")
        if ctx.attempt == 2:
            raise Discard("enough")

    flaky.enqueue()
    tickwork.tick()
    tickwork.tick()
    first, second = named(spans, "process default")

    assert [first.attributes["error.type"], second.attributes["error.type"]] == [
        "ValueError",
        "Discard",
    ]
    assert first.status.status_code is second.status.status_code is StatusCode.ERROR
    assert first.context.trace_id == second.context.trace_id
    assert [event.name for event in first.events] == ["exception"]
    assert "ValueError" in first.events[0].attributes["exception.stacktrace"]
    assert PASSWORD not in first.to_json()


def test_a_job_put_off_has_not_failed(spans: InMemorySpanExporter) -> None:
    tickwork = Tickwork()

    @tickwork.handler("later")
    def later() -> None:
        raise Snooze(60)

    later.enqueue()
    tickwork.tick()

    assert only(spans, "process default").status.status_code is StatusCode.UNSET


def test_async_handlers_run_inside_their_span(spans: InMemorySpanExporter) -> None:
    tickwork = Tickwork()

    @tickwork.handler("call")
    async def call() -> None:
        await asyncio.sleep(0)
        with trace.get_tracer("the application").start_as_current_span("inside"):
            await asyncio.sleep(0)

    call.enqueue()
    tickwork.tick()
    run = only(spans, "process default")

    assert only(spans, "inside").parent.span_id == run.context.span_id


def test_the_span_of_a_handler_that_is_given_up_on_ends(spans: InMemorySpanExporter) -> None:
    import threading

    tickwork, over = Tickwork(), threading.Event()

    @tickwork.handler("hang", timeout=0.05, max_attempts=1)
    def hang() -> None:
        over.wait(10)

    hang.enqueue()
    try:
        tickwork.tick()
        run = only(spans, "process default")
        assert run.status.status_code is StatusCode.ERROR
        assert run.attributes["error.type"] == "TimedOut"
    finally:
        over.set()


@pytest.mark.parametrize("trace_of_row", ["garbage", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", ""])
def test_a_row_with_an_unsound_trace_runs_in_one_of_its_own(
    trace_of_row: str, spans: InMemorySpanExporter
) -> None:
    tickwork = Tickwork()
    tickwork.register_handler("greet", lambda: None)
    job = tickwork.enqueue("greet")
    row = tickwork.store._rows[job.id]
    row.new = row.new._replace(trace=trace_of_row)
    tickwork.tick()
    run = only(spans, "process default")

    assert run.parent is None
    assert run.links == ()


def test_nothing_is_imported_for_those_who_do_not_trace() -> None:
    program = (
        "import sys; from jobs import Tickwork; t = Tickwork(); t.handler('a')(lambda: None); "
        "j = t.enqueue('a'); assert t.tick().succeeded == 1; assert t.get(j.id).trace is None; "
        "print([m for m in sys.modules if m.startswith(('opentelemetry', 'sentry'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)

    assert done.stdout == "[]\n", done.stderr
