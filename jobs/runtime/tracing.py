"""Spans of OpenTelemetry that join a job's enqueue to its runs, by way of the job's row.

Nothing here imports OpenTelemetry: a process that traces has done so, and one that has not is not
made to. The attributes follow the semantic conventions for messaging.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobs.core.errors import Continue, LeaseLost, Snooze
from jobs.core.job import Claimed
from jobs.core.loglines import error_text
from jobs.core.masking import mask
from jobs.core.outcome import Raised, describe

SYSTEM = "tickwork"
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def _api() -> Any:
    """The module ``opentelemetry.trace``, if this process has imported it."""
    return sys.modules.get("opentelemetry.trace")


def current_trace() -> str | None:
    """The W3C traceparent of the current span, or ``None`` where there is none."""
    trace = _api()
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


class Enqueueing:
    """The span of an enqueue; one that is not recorded knows nothing of what it is told."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def tell(self, job: Any = None, *, count: int | None = None) -> None:
        """Say which job was enqueued, or how many."""
        if self._span is None or not self._span.is_recording():
            return
        if count is not None:
            self._span.set_attribute("messaging.batch.message_count", count)
        if job is not None:
            self._span.update_name(f"enqueue {job.queue}")
            self._span.set_attributes(
                {
                    "messaging.destination.name": job.queue,
                    "messaging.message.id": job.id,
                    "tickwork.kind": job.kind,
                }
            )


@contextmanager
def enqueueing() -> Iterator[Enqueueing]:
    """A producer's span around what is enqueued; jobs made inside carry its trace."""
    trace = _api()
    if trace is None:
        yield Enqueueing()
        return
    attributes = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
    }
    with trace.get_tracer(SYSTEM).start_as_current_span(
        "enqueue", kind=trace.SpanKind.PRODUCER, attributes=attributes, record_exception=False
    ) as span:
        yield Enqueueing(span)


class Processing:
    """The span of an attempt. It ends once: with its handler, or when that is given up on."""

    def __init__(self, span: Any) -> None:
        self._span = span
        self._lock = threading.Lock()

    def end(self, error: BaseException | None = None, *, because: str = "") -> None:
        """End it; a failure is told in the words of the job's row."""
        with self._lock:
            span, self._span = self._span, None
        if span is None:
            return
        if because:
            self._fail(span, "TimedOut", because)
        elif error is not None and not isinstance(error, Snooze | Continue | LeaseLost):
            name, message, stack = describe(Raised(error))
            self._fail(span, name, message)
            span.add_event(
                "exception",
                {
                    "exception.type": name,
                    "exception.message": error_text(message),
                    "exception.stacktrace": mask(stack),
                },
            )
        span.end()

    def _fail(self, span: Any, name: str, message: str) -> None:
        trace = _api()
        span.set_attribute("error.type", name)
        span.set_status(trace.StatusCode.ERROR, error_text(f"{name}: {message}"))


def begin(claimed: Claimed, tick: str) -> tuple[Processing, Any] | None:
    """The span of this attempt and a context in which it is current; ``None`` without tracing.

    The enqueue's span is its parent and is linked as well, as the conventions have it.
    """
    trace = _api()
    if trace is None:
        return None
    producer = _remote(trace, claimed.trace)
    parent = (
        None if producer is None else trace.set_span_in_context(trace.NonRecordingSpan(producer))
    )
    attributes: dict[str, Any] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": claimed.queue,
        "messaging.message.id": claimed.id,
        "messaging.message.body.size": len(claimed.payload.encode()),
        "tickwork.kind": claimed.kind,
        "tickwork.attempt": claimed.attempt,
        "tickwork.max_attempts": claimed.max_attempts,
        "tickwork.tick": tick,
    }
    if claimed.tenant:
        attributes["tickwork.tenant"] = claimed.tenant
    span = trace.get_tracer(SYSTEM).start_span(
        f"process {claimed.queue}",
        context=parent,
        kind=trace.SpanKind.CONSUMER,
        attributes=attributes,
        links=[] if producer is None else [trace.Link(producer)],
    )
    return Processing(span), trace.use_span(
        span, end_on_exit=False, record_exception=False, set_status_on_exception=False
    )


def _remote(trace: Any, traceparent: str | None) -> Any:
    """The span context that a row bears, if it bears a sound one."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    context = trace.SpanContext(trace_id, span_id, True, trace.TraceFlags(flags))
    return context if context.is_valid else None
