"""The application: in `api/index.py`, `from bizinsights.app import create; app = create()`."""

from __future__ import annotations

from flask import Flask

from jobs import Tickwork
from jobs.http import create_app

from .plans import EVERY_HOUR, EVERY_MORNING


def create(tickwork: Tickwork | None = None) -> Flask:
    """Serve a system, by default the environment's, with what is done for all organisations."""
    tickwork = tickwork or Tickwork.from_env()
    tickwork.queues("insights")  # how many at once, and how often each is tried
    tickwork.schedule("watch", EVERY_HOUR)
    tickwork.schedule("remind", EVERY_MORNING)
    tickwork.schedule("timetable", EVERY_MORNING)
    return create_app(tickwork)
