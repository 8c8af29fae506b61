"""The SQL store: the contract over an engine, a transaction per operation."""

from __future__ import annotations

import builtins
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cached_property, partial
from itertools import islice
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Engine, TextClause, exc, select, text

from jobs.core.chain import Hold
from jobs.core.clock import Clock, SystemClock
from jobs.core.codec import clean_text
from jobs.core.controls import Control, holds_back, open_lanes
from jobs.core.errors import StoreUnavailable
from jobs.core.group import Group, NewGroup
from jobs.core.job import TERMINAL, Claimed, Job, NewJob, State
from jobs.core.keys import alias_key, is_keyed, may_be_key
from jobs.core.limits import Limits, LimitStatus, LimitUse, Tally
from jobs.core.names import NAME
from jobs.core.schedule import Schedule
from jobs.core.store import (
    CANCELLED_KEEP_SECONDS,
    Ahead,
    CancelReport,
    Capability,
    Due,
    JobFilter,
    Revival,
    Settled,
    Standing,
    StoreTransaction,
    Touch,
    TouchReport,
    Unrung,
    Verdict,
    ahead_of,
    standing_at,
)
from jobs.stores.sql import commits, inspect, schema
from jobs.stores.sql.attempts import ANSWER_SECONDS, LONG_ANSWER_SECONDS, Attempts
from jobs.stores.sql.bulk import bulk_insert
from jobs.stores.sql.chains import ChainRow
from jobs.stores.sql.claim import Claimer, in_chunks, numbered, wanted_lanes
from jobs.stores.sql.controls import Controls, live_lanes
from jobs.stores.sql.dialects import DialectSql, dialect_sql
from jobs.stores.sql.edits import Edits
from jobs.stores.sql.engine import CONNECT_TIMEOUT_SECONDS, make_engine
from jobs.stores.sql.groups import GroupWriter
from jobs.stores.sql.keys import KeyTaker
from jobs.stores.sql.lanes import SteppedLanes, has_flow, random_spread, spread_parameters
from jobs.stores.sql.limits import Turns, Wanted, need_turns
from jobs.stores.sql.lines import LineCut
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
from jobs.stores.sql.schedules import ScheduleTable
from jobs.stores.sql.sessions import connection_of, sync_of
from jobs.stores.sql.statements import (
    TOUCH_COLUMNS,
    TOUCH_COLUMNS_WITH_CURSOR,
    VERDICT_COLUMNS,
    Statements,
)
from jobs.stores.sql.tables import Tables
from jobs.stores.sql.transaction import HandlerTransaction

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
# Of results and errors in one statement: MySQL cuts the line on a packet over max_allowed_packet.
PACKET_CHARS = 1_000_000


class SqlStore:
    """Rows in SQLite, PostgreSQL, MySQL or MariaDB.

    ``database`` is a URL in any platform's spelling, or an Engine of the caller's own (which is
    then neither configured nor closed here). With a clock that stands still, *now* is bound; in
    production it is the database's own. A database that does not answer within ``answer_seconds``
    has its line cut, and the operation is tried once more; SQLite, a local file, is left alone.
    """

    def __init__(
        self,
        database: str | Engine,
        *,
        namespace: str = "",
        prefix: str = "tickwork_",
        schema: str | None = None,
        clock: Clock | None = None,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.namespace = namespace
        self.clock = clock or SystemClock()
        self.engine = (
            database
            if isinstance(database, Engine)
            else make_engine(database, connect_seconds=min(answer_seconds, CONNECT_TIMEOUT_SECONDS))
        )
        self._owns_engine = not isinstance(database, Engine)
        self.tables: Tables = Tables(prefix, schema, dialect=self.engine.dialect.name)
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
        self._chain = ChainRow(self.statements)
        self._edits = Edits(self.statements)
        self._controls = Controls(self.statements)
        self._keys = KeyTaker(self.statements)
        self._next_dues: dict[int, TextClause] = {}
        self._due_counts: dict[tuple[int, bool], TextClause] = {}
        self.attempts = Attempts(self.engine, self.tables, self.sql, answer_seconds)
        self._read, self._write = self.attempts.read, self.attempts.write
        capabilities = {
            Capability.DURABLE,
            Capability.SESSIONS,
            Capability.TRANSACTIONS,
            Capability.SHARED,
        }
        if self.sql.concurrent_writers:
            capabilities.add(Capability.CONCURRENT_WRITERS)
        self.capabilities = frozenset(capabilities)

    @cached_property
    def _groups(self) -> GroupWriter:
        return GroupWriter(self.statements, self._parameters, self._insert_all, self._settle)

    @cached_property
    def _schedules(self) -> ScheduleTable:
        return ScheduleTable(self.tables, self.namespace)

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

        # MySQL locks rows by their ids and then takes them, in a transaction around both.
        claimed = self._write(run, alone=ids is None or claimer.claims_ids_at_once)
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

    def _lanes_of_ids(self, ids: list[str]) -> Sequence[str]:
        def run(connection: Connection) -> Sequence[str]:
            parameters = self._parameters()
            lanes = self._turns.lanes_of_ids(connection, ids, parameters)
            return open_lanes(lanes, self._controls.said(connection, parameters).paused)

        return self._read(run)

    def _lanes(self, connection: Connection) -> Sequence[str]:
        return live_lanes(*self._look(connection, "said"))[0]

    def _look(self, connection: Connection, beside: str) -> tuple[list[str], list[Any]]:
        """The live lanes, and the rows of what is asked beside them.

        Once a lane with a flow is among them, more of the flows are looked at as well.
        """
        if self._stepped is not None:
            also = self.statements.beside(beside)
            return self._stepped.find(connection, self._parameters(), also)
        flows = self._has_flows
        parameters = self._parameters(**(spread_parameters(self.spread) if flows else {}))
        found = connection.execute(self.statements.live(beside, flows=flows), parameters).all()
        lanes = [row[1] for row in found if row[0] == "lane"]
        self._has_flows = any(map(has_flow, lanes))
        if self._has_flows and not flows:
            return self._look(connection, beside)
        return sorted(set(lanes)) if flows else lanes, [row for row in found if row[0] != "lane"]

    def _draw(self) -> float:
        return self.spread()

    def note_results(self, results: Sequence[Tally]) -> None:
        def run(connection: Connection) -> list[str]:
            return self._turns.note_results(connection, results, self._parameters())

        if results and (missing := self._write(run)):
            made = dict.fromkeys(missing, "")
            self._write(lambda connection: self._turns.make(connection, made, self._parameters()))
            self._write(run)

    def limits_now(self, limits: Limits) -> list[LimitStatus]:
        return self._read(lambda c: self._turns.statuses(c, limits, self._parameters()))

    def limits_of(self, lane: str, limits: Limits) -> builtins.list[LimitUse]:
        return self._read(lambda c: self._turns.uses(c, lane, limits, self._parameters()))

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
        rings, *more = (
            name in varying or packed[f"same_{name}"] is not None
            for name in ("ring_after_seconds", "new_cursor", "continue_within_seconds")
        )
        statement = self.statements.settle(
            varying, stalled_only=stalled_only, rings=rings, continues=any(more)
        )
        written = connection.execute(statement, self._parameters(**packed)).rowcount
        if written == len(verdicts):
            return frozenset()
        # Some came late, or an earlier try did commit though its answer was lost: read and compare.
        now = {
            row.id: (row.fence, row.state)
            for row in connection.execute(self._standing([v.id for v in verdicts]))
        }
        return frozenset(v.id for v in verdicts if not _stands(v, now.get(v.id)))

    def settle_more(self, verdicts: Sequence[Verdict], *, stalled_only: bool = False) -> Settled:
        late: frozenset[str] = frozenset()
        inserted: tuple[NewJob, ...] = ()
        for chunk in _in_packets(sorted(verdicts)):
            settle = partial(self._groups.settle, verdicts=chunk, stalled_only=stalled_only)
            settled = self._write(settle)
            late, inserted = late | settled.late, inserted + settled.inserted
        return Settled(late, inserted)

    def _standing(self, ids: Sequence[str]) -> Any:
        c = self.tables.jobs.c
        return select(c.id, c.fence, c.state, c.cancel_requested).where(c.id.in_(ids))

    def touch(self, touches: Sequence[Touch], *, lease_seconds: float | None = None) -> TouchReport:
        if not touches:
            return TouchReport(frozenset(), frozenset())
        plain = sorted((_plain(each) for each in touches), key=itemgetter(0))
        cursor = any(each.cursor is not None for each in touches)
        columns = TOUCH_COLUMNS_WITH_CURSOR if cursor else TOUCH_COLUMNS
        varying, packed = row_list(self.sql, columns, plain)
        renew = lease_seconds is not None
        statement = self.statements.touch(varying, renew=renew, cursor=cursor)
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
            if self.attempts.only_writer is not None:
                hold = stack.enter_context(self.attempts.only_writer.for_handler())
            connection = stack.enter_context(self.attempts.connect())
            handler_transaction = HandlerTransaction(
                connection,
                partial(self._settle_one, connection),
                free_writer=hold.release if hold is not None else lambda: None,
            )
            try:
                stack.enter_context(handler_transaction)
            except exc.DBAPIError as error:
                raise StoreUnavailable(f"no transaction could be begun: {error.orig}") from error
            yield handler_transaction
        handler_transaction.tell()

    def _settle_one(self, connection: Connection, verdict: Verdict) -> Settled:
        if verdict.follow or verdict.group_id is not None:
            return self._groups.settle(connection, [verdict])
        return Settled(self._settle(connection, [verdict]), ())

    def writer_busy(self) -> bool:
        return self.attempts.only_writer is not None and self.attempts.only_writer.held_by_handler

    # -- upkeep --------------------------------------------------------------------------------

    def probe(self, *, rings: bool = False) -> Due:
        beside = "upkeep and rings" if rings else "upkeep"
        live, others = self._read(lambda connection: self._look(connection, beside))
        what = {row[0] for row in others}
        lanes, said = live_lanes(live, others)
        return Due(
            stalled="stalled" in what,
            outstayed="outstayed" in what,
            lanes=lanes,
            unrung="unrung" in what,
            groups="groups" in what,
            scheduled="scheduled" in what,
            said=said,
            keys="keys" in what,
        )

    def next_due(self, kinds: Collection[str], lanes: Sequence[str] | None = None) -> Ahead:
        def run(connection: Connection) -> Sequence[Any]:
            live = lanes if lanes is not None else self._lanes(connection)
            wanted = wanted_lanes(live, kinds, None)
            statement = self._next_dues.get(len(wanted))
            if statement is None:
                statement = inspect.next_due(self.statements, len(wanted))
                self._next_dues[len(wanted)] = statement
            parameters = self._parameters(**numbered("lane", wanted))
            return connection.execute(statement, parameters).all()

        found = [(what, at) for what, at in self._read(run) if at is not None]
        instants = [(what, self.sql.read_instant(at)) for what, at in found]
        (now,) = (at for what, at in instants if what == "now")
        rows = [at for what, at in instants if what == "row"]
        others = [at for what, at in instants if what in ("lease", "schedule")]
        return ahead_of(rows, others, now)

    def hold_chain(self, chain_id: str, *, seconds: float, per_hour: int) -> Hold:
        parameters = self._parameters(chain=chain_id, hold_seconds=seconds, per_hour=per_hour)
        return self._chain.hold(self._write_alone, parameters)

    def free_chain(self, chain_id: str) -> bool:
        return self._chain.free(self._write_alone, self._parameters(chain=chain_id))

    def _write_alone(self, run: Callable[[Connection], Any]) -> Any:
        return self._write(run, alone=True)

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

    def stalled(self, limit: int, ids: Collection[str] | None = None) -> list[Claimed]:
        statement, parameters = self.statements.stalled, self._parameters(limit=limit)
        if ids is not None:
            named = sorted(filter(may_be_name, set(ids)))
            if not named:
                return []
            statement, parameters = self.statements.stalled_of, {**parameters, "ids": named}
        rows = self._read(lambda connection: connection.execute(statement, parameters).all())
        return [read_stalled(row, self.sql) for row in rows]

    def standing(self, ids: Collection[str]) -> dict[str, Standing]:
        named = sorted(filter(may_be_name, set(ids)))
        if not named:
            return {}
        parameters = self._parameters(ids=named)
        rows = self._read(
            lambda connection: connection.execute(self.statements.standing, parameters).all()
        )
        instant = self.sql.read_instant
        return {
            row[0]: standing_at(
                row[0],
                row[1],
                row[2],
                row[3],
                instant(row[4]),
                None if row[5] is None else instant(row[5]),
                instant(row[6]),
                paused=bool(row[7]),
            )
            for row in rows
        }

    def purge(self, limit: int) -> int:
        if self.sql.deletes_by_key:
            return self._delete_found(self.statements.outstayed, limit=limit)
        return self._count(self.statements.purge, limit=limit)

    def purge_keys(self, limit: int) -> int:
        parameters = self._parameters(limit=limit)
        return self._write(lambda connection: self._keys.sweep(connection, parameters))

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

    # -- schedules -----------------------------------------------------------------------------

    def schedules(
        self, tenant: str | None = None, *, source: str | None = None, limit: int = 10_000
    ) -> list[Schedule]:
        if tenant is not None and clean_text(tenant) != tenant:
            return []
        return self._read(lambda c: self._schedules.all(c, tenant, source, limit))

    def get_schedule(self, name: str, tenant: str = "") -> Schedule | None:
        if not may_be_name(name) or clean_text(tenant) != tenant:
            return None
        return self._read(lambda c: self._schedules.one(c, name, tenant))

    def add_schedule(self, schedule: Schedule) -> bool:
        try:
            self._write(lambda c: self._schedules.add(c, schedule), alone=True)
        except exc.IntegrityError:
            return False
        return True

    def replace_schedule(self, before: Schedule, after: Schedule) -> bool:
        return self._write(lambda c: self._schedules.replace(c, before, after), alone=True)

    def remove_schedule(self, name: str, tenant: str = "") -> bool:
        if not may_be_name(name) or clean_text(tenant) != tenant:
            return False
        return self._write(lambda c: self._schedules.remove(c, name, tenant), alone=True)

    def due_schedules(self, kinds: Collection[str], limit: int) -> tuple[datetime, list[Schedule]]:
        def run(connection: Connection) -> tuple[datetime, list[Schedule]]:
            now = self._now(connection)
            return now, self._schedules.due(connection, now, kinds, limit)

        return self._read(run)

    def fire_schedule(
        self, before: Schedule, after: Schedule, jobs: Sequence[NewJob]
    ) -> list[NewJob]:
        change = (before, after)
        try:
            return self._write(
                lambda c: self._schedules.fire(c, self._now(c), change, jobs, self._insert)
            )
        except exc.IntegrityError:
            return []  # another tick has just had the slot

    def next_schedule_at(self) -> datetime | None:
        return self._read(self._schedules.next_at)

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

    def ahead(self, job: Job, kinds: Collection[str], cap: int) -> int:
        def run(connection: Connection) -> int:
            lanes = wanted_lanes(self._lanes(connection), kinds, None)
            better = [lane for lane in lanes if int(lane.partition("/")[0]) < job.priority]
            equal = [lane for lane in lanes if int(lane.partition("/")[0]) == job.priority]
            if not better and not equal:
                return 0
            statement = inspect.ahead(self.statements, len(better), len(equal))
            parameters = self._parameters(cap=cap, id=job.id)
            parameters["run_at"] = self.sql.bind_instant(job.run_at)
            parameters |= {**numbered("better", better), **numbered("equal", equal)}
            return int(connection.execute(statement, parameters).scalar_one())

        return self._read(run)

    def insert_group(
        self, group: NewGroup, jobs: Sequence[NewJob], session: Any = None
    ) -> list[NewJob]:
        if session is not None:
            with self.attempts.explained():
                return self._groups.insert(connection_of(session, self.engine), group, jobs)
        try:
            return self._write(
                lambda connection: self._groups.insert(connection, group, jobs),
                answer_seconds=LONG_ANSWER_SECONDS,
            )
        except exc.IntegrityError:
            # The ids are ours alone: an earlier try committed though its answer was lost.
            if self.group(group.id) is None:
                raise
            return []

    def check_groups(self, limit: int, ids: Collection[str] | None = None) -> list[NewJob]:
        return self._write(lambda connection: self._groups.check(connection, limit, ids))

    def group(self, group_id: str) -> Group | None:
        if not may_be_name(group_id):
            return None
        return self._read(lambda connection: self._groups.read(connection, group_id))

    def get(self, job_id: str) -> Job | None:
        if not may_be_name(job_id):
            return None
        return self._read(lambda connection: self._get(connection, job_id))

    def _get(self, connection: Connection, job_id: str) -> Job | None:
        jobs = self.tables.jobs
        statement = select(jobs).where(jobs.c.id == job_id, jobs.c.namespace == self.namespace)
        row = connection.execute(statement).first()
        return None if row is None else to_job(row)

    def id_of(self, alias: str, tenant: str) -> str | None:
        if not may_be_key(alias) or clean_text(tenant) != tenant:
            return None
        key = alias_key(tenant, alias)
        return self._read(lambda connection: self._keys.id_of(connection, key, self._parameters()))

    def list(self, where: JobFilter, limit: int) -> list[Job]:
        return [to_job(row) for row in self._listed(where, limit, ids_only=False)]

    def find(self, where: JobFilter, limit: int) -> builtins.list[str]:
        return [row.id for row in self._listed(where, limit, ids_only=True)]

    def _listed(self, where: JobFilter, limit: int, *, ids_only: bool) -> Sequence[Any]:
        names = (where.kind, where.queue, where.before_id, where.after_id or None)
        texts = (where.tenant, where.error)
        if not all(name is None or may_be_name(name) for name in names) or any(
            text is not None and clean_text(text) != text for text in texts
        ):
            return []
        statement = inspect.listing(self.statements, where, limit, ids_only=ids_only)
        parameters = self._parameters(**inspect.listing_parameters(where))
        return self._read(lambda connection: connection.execute(statement, parameters).all())

    def counts(self) -> dict[tuple[str, str, str], int]:
        statement, parameters = inspect.counts(self.statements), self._parameters()

        def run(connection: Connection) -> tuple[Sequence[Any], frozenset[str]]:
            rows = connection.execute(statement, parameters).all()
            return rows, self._controls.said(connection, parameters).paused

        rows, paused = self._read(run)
        counted: Counter[tuple[str, str, str]] = Counter()
        for queue, kind, shown, count in rows:
            if shown == State.PENDING and holds_back(paused, queue, kind):
                shown = "paused"
            counted[queue, kind, shown] += int(count)
        return dict(counted)

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

    # -- what people do to many rows, and controls ---------------------------------------------

    def cancel_many(self, ids: Collection[str]) -> int:
        named = _names(ids)
        if not named:
            return 0
        statement, keep_seconds = self.statements.cancel_many, CANCELLED_KEEP_SECONDS
        return self._count(statement, ids=named, keep_seconds=keep_seconds)

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

    def stuck(self, running_for_seconds: float, limit: int) -> builtins.list[Claimed]:
        values = self._parameters(running_for_seconds=running_for_seconds, limit=limit)
        rows = self._read(lambda connection: connection.execute(self._edits.stuck, values).all())
        return [read_stalled(row, self.sql) for row in rows]

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

    def controls(self) -> builtins.list[Control]:
        return self._read(lambda connection: self._controls.listed(connection, self.namespace))

    def paused(self) -> frozenset[str]:
        said = self._read(lambda connection: self._controls.said(connection, self._parameters()))
        return said.paused

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

    def close(self) -> None:
        if self._owns_engine:
            self.engine.dispose()

    # -- transactions --------------------------------------------------------------------------

    def _parameters(self, **values: Any) -> dict[str, Any]:
        return {"namespace": self.namespace, **self._frozen_now(), **values}

    def _frozen_now(self) -> dict[str, Any]:
        frozen = self.clock.frozen_now()
        return {} if frozen is None else {"now": self.sql.bind_instant(frozen)}


def may_be_name(text: str) -> bool:
    """Whether an id or a name can be this: what cannot be is not looked for.

    A database would refuse such text (NUL, a lone surrogate, another character set) with an error.
    """
    return NAME.fullmatch(text) is not None


def _names(ids: Collection[str]) -> list[str]:
    return sorted(job_id for job_id in set(ids) if may_be_name(job_id))


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


def _plain(touch: Touch) -> tuple[str, int, int | None, float | None, str | None, str | None]:
    started = None if touch.started is None else int(touch.started)
    return (touch.id, touch.fence, started, touch.progress, touch.progress_note, touch.cursor)
