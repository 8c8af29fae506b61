"""The SQL store: the contract over an engine, a transaction per operation."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, TextClause, exc, select, text

from jobs.core.clock import Clock, SystemClock
from jobs.core.codec import clean_text
from jobs.core.errors import SchemaError, StoreUnavailable
from jobs.core.job import Claimed, Job, NewJob, State
from jobs.core.limits import Limits, LimitStatus, Tally
from jobs.core.names import NAME
from jobs.core.store import (
    CANCELLED_KEEP_SECONDS,
    Capability,
    Due,
    JobFilter,
    StoreTransaction,
    Touch,
    TouchReport,
    Unrung,
    Verdict,
)
from jobs.stores.sql import commits, inspect, schema
from jobs.stores.sql.bulk import bulk_insert
from jobs.stores.sql.claim import Claimer, in_chunks, numbered, wanted_lanes
from jobs.stores.sql.dialects import DialectSql, dialect_sql
from jobs.stores.sql.engine import READ_ONLY, make_engine
from jobs.stores.sql.lanes import SteppedLanes, has_flow, random_spread, spread_parameters
from jobs.stores.sql.limits import Turns, Wanted, need_turns
from jobs.stores.sql.rings import RingTaker
from jobs.stores.sql.rowlist import row_list
from jobs.stores.sql.rows import (
    bulk_rows,
    insert_parameters,
    inserted_job,
    is_due,
    is_rung,
    read_stalled,
    to_job,
)
from jobs.stores.sql.sessions import connection_of, sync_of
from jobs.stores.sql.statements import (
    TOUCH_COLUMNS,
    VERDICT_COLUMNS,
    Statements,
)
from jobs.stores.sql.tables import Tables, build_tables
from jobs.stores.sql.transaction import HandlerTransaction
from jobs.stores.sql.writer import OnlyWriter

log = logging.getLogger("tickwork.store")
Result = TypeVar("Result")
TRIES = 6
# One try may wait long by itself, for a lock or a connection; it is not repeated six times then.
PATIENCE_SECONDS = 5.0
BULK_CHUNK_ROWS = 10_000
# Which columns a bulk row has, by how many.
BULK_WIDTHS = {
    len(columns): columns
    for columns in (
        Statements.bulk_columns(rung=rung, plain=plain)
        for rung in (False, True)
        for plain in (False, True)
    )
}
# Of results and errors in one statement: MySQL cuts the line on a packet over max_allowed_packet.
PACKET_CHARS = 1_000_000


class SqlStore:
    """Rows in SQLite, PostgreSQL, MySQL or MariaDB.

    ``database`` is a URL in any platform's spelling, or an Engine of the caller's own (which is
    then neither configured nor closed here). With a clock that stands still, *now* is bound; in
    production it is the database's own.
    """

    def __init__(
        self,
        database: str | Engine,
        *,
        namespace: str = "",
        prefix: str = "tickwork_",
        schema: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.namespace = namespace
        self.clock = clock or SystemClock()
        self.engine = database if isinstance(database, Engine) else make_engine(database)
        self._owns_engine = not isinstance(database, Engine)
        self.tables: Tables = build_tables(prefix, schema, dialect=self.engine.dialect.name)
        self._autocommitting = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        frozen = self.clock.frozen_now() is not None
        self.sql: DialectSql = dialect_sql(self.engine.dialect.name, frozen=frozen)
        self.statements = Statements(self.sql, self.tables)
        self._overdue_statements = Statements(self.sql, self.tables, overdue=True)
        self._claimer = Claimer(self.statements)
        self._overdue_claimer = Claimer(self._overdue_statements)
        self._turns = Turns(self._claimer)
        self._overdue_turns = Turns(self._overdue_claimer)
        # Whether lanes with flows were seen last: most deployments have none, and do not look.
        self._has_flows = False
        self.spread: Callable[[], float] = random_spread
        self._stepped: SteppedLanes | None = None
        if self.sql.name == "mysql":
            self._stepped = SteppedLanes(self.statements.jobs, self._draw)
        self._ring_taker = RingTaker(self.statements)
        self._due_counts: dict[tuple[int, bool], TextClause] = {}
        # SQLite has one writer; a transactional handler holds it for as long as it runs.
        self._only_writer = None if self.sql.concurrent_writers else OnlyWriter()
        capabilities = {
            Capability.DURABLE,
            Capability.SESSIONS,
            Capability.TRANSACTIONS,
            Capability.SHARED,
        }
        if self.sql.concurrent_writers:
            capabilities.add(Capability.CONCURRENT_WRITERS)
        self.capabilities = frozenset(capabilities)

    # -- schema --------------------------------------------------------------------------------

    def create_schema(self) -> None:
        schema.create(self.engine, self.tables)

    def check_schema(self) -> None:
        schema.check(self.engine, self.tables)

    def now(self) -> datetime:
        frozen = self.clock.frozen_now()
        if frozen is not None:
            return frozen
        return self._read(self._now)

    def _now(self, connection: Connection) -> datetime:
        if (frozen := self.clock.frozen_now()) is not None:
            return frozen
        clause = self.statements.now.columns(now=self.tables.jobs.c.created_at.type)
        now: datetime = connection.execute(clause).scalar_one()
        return now

    # -- enqueue -------------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob], session: Any = None) -> list[Job]:
        if session is not None:
            with self._explained():
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

    def insert_many(self, jobs: Iterable[NewJob], session: Any = None) -> int:
        if session is not None:
            return self._insert_many(connection_of(session, self.engine), jobs)[0]
        # Not tried again from the start: ``jobs`` may be a generator, which runs only once.
        total, last_id = 0, ""
        try:
            with self._explained(), self._writing() as connection:
                total, last_id = self._insert_many(connection, jobs)
        except exc.DBAPIError as error:
            if not self._is_passing(error):
                raise
            # If only the commit's answer was lost, one row tells of all.
            if not last_id or self.get(last_id) is None:
                raise StoreUnavailable(f"nothing was enqueued: {error.orig}") from error
        return total

    def _insert_many(self, connection: Connection, jobs: Iterable[NewJob]) -> tuple[int, str]:
        """Returns how many rows were written, and the id of the last."""
        with self._explained():
            rows = bulk_rows(jobs, self.namespace, self._now(connection), self.sql)
            total, last_id = 0, ""
            while chunk := list(islice(rows, BULK_CHUNK_ROWS)):
                for width in {len(row) for row in chunk}:
                    alike = [row for row in chunk if len(row) == width]
                    bulk_insert(connection, self.statements.jobs, BULK_WIDTHS[width], alike)
                total += len(chunk)
                last_id = chunk[-1][0]
            return total, last_id

    async def ainsert(self, jobs: Sequence[NewJob], session: Any) -> list[Job]:
        inserted: list[Job] = await session.run_sync(lambda sync: self.insert(jobs, sync))
        return inserted

    def after_commit(
        self, session: Any, tell: Callable[[list[Any]], None], items: Sequence[Any]
    ) -> None:
        commits.after_commit(connection_of(sync_of(session), self.engine), tell, items)

    # -- claim, settle, touch ------------------------------------------------------------------

    def claim(
        self,
        limit: int,
        *,
        kinds: Collection[str],
        lease_seconds: float,
        mark: int = 0,
        ids: Collection[str] | None = None,
        queues: Collection[str] | None = None,
        lanes: Sequence[str] | None = None,
        overdue_seconds: float = 0.0,
        limits: Limits | None = None,
    ) -> list[Claimed]:
        claimer = self._overdue_claimer if overdue_seconds else self._claimer
        if ids is not None:
            ids = [job_id for job_id in ids if may_be_name(job_id)]
        if limit < 1 or not kinds or (ids is not None and not ids):
            return []

        times = {"lease_seconds": lease_seconds, "mark": mark}
        if overdue_seconds:
            times["overdue_seconds"] = overdue_seconds
        if ids is not None and limits:
            wanted = wanted_lanes(self._lanes_of_ids(list(ids)), kinds, queues)
            return self._claim_in_turns(Wanted.of(wanted, limits, list(ids)), limit, times)
        in_turns: list[Wanted] = []

        def run(connection: Connection) -> list[Claimed]:
            parameters = self._parameters(**times)
            if ids is not None:
                return claimer.claim_ids(connection, list(ids), kinds, limit, parameters)
            live = lanes if lanes is not None else self._lanes(connection)
            wanted = wanted_lanes(live, kinds, queues)
            if need_turns(wanted, limits):
                in_turns.append(Wanted.of(wanted, limits or Limits()))
                return []
            return claimer.claim(connection, wanted, limit, parameters)

        # By ids it locks rows and then takes them, which needs a transaction around both.
        claimed = self._write(run, alone=ids is None)
        return self._claim_in_turns(in_turns[-1], limit, times) if in_turns else claimed

    def _claim_in_turns(self, wanted: Wanted, limit: int, times: dict[str, float]) -> list[Claimed]:
        turns = self._overdue_turns if "overdue_seconds" in times else self._turns
        if unknown := turns.unknown(wanted):
            # In a transaction of its own: nobody waits for a new row for as long as a claim takes.
            self._write(lambda connection: turns.make(connection, unknown, self._parameters()))
        return self._write(
            lambda connection: turns.claim(connection, wanted, limit, self._parameters(**times)),
            alone=not wanted.limits and wanted.ids is None,
        )

    def _lanes_of_ids(self, ids: list[str]) -> list[str]:
        return self._read(lambda c: self._turns.lanes_of_ids(c, ids, self._parameters()))

    def _lanes(self, connection: Connection) -> list[str]:
        """The live lanes; once one with a flow is among them, more of the flows as well."""
        if self._stepped is not None:
            return self._stepped.find(connection, self._parameters())[0]
        flows = self._has_flows
        parameters = self._parameters(**(spread_parameters(self.spread) if flows else {}))
        statement = self.statements.lanes(flows=flows)
        found = list(connection.execute(statement, parameters).scalars())
        return self._with_flows(connection, found) if flows != any(map(has_flow, found)) else found

    def _draw(self) -> float:
        return self.spread()

    def _with_flows(self, connection: Connection, lanes: list[str]) -> list[str]:
        self._has_flows = any(map(has_flow, lanes))
        return self._lanes(connection) if self._has_flows else lanes

    def note_results(self, results: Sequence[Tally]) -> None:
        def run(connection: Connection) -> list[str]:
            return self._turns.note_results(connection, results, self._parameters())

        if results and (missing := self._write(run)):
            made = dict.fromkeys(missing, "")
            self._write(lambda connection: self._turns.make(connection, made, self._parameters()))
            self._write(run)

    def limits_now(self, limits: Limits) -> list[LimitStatus]:
        return self._read(lambda c: self._turns.statuses(c, limits, self._parameters()))

    def reset_breaker(self, name: str) -> bool:
        if not may_be_limit(name):
            return False
        return self._write(lambda c: self._turns.reset(c, name, self._parameters()))

    def settle(self, verdicts: Sequence[Verdict], *, stalled_only: bool = False) -> frozenset[str]:
        if not verdicts:
            return frozenset()
        # In primary-key order, so that two settles lock in the same order and cannot deadlock.
        late: frozenset[str] = frozenset()
        for chunk in _in_packets(sorted(verdicts)):
            settle = partial(self._settle, verdicts=chunk, stalled_only=stalled_only)
            late |= self._write(settle, alone=True)
        return late

    def _settle(
        self, connection: Connection, verdicts: Sequence[Verdict], *, stalled_only: bool = False
    ) -> frozenset[str]:
        varying, packed = row_list(self.sql, VERDICT_COLUMNS, verdicts)
        rings = "ring_after_seconds" in varying or packed["same_ring_after_seconds"] is not None
        statement = self.statements.settle(varying, stalled_only=stalled_only, rings=rings)
        written = connection.execute(statement, self._parameters(**packed)).rowcount
        if written == len(verdicts):
            return frozenset()
        # Some came late, or an earlier try did commit though its answer was lost: read and compare.
        now = {
            row.id: (row.fence, row.state)
            for row in connection.execute(self._standing([v.id for v in verdicts]))
        }
        return frozenset(v.id for v in verdicts if not _stands(v, now.get(v.id)))

    def _standing(self, ids: Sequence[str]) -> Any:
        c = self.tables.jobs.c
        return select(c.id, c.fence, c.state, c.cancel_requested).where(c.id.in_(ids))

    def touch(self, touches: Sequence[Touch], *, lease_seconds: float | None = None) -> TouchReport:
        if not touches:
            return TouchReport(frozenset(), frozenset())
        plain = sorted((_plain(each) for each in touches), key=itemgetter(0))
        varying, packed = row_list(self.sql, TOUCH_COLUMNS, plain)
        statement = self.statements.touch(varying, renew=lease_seconds is not None)
        fences = {each.id: each.fence for each in touches}

        def run(connection: Connection) -> TouchReport:
            if lease_seconds is None:
                written = connection.execute(statement, self._parameters(**packed)).rowcount
                if written == len(touches):
                    return TouchReport(frozenset(), frozenset())
            else:
                renewing = self._parameters(lease_seconds=lease_seconds, **packed)
                connection.execute(statement, renewing)
            held, cancelled = set(), set()
            for row in connection.execute(self._standing(list(fences))):
                if row.fence == fences[row.id] and row.state == State.PROCESSING:
                    held.add(row.id)
                    if row.cancel_requested:
                        cancelled.add(row.id)
            return TouchReport(frozenset(fences.keys() - held), frozenset(cancelled))

        return self._write(run, alone=True)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[StoreTransaction]:
        with contextlib.ExitStack() as stack:
            hold = None
            if self._only_writer is not None:
                hold = stack.enter_context(self._only_writer.for_handler())
            connection = stack.enter_context(self._connect(self.engine))
            handler_transaction = HandlerTransaction(
                connection,
                lambda verdict: not self._settle(connection, [verdict]),
                free_writer=hold.release if hold is not None else lambda: None,
            )
            try:
                stack.enter_context(handler_transaction)
            except exc.DBAPIError as error:
                raise StoreUnavailable(f"no transaction could be begun: {error.orig}") from error
            yield handler_transaction
        handler_transaction.tell()

    def writer_busy(self) -> bool:
        return self._only_writer is not None and self._only_writer.held_by_handler

    # -- upkeep --------------------------------------------------------------------------------

    def probe(self, *, rings: bool = False) -> Due:
        lanes, what = self._read(lambda connection: self._probe(connection, rings))
        return Due(
            stalled="stalled" in what,
            outstayed="outstayed" in what,
            lanes=tuple(sorted(set(lanes))) if self._has_flows else tuple(lanes),
            unrung="unrung" in what,
        )

    def _probe(self, connection: Connection, rings: bool) -> tuple[list[str], list[str]]:
        if self._stepped is not None:
            also = self.statements.upkeep(rings)
            return self._stepped.find(connection, self._parameters(), also)
        flows = self._has_flows
        statement = self.statements.probe(rings=rings, flows=flows)
        parameters = self._parameters(**(spread_parameters(self.spread) if flows else {}))
        found = connection.execute(statement, parameters).all()
        lanes = [row[1] for row in found if row[0] == "lane"]
        if flows != any(map(has_flow, lanes)):
            lanes = self._with_flows(connection, lanes)
        return lanes, [row[0] for row in found]

    def take_rings(self, limit: int) -> list[Unrung]:
        # On MySQL it locks rows and then takes them, which needs a transaction around both.
        alone = self.sql.name != "mysql"
        return self._write(
            lambda connection: self._ring_taker.take(connection, self._parameters(limit=limit)),
            alone=alone,
        )

    def ring_again(self, ids: Collection[str]) -> None:
        if ids:
            self._count(self.statements.ring_again, ids=sorted(ids))

    def stalled(self, limit: int) -> list[Claimed]:
        rows = self._read(
            lambda connection: connection.execute(
                self.statements.stalled, self._parameters(limit=limit)
            ).all()
        )
        return [read_stalled(row, self.sql) for row in rows]

    def purge(self, limit: int) -> int:
        if self.sql.deletes_by_key:
            return self._delete_found(self.statements.outstayed, limit=limit)
        return self._count(self.statements.purge, limit=limit)

    def trim(self, kind: str, state: State, keep: int, limit: int) -> int:
        bounds = {"kind": kind, "state": str(state), "keep": keep, "limit": limit}
        if self.sql.deletes_by_key:
            return self._delete_found(self.statements.surplus, **bounds)
        return self._count(self.statements.trim, **bounds)

    def _delete_found(self, find: TextClause, **parameters: Any) -> int:
        def run(connection: Connection) -> int:
            ids = list(connection.execute(find, self._parameters(**parameters)).scalars())
            if not ids:
                return 0
            return connection.execute(self.statements.delete_by_key, {"ids": sorted(ids)}).rowcount

        return self._write(run)

    def _count(self, statement: TextClause, **parameters: Any) -> int:
        return self._write(
            lambda connection: (
                connection.execute(statement, self._parameters(**parameters)).rowcount
            ),
            alone=True,
        )

    # -- look ----------------------------------------------------------------------------------

    def due_count(
        self,
        kinds: Collection[str],
        cap: int,
        lanes: Sequence[str] | None = None,
        *,
        overdue_seconds: float = 0.0,
    ) -> int:
        def run(connection: Connection) -> int:
            live = lanes if lanes is not None else self._lanes(connection)
            wanted = wanted_lanes(live, kinds, None)
            total = 0
            for chunk in in_chunks(wanted):
                if total < cap:
                    total += self._due_in(connection, chunk, cap - total, overdue_seconds)
            return total

        return self._read(run)

    def _due_in(
        self, connection: Connection, lanes: Sequence[str], cap: int, overdue_seconds: float
    ) -> int:
        key = (len(lanes), bool(overdue_seconds))
        statement = self._due_counts.get(key)
        if statement is None:
            texts = self._overdue_statements if overdue_seconds else self.statements
            statement = self._due_counts[key] = inspect.due_count(texts, len(lanes))
        parameters = self._parameters(cap=cap, **numbered("lane", lanes))
        if overdue_seconds:
            parameters["overdue_seconds"] = overdue_seconds
        return int(connection.execute(statement, parameters).scalar_one())

    def get(self, job_id: str) -> Job | None:
        if not may_be_name(job_id):
            return None
        jobs = self.tables.jobs
        statement = select(jobs).where(jobs.c.id == job_id, jobs.c.namespace == self.namespace)
        row = self._read(lambda connection: connection.execute(statement).first())
        return None if row is None else to_job(row)

    def list(self, where: JobFilter, limit: int) -> list[Job]:
        names = (where.kind, where.queue, where.before_id)
        if not all(name is None or may_be_name(name) for name in names) or (
            where.tenant is not None and clean_text(where.tenant) != where.tenant
        ):
            return []
        statement = inspect.listing(self.tables, self.namespace, where, limit)
        rows = self._read(lambda connection: connection.execute(statement).all())
        return [to_job(row) for row in rows]

    def counts(self) -> dict[tuple[str, str, str], int]:
        statement = inspect.counts(self.statements)
        rows = self._read(
            lambda connection: connection.execute(statement, self._parameters()).all()
        )
        return {(row[0], row[1], row[2]): int(row[3]) for row in rows}

    def cancel(self, job_id: str) -> Job | None:
        if may_be_name(job_id):
            self._count(self.statements.cancel, id=job_id, keep_seconds=CANCELLED_KEEP_SECONDS)
        return self.get(job_id)

    def clear(self) -> int:
        for statement in self.statements.clear_limits:
            self._count(statement)
        jobs = self.statements.jobs
        return self._count(text(f"DELETE FROM {jobs} WHERE namespace = :namespace"))

    def close(self) -> None:
        if self._owns_engine:
            self.engine.dispose()

    # -- transactions --------------------------------------------------------------------------

    def _parameters(self, **values: Any) -> dict[str, Any]:
        return {"namespace": self.namespace, **self._frozen_now(), **values}

    def _frozen_now(self) -> dict[str, Any]:
        frozen = self.clock.frozen_now()
        return {} if frozen is None else {"now": self.sql.bind_instant(frozen)}

    def _read(self, run: Callable[[Connection], Result]) -> Result:
        return self._with_tries(lambda: self._once(run, read_only=True))

    def _write(self, run: Callable[[Connection], Result], *, alone: bool = False) -> Result:
        """Run in a transaction; ``alone`` says that each statement may well commit by itself."""
        return self._with_tries(lambda: self._once(run, alone=alone))

    def _once(
        self, run: Callable[[Connection], Result], *, read_only: bool = False, alone: bool = False
    ) -> Result:
        if self.sql.autocommits and (read_only or alone):
            with self._connect(self._autocommitting) as connection:
                return run(connection)
        if read_only:
            connecting = self._connect(self.engine).execution_options(**READ_ONLY)
            with connecting as connection, connection.begin():
                return run(connection)
        with self._writing() as connection:
            return run(connection)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with (
            self._only_writer or contextlib.nullcontext(),
            self._connect(self.engine) as connection,
            connection.begin(),
        ):
            yield connection

    def _connect(self, engine: Engine) -> Connection:
        try:
            return engine.connect()
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            # Refused, not found, or no connection of the pool became free. The last of these has no
            # driver error inside.
            reason = getattr(error, "orig", None) or error
            raise StoreUnavailable(f"no connection to the database: {reason}") from error

    def _with_tries(self, once: Callable[[], Result]) -> Result:
        """Run a transaction, again if it lost a lock race or its connection, a few times.

        Every operation here may be repeated: writes are fenced, and a claim that committed though
        its answer was lost only leaves leases to run out.
        """
        begun = time.monotonic()
        for attempt in range(1, TRIES + 1):
            try:
                with self._explained():
                    return once()
            except exc.DBAPIError as error:
                if not self._is_passing(error):
                    raise
                if attempt == TRIES or time.monotonic() - begun > PATIENCE_SECONDS:
                    raise StoreUnavailable(
                        f"the database kept refusing, tried {attempt} times: {error.orig}"
                    ) from error
                log.info("trying the transaction again after %s", type(error.orig).__name__)
                time.sleep(random.uniform(0.5, 1.0) * 0.02 * 2**attempt)
        raise AssertionError("unreachable")

    def _is_passing(self, error: exc.DBAPIError) -> bool:
        if error.connection_invalidated:
            return True
        return error.orig is not None and self.sql.is_passing(error.orig)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """A missing table or column is told as what it is: a schema to upgrade."""
        try:
            yield
        except (exc.ProgrammingError, exc.OperationalError) as error:
            if not error.connection_invalidated and schema.looks_missing(error):
                try:
                    self.check_schema()
                except SchemaError as explained:
                    raise explained from error
            raise


def may_be_name(text: str) -> bool:
    """Whether an id or a name can be this: what cannot be is not looked for.

    A database would refuse such text (NUL, a lone surrogate, another character set) with an error.
    """
    return NAME.fullmatch(text) is not None


def may_be_limit(name: str) -> bool:
    """Whether this can be the name of a limit."""
    return all(may_be_name(part) for part in name.split("/"))


def _in_packets(verdicts: list[Verdict]) -> Iterator[list[Verdict]]:
    packet: list[Verdict] = []
    chars = 0
    for verdict in verdicts:
        size = len(verdict.result or "") + len(verdict.errors or "")
        if packet and chars + size > PACKET_CHARS:
            yield packet
            packet, chars = [], 0
        packet.append(verdict)
        chars += size
    yield packet


def _stands(verdict: Verdict, row: tuple[int, str] | None) -> bool:
    if row is None or row[0] != verdict.fence:
        return False
    return row[1] == verdict.state or (verdict.state == "pending" and row[1] == "cancelled")


def _plain(touch: Touch) -> tuple[str, int, int | None, float | None, str | None]:
    started = None if touch.started is None else int(touch.started)
    return (touch.id, touch.fence, started, touch.progress, touch.progress_note)
