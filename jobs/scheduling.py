"""Jobs that a rule makes: schedules declared in code, and those made at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack

from jobs.core.errors import ConfigurationError
from jobs.core.job import Job
from jobs.core.registry import Handler
from jobs.parts import Parts
from jobs.runtime.enqueue import Seconds

if TYPE_CHECKING:
    from jobs.core.schedule import Schedule
    from jobs.runtime.schedules import ScheduleOptions
    from jobs.runtime.timetable import Timetable


class Scheduling(Parts):
    """What a system does with schedules."""

    def schedule(
        self,
        name: str,
        cron: str | None = None,
        kind: str | None = None,
        payload: object = None,
        **options: Unpack[ScheduleOptions],
    ) -> None:
        """Declare, in code, that jobs of a kind (the name itself, unless given) are made by a rule.

        The rule is a cron expression, ``every`` (seconds, counted from ``start`` or from when the
        schedule began) or ``at`` (an aware datetime, once). ``timezone`` is an IANA name, UTC by
        default; ``missed`` is what becomes of slots that no tick saw: ``latest``, ``all:N`` or
        ``none``; ``jitter`` puts jobs up to so many seconds after their slot. The other options are
        those of :meth:`enqueue`, for each job.

        Nothing is written here: the first tick does it. Schedules that come from data, such as one
        per customer, are made with :meth:`schedules` ``.add`` instead.
        """
        from jobs.runtime.schedules import make_schedule  # late: it brings cronsim

        self._runtime.declared.add(
            make_schedule(self._runtime, name, cron, kind, payload, options, "code")
        )

    def scheduled(
        self,
        cron: str | None = None,
        *,
        name: str | None = None,
        payload: object = None,
        **options: Unpack[ScheduleOptions],
    ) -> Callable[[Handler], Handler]:
        """Declare a schedule on a handler: ``@tickwork.scheduled`` above ``@tickwork.handler``.

        ``name`` is the kind unless given; the rest is as in :meth:`schedule`.
        """

        def declare(declared: Handler) -> Handler:
            if not isinstance(declared, Handler):
                raise ConfigurationError(
                    "@tickwork.scheduled stands above @tickwork.handler(kind), which makes the "
                    f"handler: it was given {declared!r}"
                )
            self.schedule(name or declared.kind, cron, declared.kind, payload, **options)
            return declared

        return declare

    @property
    def schedules(self) -> Timetable:
        """Schedules at run time: ``add``, ``list``, ``enable``, ``disable``, ``run``, ..."""
        from jobs.runtime.timetable import Timetable  # late: it brings cronsim

        return Timetable(self._runtime, self._announce)

    def add_recurring_job(
        self,
        queue: str,
        name: str,
        data: object = None,
        cron: str | None = None,
        *,
        every: Seconds | None = None,
        kind: str | None = None,
        **options: Any,
    ) -> Schedule:
        """Forerunners' ``addRecurringJob``: a schedule made at run time; ``every`` in seconds.

        Without ``kind`` it is the kind called as the schedule if there is a handler for it, else
        the one called as the queue.
        """
        kind = kind or (name if self.registry.find(name) is not None else queue)
        return self.schedules.add(name, cron, kind, data, every=every, queue=queue, **options)

    def schedule_now(self, name: str, tenant: str = "") -> Job:
        """Forerunners' ``scheduleImmediate...``: enqueue one job of a schedule now."""
        return self.schedules.run(name, tenant)
