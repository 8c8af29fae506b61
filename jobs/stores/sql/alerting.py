"""Alerts as rows: one for each rule and subject, and one for when they were last looked at."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, TextClause, delete, exc, insert, select, text, update

from jobs.core.codec import clean_text
from jobs.core.job import NewJob
from jobs.core.look import WHOLE, Level
from jobs.stores.sql.base import may_be_name
from jobs.stores.sql.enqueueing import Enqueueing

if TYPE_CHECKING:
    from jobs.core.alerts import Alert, Evaluation

BY_CHARS = 100
_FIELDS = (
    *("name", "subject", "level", "since", "value", "detail", "heading", "streak", "changes"),
    *("acknowledged_by", "acknowledged_at", "version"),
)
# The row of no rule: when an evaluation was last begun, and whether the next one may change more.
_CLOCK = ""


class _Overtaken(Exception):
    """Somebody has written one of the rows since they were read."""


class Alerting(Enqueueing):
    """Reads and writes alerts; what is to be delivered is enqueued in the same transaction."""

    def claim_alerts(self, every_seconds: float) -> bool:
        parameters = self._parameters(every_seconds=every_seconds)
        taken = self._write(
            lambda c: c.execute(self._claim_alerts, parameters).rowcount > 0, alone=True
        )
        if taken:
            return True
        return self._write(
            lambda c: c.execute(self._first_claim, parameters).rowcount > 0, alone=True
        )

    @cached_property
    def _claim_alerts(self) -> TextClause:
        earlier = self.sql.later(f"-{self.sql.number('every_seconds')}")
        return text(
            f"UPDATE {self.statements.alerts} SET checked_at = {self.sql.now} "
            f"WHERE namespace = :namespace AND name = '{_CLOCK}' AND subject = '' "
            f"AND checked_at <= {earlier}"
        )

    @cached_property
    def _first_claim(self) -> TextClause:
        ignores = self.sql.name == "mysql"
        now = self.sql.now
        return text(
            f"INSERT {'IGNORE ' if ignores else ''}INTO {self.statements.alerts} (namespace, name, "
            "subject, level, since, heading, streak, changes, version, checked_at) VALUES "
            f"(:namespace, '{_CLOCK}', '', 'ok', {now}, 'ok', 0, 0, 0, {now})"
            + ("" if ignores else " ON CONFLICT (namespace, name, subject) DO NOTHING")
        )

    def alerts(self) -> builtins.list[Alert]:
        c = self.tables.alerts.c
        statement = (
            select(*(c[name] for name in _FIELDS))
            .where(c.namespace == self.namespace, c.name != _CLOCK)
            .order_by(c.name, c.subject)
        )
        return [to_alert(row) for row in self._read(lambda k: k.execute(statement).all())]

    def save_alerts(self, evaluation: Evaluation, jobs: Sequence[NewJob]) -> bool:
        def run(connection: Connection) -> None:
            for before, after in evaluation.written:
                self._save(connection, before, after)
            for alert in evaluation.gone:
                connection.execute(delete(self.tables.alerts).where(*self._exactly(alert)))
            self._note_busy(connection, evaluation.is_busy)
            self._insert_all(connection, jobs)

        try:
            self._write(run)
        except (_Overtaken, exc.IntegrityError):
            return False
        return True

    def _save(self, connection: Connection, before: Alert | None, after: Alert) -> None:
        values = {name: getattr(after, name) for name in _FIELDS}
        values.update(level=str(after.level), heading=str(after.heading))
        values["detail"] = clean_text(after.detail)
        table = self.tables.alerts
        if before is None:
            connection.execute(insert(table), {**values, "namespace": self.namespace})
            return
        statement = update(table).where(*self._exactly(before)).values(**values)
        if connection.execute(statement).rowcount == 0:
            raise _Overtaken

    def _note_busy(self, connection: Connection, is_busy: bool) -> None:
        c = self.tables.alerts.c
        level = str(Level.ALERT if is_busy else Level.OK)
        connection.execute(
            update(self.tables.alerts)
            .where(c.namespace == self.namespace, c.name == _CLOCK, c.level != level)
            .values(level=level)
        )

    def _exactly(self, alert: Alert) -> Sequence[Any]:
        c = self.tables.alerts.c
        return (
            c.namespace == self.namespace,
            c.name == alert.name,
            c.subject == alert.subject,
            c.version == alert.version,
        )

    def acknowledge_alert(self, name: str, subject: str | None, by: str) -> int:
        if not may_be_name(name) or not (subject in (None, WHOLE) or may_be_name(subject)):
            return 0
        table = self.tables.alerts
        c = table.c
        which = [c.namespace == self.namespace, c.name == name, c.level != str(Level.OK)]
        if subject is not None:
            which.append(c.subject == subject)

        def run(connection: Connection) -> int:
            values = {
                "acknowledged_by": clean_text(by)[:BY_CHARS],
                "acknowledged_at": self._now(connection),
                "version": c.version + 1,
            }
            return connection.execute(update(table).where(*which).values(values)).rowcount

        return self._write(run)


def to_alert(row: Any) -> Alert:
    """What a row says."""
    from jobs.core.alerts import Alert  # late: most ticks look at none

    values = {name: getattr(row, name) for name in _FIELDS}
    values.update(level=Level(row.level), heading=Level(row.heading), detail=row.detail or "")
    return Alert(**values)
