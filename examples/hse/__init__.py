"""HSE: incidents, audits and permits of many organisations, each of which sees its own alone.

This module names the kind of its own and brings the routes; the kinds of the batteries are named
beside it:

    JOBS_HANDLERS=hse,jobs.handlers.email,jobs.handlers.webhook,jobs.handlers.report,...

The README has all of it.
"""

from . import datasets, onboarding
from .compliance import weekly_compliance
from .routes import blueprint

__all__ = ["blueprint", "datasets", "onboarding", "weekly_compliance"]
