"""Sentry, where the application has initialised it: jobs that failed for good, without payloads.

Nothing here imports the SDK: a process that reports to Sentry has done so.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from jobs.core.events import Events, JobEvent
from jobs.core.loglines import LOGGER, error_text
from jobs.core.settings import on_platform

FLUSH_SECONDS = 2.0


def report_failures(events: Events) -> None:
    """Report every job that fails for good, while Sentry is initialised."""
    reporter = Reporter()
    events.on("failed", reporter.report, when=reporter.is_wanted)


class Reporter:
    """Tells Sentry of the failed jobs of one system."""

    def is_wanted(self) -> bool:
        """Whether somebody has initialised Sentry in this process."""
        sdk = sys.modules.get("sentry_sdk")
        return sdk is not None and bool(sdk.get_client().is_active())

    def report(self, event: JobEvent) -> None:
        """Send one failure: its exception where there is one, its words otherwise."""
        sdk: Any = sys.modules["sentry_sdk"]
        _leave_our_lines_alone()
        with sdk.new_scope() as scope:
            scope.set_tag("tickwork.kind", event.kind)
            scope.set_tag("tickwork.queue", event.queue)
            scope.set_tag("tickwork.job_id", event.job_id)
            if event.tenant:
                scope.set_tag("tickwork.tenant", event.tenant)
            scope.set_context(
                "job",
                {
                    "attempt": event.attempt,
                    "max_attempts": event.max_attempts,
                    "tick": event.tick,
                    "duration_ms": event.duration_ms,
                },
            )
            scope.set_transaction_name(f"job {event.kind}")
            scope.add_event_processor(_without_payload)
            if event.exception is not None:
                sdk.capture_exception(event.exception)
            else:
                sdk.capture_message(f"job of {event.kind} failed: {event.error}", level="error")
        _unsent.set()


_unsent = threading.Event()


def flush(environ: Mapping[str, str] | None = None) -> None:
    """Send now what is still to be sent, where the platform freezes the process after its answer.

    Waits up to ``FLUSH_SECONDS``, and only if a failure was reported since the last time.
    """
    if not _unsent.is_set() or not on_platform(os.environ if environ is None else environ):
        return
    _unsent.clear()
    sdk: Any = sys.modules["sentry_sdk"]
    sdk.flush(timeout=FLUSH_SECONDS)


def _leave_our_lines_alone() -> None:
    """Sentry makes an event of every line logged as an error: this one would come twice."""
    module: Any = sys.modules.get("sentry_sdk.integrations.logging")
    if module is not None:
        module.ignore_logger(LOGGER)


def _without_payload(event: Any, _hint: Any) -> Any:
    """The event without local variables, which hold the payload, and without credentials."""
    for value in (event.get("exception") or {}).get("values") or ():
        if value.get("value"):
            value["value"] = error_text(value["value"])
        _strip(value.get("stacktrace"))
    for thread in (event.get("threads") or {}).get("values") or ():
        _strip(thread.get("stacktrace"))
    if event.get("message"):
        event["message"] = error_text(event["message"])
    return event


def _strip(stacktrace: Any) -> None:
    for frame in (stacktrace or {}).get("frames") or ():
        frame.pop("vars", None)
