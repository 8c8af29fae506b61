"""Groups: jobs written together, and the jobs that their end enqueues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, cast

from jobs.core.codec import clean_text, encode
from jobs.core.errors import ConfigurationError, GroupNotFound
from jobs.core.group import Group, NewGroup
from jobs.core.ids import new_id
from jobs.core.job import NewJob
from jobs.core.names import check_tenant
from jobs.core.steps import to_step
from jobs.runtime.base import Runtime
from jobs.runtime.chains import JobLike, as_parts, build_chain, build_later, unkeyed
from jobs.runtime.enqueue import Enqueued, EnqueueOptions, announce, draft, is_heard

NAME_MAX_CHARS = 200
CALLBACK_MAX_BYTES = 1_000_000


class GroupBuilder(AbstractContextManager["GroupBuilder"]):
    """A group being put together: nothing is written before the block ends, then all at once.

    An error inside the block leaves nothing behind. ``id`` is known from the start.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        on_success: JobLike | str | None,
        on_failure: JobLike | str | None,
        on_done: JobLike | str | None,
        name: str | None,
        session: Any,
        options: EnqueueOptions,
    ) -> None:
        self._runtime = runtime
        self._session = session
        # Those of the group itself; its jobs are no one else's members.
        self._options: dict[str, Any] = {**options, "group": None}
        if name is not None and (len(name) > NAME_MAX_CHARS or clean_text(name) != name):
            raise ConfigurationError(
                f"a group's name is text of up to {NAME_MAX_CHARS} characters, not {name!r}"
            )
        tenant = check_tenant(options.get("tenant") or "")
        self._new = NewGroup(
            new_id(),
            tenant,
            name,
            self._callback(on_success),
            self._callback(on_failure),
            self._callback(on_done),
        )
        self._jobs: list[NewJob] = []
        self._written = False

    def _callback(self, job: JobLike | str | None) -> str | None:
        if job is None:
            return None
        shared = {"tenant": self._options.get("tenant"), "group": None}
        step = to_step(build_later(self._runtime, job, shared))
        return encode(step, CALLBACK_MAX_BYTES)

    @property
    def id(self) -> str:
        """The id of the group."""
        return self._new.id

    def enqueue(self, kind: str, payload: object = None, **options: Any) -> str:
        """Add a job, with the options of ``Tickwork.enqueue``; returns its id."""
        merged = {**self._options, **options}
        made = unkeyed(draft(self._runtime, kind, cast(EnqueueOptions, merged)), merged)
        return self._add(made.job(new_id(), payload))

    def enqueue_many(self, jobs: Iterable[JobLike], **options: Any) -> list[str]:
        """Add jobs as ``Tickwork.enqueue_many`` takes them; returns their ids."""
        return [
            self.enqueue(kind, payload, **{**options, **own})
            for kind, payload, own in map(as_parts, jobs)
        ]

    def chain(self, steps: Any, **options: Any) -> str:
        """Add a chain: the group ends after its last step. Returns the id of the first."""
        merged: Mapping[str, Any] = {**self._options, **options}
        first = build_chain(self._runtime, steps, cast(EnqueueOptions, merged))
        return self._add(first._replace(dedupe_key=None, alias=None))

    def _add(self, job: NewJob) -> str:
        if self._written:
            raise ConfigurationError(
                "this group is written: only jobs that its own jobs enqueue join it now"
            )
        self._jobs.append(job._replace(group_id=self.id))
        return job.id

    def write(self) -> None:
        """Write the group and its jobs, and tell of them once they are committed."""
        self._written = True
        store, session = self._runtime.store, self._session
        ended = store.insert_group(self._new, self._jobs, session)
        if not is_heard(self._runtime):
            return
        told = [Enqueued.of(self._runtime, job) for job in (*self._jobs, *ended)]
        if session is None:
            announce(self._runtime, told)
        else:
            store.after_commit(session, self._tell, told)

    def _tell(self, told: list[Enqueued]) -> None:
        announce(self._runtime, told)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and not self._written:
            self.write()


class Groups:
    """``tickwork.groups``: looking at groups."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def find(self, group_id: str) -> Group | None:
        """A group with its jobs counted by state, or ``None``."""
        return self._runtime.store.group(group_id)

    def get(self, group_id: str) -> Group:
        """As :meth:`find`; raises :class:`~jobs.core.errors.GroupNotFound`."""
        found = self.find(group_id)
        if found is None:
            raise GroupNotFound(group_id)
        return found
