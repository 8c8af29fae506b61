"""Alerts, under the store's lock."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from jobs.core.alerts import Alert, Evaluation
from jobs.core.job import NewJob
from jobs.stores.memory.base import MemoryRows


class Alerting(MemoryRows):
    """As the SQL store keeps them."""

    def claim_alerts(self, every_seconds: float) -> bool:
        with self._lock:
            now = self.now()
            if self._alerts_at is not None and not _passed(self._alerts_at, every_seconds, now):
                return False
            self._alerts_at = now
            return True

    def alerts(self) -> builtins.list[Alert]:
        with self._lock:
            return [alert for _, alert in sorted(self._alerts.items())]

    def save_alerts(self, evaluation: Evaluation, jobs: Sequence[NewJob]) -> bool:
        with self._lock:
            expected = [(a.name, a.subject, b) for b, a in evaluation.written]
            expected += [(a.name, a.subject, a) for a in evaluation.gone]
            for name, subject, before in expected:
                known = self._alerts.get((name, subject))
                if (known and known.version) != (before and before.version):
                    return False
            for _, after in evaluation.written:
                self._alerts[after.name, after.subject] = after
            for alert in evaluation.gone:
                del self._alerts[alert.name, alert.subject]
            self._alerts_busy = evaluation.is_busy
            for job in jobs:
                self._add(job)
            return True

    def acknowledge_alert(self, name: str, subject: str | None, by: str) -> int:
        with self._lock:
            found = [
                alert
                for alert in self._alerts.values()
                if alert.name == name and alert.is_open and subject in (None, alert.subject)
            ]
            for alert in found:
                self._alerts[alert.name, alert.subject] = replace(
                    alert,
                    acknowledged_by=by,
                    acknowledged_at=self.now(),
                    version=alert.version + 1,
                )
            return len(found)


def _passed(since: datetime, seconds: float, now: datetime) -> bool:
    return since <= now - timedelta(seconds=seconds)
