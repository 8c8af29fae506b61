"""The SQL of every hot operation, written once per store from its dialect's fragments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Executable, TextClause, bindparam, text

from jobs.core.controls import EVERYTHING
from jobs.core.ring import LONGEST_RING_AGAIN_SECONDS, RING_AGAIN_SECONDS
from jobs.stores.sql import lanes
from jobs.stores.sql.dialects import INTEGER, NUMBER, TEXT, DialectSql
from jobs.stores.sql.rowlist import Listed
from jobs.stores.sql.tables import Tables

VERDICT_COLUMNS = (
    ("id", TEXT),
    ("fence", INTEGER),
    ("state", TEXT),
    ("result", TEXT),
    ("error", TEXT),
    ("errors", TEXT),
    ("delay_seconds", NUMBER),
    ("attempts_back", INTEGER),
    ("duration_ms", NUMBER),
    ("keep_seconds", NUMBER),
    ("progress", NUMBER),
    ("progress_note", TEXT),
    ("ring_after_seconds", NUMBER),
    ("new_cursor", TEXT),
    ("continue_within_seconds", NUMBER),
)
TOUCH_COLUMNS = (
    ("id", TEXT),
    ("fence", INTEGER),
    ("started", INTEGER),
    ("progress", NUMBER),
    ("progress_note", TEXT),
)
# Not "cursor", which MySQL keeps to itself.
TOUCH_COLUMNS_WITH_CURSOR = (*TOUCH_COLUMNS, ("new_cursor", TEXT))
# After so many rings of a row the wait between them is the longest.
DOUBLINGS = math.floor(math.log2(LONGEST_RING_AGAIN_SECONDS / RING_AGAIN_SECONDS))
_FINISHED = "state IN ('completed', 'failed', 'cancelled')"
# Every pending row of this lane that is due, oldest first: one bounded range of the index.
_DUE = "namespace = :namespace AND state = 'pending'"
# In these words, so that the partial index offers itself.
_RINGING = f"{_DUE} AND ring_at IS NOT NULL AND ring_at"


class Statements:
    """Texts for one dialect, one set of tables.

    With ``overdue``, a row is due only once it was for ``:overdue_seconds``.
    """

    def __init__(self, sql: DialectSql, tables: Tables, *, overdue: bool = False) -> None:
        self.sql = sql
        self.due_by = sql.later(f"-{sql.number('overdue_seconds')}") if overdue else sql.now
        self.tables = tables
        self.jobs = tables.name_of("jobs")
        self.groups = tables.name_of("groups")
        self.schedules = tables.name_of("schedules")
        self.controls = tables.name_of("controls")
        self.keys = tables.name_of("keys")
        self.limits = tables.name_of("limits")
        self.takings = tables.name_of("takings")
        self._built: dict[Any, TextClause] = {}

    # -- what is there ------------------------------------------------------------------------

    def live(self, beside: str, *, flows: bool) -> TextClause:
        """One statement: the live lanes, and what is asked beside them.

        ``beside`` is ``said``, ``upkeep`` or ``upkeep and rings`` (see :meth:`beside`); with
        ``flows`` more than one flow of a lane is told.
        """
        return self._once(("live", beside, flows), lambda: self._live(beside, flows))

    @property
    def _dual(self) -> str:
        return " FROM DUAL" if self.sql.name == "mysql" else ""

    def _live(self, beside: str, flows: bool) -> str:
        found = (lanes.flows if flows else lanes.bases)(self.jobs, self.sql)
        name = "live" if flows else "lanes"
        return (
            f"WITH RECURSIVE {found} SELECT 'lane' AS what, lane FROM {name} "
            f"WHERE lane IS NOT NULL UNION ALL {self.beside(beside)}"
        )

    def beside(self, what: str) -> str:
        """SELECTs of two columns: what the controls say, and what upkeep is due if asked."""
        match what:
            case "said":
                return self._said
            case "upkeep":
                return self._upkeep
        return f"""{self._upkeep}
            UNION ALL
            SELECT 'unrung', NULL{self._dual} WHERE EXISTS (
                SELECT 1 FROM {self.jobs} WHERE {_RINGING} <= {self.sql.now})"""

    @property
    def _upkeep(self) -> str:
        dual = self._dual
        return f"""
            SELECT 'stalled', NULL{dual} WHERE EXISTS (
                SELECT 1 FROM {self.jobs} WHERE namespace = :namespace
                AND state = 'processing' AND lease_until < {self.sql.now})
            UNION ALL
            SELECT 'outstayed', NULL{dual} WHERE EXISTS (
                SELECT 1 FROM {self.jobs} WHERE namespace = :namespace
                AND keep_until <= {self.sql.now} AND keep_until IS NOT NULL AND {self.let_go()})
            UNION ALL
            SELECT 'groups', NULL{dual} WHERE EXISTS (
                SELECT 1 FROM {self.groups} WHERE namespace = :namespace
                AND check_at <= {self.sql.now})
            UNION ALL
            SELECT 'scheduled', NULL{dual} WHERE EXISTS (
                SELECT 1 FROM {self.schedules} WHERE namespace = :namespace
                AND next_at <= {self.sql.now})
            UNION ALL
            SELECT 'keys', NULL{dual} WHERE EXISTS (
                SELECT 1 FROM {self.keys} WHERE namespace = :namespace
                AND check_at <= {self.sql.now})
            UNION ALL {self._said}"""

    @property
    def _said(self) -> str:
        """What :func:`jobs.stores.sql.controls.read_said` reads: a text per control that holds."""
        pause = "CASE WHEN paused_at IS NULL THEN 'open' ELSE 'paused' END"
        said = self.sql.joined(pause, "' '", "subject", "' '", "coalesce(settings, '')")
        return (
            f"SELECT 'control', {said} FROM {self.controls} WHERE namespace = :namespace "
            "AND (paused_at IS NOT NULL OR settings IS NOT NULL)"
        )

    def let_go(self, row: str = "") -> str:
        """A condition on rows of jobs: no group that is still open counts on them."""
        group_id = f"{row or self.jobs}.group_id"
        return (
            f"({group_id} IS NULL OR NOT EXISTS (SELECT 1 FROM {self.groups} g "
            f"WHERE g.id = {group_id} AND g.state = 'open'))"
        )

    @cached_property
    def said(self) -> TextClause:
        """What the controls say, alone."""
        return text(self._said)

    @property
    def not_paused(self) -> str:
        """A condition on ``j`` for rows found by their ids; lanes are known before."""
        queue = self.sql.joined("'queue/'", "j.queue")
        kind = self.sql.joined("'kind/'", "j.kind")
        return (
            f"NOT EXISTS (SELECT 1 FROM {self.controls} c WHERE c.namespace = :namespace "
            f"AND c.paused_at IS NOT NULL AND c.subject IN ('{EVERYTHING}', {queue}, {kind}))"
        )

    @cached_property
    def now(self) -> TextClause:
        return text(f"SELECT {self.sql.now} AS now")

    # -- claim --------------------------------------------------------------------------------

    def due_in(self, lane: str, limit: str, columns: str = "id, priority, run_at") -> str:
        """The first ``limit`` due rows of one lane, in order."""
        return (
            f"SELECT {columns} FROM {self.jobs} WHERE {_DUE} AND lane = {lane} "
            f"AND run_at <= {self.due_by} ORDER BY run_at, id LIMIT {limit}"
        )

    @property
    def take(self) -> str:
        """What a claim assigns, but for the start mark."""
        return (
            "state = 'processing', fence = j.fence + 1, attempts = j.attempts + 1, "
            f"lease_until = {self.sql.later(self.sql.number('lease_seconds'))}"
        )

    @property
    def claimed_columns(self) -> str:
        """What :func:`jobs.stores.sql.rows.read_claimed` reads, in its order."""
        columns = (
            "j.id, j.kind, j.queue, j.payload, j.priority, j.attempts, j.max_attempts, j.fence, "
            "j.timeout_seconds, j.backoff, j.tenant, j.run_at, j.errors, "
        )
        rare = "j.concurrency_key, j.group_id, j.chain, j.cursor, j.continues, j.version"
        match self.sql.name:
            case "postgresql":
                # Just what a Claimed holds, so that a row becomes one as it is. Attempts were
                # raised by the claim; a job that snoozed has its attempt back, but it did start.
                return (
                    f"{columns}j.started_at IS NOT NULL, coalesce(j.expires_at <= {self.sql.now} "
                    "AND j.attempts = 1 AND j.duration_ms IS NULL, false), j.cancel_requested, "
                    f"{rare}"
                )
            case "sqlite":
                # Its RETURNING knows the updated table only, and not by its alias; and expressions
                # over columns came out wrong there beside a generated column (seen with 3.40).
                columns, rare = columns.replace("j.", ""), rare.replace("j.", "")
                return f"{columns}duration_ms, expires_at, {self.sql.now} AS now, {rare}"
        # The comparison made here: an instant costs the driver time to read, row by row.
        expired = f"coalesce(j.expires_at <= {self.sql.now}, false) AS expired"
        return f"{columns}j.duration_ms, {expired}, NULL AS now, {rare}"

    # -- settle -------------------------------------------------------------------------------

    def settle(
        self,
        varying: tuple[str, ...],
        *,
        stalled_only: bool = False,
        rings: bool = False,
        continues: bool = False,
    ) -> TextClause:
        """Verdicts onto held rows; ``varying`` as :func:`row_list` tells it.

        With ``rings`` or ``continues``, what they say of those as well.
        """
        key = ("settle", varying, stalled_only, rings, continues)
        return self._once(key, lambda: self._settle(varying, stalled_only, rings, continues))

    def _settle(
        self, varying: tuple[str, ...], stalled_only: bool, rings: bool, continues: bool
    ) -> str:
        # Only v's columns and columns not assigned here are read: MySQL would see new values.
        sql, v = self.sql, Listed(self.sql, VERDICT_COLUMNS, varying)
        ends = f"({v['state']} <> 'pending' OR j.cancel_requested)"
        stopped = f"{v['state']} = 'pending' AND j.cancel_requested"
        delay, keep, error = v["delay_seconds"], v["keep_seconds"], v["error"]
        assignments = {
            "state": f"CASE WHEN {stopped} THEN 'cancelled' ELSE {v['state']} END",
            "result": v["result"],
            "error": f"CASE WHEN {stopped} THEN coalesce({error}, j.error, 'cancelled') "
            f"WHEN {v['state']} = 'pending' THEN coalesce({error}, j.error) ELSE {error} END",
            "errors": f"coalesce({v['errors']}, j.errors)",
            "attempts": f"j.attempts - {v['attempts_back']}",
            "run_at": f"CASE WHEN {v['state']} = 'pending' AND {delay} IS NOT NULL "
            f"THEN {sql.later(delay)} ELSE j.run_at END",
            "finished_at": f"CASE WHEN {ends} THEN {sql.now} ELSE NULL END",
            "keep_until": f"CASE WHEN {ends} AND {keep} IS NOT NULL "
            f"THEN {sql.later(keep)} ELSE NULL END",
            "started_at": f"CASE WHEN {ends} THEN j.started_at ELSE NULL END",
            "lease_until": "NULL",
            "duration_ms": f"coalesce({v['duration_ms']}, j.duration_ms)",
            "progress": f"coalesce({v['progress']}, j.progress)",
            "progress_note": f"coalesce({v['progress_note']}, j.progress_note)",
        }
        if rings:
            after = v["ring_after_seconds"]
            assignments["ring_at"] = (
                f"CASE WHEN {after} IS NULL THEN j.ring_at ELSE {sql.later(after)} END"
            )
        condition = f" AND j.lease_until < {sql.now}" if stalled_only else ""
        if continues:
            within = v["continue_within_seconds"]
            assignments["cursor"] = f"coalesce({v['new_cursor']}, j.cursor)"
            assignments["continues"] = f"j.continues + CASE WHEN {within} IS NULL THEN 0 ELSE 1 END"
            condition += f" AND ({within} IS NULL OR j.created_at > {sql.later(f'-({within})')})"
        return sql.update_from(self.jobs, v.columns, self._held(v) + condition, assignments)

    def _held(self, v: Listed) -> str:
        return f"j.id = {v['id']} AND j.fence = {v['fence']} AND {self.sql.still_processing}"

    # -- touch --------------------------------------------------------------------------------

    def touch(
        self, varying: tuple[str, ...], *, renew: bool = False, cursor: bool = False
    ) -> TextClause:
        """Marks and progress onto held rows; with ``renew``, a new lease as well.

        With ``cursor``, for rows of ``TOUCH_COLUMNS_WITH_CURSOR``.
        """
        key = ("touch", varying, renew, cursor)
        return self._once(key, lambda: self._touch(varying, renew, cursor))

    def _touch(self, varying: tuple[str, ...], renew: bool, cursor: bool) -> str:
        columns = TOUCH_COLUMNS_WITH_CURSOR if cursor else TOUCH_COLUMNS
        sql, v = self.sql, Listed(self.sql, columns, varying)
        assignments = {
            "started_at": f"CASE {v['started']} WHEN 1 THEN {sql.now} WHEN 0 THEN NULL "
            "ELSE j.started_at END",
            "progress": f"coalesce({v['progress']}, j.progress)",
            "progress_note": f"coalesce({v['progress_note']}, j.progress_note)",
        }
        if cursor:
            assignments["cursor"] = f"coalesce({v['new_cursor']}, j.cursor)"
        condition = ""
        if renew:
            assignments["lease_until"] = sql.later(sql.number("lease_seconds"))
        else:
            # A row that somebody asked to cancel is left out, so that the count tells of it.
            condition = " AND NOT j.cancel_requested"
        return sql.update_from(self.jobs, v.columns, self._held(v) + condition, assignments)

    def _once(self, key: Any, build: Callable[[], str]) -> TextClause:
        statement = self._built.get(key)
        if statement is None:
            statement = self._built[key] = text(build())
        return statement

    # -- insert -------------------------------------------------------------------------------

    def insert(self, *, timed: bool, rung: bool, plain: bool) -> TextClause:
        """One row; ``timed`` with a delay, an instant or an expiry, ``plain`` as most jobs are."""
        key = ("insert", timed, rung, plain)
        return self._once(key, lambda: self._insert(timed, rung, plain))

    def _insert(self, timed: bool, rung: bool, plain: bool) -> str:
        sql = self.sql
        run_at, expires_at = sql.now, "NULL"
        if timed:
            delayed = sql.later(sql.number("delay_seconds"))
            run_at = f"coalesce({sql.instant('run_at')}, {delayed})"
            expires_in = sql.number("expires_in_seconds")
            expires_at = (
                f"CASE WHEN {expires_in} IS NULL THEN NULL ELSE {sql.later(expires_in)} END"
            )
        more = {} if plain else {name: f":{name}" for name in self.RARE_COLUMNS}
        if rung:
            more["ring_at"] = sql.later(sql.number("ring_after_seconds"))
        names = "".join(f", {name}" for name in more)
        values = "".join(f", {value}" for value in more.values())
        return f"""
            INSERT INTO {self.jobs} (
                id, namespace, tenant, queue, kind, priority, state, payload, max_attempts,
                timeout_seconds, backoff, created_at, run_at, expires_at{names})
            VALUES (
                :id, :namespace, :tenant, :queue, :kind, :priority, 'pending', :payload,
                :max_attempts, {sql.number("timeout_seconds")}, :backoff, {sql.now},
                {run_at}, {expires_at}{values})
            """

    BULK_COLUMNS: Sequence[str] = (
        "id", "payload", "namespace", "tenant", "queue", "kind", "priority", "state",
        "max_attempts", "timeout_seconds", "backoff", "created_at", "run_at", "expires_at",
    )  # fmt: skip
    # What only few jobs say; inserts of plain ones leave them to their defaults.
    RARE_COLUMNS: Sequence[str] = (
        "flow", "concurrency_key", "dedupe_key", "alias", "group_id", "parent_id", "schedule",
        "slot", "chain", "version",
    )  # fmt: skip

    @staticmethod
    def bulk_columns(*, rung: bool, plain: bool) -> tuple[str, ...]:
        """The columns of a row of :func:`jobs.stores.sql.rows.bulk_rows`, in its order."""
        rare = () if plain else Statements.RARE_COLUMNS
        return (*Statements.BULK_COLUMNS, *(("ring_at",) if rung else ()), *rare)

    # -- upkeep and people --------------------------------------------------------------------

    @cached_property
    def stalled(self) -> TextClause:
        return text(
            f"SELECT {self.claimed_columns}, j.started_at, j.cancel_requested "
            f"FROM {self.jobs} j WHERE namespace = :namespace "
            f"AND state = 'processing' AND lease_until < {self.sql.now} "
            "ORDER BY lease_until LIMIT :limit"
        )

    @cached_property
    def stalled_of(self) -> TextClause:
        """As ``stalled``, of certain ids."""
        return text(
            f"SELECT {self.claimed_columns}, j.started_at, j.cancel_requested "
            f"FROM {self.jobs} j {self.sql.by_key} WHERE j.id IN :ids "
            f"AND j.namespace = :namespace AND {self.sql.still_processing} "
            f"AND j.lease_until < {self.sql.now} ORDER BY j.lease_until LIMIT :limit"
        ).bindparams(bindparam("ids", expanding=True))

    @cached_property
    def standing(self) -> TextClause:
        """How certain rows stand, and the database's present instant beside each."""
        return text(
            f"SELECT j.id, j.kind, j.queue, j.state, j.run_at, j.lease_until, {self.sql.now}, "
            f"CASE WHEN {self.not_paused} THEN 0 ELSE 1 END "
            f"FROM {self.jobs} j {self.sql.by_key} "
            "WHERE j.id IN :ids AND j.namespace = :namespace"
        ).bindparams(bindparam("ids", expanding=True))

    @cached_property
    def purge(self) -> TextClause:
        """A bounded delete."""
        return text(f"DELETE FROM {self.jobs} WHERE id IN ({self._outstayed})")

    @cached_property
    def outstayed(self) -> TextClause:
        return text(self._outstayed)

    @property
    def _outstayed(self) -> str:
        return (
            f"SELECT id FROM {self.jobs} WHERE namespace = :namespace "
            f"AND keep_until <= {self.sql.now} AND {_FINISHED} AND {self.let_go()} "
            "ORDER BY keep_until LIMIT :limit"
        )

    @cached_property
    def trim(self) -> TextClause:
        """Beyond the newest ``:keep`` of a kind."""
        return text(f"DELETE FROM {self.jobs} WHERE id IN ({self._surplus})")

    @cached_property
    def surplus(self) -> TextClause:
        return text(self._surplus)

    @property
    def _surplus(self) -> str:
        return (
            f"SELECT id FROM {self.jobs} WHERE namespace = :namespace AND kind = :kind "
            f"AND state = :state AND finished_at IS NOT NULL AND {self.let_go()} "
            "ORDER BY finished_at DESC "
            "LIMIT :limit OFFSET :keep"
        )

    @cached_property
    def delete_by_key(self) -> TextClause:
        """MySQL locks every row that a delete looks at: so it is led to those found before."""
        return text(
            f"DELETE j FROM {self.jobs} AS j FORCE INDEX (PRIMARY) "
            f"WHERE j.id IN :ids AND {_FINISHED}"
        ).bindparams(bindparam("ids", expanding=True))

    @cached_property
    def cancel(self) -> Executable:
        """What has not started ends now, what runs is asked to stop; one statement, no race.

        It answers with the row as written where the database can.
        """
        cancel = self._cancel("id = :id")
        if not self.sql.returns_updated:
            return text(cancel)
        columns = [column for column in self.tables.jobs.c if column.computed is None]
        returning = ", ".join(column.name for column in columns)
        return text(f"{cancel} RETURNING {returning}").columns(*columns)

    @cached_property
    def cancel_many(self) -> TextClause:
        """As ``cancel``, for many; it does not answer with the rows."""
        return text(self._cancel("id IN :ids")).bindparams(bindparam("ids", expanding=True))

    def _cancel(self, which: str) -> str:
        # MySQL assigns from left to right, so the state, which the others read, comes last.
        waiting = "(state = 'pending' OR started_at IS NULL)"
        return f"""
            UPDATE {self.jobs} AS j {self.sql.by_key} SET
                cancel_requested = CASE WHEN {waiting} THEN cancel_requested ELSE true END,
                error = CASE WHEN {waiting} THEN 'cancelled' ELSE error END,
                finished_at = CASE WHEN {waiting} THEN {self.sql.now} ELSE finished_at END,
                keep_until = CASE WHEN {waiting}
                    THEN {self.sql.later(self.sql.number("keep_seconds"))} ELSE keep_until END,
                lease_until = CASE WHEN {waiting} THEN NULL ELSE lease_until END,
                state = CASE WHEN {waiting} THEN 'cancelled' ELSE state END
            WHERE {which} AND namespace = :namespace AND state IN ('pending', 'processing')
            """

    @cached_property
    def clear_limits(self) -> tuple[TextClause, TextClause]:
        """What was taken and counted is forgotten; the rows stay, as runners know of them."""
        return (
            text(f"DELETE FROM {self.takings} WHERE namespace = :namespace"),
            text(
                f"UPDATE {self.limits} SET window_at = NULL, successes = 0, failures = 0, "
                "opened_at = NULL, open_until = NULL WHERE namespace = :namespace"
            ),
        )

    # -- rings --------------------------------------------------------------------------------

    @property
    def rung(self) -> str:
        """What a ring assigns to ``j``: it counts, and the next one is set further ahead."""
        sql = self.sql
        seconds = (
            f"CASE WHEN j.rings > {DOUBLINGS} THEN {LONGEST_RING_AGAIN_SECONDS} "
            f"ELSE {RING_AGAIN_SECONDS} * (1 << j.rings) END"
        )
        # MySQL assigns from left to right, so the count, which the instant reads, comes last.
        return (
            f"ring_at = CASE WHEN j.run_at > {sql.now} THEN {sql.after('j.run_at', seconds)} "
            f"ELSE {sql.later(seconds)} END, rings = j.rings + 1"
        )

    @property
    def unrung(self) -> str:
        """The rows to be rung, the longest waiting first."""
        return (
            f"SELECT id FROM {self.jobs} WHERE {_RINGING} <= {self.sql.now} "
            "ORDER BY ring_at LIMIT :limit"
        )

    @cached_property
    def ring_again(self) -> TextClause:
        return text(
            f"UPDATE {self.jobs} SET ring_at = {self.sql.now} WHERE id IN :ids AND {_DUE}"
        ).bindparams(bindparam("ids", expanding=True))
