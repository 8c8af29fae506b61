"""The SQL of every hot operation, written once per store from its dialect's fragments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

from sqlalchemy import TextClause, bindparam, text

from jobs.core.ring import LONGEST_RING_AGAIN_SECONDS, RING_AGAIN_SECONDS
from jobs.stores.sql.dialects import INTEGER, NUMBER, TEXT, DialectSql
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
)
RUNG_VERDICT_COLUMNS = (*VERDICT_COLUMNS, ("ring_after_seconds", NUMBER))
TOUCH_COLUMNS = (
    ("id", TEXT),
    ("fence", INTEGER),
    ("started", INTEGER),
    ("progress", NUMBER),
    ("progress_note", TEXT),
)
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
        prefix = f"{tables.schema}." if tables.schema else ""
        self.jobs = f"{prefix}{tables.jobs.name}"

    # -- what is there ------------------------------------------------------------------------

    @property
    def _lanes(self) -> str:
        """The lanes that hold pending rows, each found by one step down the index."""
        return f"""
            lanes(lane) AS (
                SELECT (SELECT min(lane) FROM {self.jobs} WHERE {_DUE})
                UNION ALL
                SELECT (SELECT min(j.lane) FROM {self.jobs} j
                        WHERE j.namespace = :namespace AND j.state = 'pending'
                          AND j.lane > lanes.lane)
                FROM lanes WHERE lanes.lane IS NOT NULL
            )"""

    @cached_property
    def probe(self) -> TextClause:
        """One statement: the live lanes, whether a lease ran out, whether a row outstayed."""
        return text(self._probe)

    @cached_property
    def probe_with_rings(self) -> TextClause:
        """As ``probe``, and whether a row is to be rung."""
        return text(f"""{self._probe}
            UNION ALL
            SELECT 'unrung', NULL{self._dual} WHERE EXISTS (
                SELECT 1 FROM {self.jobs} WHERE {_RINGING} <= {self.sql.now})
            """)

    @property
    def _dual(self) -> str:
        return " FROM DUAL" if self.sql.name == "mysql" else ""

    @property
    def _probe(self) -> str:
        dual = self._dual
        return f"""
            WITH RECURSIVE {self._lanes}
            SELECT 'lane' AS what, lane FROM lanes WHERE lane IS NOT NULL
            UNION ALL
            SELECT 'stalled', NULL{dual} WHERE EXISTS (
                SELECT 1 FROM {self.jobs} WHERE namespace = :namespace
                AND state = 'processing' AND lease_until < {self.sql.now})
            UNION ALL
            SELECT 'outstayed', NULL{dual} WHERE EXISTS (
                SELECT 1 FROM {self.jobs} WHERE namespace = :namespace
                AND keep_until <= {self.sql.now} AND keep_until IS NOT NULL)
            """

    @cached_property
    def lanes(self) -> TextClause:
        """The live lanes alone."""
        return text(f"WITH RECURSIVE {self._lanes} SELECT lane FROM lanes WHERE lane IS NOT NULL")

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
        """What :func:`jobs.stores.sql.rows.to_claimed` reads, in its order.

        Whether a row is marked and cancelled is not among them: the first ``mark`` rows are, and a
        pending row never is.
        """
        columns = (
            "j.id, j.kind, j.queue, j.payload, j.priority, j.attempts, j.max_attempts, j.fence, "
            "j.timeout_seconds, j.backoff, j.tenant, j.run_at, j.errors, "
        )
        if self.sql.name == "sqlite":
            # Its RETURNING knows the updated table only, and not by its alias; and expressions over
            # columns came out wrong there beside a generated column (seen with SQLite 3.40).
            return columns.replace("j.", "") + f"duration_ms, expires_at, {self.sql.now} AS now"
        # The comparison made here: an instant costs the driver time to read, row by row.
        expired = f"coalesce(j.expires_at <= {self.sql.now}, false) AS expired"
        return f"{columns}j.duration_ms, {expired}, NULL AS now"

    # -- settle -------------------------------------------------------------------------------

    @cached_property
    def settle(self) -> TextClause:
        return text(self._settle(""))

    @cached_property
    def settle_stalled(self) -> TextClause:
        return text(self._settle(f" AND j.lease_until < {self.sql.now}"))

    @cached_property
    def settle_and_ring(self) -> TextClause:
        return text(self._settle("", rings=True))

    @cached_property
    def settle_stalled_and_ring(self) -> TextClause:
        return text(self._settle(f" AND j.lease_until < {self.sql.now}", rings=True))

    def _settle(self, condition: str, *, rings: bool = False) -> str:
        # Only v's columns and columns not assigned here are read: MySQL would see new values.
        ends = "(v.state <> 'pending' OR j.cancel_requested)"
        stopped = "v.state = 'pending' AND j.cancel_requested"
        sql = self.sql
        assignments = {
            "state": f"CASE WHEN {stopped} THEN 'cancelled' ELSE v.state END",
            "result": "v.result",
            "error": f"CASE WHEN {stopped} THEN coalesce(v.error, j.error, 'cancelled') "
            "WHEN v.state = 'pending' THEN coalesce(v.error, j.error) ELSE v.error END",
            "errors": "coalesce(v.errors, j.errors)",
            "attempts": "j.attempts - v.attempts_back",
            "run_at": "CASE WHEN v.state = 'pending' AND v.delay_seconds IS NOT NULL "
            f"THEN {sql.later('v.delay_seconds')} ELSE j.run_at END",
            "finished_at": f"CASE WHEN {ends} THEN {sql.now} ELSE NULL END",
            "keep_until": f"CASE WHEN {ends} AND v.keep_seconds IS NOT NULL "
            f"THEN {sql.later('v.keep_seconds')} ELSE NULL END",
            "started_at": f"CASE WHEN {ends} THEN j.started_at ELSE NULL END",
            "lease_until": "NULL",
            "duration_ms": "coalesce(v.duration_ms, j.duration_ms)",
            "progress": "coalesce(v.progress, j.progress)",
            "progress_note": "coalesce(v.progress_note, j.progress_note)",
        }
        if rings:
            assignments["ring_at"] = (
                "CASE WHEN v.ring_after_seconds IS NULL THEN j.ring_at "
                f"ELSE {sql.later('v.ring_after_seconds')} END"
            )
        columns = RUNG_VERDICT_COLUMNS if rings else VERDICT_COLUMNS
        return sql.update_from(self.jobs, columns, self._held + condition, assignments)

    @property
    def _held(self) -> str:
        return f"j.id = v.id AND j.fence = v.fence AND {self.sql.still_processing}"

    # -- touch --------------------------------------------------------------------------------

    @cached_property
    def touch(self) -> TextClause:
        # A row that somebody asked to cancel is left out, so that the count tells of it.
        return text(self._touch({}, " AND NOT j.cancel_requested"))

    @cached_property
    def touch_and_renew(self) -> TextClause:
        lease = self.sql.later(self.sql.number("lease_seconds"))
        return text(self._touch({"lease_until": lease}))

    def _touch(self, more: dict[str, str], condition: str = "") -> str:
        assignments = {
            "started_at": f"CASE v.started WHEN 1 THEN {self.sql.now} WHEN 0 THEN NULL "
            "ELSE j.started_at END",
            "progress": "coalesce(v.progress, j.progress)",
            "progress_note": "coalesce(v.progress_note, j.progress_note)",
            **more,
        }
        return self.sql.update_from(self.jobs, TOUCH_COLUMNS, self._held + condition, assignments)

    # -- insert -------------------------------------------------------------------------------

    @cached_property
    def insert(self) -> TextClause:
        """One row, due at once."""
        return text(self._insert(self.sql.now, "NULL"))

    @cached_property
    def insert_timed(self) -> TextClause:
        """One row with a delay, an instant or an expiry."""
        return text(self._insert(*self._times))

    @cached_property
    def insert_rung(self) -> TextClause:
        """One row, due at once, with a time to be rung."""
        return text(self._insert(self.sql.now, "NULL", *self._ring))

    @cached_property
    def insert_timed_rung(self) -> TextClause:
        """One row with a delay, an instant or an expiry, and a time to be rung."""
        return text(self._insert(*self._times, *self._ring))

    @property
    def _times(self) -> tuple[str, str]:
        sql = self.sql
        expires_in = sql.number("expires_in_seconds")
        return (
            f"coalesce({sql.instant('run_at')}, {sql.later(sql.number('delay_seconds'))})",
            f"CASE WHEN {expires_in} IS NULL THEN NULL ELSE {sql.later(expires_in)} END",
        )

    @property
    def _ring(self) -> tuple[str, str]:
        return ", ring_at", f", {self.sql.later(self.sql.number('ring_after_seconds'))}"

    def _insert(self, run_at: str, expires_at: str, column: str = "", value: str = "") -> str:
        return f"""
            INSERT INTO {self.jobs} (
                id, namespace, tenant, queue, kind, priority, state, payload, max_attempts,
                timeout_seconds, backoff, created_at, run_at, expires_at{column})
            VALUES (
                :id, :namespace, :tenant, :queue, :kind, :priority, 'pending', :payload,
                :max_attempts, {self.sql.number("timeout_seconds")}, :backoff, {self.sql.now},
                {run_at}, {expires_at}{value})
            """

    BULK_COLUMNS: Sequence[str] = (
        "id", "payload", "namespace", "tenant", "queue", "kind", "priority", "state",
        "max_attempts", "timeout_seconds", "backoff", "created_at", "run_at", "expires_at",
    )  # fmt: skip
    RUNG_BULK_COLUMNS: Sequence[str] = (*BULK_COLUMNS, "ring_at")

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
            f"SELECT j.id, j.kind, j.queue, j.state, j.run_at, j.lease_until, {self.sql.now} "
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
            f"AND keep_until <= {self.sql.now} AND {_FINISHED} ORDER BY keep_until LIMIT :limit"
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
            "AND state = :state AND finished_at IS NOT NULL ORDER BY finished_at DESC "
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
    def cancel(self) -> TextClause:
        """What has not started ends now, what runs is asked to stop; one statement, no race.

        MySQL assigns from left to right, so the state, which the others read, comes last.
        """
        waiting = "(state = 'pending' OR started_at IS NULL)"
        return text(f"""
            UPDATE {self.jobs} SET
                cancel_requested = CASE WHEN {waiting} THEN cancel_requested ELSE true END,
                error = CASE WHEN {waiting} THEN 'cancelled' ELSE error END,
                finished_at = CASE WHEN {waiting} THEN {self.sql.now} ELSE finished_at END,
                keep_until = CASE WHEN {waiting}
                    THEN {self.sql.later(self.sql.number("keep_seconds"))} ELSE keep_until END,
                lease_until = CASE WHEN {waiting} THEN NULL ELSE lease_until END,
                state = CASE WHEN {waiting} THEN 'cancelled' ELSE state END
            WHERE id = :id AND namespace = :namespace AND state IN ('pending', 'processing')
            """)

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
