"""The timetable: schedules looked at, made and steered while the program runs."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Unpack

from jobs.core.codec import clean_text
from jobs.core.errors import ConfigurationError, ScheduleNotFound, StoreUnavailable
from jobs.core.job import Job, NewJob
from jobs.core.schedule import BY_CODE, Schedule
from jobs.core.slots import in_words, read_zone, rule_of, upcoming
from jobs.runtime.base import Runtime
from jobs.runtime.schedules import (
    TRIES,
    ScheduleOptions,
    begun,
    change,
    make_schedule,
    redefined,
    scheduled_job,
    switched_off,
    switched_on,
)

WHO_MAX_CHARS = 200


class Timetable:
    """The schedules of a system: ``tickwork.schedules``.

    A name is unique within its tenant. ``by`` is who asks, kept in the row as ``changed_by``.
    """

    def __init__(self, runtime: Runtime, announce: Callable[[Sequence[NewJob], Any], None]) -> None:
        self._runtime = runtime
        self._announce = announce

    def add(
        self,
        name: str,
        cron: str | None = None,
        kind: str | None = None,
        payload: object = None,
        *,
        by: str | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Schedule:
        """Make a schedule now, or change the one of that name; the same again changes nothing.

        The rule and the options are those of :meth:`jobs.system.Tickwork.schedule`. Raises
        :class:`~jobs.core.errors.ConfigurationError` for what makes no sense, for an instant that
        is past, and for a name that code declares.
        """
        by = _who(by)
        wanted = make_schedule(self._runtime, name, cron, kind, payload, options, "user")
        store = self._runtime.store
        fresh = begun(wanted, store.now(), by)
        if fresh.next_at is None:
            raise ConfigurationError(f"schedule {name!r} would never run: {wanted.rule} is past")
        if wanted.key in self._runtime.declared:
            raise _declared_in_code(name)
        for _ in range(TRIES):
            if store.add_schedule(fresh):
                return fresh
            row = store.get_schedule(name, wanted.tenant)
            if row is not None and row.source == "code":
                raise _declared_in_code(name)
            after = row and change(
                self._runtime, row, lambda row, now: redefined(row, wanted, now, by)
            )
            if after is not None:
                return after
        raise StoreUnavailable(f"schedule {name!r} keeps being changed by somebody else")

    def get(self, name: str, tenant: str = "") -> Schedule | None:
        """One schedule as it stands in the store, or ``None``."""
        return self._runtime.store.get_schedule(name, tenant)

    def list(self, tenant: str | None = None) -> builtins.list[Schedule]:
        """The schedules (of a tenant), by tenant and name."""
        return self._runtime.store.schedules(tenant)

    def enable(self, name: str, tenant: str = "", *, by: str | None = None) -> Schedule:
        """Switch on, from the next slot: what went by meanwhile makes no job."""
        return self._change(name, tenant, lambda row, now: switched_on(row, now, _who(by)))

    def disable(self, name: str, tenant: str = "", *, by: str | None = None) -> Schedule:
        """Switch off, until somebody enables it: a new deployment does not."""
        return self._change(name, tenant, lambda row, now: switched_off(row, now, _who(by)))

    def remove(self, name: str, tenant: str = "") -> None:
        """Delete a schedule; the jobs it has made stay.

        One that code declares would come back: it is disabled instead, or removed from the code.
        """
        row = self._row(name, tenant)
        if row.source == "code" and (row.enabled or row.key in self._runtime.declared):
            raise ConfigurationError(
                f"schedule {name!r} is declared in code and would come back: remove it there, or "
                "disable it"
            )
        if not self._runtime.store.remove_schedule(name, tenant):
            raise ScheduleNotFound(name)

    def run(self, name: str, tenant: str = "", *, session: Any = None) -> Job:
        """Enqueue one of its jobs now, whether enabled or not; its slots are not touched.

        ``session`` as at an enqueue. One that is declared need not have been written yet.
        """
        new = scheduled_job(self._runtime, self._known(name, tenant), None)
        job = self._runtime.store.insert([new], session)[0]
        self._announce([new], session)
        return job

    def preview(self, name: str, count: int = 5, tenant: str = "") -> builtins.list[datetime]:
        """The next ``count`` slots, in the schedule's zone; fewer if it ends before."""
        row = self._known(name, tenant)
        zone = read_zone(row.timezone)
        slots = upcoming(rule_of(row), self._runtime.store.now(), count)
        return [slot.astimezone(zone) for slot in slots]

    def words(self, schedule: Schedule) -> str:
        """Its rule in plain words: ``At 08:00 on Monday, Asia/Kolkata``."""
        return in_words(rule_of(schedule), schedule.timezone)

    def next_at(self) -> datetime | None:
        """The earliest slot to come of all schedules, if there is one."""
        return self._runtime.store.next_schedule_at()

    def words_of(self, name: str, tenant: str = "") -> str:
        """The same, of the schedule called so."""
        return self.words(self._known(name, tenant))

    def _known(self, name: str, tenant: str) -> Schedule:
        """The row, or the declaration that no tick has written yet."""
        row = self.get(name, tenant)
        if row is None:
            declared = self._runtime.declared.find((tenant, name))
            if declared is None:
                raise ScheduleNotFound(name)
            row = begun(declared, self._runtime.store.now(), None)
        return row

    def _row(self, name: str, tenant: str) -> Schedule:
        row = self.get(name, tenant)
        if row is None:
            raise ScheduleNotFound(name)
        return row

    def _change(
        self, name: str, tenant: str, make: Callable[[Schedule, datetime], Schedule]
    ) -> Schedule:
        after = change(self._runtime, self._row(name, tenant), make)
        if after is None:
            raise ScheduleNotFound(name)
        return after


def _who(by: str | None) -> str | None:
    # Not "code": a schedule that a person has switched off would come back.
    return None if by is None or by == BY_CODE else clean_text(by)[:WHO_MAX_CHARS]


def _declared_in_code(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"schedule {name!r} is declared in code: change it there, or choose another name"
    )
