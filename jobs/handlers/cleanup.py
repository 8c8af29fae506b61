"""The job kind `cleanup`: old jobs, old files of the blob store, and what your own cleaners find.

    tickwork.schedule("nightly-cleanup", "30 3 * * *", "cleanup", {"blobs": "exports", ...})

    {"olderThanDays": 30, "states": ["completed", "failed"], "blobs": "exports", "dryRun": true}

- jobs that ended that long ago, by state. Without `olderThanDays` completed ones stay for a day,
  failed and cancelled ones for seven; `"states": []` leaves jobs alone, and without `states` all
  three are meant. A job of a tenant's own cleans that tenant's jobs alone.
- `blobs`: files below that prefix that were written that long ago. They need `olderThanDays`.
- `cleaners`: names of functions declared with `@cleaner`; left out, all of them.

It works in parts and, when the time runs out, goes on in the next tick. The result counts what was
deleted (with `dryRun`, what would be): `{"jobs": {state: n}, "files": n, "cleaners": {name: n},
"dryRun": false}`. A runner that dies may leave its last part uncounted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from jobs.core.context import JobContext
from jobs.core.errors import ConfigurationError, Continue, Discard, PayloadError
from jobs.core.job import TERMINAL, State
from jobs.core.names import check_kind
from jobs.core.registry import DAY_SECONDS, handler
from jobs.core.store import JobFilter, Store
from jobs.handlers.blob import check_key, open_blob_store
from jobs.handlers.errors import BlobError, PermanentError

JOBS_PER_PART: Final = 500
FILES_PER_PART: Final = 1000
DEFAULT_DAYS: Final = {State.COMPLETED: 1.0, State.FAILED: 7.0, State.CANCELLED: 7.0}
"""How long ended jobs stay at least, in days: forerunners' numbers."""
_LONGEST_DAYS: Final = 36_500


@dataclass(frozen=True)
class Cleanup:
    """The payload of the kind; see the module's text."""

    olderThanDays: float | None = None  # noqa: N815 - named as forerunners name things
    states: list[Literal["completed", "failed", "cancelled"]] | None = None
    queue: str | None = None
    blobs: str | None = None
    cleaners: list[str] | None = None
    dryRun: bool = False  # noqa: N815

    def __post_init__(self) -> None:
        days = self.olderThanDays
        if days is not None and not (math.isfinite(days) and 0 <= days <= _LONGEST_DAYS):
            raise PayloadError("$.olderThanDays", f"is a number from 0 to {_LONGEST_DAYS}")
        if self.blobs is not None:
            if days is None:
                raise PayloadError("$.blobs", "files need olderThanDays: say how old they must be")
            try:
                check_key(self.blobs)
            except BlobError as error:
                raise PayloadError("$.blobs", str(error)) from None


CleanerFunction = Callable[[datetime, int, bool], int]


@dataclass(frozen=True)
class Cleaner:
    """A function that cleans, and how long what it cleans stays by default, in days."""

    function: CleanerFunction
    days: float
    limit: int


CLEANERS: Final[dict[str, Cleaner]] = {}


def cleaner(
    name: str, *, days: float = 30, limit: int = 500
) -> Callable[[CleanerFunction], CleanerFunction]:
    """Declare a function that cleans something of your own.

    name: how payloads and results call it
    days: how long things stay where the payload has no `olderThanDays`
    limit: how many it may clean in one call
    Returns the decorator. The function takes `(before, limit, dry_run)`: an aware datetime, a
    number, and whether to count only. It returns how many it cleaned, and is called again as long
    as that is `limit` (a dry run calls it once).
    """
    check_kind(name)
    if limit < 1 or not 0 <= days <= _LONGEST_DAYS:
        raise ConfigurationError(f"cleaner {name!r}: limit is 1 or more, days 0 or more")

    def declare(function: CleanerFunction) -> CleanerFunction:
        CLEANERS[name] = Cleaner(function, float(days), limit)
        return function

    return declare


@handler("cleanup", queue="cleanup", max_attempts=3, timeout=45, priority=5)
def cleanup(payload: Cleanup, ctx: JobContext) -> dict[str, Any]:
    """Clean in parts; goes on where the last tick left it."""
    try:
        return _Run(payload, ctx, cleanup.system.store).run()
    except PermanentError as error:
        raise Discard(str(error)) from error


class _Run:
    """One execution. Its state: `{"left": [tasks], "total", "after", "counts": {task: n}, "now"}`.

    `now` is the instant from which ages count, so that every part means the same one.
    """

    def __init__(self, payload: Cleanup, ctx: JobContext, store: Store) -> None:
        self._payload = payload
        self._ctx = ctx
        self._store = store
        tasks = [] if ctx.state else self._tasks()
        self._state: dict[str, Any] = ctx.state or {
            "left": tasks,
            "total": len(tasks),
            "after": "",
            "counts": {},
            "now": store.now().isoformat(),
        }
        self._now = datetime.fromisoformat(self._state["now"]).astimezone(UTC)

    def _tasks(self) -> list[str]:
        payload, ctx = self._payload, self._ctx
        states = sorted(TERMINAL) if payload.states is None else payload.states
        names = sorted(CLEANERS) if payload.cleaners is None else payload.cleaners
        if unknown := [name for name in names if name not in CLEANERS]:
            known = ", ".join(sorted(CLEANERS)) or "none"
            raise Discard(f"no cleaner is called {unknown[0]!r:.100} here (there are: {known})")
        if ctx.tenant and (payload.blobs or payload.cleaners):
            raise Discard("files and cleaners are not a tenant's: enqueue it without one")
        tasks = [f"jobs/{State(state)}" for state in dict.fromkeys(states)]
        if payload.blobs is not None:
            tasks.append("files")
        return tasks if ctx.tenant else [*tasks, *(f"cleaner/{name}" for name in names)]

    def run(self) -> dict[str, Any]:
        state, total = self._state, self._state["total"]
        parts = 0
        while state["left"]:
            if parts and self._ctx.should_stop():
                raise Continue(state)
            task = state["left"][0]
            self._ctx.progress(100.0 * (total - len(state["left"])) / total, task)
            count, after = self._part(task, state["after"])
            state["counts"][task] = state["counts"].get(task, 0) + count
            state["after"] = after or ""
            if after is None:
                state["left"].pop(0)
            self._ctx.checkpoint(state=state)
            parts += 1
        return self._result(state["counts"])

    def _part(self, task: str, after: str) -> tuple[int, str | None]:
        """Do a part; return how many it was and where to go on, None at the end."""
        what, _, name = task.partition("/")
        if what == "jobs":
            return self._jobs(State(name), after)
        if what == "files":
            return self._files(after)
        return self._own(name)

    def _jobs(self, state: State, after: str) -> tuple[int, str | None]:
        payload = self._payload
        days = DEFAULT_DAYS[state] if payload.olderThanDays is None else payload.olderThanDays
        age_seconds = days * DAY_SECONDS
        where = JobFilter(
            state,
            queue=payload.queue,
            tenant=self._ctx.tenant or None,
            older_than_seconds=age_seconds,
            after_id=after,
        )
        ids = self._store.find(where, JOBS_PER_PART)
        count = (
            len(ids)
            if payload.dryRun
            else self._store.remove(ids, [state], ended_for_seconds=age_seconds)
        )
        return count, ids[-1] if len(ids) == JOBS_PER_PART else None

    def _files(self, after: str) -> tuple[int, str | None]:
        prefix, days = self._payload.blobs, self._payload.olderThanDays
        if prefix is None or days is None:  # checked with the payload
            raise BlobError("files need a prefix and olderThanDays")
        store = open_blob_store(self._ctx.settings.blob_url)
        before = self._now - timedelta(days=days)
        found = store.old_files(prefix, before, after=after or None, limit=FILES_PER_PART)
        count = len(found.keys) if self._payload.dryRun else store.delete(found.keys)
        return count, found.looked_to

    def _own(self, name: str) -> tuple[int, str | None]:
        if name not in CLEANERS:  # a deployment without it goes on with this job
            raise Discard(f"no cleaner is called {name!r} here")
        own = CLEANERS[name]
        days = own.days if self._payload.olderThanDays is None else self._payload.olderThanDays
        count = own.function(self._now - timedelta(days=days), own.limit, self._payload.dryRun)
        if self._payload.dryRun or count < own.limit:
            return count, None
        return count, name

    def _result(self, counts: dict[str, int]) -> dict[str, Any]:
        def of(what: str) -> dict[str, int]:
            return {
                task.partition("/")[2]: count
                for task, count in counts.items()
                if task.startswith(f"{what}/")
            }

        return {
            "jobs": of("jobs"),
            "files": counts.get("files", 0),
            "cleaners": of("cleaner"),
            "dryRun": self._payload.dryRun,
        }
