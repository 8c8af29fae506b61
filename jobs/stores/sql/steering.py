"""Steering: what people do to rows, to limits and through controls."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, text

from jobs.core.job import TERMINAL, Claimed, Job, State
from jobs.core.store import CANCELLED_KEEP_SECONDS, CancelReport, Revival
from jobs.stores.sql.attempts import LONG_ANSWER_SECONDS
from jobs.stores.sql.base import may_be_name
from jobs.stores.sql.browsing import Browsing
from jobs.stores.sql.edits import Edits
from jobs.stores.sql.rows import read_stalled, to_job


class Steering(Browsing):
    """Cancels, removes, revives, pauses and clears, each in one transaction."""

    @cached_property
    def _edits(self) -> Edits:
        return Edits(self.statements)

    def cancel(self, job_id: str) -> CancelReport | None:
        if not may_be_name(job_id):
            return None
        tries = 0

        def run(connection: Connection) -> CancelReport | None:
            nonlocal tries
            tries += 1
            parameters = self._parameters(id=job_id, keep_seconds=CANCELLED_KEEP_SECONDS)
            written = connection.execute(self.statements.cancel, parameters)
            if self.sql.returns_updated and (row := written.first()) is not None:
                return CancelReport(to_job(row), accepted=True)
            accepted = not self.sql.returns_updated and written.rowcount > 0
            job = self._get(connection, job_id)
            if job is None:
                return None
            # An earlier try may have committed though its answer was lost.
            accepted = accepted or (tries > 1 and job.state is State.CANCELLED)
            return CancelReport(job, accepted)

        # On its own it is one statement, unless there is nothing to cancel.
        return self._write(run, alone=self.sql.returns_updated)

    def cancel_many(self, ids: Collection[str]) -> int:
        named = _names(ids)
        if not named:
            return 0
        statement, keep_seconds = self.statements.cancel_many, CANCELLED_KEEP_SECONDS
        return self._count(statement, ids=named, keep_seconds=keep_seconds)

    def discard(self, job: Job, error: str, errors: str, keep_seconds: float | None) -> bool:
        if not may_be_name(job.id):
            return False
        said = {"error": error, "errors": errors, "keep_seconds": keep_seconds}
        return self._count(self._edits.discard, id=job.id, fence=job.fence, **said) > 0

    def remove(
        self,
        ids: Collection[str],
        states: Collection[State],
        *,
        ended_for_seconds: float | None = None,
    ) -> int:
        named = _names(ids)
        if not named or not states:
            return 0
        return self._write(
            lambda connection: self._edits.remove(
                connection, named, states, ended_for_seconds, self._parameters()
            )
        )

    def revive(
        self,
        revivals: Sequence[Revival],
        *,
        run_at: datetime | None = None,
        refused: dict[str, str] | None = None,
    ) -> int:
        values = self._parameters(run_at=self.sql.bind_instant(run_at))
        ended = [each.job for each in revivals if each.job.state in TERMINAL]

        def run(connection: Connection) -> int:
            held = self._keys.retake(connection, ended, self._parameters())
            if refused is not None:
                refused.update(held)
            free = [each for each in revivals if each.job.id not in held]
            return self._edits.revive(connection, free, values)

        return self._write(run)

    def stuck(self, running_for_seconds: float, limit: int) -> list[Claimed]:
        values = self._parameters(running_for_seconds=running_for_seconds, limit=limit)
        rows = self._read(lambda connection: connection.execute(self._edits.stuck, values).all())
        return [read_stalled(row, self.sql) for row in rows]

    # -- controls ------------------------------------------------------------------------------

    def pause(self, subject: str, *, by: str | None, because: str | None) -> None:
        self._write(
            lambda connection: self._controls.pause(
                connection, subject, by, because, self._parameters()
            )
        )

    def resume(self, subject: str, *, by: str | None) -> bool:
        return self._write(
            lambda connection: self._controls.resume(connection, subject, by, self._parameters())
        )

    def set_settings(
        self, subject: str, changes: Mapping[str, Any], *, by: str | None
    ) -> dict[str, Any]:
        return self._write(
            lambda connection: self._controls.change(
                connection, subject, changes, by, self._parameters()
            )
        )

    def reset_breaker(self, name: str) -> bool:
        if not may_be_limit(name):
            return False
        return self._write(lambda c: self._turns.reset(c, name, self._parameters()))

    # -- everything ----------------------------------------------------------------------------

    def clear(self) -> int:
        groups, everything = (
            text(f"DELETE FROM {table} WHERE namespace = :namespace")
            for table in (self.statements.groups, self.statements.jobs)
        )

        def run(connection: Connection) -> int:
            for statement in (*self.statements.clear_limits, self._keys.statements.clear, groups):
                connection.execute(statement, self._parameters())
            return connection.execute(everything, self._parameters()).rowcount

        return self._write(run, answer_seconds=LONG_ANSWER_SECONDS)


def _names(ids: Collection[str]) -> list[str]:
    return sorted(job_id for job_id in set(ids) if may_be_name(job_id))


def may_be_limit(name: str) -> bool:
    """Whether this can be the name of a limit."""
    return all(may_be_name(part) for part in name.split("/"))
