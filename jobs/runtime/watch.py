"""Watch: a tick looks at the alerts, if it is to; the first that does loads what that takes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jobs.runtime.base import Runtime

if TYPE_CHECKING:
    from jobs.core.alerts import Change

log = logging.getLogger("tickwork.alerts")


def look_at_alerts(runtime: Runtime) -> list[Change]:
    """Look, unless somebody did within the minute; returns what changed. Never raises."""
    if not runtime.settings.alerts:
        return []
    try:
        from jobs.runtime.alerts import look

        return look(runtime)
    except Exception:
        log.exception("the alerts could not be looked at")
        return []
