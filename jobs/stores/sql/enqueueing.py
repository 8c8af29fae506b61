"""Enqueueing: rows one by one, in bulk, and those that a key lets in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import Connection, exc

from jobs.core.errors import StoreUnavailable
from jobs.core.job import Job, NewJob
from jobs.core.keys import is_keyed
from jobs.stores.sql import commits
from jobs.stores.sql.attempts import LONG_ANSWER_SECONDS
from jobs.stores.sql.bulk import bulk_insert
from jobs.stores.sql.lines import LineCut
from jobs.stores.sql.reading import Reading
from jobs.stores.sql.rows import bulk_rows, insert_parameters, inserted_job, is_due, is_rung
from jobs.stores.sql.sessions import connection_of, sync_of
from jobs.stores.sql.statements import Statements

BULK_CHUNK_ROWS = 10_000
# More than so many jobs that come together are worth a bulk insert.
FEW_ROWS = 5
# Which columns a bulk row has, by how many.
BULK_WIDTHS = {
    len(columns): columns
    for columns in (
        Statements.bulk_columns(rung=rung, plain=plain)
        for rung in (False, True)
        for plain in (False, True)
    )
}


class Enqueueing(Reading):
    """Writes new rows, in a transaction of its own or in the caller's."""

    def insert(self, jobs: Sequence[NewJob], session: Any = None) -> list[Job]:
        if any(map(is_keyed, jobs)):
            return self._insert_keyed(jobs, session)
        if session is not None:
            with self.attempts.explained():
                self._insert(connection_of(session, self.engine), jobs)
        else:
            try:
                self._write(lambda connection: self._insert(connection, jobs), alone=len(jobs) == 1)
            except exc.IntegrityError:
                # Ids are ours alone: an earlier try committed though its answer was lost.
                if any(self.get(job.id) is None for job in jobs):
                    raise
        created_at = self.clock.now()
        return [inserted_job(job, created_at) for job in jobs]

    def _insert(self, connection: Connection, jobs: Sequence[NewJob]) -> None:
        for job in jobs:
            statement = self.statements.insert(
                timed=not is_due(job), rung=is_rung(job), plain=job.is_plain
            )
            parameters = insert_parameters(job, self.namespace, self.sql)
            connection.execute(statement, {**parameters, **self._frozen_now()})

    def _insert_all(self, connection: Connection, jobs: Sequence[NewJob]) -> None:
        if len(jobs) > FEW_ROWS:
            self._insert_many(connection, jobs, {})
        else:
            self._insert(connection, jobs)

    def _insert_keyed(self, jobs: Sequence[NewJob], session: Any) -> list[Job]:
        def run(connection: Connection) -> list[Job]:
            write = partial(self._insert, connection)
            now = self.clock.now()
            return self._keys.insert(connection, jobs, self._parameters(), write, now)

        if session is None:
            # It may wait for another's open transaction, to know whether its job will be there.
            return self._write(run, answer_seconds=LONG_ANSWER_SECONDS)
        with self.attempts.explained():
            return run(connection_of(session, self.engine))

    def insert_many(
        self,
        jobs: Iterable[NewJob],
        session: Any = None,
        *,
        existing: dict[str, str] | None = None,
    ) -> int:
        existing = {} if existing is None else existing
        if session is not None:
            return self._insert_many(connection_of(session, self.engine), jobs, existing)[0]
        # Not tried again from the start: ``jobs`` may be a generator, which runs only once.
        total, last_id = 0, ""
        try:
            # Its statements are watched one by one: the generator may take its time.
            with (
                self.attempts.explained(),
                self.attempts.only_writer or contextlib.nullcontext(),
                self.attempts.connect() as connection,
                connection.begin() as transaction,
            ):
                total, last_id = self._insert_many(
                    connection, jobs, existing, self.attempts.watched
                )
                with self.attempts.watched(connection):
                    transaction.commit()
        except (exc.DBAPIError, LineCut) as error:
            if isinstance(error, exc.DBAPIError) and not self.attempts.is_passing(error):
                raise
            # If only the commit's answer was lost, one row tells of all.
            if not last_id or self.get(last_id) is None:
                reason = getattr(error, "orig", None) or error
                raise StoreUnavailable(f"nothing was enqueued: {reason}") from error
        return total

    def _insert_many(
        self,
        connection: Connection,
        jobs: Iterable[NewJob],
        existing: dict[str, str],
        watched: Callable[[Connection], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> tuple[int, str]:
        """Returns how many rows were written, and the id of the last."""
        total, last_id = 0, ""
        keyed: list[NewJob] = []

        def write(some: Iterable[NewJob], aside: Callable[[NewJob], None] | None = None) -> None:
            nonlocal total, last_id
            rows = bulk_rows(some, self.namespace, now, self.sql, aside)
            while chunk := list(islice(rows, BULK_CHUNK_ROWS)):
                for width in {len(row) for row in chunk}:
                    alike = [row for row in chunk if len(row) == width]
                    with watched(connection):
                        bulk_insert(connection, self.statements.jobs, BULK_WIDTHS[width], alike)
                total += len(chunk)
                last_id = chunk[-1][0]

        def admit() -> None:
            admitted = self._keys.admit(connection, keyed, self._parameters(), write, watched)
            existing.update(admitted)
            keyed.clear()

        def aside(job: NewJob) -> None:
            keyed.append(job)
            if len(keyed) >= BULK_CHUNK_ROWS:
                admit()

        with self.attempts.explained():
            with watched(connection):
                now = self._now(connection)
            write(jobs, aside)
            if keyed:
                admit()
            return total, last_id

    async def ainsert(self, jobs: Sequence[NewJob], session: Any) -> list[Job]:
        inserted: list[Job] = await session.run_sync(lambda sync: self.insert(jobs, sync))
        return inserted

    def after_commit(
        self, session: Any, tell: Callable[[list[Any]], None], items: Sequence[Any]
    ) -> None:
        commits.after_commit(connection_of(sync_of(session), self.engine), tell, items)
