"""What people do to jobs and queues that are there: look, cancel, retry, pause, clear."""

from __future__ import annotations

import builtins
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from jobs.core.controls import NAME_MAX_CHARS, REASON_MAX_CHARS, Control, checked_text, subject_of
from jobs.core.errors import CapabilityError, JobNotFound, JobStateConflict, NoSuchLimit
from jobs.core.job import Job, State
from jobs.core.limits import LimitStatus
from jobs.core.names import check_queue
from jobs.core.queues import QueueSettings, queue_settings
from jobs.core.store import Capability, JobFilter
from jobs.parts import Parts
from jobs.runtime import steer
from jobs.runtime.enqueue import seconds_of
from jobs.runtime.give_up import discard
from jobs.runtime.steer import Which
from jobs.runtime.terms import sources
from jobs.runtime.unique import find_job

if TYPE_CHECKING:
    from jobs.ops.doctor import Finding
    from jobs.ops.why import Why


class Steering(Parts):
    """What a system lets people see and change."""

    # -- look and steer ------------------------------------------------------------------------

    def get(self, job_id: str, *, tenant: str | None = None) -> Job | None:
        """One job by its id or by the ``job_id`` it was enqueued with, or ``None``.

        With ``tenant`` only a job of that tenant is found; a ``job_id`` of a tenant's job needs it.
        """
        return find_job(self.store, job_id, tenant)

    get_job = get

    def why(self, job_id: str, *, tenant: str | None = None) -> Why:
        """Why a job is not running: the one reason, in words and as data, and all behind it.

        By this system's own kinds and settings: another deployment may have a handler that this
        one lacks. Raises :class:`~jobs.core.errors.JobNotFound`, also for another ``tenant``'s.
        """
        from jobs.ops.why import why  # late: for people, not for ticks

        job = self.get(job_id, tenant=tenant)
        if job is None:
            raise JobNotFound(job_id)
        return why(self._runtime, job)

    def list(
        self,
        *,
        state: State | str | None = None,
        kind: str | None = None,
        queue: str | None = None,
        tenant: str | None = None,
        before_id: str | None = None,
        limit: int = 50,
        error: str | None = None,
        older_than: float | timedelta | None = None,
    ) -> list[Job]:
        """Jobs by filter, newest first; ``before_id`` continues where a page ended.

        ``error`` is text that the last error holds, ``older_than`` (seconds or a timedelta) how
        long ago a job ended, or was enqueued if it has not.
        """
        wanted = None if state is None else State(state)
        age = seconds_of("older_than", older_than)
        where = JobFilter(wanted, kind, queue, tenant, before_id, error, age)
        return self.store.list(where, limit)

    def dead_letters(self, limit: int = 100, **which: Unpack[Which]) -> Sequence[Job]:
        """Jobs that failed for good, newest first; ``which`` as in :meth:`retry_many`."""
        return self.store.list(steer.filter_of(State.FAILED, which), limit)

    def get_pending_jobs(self, limit: int = 1000) -> Sequence[Job]:
        """Forerunners' ``getPendingJobs``: pending jobs, newest first."""
        return self.list(state=State.PENDING, limit=limit)

    def counts(self, tenant: str | None = None) -> dict[tuple[str, str, str], int]:
        """Jobs (of a tenant) by (queue, kind, shown state).

        Shown states add paused, delayed and retrying (of pending) and stalled (of processing).
        """
        return self.store.counts(tenant)

    def cancel(self, job_id: str, *, tenant: str | None = None) -> Job:
        """Cancel a job: at once if it has not started, else by asking it to stop.

        It is named as for :meth:`get`. A running handler notices at ``ctx.checkpoint()``; one that
        never looks runs to its end and is recorded as what it did. Raises
        :class:`~jobs.core.errors.JobNotFound`, and
        :class:`~jobs.core.errors.JobStateConflict` for a job that has ended.
        """
        report = self.store.cancel(job_id) if tenant is None else None
        if report is None:  # by its alias, or a tenant's alone
            found = self.get(job_id, tenant=tenant)
            report = None if found is None else self.store.cancel(found.id)
        if report is None:
            raise JobNotFound(job_id)
        if not report.accepted:
            raise JobStateConflict(report.job.id, report.job.state, "cancelled")
        if report.job.group_id is not None:
            steer.end_groups(self._runtime, [report.job.group_id])
        return report.job

    def count(
        self, state: State | str | None = None, *, cap: int = 100_000, **which: Unpack[Which]
    ) -> int:
        """How many jobs a filter finds, up to ``cap``; ``which`` as in :meth:`retry_many`."""
        return steer.count(self._runtime, steer.filter_of(state, which), cap)

    def cancel_many(self, state: State | str | None = None, **which: Unpack[Which]) -> int:
        """Cancel all jobs of a filter that have not ended; returns how many it concerned.

        ``state`` limits it to those ``pending`` or ``processing``; ``which``: ``kind``, ``queue``
        (``"all"`` for every queue), ``tenant``, ``error``, ``older_than`` (seconds).
        """
        return steer.cancel_many(self._runtime, state, which)

    def retry(
        self,
        job_id: str,
        *,
        run_at: datetime | None = None,
        attempts: int | None = None,
        force: bool = False,
        by: str | None = None,
        tenant: str | None = None,
    ) -> Job:
        """Put a failed or cancelled job back to pending, due now or at ``run_at``.

        It begins anew: its attempts count from 0, up to ``attempts`` or as many as before. Its
        fence and its error history stay; the history notes the retry and who asked for it (``by``).
        With ``force`` a completed one runs once more. A pending one only becomes due; one that is
        due already keeps its place.

        Raises :class:`~jobs.core.errors.JobNotFound` (also for another ``tenant``'s), and
        :class:`~jobs.core.errors.JobStateConflict` for one that runs or has completed.
        """
        return steer.retry(
            self._runtime,
            job_id,
            run_at=run_at,
            attempts=attempts,
            force=force,
            by=by,
            tenant=tenant,
        )

    def discard(
        self,
        job_id: str,
        *,
        by: str | None = None,
        because: str | None = None,
        tenant: str | None = None,
    ) -> Job:
        """Give a job up that waits: it has failed for good, and is a dead letter.

        Its history tells who did so (``by``) and why (``because``). Raises
        :class:`~jobs.core.errors.JobNotFound` (also for another ``tenant``'s), and
        :class:`~jobs.core.errors.JobStateConflict` for one that runs (cancel it) or has ended.
        """
        return discard(self._runtime, job_id, by=by, because=because, tenant=tenant)

    def retry_many(
        self,
        state: State | str = State.FAILED,
        *,
        attempts: int | None = None,
        per_second: float | None = None,
        limit: int | None = None,
        by: str | None = None,
        **which: Unpack[Which],
    ) -> int:
        """Retry all failed (or cancelled) jobs of a filter, oldest first; returns how many.

        ``per_second`` spreads them over time. ``which``: ``kind``, ``queue`` (``"all"`` for every
        queue), ``tenant``, ``error`` (text in it), ``older_than`` (seconds since they ended).
        """
        return steer.retry_many(
            self._runtime,
            state,
            which,
            attempts=attempts,
            per_second=per_second,
            limit=limit,
            by=by,
        )

    def ids_of(
        self, state: State | str | None = None, *, limit: int, **which: Unpack[Which]
    ) -> builtins.list[str]:
        """The ids of the first ``limit`` jobs of a filter, the oldest first."""
        return steer.ids_of(self._runtime, steer.filter_of(state, which), limit)

    def retry_these(
        self,
        ids: Sequence[str],
        *,
        by: str | None = None,
        attempts: int | None = None,
        per_second: float | None = None,
    ) -> int:
        """Retry the jobs with these ids, as far as they failed or were cancelled; how many it was.

        As :meth:`retry_many`; one whose dedupe key another job has taken stays.
        """
        return steer.retry_these(
            self._runtime, ids, by=by, attempts=attempts, per_second=per_second
        )

    def cancel_these(self, ids: Sequence[str]) -> int:
        """Cancel the jobs with these ids that have not ended; returns how many it concerned."""
        return steer.cancel_these(self._runtime, ids)

    def remove_these(self, ids: Sequence[str], *, state: State | None = None) -> int:
        """Delete the jobs with these ids that do not run, or that are in ``state``; how many."""
        return steer.remove_these(self._runtime, ids, state)

    def remove(self, job_id: str, *, tenant: str | None = None) -> Job:
        """Delete a job, whatever it waits for or became; returns what it was.

        Raises :class:`~jobs.core.errors.JobNotFound`, and
        :class:`~jobs.core.errors.JobStateConflict` for one that runs: cancel it first.
        """
        return steer.remove(self._runtime, job_id, tenant)

    def clean(
        self,
        grace: float | timedelta = 0,
        limit: int = 0,
        state: State | str = State.COMPLETED,
        **which: Unpack[Which],
    ) -> int:
        """Delete jobs that ended in ``state`` at least ``grace`` (seconds) ago; returns how many.

        ``limit`` 0 is all of them; ``which`` as in :meth:`retry_many`. What waits or runs is never
        deleted.
        """
        return steer.clean(self._runtime, grace, limit, state, which)

    def empty(self, queue: str, *, kind: str | None = None, tenant: str | None = None) -> int:
        """Delete all jobs that wait in a queue (``"all"``: in every queue), delayed ones too.

        Returns how many. What runs goes on.
        """
        return steer.empty(self._runtime, {"queue": queue, "kind": kind, "tenant": tenant})

    # -- controls and queues -------------------------------------------------------------------

    def pause(
        self,
        queue: str | None = None,
        *,
        kind: str | None = None,
        by: str | None = None,
        because: str | None = None,
    ) -> None:
        """Start no more jobs of a queue, of a kind, or (queue ``"all"``) none at all.

        For every process, from its next tick on, until :meth:`resume`; what runs goes on. ``by``
        and ``because`` are kept with it.
        """
        subject = subject_of(queue=queue, kind=kind)
        by = checked_text("by", by, NAME_MAX_CHARS)
        because = checked_text("because", because, REASON_MAX_CHARS)
        self.store.pause(subject, by=by, because=because)

    def resume(
        self, queue: str | None = None, *, kind: str | None = None, by: str | None = None
    ) -> bool:
        """Take a pause back, that one alone; returns whether there was one.

        A queue that was paused by itself stays so when ``"all"`` is resumed.
        """
        subject = subject_of(queue=queue, kind=kind)
        return self.store.resume(subject, by=checked_text("by", by, NAME_MAX_CHARS))

    def controls(self) -> builtins.list[Control]:
        """What was paused or set at run time, by subject: ``queue/<name>`` or ``kind/<name>``."""
        return self.store.controls()

    def queue(self, name: str, **settings: Any) -> QueueSettings:
        """Say in code what holds for the jobs of a queue; returns all that is said so far.

        Settings are the fields of :class:`~jobs.core.queues.QueueSettings`. A kind's own options
        go before them, and what was set at run time goes before both.
        """
        return self._runtime.queues.declare(check_queue(name), queue_settings(settings))

    def queues(self, preset_name: str | None = None) -> dict[str, QueueSettings]:
        """The queues that the code says something of, those of a preset added first if named.

        Presets: ``ecommerce``, ``hse``, ``insights``, ``escrow``.
        """
        if preset_name is not None:
            from jobs.core.presets import preset  # late, as a cold start needs none

            for name, settings in preset(preset_name).items():
                self._runtime.queues.declare(name, settings)
        return dict(self._runtime.queues.declared)

    def set_queue(self, name: str, *, by: str | None = None, **changes: Any) -> QueueSettings:
        """Change a queue's settings at run time, for every process; ``None`` takes one back.

        They go before what the code says. A process learns of them at its next tick (a consumer of
        messages within 30 s); one that only enqueues goes by its code. Returns what is set.
        """
        known = queue_settings(changes).as_dict()
        changed = {field: known.get(field) for field in changes}
        by = checked_text("by", by, NAME_MAX_CHARS)
        self.store.set_settings(subject_of(queue=check_queue(name)), changed, by=by)
        self.learn_queues()
        return self._runtime.queues.said(name)

    def queue_sources(self, name: str) -> dict[str, tuple[Any, str]]:
        """A queue's settings, each with whence it comes: ``run time``, ``code`` or ``default``."""
        return sources(self._runtime.queues, name, self.settings)

    def learn_queues(self) -> None:
        """Read what was set at run time; every tick does so by itself."""
        steer.learn_queues(self._runtime, at_once=True)

    def limits(self) -> builtins.list[LimitStatus]:
        """Every limit that is declared here as it stands: what is allowed, and what is used."""
        return self.store.limits_now(self._runtime.limits)

    def breakers(self) -> builtins.list[LimitStatus]:
        """The circuit breakers as they stand."""
        return [each for each in self.limits() if each.breaker is not None]

    def reset_breaker(self, name: str) -> None:
        """Close a circuit breaker and forget what it counted; ``name`` as :meth:`breakers` tells.

        Raises :class:`~jobs.core.errors.NoSuchLimit`.
        """
        declared = self._runtime.limits.of_name(name).breaker is not None
        if not declared or not self.store.reset_breaker(name):
            raise NoSuchLimit(name, [each.name for each in self.breakers()])

    # -- the whole -----------------------------------------------------------------------------

    def clear(self, *, force: bool = False) -> int:
        """Delete every job of this namespace; refuses on SQL without ``force=True``."""
        if Capability.DURABLE in self.store.capabilities and not force:
            raise CapabilityError(
                "clear() deletes every job in the database; say clear(force=True) if you mean it"
            )
        return self.store.clear()

    def doctor(
        self, *, folder: str | Path = ".", plan: str | None = None
    ) -> builtins.list[Finding]:
        """What is wrong with this deployment, the worst first; empty if nothing is.

        Looks at the process's environment, at ``vercel.json`` and ``serverless.yml`` in ``folder``,
        at the kinds and at the database, and changes nothing. ``plan`` is Vercel's: ``hobby``,
        ``pro`` or ``enterprise``. Never raises for what it finds broken.
        """
        from jobs.ops.doctor import Surroundings, diagnose  # late: for people, not for ticks

        return diagnose(
            Surroundings(
                environ=os.environ,
                folder=Path(folder).absolute(),
                settings=self.settings,
                registry=self.registry,
                store=self.store,
                plan=plan,
            )
        )
