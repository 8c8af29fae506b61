"""A claimed job made up for the tests of the pure rules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jobs.core.job import Claimed

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

_PLAIN = Claimed(
    id="0190",
    kind="mail",
    queue="default",
    payload="{}",
    priority=3,
    attempt=1,
    max_attempts=3,
    fence=7,
    timeout_seconds=None,
    backoff=None,
    tenant="",
    run_at=AT,
    errors=None,
    marked=True,
    expired=False,
    cancel_requested=False,
)


def claimed(**changes: Any) -> Claimed:
    """A first attempt of three, but for the changes."""
    return _PLAIN._replace(**changes)
