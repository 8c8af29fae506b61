"""The SQL of every hot operation, written once per store from its dialect's fragments."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from sqlalchemy import TextClause, text

from jobs.core.look import EVERY_SECONDS, IDLE_SECONDS, WAITING_SECONDS
from jobs.core.store import MOST_TICKS
from jobs.stores.sql import lanes
from jobs.stores.sql.dialects import INTEGER, NUMBER, TEXT
from jobs.stores.sql.rowlist import Listed
from jobs.stores.sql.texts import DUE, RINGING
from jobs.stores.sql.upkeep_texts import UpkeepTexts

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


class Statements(UpkeepTexts):
    """Texts for one dialect, one set of tables.

    With ``overdue``, a row is due only once it was for ``:overdue_seconds``.
    """

    # -- what is there ------------------------------------------------------------------------

    def live(self, beside: str, *, flows: bool) -> TextClause:
        """One statement: the live lanes, and what is asked beside them.

        ``beside`` is ``said``, ``upkeep`` or ``upkeep and rings`` (see :meth:`beside`); with
        ``flows`` more than one flow of a lane is told.
        """
        return self._once(("live", beside, flows), lambda: self._live(beside, flows))

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
                SELECT 1 FROM {self.jobs} WHERE {RINGING} <= {self.sql.now})"""

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
            UNION ALL
            SELECT 'ticks', NULL{dual} WHERE EXISTS (
                SELECT 1 FROM (SELECT ended_at FROM {self.ticks} WHERE namespace = :namespace
                ORDER BY ended_at DESC LIMIT 1 OFFSET {MOST_TICKS}) AS surplus)
            UNION ALL
            SELECT 'alerts', {self._look_at_alerts}{dual}
            UNION ALL
            SELECT 'now', {self.sql.now_as_text}{dual}
            UNION ALL {self._said}"""

    @property
    def _look_at_alerts(self) -> str:
        """A value of :class:`jobs.core.look.Look`, as text. Where nobody ever looked, a tick that
        runs jobs does once there is one of a while ago to look at."""

        def by(seconds: float) -> str:
            return self.sql.later(f"-{seconds}")

        mine = "namespace = :namespace"
        clock = (
            f"(SELECT CASE WHEN level <> 'ok' AND checked_at <= {by(EVERY_SECONDS)} THEN '3' "
            f"WHEN checked_at <= {by(IDLE_SECONDS)} THEN '3' "
            f"WHEN checked_at <= {by(WAITING_SECONDS)} THEN '2' "
            f"WHEN checked_at <= {by(EVERY_SECONDS)} THEN '1' ELSE '0' END "
            f"FROM {self.alerts} WHERE {mine} AND name = '' AND subject = '')"
        )
        first = (
            f"CASE WHEN EXISTS (SELECT 1 FROM {self.ticks} WHERE {mine} "
            f"AND ended_at <= {by(EVERY_SECONDS)}) THEN '1' ELSE '0' END"
        )
        return f"coalesce({clock}, {first})"

    @property
    def _said(self) -> str:
        """What :func:`jobs.stores.sql.controls.read_said` reads: a text per control that holds."""
        pause = "CASE WHEN paused_at IS NULL THEN 'open' ELSE 'paused' END"
        said = self.sql.joined(pause, "' '", "subject", "' '", "coalesce(settings, '')")
        return (
            f"SELECT 'control', {said} FROM {self.controls} WHERE namespace = :namespace "
            "AND (paused_at IS NOT NULL OR settings IS NOT NULL)"
        )

    @cached_property
    def said(self) -> TextClause:
        """What the controls say, alone."""
        return text(self._said)

    @cached_property
    def now(self) -> TextClause:
        return text(f"SELECT {self.sql.now} AS now")

    # -- claim --------------------------------------------------------------------------------

    def due_in(self, lane: str, limit: str, columns: str = "id, priority, run_at") -> str:
        """The first ``limit`` due rows of one lane, in order."""
        return (
            f"SELECT {columns} FROM {self.jobs} WHERE {DUE} AND lane = {lane} "
            f"AND run_at <= {self.due_by} ORDER BY run_at, id LIMIT {limit}"
        )

    @property
    def take(self) -> str:
        """What a claim assigns, but for the start mark."""
        return (
            "state = 'processing', fence = j.fence + 1, attempts = j.attempts + 1, "
            f"lease_until = {self.sql.later(self.sql.number('lease_seconds'))}"
        )

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
        "slot", "chain", "version", "trace",
    )  # fmt: skip

    @staticmethod
    def bulk_columns(*, rung: bool, plain: bool) -> tuple[str, ...]:
        """The columns of a row of :func:`jobs.stores.sql.rows.bulk_rows`, in its order."""
        rare = () if plain else Statements.RARE_COLUMNS
        return (*Statements.BULK_COLUMNS, *(("ring_at",) if rung else ()), *rare)
