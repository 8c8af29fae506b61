"""The application: `api/index.py` would say `from hse.app import create; app = create()`."""

from __future__ import annotations

from flask import Flask

from jobs import Tickwork
from jobs.http import create_app

from .auth import identify


def create(tickwork: Tickwork | None = None) -> Flask:
    """Serve a system, by default the environment's, with its schedule and its users."""
    tickwork = tickwork or Tickwork.from_env()
    tickwork.schedule("weekly-compliance", "0 0 * * 0")
    return create_app(tickwork, identify=identify)
