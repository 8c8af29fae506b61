"""Names that one job holds: taken, read, replaced through and swept, in the caller's transaction.

The primary key of the table is the promise. Whoever wants a name that another transaction has just
written waits for its end; what then stands is read in a statement of its own, which sees that
transaction's job as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection, TextClause, select, text

from jobs.core.job import Job, NewJob, State
from jobs.core.keys import (
    Key,
    Want,
    holds,
    is_keyed,
    is_live,
    look_again_seconds,
    retaken,
    segments,
    wants_of,
)
from jobs.stores.sql.dialects import ASCII, NUMBER, SHORT
from jobs.stores.sql.rows import inserted_job, to_job
from jobs.stores.sql.statements import Statements

_KEY = (("scope", ASCII), ("tenant", SHORT), ("name", SHORT))
_WANT = (*_KEY, ("id", ASCII), ("window_seconds", NUMBER), ("look_seconds", NUMBER))
_LOOK = (*_KEY, ("look_seconds", NUMBER))
_MATCH = (
    "k.namespace = :namespace AND k.scope = v.scope AND k.tenant = v.tenant AND k.name = v.name"
)
SEGMENT_ROWS = 1000


class Standing(NamedTuple):
    """A name as it stands: whose it is, whether its window runs, and its job's state."""

    key: Key
    job_id: str
    in_window: bool
    state: State | None

    @property
    def holds(self) -> bool:
        return holds(self.key.scope, in_window=self.in_window, state=self.state)

    @property
    def is_live(self) -> bool:
        return is_live(self.state)


class KeyStatements:
    """The texts, for one dialect and one set of tables."""

    def __init__(self, statements: Statements) -> None:
        self.sql = statements.sql
        self.jobs = statements.jobs
        self.keys = statements.keys

    def _rows(self, columns: Any) -> str:
        return self.sql.rows(columns, any_driver=True)

    def _listed(self, columns: Any) -> str:
        """The keys of a row list, each by one step down the primary key."""
        match self.sql.name:
            case "mysql":
                join = f"STRAIGHT_JOIN {self.keys} AS k FORCE INDEX (PRIMARY)"
            case "sqlite":
                join = f"CROSS JOIN {self.keys} AS k"
            case _:
                join = f"JOIN {self.keys} AS k"
        return f"{self._rows(columns)} {join} ON {_MATCH}"

    @cached_property
    def take(self) -> TextClause:
        """Write the names that nobody has, and lock the others: all in the order of the keys."""
        sql = self.sql
        match sql.name:
            case "mysql":
                # Not IGNORE: that waits with a shared lock, and two who then want more deadlock.
                tail = "ON DUPLICATE KEY UPDATE job_id = job_id"
            case "sqlite":
                tail = "ON CONFLICT DO NOTHING"
            case _:
                # It locks the row and writes nothing.
                tail = (
                    "ON CONFLICT (namespace, scope, tenant, name) DO UPDATE "
                    "SET job_id = k.job_id WHERE false"
                )
        into = self.keys if sql.name == "mysql" else f"{self.keys} AS k"
        return text(f"""
            INSERT INTO {into}
                (namespace, scope, tenant, name, job_id, held_until, check_at)
            SELECT :namespace, v.scope, v.tenant, v.name, v.id, {sql.later("v.window_seconds")},
                {sql.later("v.look_seconds")}
            FROM {self._rows(_WANT)} WHERE 1 = 1 ORDER BY v.scope, v.tenant, v.name
            {tail}
            """)

    @property
    def _read(self) -> str:
        return f"""
            SELECT k.scope, k.tenant, k.name, k.job_id, k.held_until > {self.sql.now}, j.state
            FROM {self._listed(_KEY)} LEFT JOIN {self.jobs} AS j ON j.id = k.job_id
            """

    @cached_property
    def read(self) -> TextClause:
        """The names as they stand, without a lock."""
        return text(self._read)

    @cached_property
    def read_locked(self) -> TextClause:
        """MySQL: as they stand now, whatever the transaction's snapshot says, and locked."""
        return text(f"{self._read} FOR UPDATE")

    @cached_property
    def take_over(self) -> TextClause:
        """Give names to other jobs; their rows are locked."""
        sql = self.sql
        # MySQL assigns from left to right, so the job, which the window reads, comes last. A job
        # that takes its own name again keeps its window.
        assigned = {
            "held_until": "CASE WHEN k.job_id = v.id THEN k.held_until "
            f"ELSE {sql.later('v.window_seconds')} END",
            "check_at": sql.later("v.look_seconds"),
            "job_id": "v.id",
        }
        return text(self._update(_WANT, assigned))

    @cached_property
    def look_again(self) -> TextClause:
        """Say when upkeep is to look again."""
        return text(self._update(_LOOK, {"check_at": self.sql.later("v.look_seconds")}))

    def _update(self, columns: Any, assigned: dict[str, str]) -> str:
        if self.sql.name == "mysql":
            listed = ", ".join(f"k.{column} = {value}" for column, value in assigned.items())
            return f"UPDATE {self._listed(columns)} SET {listed}"
        listed = ", ".join(f"{column} = {value}" for column, value in assigned.items())
        return f"UPDATE {self.keys} AS k SET {listed} FROM {self._rows(columns)} WHERE {_MATCH}"

    @cached_property
    def delete(self) -> TextClause:
        """Free the names of a list."""
        match self.sql.name:
            case "mysql":
                return text(f"DELETE k FROM {self._listed(_KEY)}")
            case "sqlite":
                found = f"SELECT k.rowid FROM {self._listed(_KEY)}"
                return text(f"DELETE FROM {self.keys} WHERE rowid IN ({found})")
        return text(f"DELETE FROM {self.keys} AS k USING {self._rows(_KEY)} WHERE {_MATCH}")

    @cached_property
    def due(self) -> TextClause:
        """Names that upkeep is to look at, but for those in somebody's hands."""
        lock = "" if self.sql.name == "sqlite" else " FOR UPDATE SKIP LOCKED"
        return text(
            f"SELECT scope, tenant, name FROM {self.keys} WHERE namespace = :namespace "
            f"AND check_at <= {self.sql.now} ORDER BY check_at LIMIT :limit{lock}"
        )

    @cached_property
    def id_of(self) -> TextClause:
        return text(
            f"SELECT job_id FROM {self.keys} WHERE namespace = :namespace AND scope = :scope "
            "AND tenant = :tenant AND name = :name"
        )

    @cached_property
    def clear(self) -> TextClause:
        """All but the slots of schedules, which outlive the jobs."""
        return text(f"DELETE FROM {self.keys} WHERE namespace = :namespace AND scope <> 'slot'")

    def replace(self, job: NewJob, *, rung: bool) -> TextClause:
        """Onto a row that still waits: what the newer job says of it."""
        sql = self.sql
        assigned: dict[str, str] = {}
        if "payload" in job.replaces:
            assigned |= {"payload": ":payload", "version": ":version"}
        if "priority" in job.replaces:
            assigned["priority"] = ":priority"
        if "run_at" in job.replaces:
            delayed = sql.later(sql.number("delay_seconds"))
            if job.debounce_max_seconds is not None:
                latest = sql.after("j.created_at", sql.number("debounce_max_seconds"))
                delayed = f"CASE WHEN {delayed} < {latest} THEN {delayed} ELSE {latest} END"
            assigned["run_at"] = f"coalesce({sql.instant('run_at')}, {delayed})"
            if rung:
                assigned["ring_at"] = sql.later(sql.number("ring_after_seconds"))
        column = "j.{}" if sql.name == "mysql" else "{}"
        listed = ", ".join(f"{column.format(name)} = {value}" for name, value in assigned.items())
        return text(
            f"UPDATE {self.jobs} AS j SET {listed} "
            "WHERE j.id = :id AND j.namespace = :namespace AND j.state = 'pending'"
        )


class KeyTaker:
    """Takes names for the jobs of one store.

    ``parameters`` of every call are the store's own: its namespace, and *now* where it is bound.
    """

    def __init__(self, statements: Statements) -> None:
        self.statements = KeyStatements(statements)
        self.sql = statements.sql
        self._tables = statements.tables

    # -- enqueue -------------------------------------------------------------------------------

    def insert(
        self,
        connection: Connection,
        jobs: Sequence[NewJob],
        parameters: dict[str, Any],
        write: Callable[[list[NewJob]], object],
        created_at: datetime,
    ) -> list[Job]:
        """As :meth:`admit`; returns the jobs as they stand, those that were there as existing."""
        found = self.admit(connection, jobs, parameters, write)
        there = self._jobs(connection, sorted(set(found.values())))
        result = []
        for job in jobs:
            holder = found.get(job.id)
            if holder is None:
                result.append(inserted_job(job, created_at))
            elif holder in there:
                result.append(replace(there[holder], existing=holder != job.id))
            else:
                # Its row is gone and its window runs on: nothing but its id is known.
                shown = inserted_job(job, created_at)
                result.append(replace(shown, id=holder, state=State.COMPLETED, existing=True))
        return result

    def _jobs(self, connection: Connection, ids: Sequence[str]) -> dict[str, Job]:
        if not ids:
            return {}
        jobs = self._tables.jobs
        statement = select(jobs).where(jobs.c.id.in_(ids))
        there = {row.id: to_job(row) for row in connection.execute(statement)}
        missing = [job_id for job_id in ids if job_id not in there]
        if missing and self.sql.name == "mysql":
            # The caller's snapshot may be older than the job; a locking read is not.
            latest = select(jobs).where(jobs.c.id.in_(missing)).with_for_update(read=True)
            there |= {row.id: to_job(row) for row in connection.execute(latest)}
        return there

    def admit(
        self,
        connection: Connection,
        jobs: Iterable[NewJob],
        parameters: dict[str, Any],
        write: Callable[[list[NewJob]], object],
        watched: Callable[[Connection], AbstractContextManager[object]] = nullcontext,
    ) -> dict[str, str]:
        """Have ``write`` insert the jobs whose names are free; ``watched`` is for the rest.

        Returns whose names are held, by the ids of the jobs that were not written. A job that was
        written before, by a try whose answer was lost, stands there with its own id.
        """
        found: dict[str, str] = {}
        for segment in segments(jobs, SEGMENT_ROWS):
            with watched(connection):
                held = self._admit_segment(connection, segment, parameters)
            fresh = [job for job in segment if job.id not in held]
            if fresh:
                write(fresh)
            for job in segment:
                if job.replaces and job.id in held:
                    self._replace(connection, held[job.id], job, parameters)
            found |= held
        return found

    def _admit_segment(
        self, connection: Connection, jobs: Sequence[NewJob], parameters: dict[str, Any]
    ) -> dict[str, str]:
        wants: dict[Key, Want] = {}
        by_job: dict[str, list[Key]] = {}
        for job in jobs:
            if is_keyed(job):
                own = wants_of(job)
                by_job[job.id] = [want.key for want in own]
                for want in own:
                    wants.setdefault(want.key, want)
        standing = self.take(connection, list(wants.values()), parameters)
        held: dict[str, str] = {}
        for job_id, keys in by_job.items():
            holders = [
                standing[key].job_id if key in standing else wants[key].job_id for key in keys
            ]
            other = next((holder for holder in holders if holder != job_id), None)
            if other is not None:
                held[job_id] = other
                self._give_back(connection, job_id, keys, holders, parameters)
            elif all(key in standing for key in keys):
                held[job_id] = job_id
        return held

    def _give_back(
        self,
        connection: Connection,
        job_id: str,
        keys: Sequence[Key],
        holders: Sequence[str],
        parameters: dict[str, Any],
    ) -> None:
        """Of two names it got one: free it, since the job will not be there to hold it."""
        own = [key for key, holder in zip(keys, holders, strict=True) if holder == job_id]
        if own:
            connection.execute(self.statements.delete, {**parameters, **self._pack(_KEY, own)})

    def _replace(
        self, connection: Connection, holder: str, job: NewJob, parameters: dict[str, Any]
    ) -> None:
        bound = {
            **parameters,
            **job._asdict(),
            "id": holder,
            "run_at": None if job.run_at is None else self.sql.bind_instant(job.run_at),
        }
        rung = job.ring_after_seconds is not None
        connection.execute(self.statements.replace(job, rung=rung), bound)

    # -- names ---------------------------------------------------------------------------------

    def take(
        self, connection: Connection, wants: Sequence[Want], parameters: dict[str, Any]
    ) -> dict[Key, Standing]:
        """Take the names; returns those that are held, one by this very job among them."""
        if not wants:
            return {}
        own = {want.job_id for want in wants}
        return self._take(
            connection,
            sorted(wants),
            parameters,
            lambda standing: (
                standing.holds or (standing.job_id in own and standing.state is not None)
            ),
        )

    def retake(
        self, connection: Connection, jobs: Sequence[Job], parameters: dict[str, Any]
    ) -> dict[str, str]:
        """Take the dedupe keys back for ended jobs that are to wait again.

        Returns, by the ids of those that may not, who has their key: a job that waits or runs, or
        an earlier one of these. To be called in the transaction that then makes
        the rows pending, before it does.
        """
        wants: dict[Key, Want] = {}
        for job in jobs:
            if job.dedupe_key is not None:
                want = retaken(job)
                wants.setdefault(want.key, want)
        if not wants:
            return {}
        # Of their own names they must not look like the holders: those are taken anew as well, so
        # that upkeep, which may look at one of them just now, finds it changed.
        held = self._take(
            connection,
            sorted(wants.values()),
            parameters,
            lambda standing: standing.is_live and standing.job_id != wants[standing.key].job_id,
        )
        refused: dict[str, str] = {}
        for job in jobs:
            if job.dedupe_key is None:
                continue
            key = retaken(job).key
            if key in held:
                refused[job.id] = held[key].job_id
            elif wants[key].job_id != job.id:
                refused[job.id] = wants[key].job_id
        return refused

    def _take(
        self,
        connection: Connection,
        wants: Sequence[Want],
        parameters: dict[str, Any],
        is_held: Callable[[Standing], bool],
    ) -> dict[Key, Standing]:
        # First without any lock: of callers that find a name held, none waits for the other.
        standing = self._standing(connection, wants, parameters)
        held = {key: found for key, found in standing.items() if is_held(found)}
        left = [want for want in wants if want.key not in held]
        if not left:
            return held
        connection.execute(self.statements.take, {**parameters, **self._pack_wants(left)})
        # Now all of them are there, and nobody else's to change; nor are they what they were.
        standing = self._standing(connection, left, parameters, locked=self.sql.name == "mysql")
        free = []
        for want in left:
            found = standing[want.key]
            if found.job_id == want.job_id and found.state is None:
                continue  # just written
            if is_held(found):
                held[want.key] = found
            else:
                free.append(want)
        if free:
            connection.execute(self.statements.take_over, {**parameters, **self._pack_wants(free)})
        return held

    def _standing(
        self,
        connection: Connection,
        wants: Sequence[Want],
        parameters: dict[str, Any],
        *,
        locked: bool = False,
    ) -> dict[Key, Standing]:
        statement = self.statements.read_locked if locked else self.statements.read
        return self._read(connection, statement, [want.key for want in wants], parameters)

    def _read(
        self,
        connection: Connection,
        statement: TextClause,
        keys: Sequence[Key],
        parameters: dict[str, Any],
    ) -> dict[Key, Standing]:
        rows = connection.execute(statement, {**parameters, **self._pack(_KEY, keys)})
        return {
            Key(*row[:3]): Standing(
                Key(*row[:3]), row[3], bool(row[4]), None if row[5] is None else State(row[5])
            )
            for row in rows
        }

    # -- upkeep --------------------------------------------------------------------------------

    def sweep(self, connection: Connection, parameters: dict[str, Any]) -> int:
        """Free up to ``:limit`` names that nobody holds any more; returns how many."""
        due = [Key(*row) for row in connection.execute(self.statements.due, parameters)]
        if not due:
            return 0
        standing = self._read(connection, self.statements.read, due, parameters)
        free = [key for key in due if key not in standing or not standing[key].holds]
        kept = sorted(set(due) - set(free))
        if free:
            connection.execute(self.statements.delete, {**parameters, **self._pack(_KEY, free)})
        if kept:
            rows = [(*key, look_again_seconds(key)) for key in kept]
            connection.execute(
                self.statements.look_again, {**parameters, **self._pack(_LOOK, rows)}
            )
        return len(free)

    def id_of(self, connection: Connection, key: Key, parameters: dict[str, Any]) -> str | None:
        """Whose name it is."""
        found: str | None = connection.execute(
            self.statements.id_of, {**parameters, **key._asdict()}
        ).scalar()
        return found

    def _pack_wants(self, wants: Sequence[Want]) -> dict[str, Any]:
        return self._pack(_WANT, list(map(_row, wants)))

    def _pack(self, columns: Any, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        return self.sql.pack(columns, list(zip(*rows, strict=True)))


def _row(want: Want) -> tuple[Any, ...]:
    return (*want.key, want.job_id, want.window_seconds, want.look_after_seconds)
