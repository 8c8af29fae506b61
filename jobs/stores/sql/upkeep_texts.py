"""The SQL of upkeep and of what people ask for: lost and old rows, cancels, rings."""

from __future__ import annotations

import math
from functools import cached_property

from sqlalchemy import Executable, TextClause, bindparam, text

from jobs.core.ring import LONGEST_RING_AGAIN_SECONDS, RING_AGAIN_SECONDS
from jobs.stores.sql.texts import DUE, RINGING, Texts

# After so many rings of a row the wait between them is the longest.
DOUBLINGS = math.floor(math.log2(LONGEST_RING_AGAIN_SECONDS / RING_AGAIN_SECONDS))
_FINISHED = "state IN ('completed', 'failed', 'cancelled')"


class UpkeepTexts(Texts):
    """Rows that are lost or outstayed, cancelled or to be rung."""

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
            f"SELECT id FROM {self.jobs} WHERE {RINGING} <= {self.sql.now} "
            "ORDER BY ring_at LIMIT :limit"
        )

    @cached_property
    def ring_again(self) -> TextClause:
        return text(
            f"UPDATE {self.jobs} SET ring_at = {self.sql.now} WHERE id IN :ids AND {DUE}"
        ).bindparams(bindparam("ids", expanding=True))
