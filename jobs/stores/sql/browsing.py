"""What pages show: bounded listings, counts and boards, cut off when they take too long."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection

from jobs.core.codec import clean_text
from jobs.core.controls import holds_back
from jobs.core.job import Job, State, stored_state
from jobs.core.store import Board, Failure, JobFilter, QueueCount, Survey, needs_looking
from jobs.stores.sql.controls import live_lanes, read_said
from jobs.stores.sql.reading import Reading, may_be_filter
from jobs.stores.sql.rows import to_job

Result = TypeVar("Result")
# A page is for people, and must not be what loads the database.
LOOK_SECONDS = 5.0


class Browsing(Reading):
    """Looks at a bounded number of rows."""

    def _look_at(self, run: Callable[[Connection], Result]) -> Result:
        return self.attempts.read(run, answer_seconds=LOOK_SECONDS)

    def list(self, where: JobFilter, limit: int) -> list[Job]:
        if where.window is None:
            return super().list(where, limit)
        return [to_job(row) for row in self._page(where, limit, ids_only=False)]

    def find(self, where: JobFilter, limit: int) -> builtins.list[str]:
        if where.window is None:
            return super().find(where, limit)
        return [row.id for row in self._page(where, limit, ids_only=True)]

    def _page(self, where: JobFilter, limit: int, *, ids_only: bool) -> Sequence[Any]:
        if not may_be_filter(where) or limit < 1:
            return []
        asked = self._browse.page(where, limit, ids_only=ids_only)
        parameters = self._parameters(**asked.parameters)
        return self._look_at(lambda c: c.execute(asked.statement, parameters).all())

    def survey(self, where: JobFilter, cap: int) -> Survey:
        if not may_be_filter(where):
            return Survey(0)
        asked = self._browse.survey(where, cap)
        parameters = self._parameters(**asked.parameters)
        looked, found, last = self._look_at(lambda c: c.execute(asked.statement, parameters).one())
        found = int(found or 0)
        window = where.window or cap
        until = last if needs_looking(where) and looked >= window else None
        return Survey(min(found, cap), found > cap, until)

    def failures(self, limit: int, tenant: str | None = None) -> builtins.list[Failure]:
        where = JobFilter(state=State.FAILED, tenant=tenant)
        if not may_be_filter(where):
            return []
        asked = self._browse.failures(where, limit)
        parameters = self._parameters(**asked.parameters)
        rows = self._look_at(lambda c: c.execute(asked.statement, parameters).all())
        return [
            Failure(row[0], row[1], row[2], row[3], row[4], row[5], row[6] or "")
            for row in rows
            if tenant is None or row[3] == tenant  # no tenant at all has no index of its own
        ]

    # -- boards --------------------------------------------------------------------------------

    def board(self, cap: int, tenant: str | None = None, *, completed: bool = False) -> Board:
        if tenant is not None:
            return self._board_of(tenant, cap, completed=completed)

        def run(connection: Connection) -> tuple[Sequence[str], int, Sequence[Any], Sequence[Any]]:
            lanes, others = self._look(connection, "said")
            asked = self._browse.board(lanes, cap, completed=completed)
            parameters = self._parameters(**asked.parameters)
            rows = connection.execute(asked.statement, parameters).all()
            return lanes, asked.lanes, others, rows

        lanes, counted_lanes, others, rows = self._look_at(run)
        paused = live_lanes((), others)[1].paused
        counted = _Counted(cap, full=[State.PENDING] if len(lanes) > counted_lanes else ())
        now = None
        for place, queue, what, count, again, at in rows:
            instant = None if at is None else self.sql.read_instant(at)
            if what == "now":
                now = instant
            elif place < 0:
                counted.add(queue, what, int(count))
            else:
                _, queue, kind, _ = lanes[place].split("/", 3)
                held = holds_back(paused, queue, kind)
                counted.add_waiting(queue, what, int(count), int(again or 0), instant, held)
        assert now is not None
        return counted.board(now, paused)

    def _board_of(self, tenant: str, cap: int, *, completed: bool) -> Board:
        if clean_text(tenant) != tenant:
            return Board(self.now(), (), frozenset())
        asked = self._browse.board_of(tenant, cap, completed=completed)
        parameters = self._parameters(**asked.parameters)

        def run(connection: Connection) -> tuple[Sequence[Any], Sequence[Any]]:
            said = connection.execute(self.statements.said, self._parameters()).all()
            return said, connection.execute(asked.statement, parameters).all()

        said, rows = self._look_at(run)
        paused = read_said(row[1] for row in said).paused
        # Of each stored state the newest were looked at, whatever they are shown as.
        looked = Counter[State]()
        for _, _, what, count, _, _ in rows:
            if what != "now":
                waits = what in ("due", "later")
                looked[State.PENDING if waits else stored_state(what)] += int(count)
        full = {state for state, count in looked.items() if count > cap}
        counted = _Counted(cap, full=full)
        now = None
        for kind, queue, what, count, again, at in rows:
            instant = None if at is None else self.sql.read_instant(at)
            if what == "now":
                now = instant
            elif queue is None:
                continue  # somebody else's: it was looked at, and is not counted
            elif what in ("due", "later"):
                held = holds_back(paused, queue, kind)
                counted.add_waiting(queue, what, int(count), int(again or 0), instant, held)
            else:
                counted.add(queue, what, int(count))
        assert now is not None
        return counted.board(now, paused)


class _Counted:
    """Counts by queue and shown state, as they are read; of ``full`` states there are more."""

    def __init__(self, cap: int, *, full: Collection[State] = ()) -> None:
        self._cap = cap
        self._full = full
        self._capped: set[tuple[str, str]] = set()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._oldest: dict[tuple[str, str], datetime] = {}

    def add(self, queue: str, shown: str, count: int) -> None:
        self._counts[queue, shown] += min(count, self._cap)
        if count > self._cap:
            self._capped.add((queue, shown))

    def add_waiting(
        self, queue: str, what: str, count: int, again: int, at: datetime | None, held: bool
    ) -> None:
        if what == "later":
            self.add(queue, "retrying", again)
            self.add(queue, "delayed", count - again)
            if count > self._cap:
                self._capped |= {(queue, "retrying"), (queue, "delayed")}
            return
        shown = "paused" if held else "pending"
        self.add(queue, shown, count)
        key = queue, shown
        if at is not None:
            self._oldest[key] = min(at, self._oldest.get(key, at))

    def board(self, now: datetime, paused: frozenset[str]) -> Board:
        counts = tuple(
            QueueCount(
                queue,
                shown,
                count,
                (queue, shown) in self._capped or stored_state(shown) in self._full,
                self._oldest.get((queue, shown)),
            )
            for (queue, shown), count in sorted(self._counts.items())
            if count
        )
        return Board(now, counts, paused)
