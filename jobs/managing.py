"""What somebody does to jobs, queues, schedules and access: within a tenant, and written down.

The API, the dashboard and the command line all act through here, so that none of them can leave a
tenant's bounds, nor change anything without an entry in the audit log. The entry is written right
after the change, in a transaction of its own: a process that dies between the two leaves none, and
a log that cannot be written does not undo what was done.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Unpack

from jobs import choosing
from jobs.choosing import Chosen, NotConfirmed, Spread
from jobs.core.access import (
    LABEL_MAX_CHARS,
    REASON_MAX_CHARS,
    SUBJECT_MAX_CHARS,
    Change,
    ChangeFilter,
    NewChange,
    NewToken,
    Role,
    Token,
    as_role,
    digest_of,
    new_secret,
)
from jobs.core.codec import clean_text
from jobs.core.controls import NAME_MAX_CHARS, subject_of
from jobs.core.errors import (
    ConfigurationError,
    JobNotFound,
    NoSuchAlert,
    NotAllowed,
    OtherTenant,
    TokenNotFound,
)
from jobs.core.ids import new_id
from jobs.core.job import Job, State
from jobs.core.names import EVERY_QUEUE, check_queue, check_tenant
from jobs.core.queues import QueueSettings
from jobs.core.redact import Redactor, marked
from jobs.core.registry import Handler
from jobs.core.schedule import Schedule
from jobs.core.store import JobFilter
from jobs.runtime import steer
from jobs.runtime.enqueue import EnqueueOptions, seconds_of
from jobs.runtime.steer import Which
from jobs.system import Tickwork

log = logging.getLogger("tickwork.audit")


@dataclass(frozen=True)
class Managing:
    """Acts of ``by``, within ``tenant`` (``None``: all of them, ``""``: what is nobody's)."""

    tickwork: Tickwork
    by: str
    tenant: str | None = None

    # -- jobs ----------------------------------------------------------------------------------

    def job(self, job_id: str, queue: str = EVERY_QUEUE) -> Job:
        """One job by id or ``job_id``, or JobNotFound: also for another tenant's or queue's."""
        job = self.tickwork.get(job_id, tenant=self.tenant)
        if job is None or queue not in (EVERY_QUEUE, job.queue):
            raise JobNotFound(job_id)
        return job

    def jobs(self, where: JobFilter, limit: int) -> list[Job]:
        """Jobs by filter; whatever it says of the tenant, only this one's."""
        return self.tickwork.store.list(self.within(where), limit)

    def within(self, where: JobFilter) -> JobFilter:
        """The filter, kept to the tenant."""
        return where._replace(tenant=self.whose(where.tenant))

    def whose(self, asked: str | None) -> str | None:
        """The tenant that is meant: one's own, or any for those of every tenant."""
        if self.tenant is None:
            return asked
        if asked not in (None, self.tenant):
            raise OtherTenant("no such tenant here")
        return self.tenant

    def enqueue(
        self,
        kind: str,
        payload: object,
        *,
        on_own_path: bool = False,
        **options: Unpack[EnqueueOptions],
    ) -> Job:
        """Enqueue a job of a kind that may be (``api=True``), for the own tenant.

        on_own_path: a producer of the kind's own module made this payload, and so has said what may
            come from outside
        """
        self._check_open(kind, on_own_path=on_own_path)
        options["tenant"] = self.whose(options.get("tenant")) or ""
        job = self.tickwork.enqueue(kind, payload, **options)
        if not job.existing:
            self.note("job.enqueue", job.id, job.tenant)
        return job

    def _check_open(self, kind: str, *, on_own_path: bool = False) -> None:
        handler = self.tickwork.registry.find(kind)
        if handler is None or not (handler.api or on_own_path):
            raise NotAllowed(
                f"kind {kind!r} cannot be enqueued from outside: its handler says so with api=True"
            )

    def retry(
        self,
        job_id: str,
        queue: str = EVERY_QUEUE,
        *,
        run_at: datetime | None = None,
        attempts: int | None = None,
        force: bool = False,
        reason: str | None = None,
    ) -> Job:
        """Put a job back to pending; as :meth:`Tickwork.retry`."""
        job = self.job(job_id, queue)
        again = self.tickwork.retry(
            job.id, run_at=run_at, attempts=attempts, force=force, by=self.by
        )
        self.note("job.retry", job.id, job.tenant, reason=reason)
        return again

    def cancel(self, job_id: str, queue: str = EVERY_QUEUE, *, reason: str | None = None) -> Job:
        """Cancel a job; as :meth:`Tickwork.cancel`."""
        job = self.tickwork.cancel(self.job(job_id, queue).id)
        self.note("job.cancel", job.id, job.tenant, reason=reason)
        return job

    def discard(self, job_id: str, queue: str = EVERY_QUEUE, *, reason: str | None = None) -> Job:
        """Give a job up that waits; as :meth:`Tickwork.discard`."""
        job = self.job(job_id, queue)
        job = self.tickwork.discard(job.id, by=self.by[:NAME_MAX_CHARS], because=reason)
        self.note("job.discard", job.id, job.tenant, reason=reason)
        return job

    def remove(self, job_id: str, queue: str = EVERY_QUEUE, *, reason: str | None = None) -> Job:
        """Delete a job that does not run; as :meth:`Tickwork.remove`."""
        job = self.tickwork.remove(self.job(job_id, queue).id)
        self.note("job.delete", job.id, job.tenant, reason=reason)
        return job

    # -- many jobs -----------------------------------------------------------------------------

    def choose(self, action: str, state: State, which: Which) -> Chosen:
        """The jobs that ``retry``, ``cancel`` or ``delete`` would concern, and what confirms it."""
        return choosing.choose(self.tickwork, action, state, self._which(which))

    def bulk(
        self,
        action: str,
        state: State,
        which: Which,
        *,
        confirm: str,
        spread: Spread = Spread(),  # noqa: B008 - a tuple
        reason: str | None = None,
    ) -> int:
        """Do it to the jobs of a filter, if they still are those that were confirmed.

        Returns how many. Raises :class:`~jobs.choosing.NotConfirmed` if they are others.
        """
        chosen = self.choose(action, state, which)
        if chosen.confirm != confirm:
            raise NotConfirmed(chosen)
        total = choosing.change(
            self.tickwork, action, chosen.ids, by=self.by, state=state, spread=spread
        )
        self.note_many(f"jobs.{action}", state, self._which(which), total, reason)
        return total

    def these(
        self, action: str, ids: Sequence[str], *, described: str, reason: str | None = None
    ) -> int:
        """``retry``, ``cancel`` or ``delete`` jobs by their ids; those of other tenants stay.

        ``described`` is how the log names them. Returns how many it was.
        """
        total = 0
        for begin in range(0, len(ids), steer.IDS_PER_BATCH):
            some = tuple(ids[begin : begin + steer.IDS_PER_BATCH])
            if self.tenant is not None:
                where = JobFilter(ids=some, tenant=self.tenant)
                some = tuple(self.tickwork.store.find(where, len(some)))
            total += choosing.change(self.tickwork, action, some, by=self.by)
        self.note(f"jobs.{action}", described, concerned=total, reason=reason)
        return total

    def retry_failed(
        self, queue: str, *, tenant: str | None = None, reason: str | None = None
    ) -> int:
        """Retry all failed jobs of a queue."""
        which = self._which({"queue": queue, "tenant": tenant})
        total = self.tickwork.retry_many(State.FAILED, by=self.by, **which)
        self.note_many("jobs.retry", State.FAILED, which, total, reason)
        return total

    def clean(
        self,
        queue: str,
        grace_seconds: float,
        state: State,
        *,
        tenant: str | None = None,
        reason: str | None = None,
    ) -> int:
        """Delete jobs of a queue that ended in a state so long ago; returns how many."""
        which = self._which({"queue": queue, "tenant": tenant})
        total = self.tickwork.clean(grace_seconds, 0, state, **which)
        which["older_than"] = grace_seconds
        self.note_many("jobs.delete", state, which, total, reason)
        return total

    def empty(self, queue: str, *, tenant: str | None = None, reason: str | None = None) -> int:
        """Delete all jobs that wait in a queue; returns how many."""
        which = self._which({"queue": queue, "tenant": tenant})
        total = self.tickwork.empty(queue, tenant=which["tenant"])
        self.note_many("jobs.delete", State.PENDING, which, total, reason)
        return total

    def _which(self, which: Which) -> Which:
        return {**which, "tenant": self.whose(which.get("tenant"))}

    def note_many(
        self, action: str, state: str, which: Which, total: int, reason: str | None = None
    ) -> None:
        """Write down what was done to the jobs of a filter."""
        said = {"state": str(state), **{name: v for name, v in which.items() if v is not None}}
        said.pop("tenant", None)
        subject = ", ".join(f"{name}={value}" for name, value in said.items())
        self.note(action, subject, which.get("tenant"), concerned=total, reason=reason)

    # -- queues and limits ---------------------------------------------------------------------

    def pause(
        self, queue: str | None = None, *, kind: str | None = None, because: str | None = None
    ) -> None:
        """Start no more jobs of a queue or kind."""
        self._needs_every_tenant()
        self.tickwork.pause(queue, kind=kind, by=self.by, because=because)
        self.note("queue.pause", subject_of(queue=queue, kind=kind), reason=because)

    def resume(
        self, queue: str | None = None, *, kind: str | None = None, reason: str | None = None
    ) -> bool:
        """Take a pause back; whether there was one."""
        self._needs_every_tenant()
        was_paused = self.tickwork.resume(queue, kind=kind, by=self.by)
        if was_paused:
            self.note("queue.resume", subject_of(queue=queue, kind=kind), reason=reason)
        return was_paused

    def set_queue(self, name: str, changes: Mapping[str, Any]) -> QueueSettings:
        """Change a queue's settings at run time."""
        self._needs_every_tenant()
        said = self.tickwork.set_queue(name, by=self.by, **changes)
        self.note("queue.set", f"queue/{check_queue(name)}", reason=_said(changes))
        return said

    def reset_breaker(self, name: str) -> None:
        """Close a circuit breaker."""
        self._needs_every_tenant()
        self.tickwork.reset_breaker(name)
        self.note("breaker.reset", name)

    def acknowledge(self, name: str, subject: str | None = None, reason: str | None = None) -> int:
        """Note that one knows of the open alerts of a rule; how many, or NoSuchAlert."""
        self._needs_every_tenant()
        total = self.tickwork.acknowledge_alert(name, by=self.by, subject=subject)
        if not total:
            raise NoSuchAlert(name)
        self.note_acknowledged(name, subject, total, reason)
        return total

    def note_acknowledged(
        self, name: str, subject: str | None, total: int, reason: str | None = None
    ) -> None:
        """Write down that alerts are known."""
        of = f"{name}/{subject}" if subject else name
        self.note("alert.acknowledge", of, concerned=total, reason=reason)

    def _needs_every_tenant(self) -> None:
        if self.tenant is not None:
            raise NotAllowed(
                "queues, limits and alerts are every tenant's: this needs access to all"
            )

    # -- schedules -----------------------------------------------------------------------------

    def schedule(self, name: str, tenant: str | None = None) -> Schedule | None:
        """One schedule of the tenant."""
        return self.tickwork.schedules.get(name, self.whose(tenant) or "")

    def add_schedule(
        self, name: str, cron: str | None, kind: str, payload: object, **options: Any
    ) -> Schedule:
        """Make or change a schedule, of a kind that may be enqueued from outside.

        Of another kind only when it runs may be changed, and what makes no other job of it: what
        the code declares stays what the code has said.
        """
        tenant = options["tenant"] = self.whose(options.get("tenant")) or ""
        row = self.tickwork.schedules.get(name, tenant)
        if row is None or (row.kind, row.payload) != (kind, payload):
            self._check_open(kind)
        made = self.tickwork.schedules.add(name, cron, kind, payload, by=self.by, **options)
        self.note("schedule.set", name, tenant, reason=made.rule)
        return made

    def switch_schedule(self, name: str, tenant: str | None, *, on: bool) -> Schedule:
        """Enable or disable one."""
        timetable, whose = self.tickwork.schedules, self.whose(tenant) or ""
        switch = timetable.enable if on else timetable.disable
        changed = switch(name, whose, by=self.by)
        self.note("schedule.enable" if on else "schedule.disable", name, whose)
        return changed

    def run_schedule(self, name: str, tenant: str | None = None) -> Job:
        """Enqueue one of its jobs now."""
        whose = self.whose(tenant) or ""
        job = self.tickwork.schedules.run(name, whose)
        self.note("schedule.run", name, whose, reason=job.id)
        return job

    def remove_schedule(self, name: str, tenant: str | None = None) -> None:
        """Delete one."""
        whose = self.whose(tenant) or ""
        self.tickwork.schedules.remove(name, whose)
        self.note("schedule.delete", name, whose)

    # -- tokens --------------------------------------------------------------------------------

    def create_token(
        self,
        role: Role | str,
        *,
        tenant: str | None = None,
        name: str | None = None,
        expires_in: float | None = None,
        most: Role = Role.ADMIN,
    ) -> tuple[str, Token]:
        """A new token, and what is stored of it: the secret is told this once.

        ``expires_in`` in seconds; ``most`` is the highest role that may be given.
        """
        wanted = as_role(role)
        if wanted > most:
            raise NotAllowed(f"a token of role {wanted} needs that role itself")
        whose = self.whose(tenant)
        if whose is not None:
            check_tenant(whose)
        token_id = new_id()
        label = clean_text(name or f"{wanted}-{token_id[-6:]}")
        if len(label) > LABEL_MAX_CHARS or not label.isprintable():
            raise ConfigurationError(
                f"name is printable text of at most {LABEL_MAX_CHARS} characters"
            )
        seconds = seconds_of("expires_in", expires_in)
        if seconds is not None and seconds <= 0:
            raise ConfigurationError("a token that expires does so later than now")
        secret = new_secret()
        token = self.tickwork.store.add_token(
            NewToken(token_id, label, wanted, whose, digest_of(secret), self.by, seconds)
        )
        self.note("token.create", f"{label} ({token_id})", whose, reason=str(wanted))
        return secret, token

    def tokens(self) -> list[Token]:
        """The tokens of the tenant, newest first."""
        return self.tickwork.store.tokens(self.tenant)

    def revoke_token(self, token_id: str) -> Token:
        """End a token, or TokenNotFound."""
        token = self.tickwork.store.revoke_token(token_id, by=self.by, tenant=self.tenant)
        if token is None:
            raise TokenNotFound(token_id)
        self.note("token.revoke", f"{token.name} ({token.id})", token.tenant)
        return token

    # -- the log -------------------------------------------------------------------------------

    def note(
        self,
        action: str,
        subject: str,
        tenant: str | None = None,
        *,
        concerned: int = 1,
        reason: str | None = None,
    ) -> None:
        """Write down what was done; of a tenant's own acts, for that tenant."""
        whose = tenant if self.tenant is None else self.tenant
        said = None if reason is None else clean_text(reason)[:REASON_MAX_CHARS]
        entry = NewChange(
            new_id(),
            clean_text(self.by)[:LABEL_MAX_CHARS],
            action,
            clean_text(subject)[:SUBJECT_MAX_CHARS],
            whose,
            concerned,
            said,
        )
        try:
            self.tickwork.store.note_changes([entry])
        except Exception:
            # What was done is done, and an error told instead would have it done twice.
            log.exception("not in the audit log: %s did %s to %r", entry.by, action, entry.subject)

    def changes(self, where: ChangeFilter, limit: int) -> list[Change]:
        """Entries of the audit log, of the tenant alone."""
        return self.tickwork.store.changes(where._replace(tenant=self.whose(where.tenant)), limit)

    # -- what is shown -------------------------------------------------------------------------

    def shown(self, job: Job) -> dict[str, Any]:
        """A job as plain values, without what nobody is shown."""
        handler = self.tickwork.registry.find(job.kind)
        also = frozenset() if handler is None else hidden_fields(handler)
        return redactor(self.tickwork.settings.redact).job(job.as_dict(), also)


@lru_cache(maxsize=8)
def redactor(more: Sequence[str]) -> Redactor:
    """The one that hides these names as well."""
    return Redactor(more)


def hidden_fields(handler: Handler) -> frozenset[str]:
    """The fields that a kind keeps to itself: by its ``redact``, and by marks of its payload."""
    return frozenset(handler.redact) | marked(handler.payload_type)


def _said(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in changes.items())
