"""BizInsights: what shops, payments, visits and advertising say, for many organisations.

This module names the kinds of its own, who owns a webhook, and brings the routes; the kinds of the
batteries are named beside it:

    JOBS_HANDLERS=bizinsights,jobs.handlers.sync,jobs.handlers.insights,jobs.handlers.report,...

The README has all of it.
"""

from . import insights, platforms
from .admins import tell_admins
from .paths import producers
from .plans import stop_syncing, timetable
from .routes import blueprint
from .shopify import shopify_event, webhook_owner
from .watching import remind, watch

platforms.declare()
insights.declare()

__all__ = [
    "blueprint",
    "producers",
    "remind",
    "shopify_event",
    "stop_syncing",
    "tell_admins",
    "timetable",
    "watch",
    "webhook_owner",
]
