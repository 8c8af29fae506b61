"""What every tick has to know of alerts: who looks at them, how often, and what they are called."""

from __future__ import annotations

from enum import IntEnum, StrEnum

EVERY_SECONDS = 60.0
# By ticks that run nothing: where jobs wait, and where there are none.
WAITING_SECONDS = 600.0
IDLE_SECONDS = 3600.0
# Alerts deliver their words as jobs, which are no reason for another alert.
OWN_QUEUE = "tickwork"
ALERT_KIND = "tickwork.alert"
# The store that cannot be reached is no rule: nothing can be evaluated there. See jobs/alarms.py.
STORE_UNREACHABLE = "store_unreachable"
# What is not about one queue or kind.
WHOLE = ""


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    ALERT = "alert"


class Look(IntEnum):
    """Who is to look at the alerts, by how long ago somebody did: nobody yet, a tick that ran jobs,
    one that sees jobs waiting, or any. While one is open it is any, every minute."""

    NOBODY = 0
    BUSY = 1
    WAITING = 2
    ANY = 3

    def is_for(self, *, ran: bool, waits: bool) -> bool:
        """Whether it is for one that ran jobs, or sees that jobs wait, or neither."""
        if ran:
            return self is not Look.NOBODY
        return self >= (Look.WAITING if waits else Look.ANY)
