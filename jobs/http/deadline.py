"""The platform's own deadline of a request, where it tells one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from flask import Request

from jobs.core.deadline import parse_deadline

HEADER = "X-Vercel-Internal-Deadline"


def deadline_of(asking: Request, environ: Mapping[str, str] = os.environ) -> datetime | None:
    """When the platform ends this request, in UTC; ``None`` where it does not say.

    On Vercel its runtime takes the header away and keeps what it said. Somebody else may send that
    header too: see :func:`jobs.core.deadline.until_deadline` for what it can do.
    """
    if not environ.get("VERCEL"):
        return None
    return _from_runtime() or parse_deadline(asking.headers.get(HEADER))


def _from_runtime() -> datetime | None:
    # Vercel's own, and private: it is looked at only where it is loaded, and may be gone tomorrow.
    module = sys.modules.get("vercel_runtime.deadline")
    get_deadline = getattr(module, "get_deadline", None)
    try:
        found = get_deadline() if callable(get_deadline) else None
    except Exception:  # noqa: BLE001 - no tick fails of it
        return None
    if not isinstance(found, datetime):
        return None
    return found.replace(tzinfo=UTC) if found.utcoffset() is None else found
