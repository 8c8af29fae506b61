"""Tickwork: background jobs where there is no server to keep running.

>>> from jobs import Tickwork
>>> tickwork = Tickwork.from_env()
"""

from jobs.core.backoff import exponential, fixed, linear, steps
from jobs.core.context import JobContext
from jobs.core.errors import (
    CapabilityError,
    ConfigurationError,
    Continue,
    Discard,
    GroupNotFound,
    JobCancelled,
    JobNotFound,
    JobStateConflict,
    LeaseLost,
    PayloadError,
    PayloadTooLarge,
    Retry,
    ScheduleNotFound,
    SchemaError,
    Snooze,
    StoreUnavailable,
    TickworkError,
    UnknownKind,
)
from jobs.core.events import JobEvent
from jobs.core.group import Group
from jobs.core.job import Job, State
from jobs.core.limits import Breaker
from jobs.core.registry import Handler, Retention, handler
from jobs.core.schedule import Schedule
from jobs.core.settings import Settings
from jobs.system import Tickwork

__version__ = "0.1.0"
__all__ = [
    "Breaker",
    "CapabilityError",
    "ConfigurationError",
    "Continue",
    "Discard",
    "Group",
    "GroupNotFound",
    "Handler",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobEvent",
    "JobNotFound",
    "JobStateConflict",
    "LeaseLost",
    "PayloadError",
    "PayloadTooLarge",
    "Retention",
    "Retry",
    "Schedule",
    "ScheduleNotFound",
    "SchemaError",
    "Settings",
    "Snooze",
    "State",
    "StoreUnavailable",
    "Tickwork",
    "TickworkError",
    "UnknownKind",
    "exponential",
    "fixed",
    "handler",
    "linear",
    "steps",
]
