"""The SQL store: the contract over an engine, a transaction per operation."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, exc, select

from jobs.core.clock import Clock
from jobs.core.controls import open_lanes
from jobs.core.errors import StoreUnavailable
from jobs.core.group import Group, NewGroup
from jobs.core.job import Claimed, NewJob, State
from jobs.core.limits import Limits, Tally
from jobs.core.store import (
    Capability,
    Glance,
    Settled,
    StoreTransaction,
    Touch,
    TouchReport,
    Verdict,
)
from jobs.stores.sql.access import Access
from jobs.stores.sql.alerting import Alerting
from jobs.stores.sql.attempts import ANSWER_SECONDS, LONG_ANSWER_SECONDS
from jobs.stores.sql.base import may_be_name
from jobs.stores.sql.claim import Claimer, wanted_lanes
from jobs.stores.sql.claiming import ClaimTurns
from jobs.stores.sql.groups import GroupWriter
from jobs.stores.sql.limits import Turns, Wanted
from jobs.stores.sql.records import Records
from jobs.stores.sql.rowlist import row_list
from jobs.stores.sql.sessions import connection_of
from jobs.stores.sql.statements import TOUCH_COLUMNS, TOUCH_COLUMNS_WITH_CURSOR, VERDICT_COLUMNS
from jobs.stores.sql.steering import Steering
from jobs.stores.sql.transaction import HandlerTransaction
from jobs.stores.sql.upkeep import Upkeep

if TYPE_CHECKING:
    from jobs.stores.sql.glance import Glances

# Of results and errors in one statement: MySQL cuts the line on a packet over max_allowed_packet.
PACKET_CHARS = 1_000_000


class SqlStore(Steering, Upkeep, Records, Alerting, Access):
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
        super().__init__(
            database,
            namespace=namespace,
            prefix=prefix,
            schema=schema,
            clock=clock,
            answer_seconds=answer_seconds,
        )
        self._claim_turns = ClaimTurns(self.engine.pool)
        self._overdue_claimer = Claimer(self._overdue_statements)
        self._overdue_turns = Turns(self._overdue_claimer)
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

    def close(self) -> None:
        if self._owns_engine:
            self.engine.dispose()

    # -- claim ---------------------------------------------------------------------------------

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
            with self._claim_turns.one():
                named = wanted_lanes(self._lanes_of_ids(list(ids)), kinds, queues)
                return self._claim_in_turns(Wanted.of(named, limits, list(ids)), limit, times)
        in_turns: list[Wanted] = []

        def turns_for(live: Sequence[str]) -> Wanted | None:
            return Wanted.in_turns(wanted_lanes(live, kinds, queues), limits)

        def run(connection: Connection) -> list[Claimed]:
            parameters = self._parameters(**times)
            if ids is not None:
                return claimer.claim_ids(connection, list(ids), kinds, limit, parameters)
            live = lanes if lanes is not None else self._lanes(connection)
            if lanes is None and (wanted := turns_for(live)) is not None:
                in_turns.append(wanted)
                return []
            return claimer.claim(connection, wanted_lanes(live, kinds, queues), limit, parameters)

        with self._claim_turns.one():
            if ids is None and lanes is not None and (wanted := turns_for(lanes)) is not None:
                return self._claim_in_turns(wanted, limit, times)
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

    # -- settle, touch -------------------------------------------------------------------------

    def note_results(self, results: Sequence[Tally]) -> None:
        def run(connection: Connection) -> list[str]:
            return self._turns.note_results(connection, results, self._parameters())

        if results and (missing := self._write(run)):
            made = dict.fromkeys(missing, "")
            self._write(lambda connection: self._turns.make(connection, made, self._parameters()))
            self._write(run)

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

    # -- groups --------------------------------------------------------------------------------

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

    def groups_of(self, ids: Collection[str]) -> frozenset[str]:
        named = [job_id for job_id in ids if may_be_name(job_id)]
        if not named:
            return frozenset()
        return self._read(lambda connection: self._groups.of(connection, named))

    def group(self, group_id: str) -> Group | None:
        if not may_be_name(group_id):
            return None
        return self._read(lambda connection: self._groups.read(connection, group_id))

    # -- how things go -------------------------------------------------------------------------

    @cached_property
    def _glances(self) -> Glances:
        from jobs.stores.sql.glance import Glances  # late: for people, not for ticks

        return Glances(self.statements)

    def glance(self, ticks: int, since_seconds: float, bucket_seconds: float) -> Glance:
        parameters = self._parameters(since_seconds=since_seconds)
        return self._read(lambda c: self._glances.read(c, parameters, ticks, bucket_seconds))


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
