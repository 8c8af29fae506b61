"""What every part of the SQL store stands on: its engine and statements, and the live lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, TextClause

from jobs.core.clock import Clock, SystemClock
from jobs.core.names import NAME
from jobs.stores.sql import schema
from jobs.stores.sql.attempts import ANSWER_SECONDS, Attempts
from jobs.stores.sql.claim import Claimer
from jobs.stores.sql.controls import Controls, live_lanes
from jobs.stores.sql.dialects import DialectSql, dialect_sql
from jobs.stores.sql.engine import CONNECT_TIMEOUT_SECONDS, make_engine
from jobs.stores.sql.keys import KeyTaker
from jobs.stores.sql.lanes import SteppedLanes, has_flow, random_spread, spread_parameters
from jobs.stores.sql.limits import Turns
from jobs.stores.sql.statements import Statements
from jobs.stores.sql.tables import Tables


class StoreBase:
    """Built once per store; an operation reads or writes through :class:`Attempts`."""

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
        self._turns = Turns(self._claimer)
        # Whether lanes with flows were seen last: most deployments have none, and do not look.
        self._has_flows = False
        self.spread: Callable[[], float] = random_spread
        self._stepped: SteppedLanes | None = None
        if self.sql.name == "mysql":
            self._stepped = SteppedLanes(self.statements.jobs, self._draw)
        self._controls = Controls(self.statements)
        self._keys = KeyTaker(self.statements)
        self.attempts = Attempts(self.engine, self.tables, self.sql, answer_seconds)
        self._read, self._write = self.attempts.read, self.attempts.write

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

    # -- lanes ---------------------------------------------------------------------------------

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

    # -- transactions --------------------------------------------------------------------------

    def _count(self, statement: TextClause, **parameters: Any) -> int:
        return self._write(
            lambda connection: (
                connection.execute(statement, self._parameters(**parameters)).rowcount
            ),
            alone=True,
        )

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
