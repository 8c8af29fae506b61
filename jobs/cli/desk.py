"""Whoever works at the command line, for the audit log."""

from __future__ import annotations

import os

from jobs import Tickwork
from jobs.managing import Managing


def desk(tickwork: Tickwork, by: str | None = None) -> Managing:
    """Acts of this person (``$USER`` unless they say another), on every tenant's jobs."""
    name = by or os.environ.get("USER") or os.environ.get("LOGNAME")
    return Managing(tickwork, f"cli:{name}" if name else "cli")
