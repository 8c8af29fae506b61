"""Alerts of a system: its rules, how they stand, who knows of them, and the store that is away."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobs.core.clock import Clock
from jobs.core.errors import StoreUnavailable
from jobs.core.loglines import error_text
from jobs.core.look import STORE_UNREACHABLE, Level
from jobs.core.settings import Settings
from jobs.parts import Parts

if TYPE_CHECKING:
    from jobs.core.alerts import Alert
    from jobs.core.rules import Rule

log = logging.getLogger("tickwork.alerts")
# Of one process; the ids of such deliveries are those of the hour, so that receivers see one.
UNREACHABLE_AGAIN_SECONDS = 3600.0


class Alarms(Parts):
    """What a system does with alerts."""

    _unreachable: Unreachable

    def alert(self, name: str, **changes: Any) -> Rule:
        """Change an alert in code, or add one; returns the rule.

        >>> tickwork.alert("depth", warning=200, alert=500)
        >>> tickwork.alert("retry_rate", enabled=False)
        >>> tickwork.alert("slow-exports", signal="p95_seconds", kind="export", alert=900)

        The options are the fields of :class:`~jobs.core.rules.Rule`. Raises
        :class:`~jobs.core.errors.ConfigurationError` for levels that make no sense.
        """
        return self._runtime.alert_rules.book.change(name, **changes)

    def alerts(self, *, all: bool = False) -> list[Alert]:  # noqa: A002 - as the command has it
        """The open alerts and warnings, the worst first; with ``all`` those that are over as well.

        As of when a tick last looked at them: at most once a minute.
        """
        from jobs.core.alerts import worst_first  # late: for people, not for ticks

        return worst_first(alert for alert in self.store.alerts() if all or alert.is_open)

    def acknowledge_alert(self, name: str, *, by: str, subject: str | None = None) -> int:
        """Note that somebody knows of an open alert, for one subject or for all of them.

        It stays so until the alert gets worse or is over. Returns how many alerts that were.
        """
        return self.store.acknowledge_alert(name, subject, by)


class Unreachable:
    """Tells, at once and past the store, that the store cannot be reached; and when it can again.

    Nothing can be written or enqueued then, so it is delivered from where it was noticed, once in
    an hour by each process.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._since: datetime | None = None
        self._told_at: float | None = None

    @contextlib.contextmanager
    def watched(self, monotonic: float) -> Iterator[None]:
        """Around a tick that began at ``monotonic`` seconds."""
        try:
            yield
        except StoreUnavailable as error:
            self._failed(error, monotonic)
            raise
        if self._since is not None:
            self._recovered()

    def _failed(self, error: StoreUnavailable, monotonic: float) -> None:
        with self._lock:
            self._since = self._since or self._clock.now()
            told_at = self._told_at
            if told_at is not None and monotonic - told_at < UNREACHABLE_AGAIN_SECONDS:
                return
            self._told_at = monotonic
            since = self._since
        detail = error_text(f"a tick could not reach the database: {error}")[:300]
        self._tell(Level.OK, Level.ALERT, since, detail)

    def _recovered(self) -> None:
        with self._lock:
            since, self._since, told_at, self._told_at = self._since, None, self._told_at, None
        if since is None or told_at is None:
            return
        now = self._clock.now()
        seconds = (now - since).total_seconds()
        detail = f"the database is reached again, after {seconds:.0f} s"
        self._tell(Level.ALERT, Level.OK, now, detail)

    def _tell(self, before: Level, level: Level, at: datetime, detail: str) -> None:
        if not self._settings.alerts:
            return
        from jobs.core.alerts import Alert, Change  # late, as below

        change = Change(before, Alert(STORE_UNREACHABLE, "", level, at, detail=detail), None)
        log.log(logging.ERROR if change.after.is_open else logging.INFO, "%s", change.words)
        delivery_id = f"{STORE_UNREACHABLE}-{change.after.level}-{change.after.since:%Y%m%dT%H}"
        for channel in self._settings.alert_channels:
            from jobs.handlers.alerting import deliver  # late: only where something is delivered

            try:
                deliver(channel, change.as_dict(), self._settings, delivery_id)
            except Exception as problem:  # noqa: BLE001 - the tick has its own error to raise
                log.warning("%s was not told by %s: %s", STORE_UNREACHABLE, channel, problem)
