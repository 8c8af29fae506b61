"""The application: `api/index.py` would say `from shop.app import create; app = create()`.

SHOP_OWNER_EMAIL     who gets the daily report; unset: it is written and mailed to nobody
"""

from __future__ import annotations

import os

from flask import Flask

from jobs import Tickwork
from jobs.http import create_app

from .reporting import TIMEZONE
from .syncs import STOCK_SYNC


def create(tickwork: Tickwork | None = None) -> Flask:
    """Serve a system, by default the environment's, with the shop's queues and schedules."""
    tickwork = tickwork or Tickwork.from_env()
    tickwork.queues("ecommerce")
    tickwork.queue("email", rate_limit="100/s")
    report = {"type": "daily-report", "format": "pdf"}
    owner = os.environ.get("SHOP_OWNER_EMAIL")
    if owner:
        report["notifyEmail"] = owner
    tickwork.schedule("daily-report", "0 9 * * *", "report", report, timezone=TIMEZONE)
    tickwork.schedule("stock-sync", kind="data-sync", payload=STOCK_SYNC, every=3600)
    tickwork.schedule("payment-reconciliation", "30 * * * *")
    return create_app(tickwork)
