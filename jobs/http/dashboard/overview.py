"""The first page: how many jobs stand where, the queues, the cron's heartbeat, what fails."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from flask import Response

from jobs.core.alerts import worst_first
from jobs.core.failures import grouped
from jobs.core.job import SHOWN_STATES
from jobs.core.store import Board, QueueCount
from jobs.http.dashboard import rhythm
from jobs.http.dashboard.desk import Desk
from jobs.http.dashboard.words import number

COUNT_CAP = 10_000
# Of each lane: there may be many, and a page counts them all.
BOARD_CAP = 1000
FAILURES_LOOKED_AT = 2000
GROUPS_SHOWN = 8


class Tile(NamedTuple):
    """How many jobs are in a shown state."""

    shown: str
    jobs: int
    capped: bool


class QueueRow(NamedTuple):
    """A queue at a glance."""

    name: str
    counts: dict[str, QueueCount]
    waiting: int
    waiting_capped: bool
    oldest_at: datetime | None
    is_paused: bool

    def sum(self, *shown: str) -> str:
        """How many are in these shown states."""
        found = [self.counts[each] for each in shown if each in self.counts]
        return number(sum(each.jobs for each in found), any(each.capped for each in found))

    def has(self, shown: str) -> bool:
        """Whether any is in this state."""
        return shown in self.counts


def show(desk: Desk) -> Response:
    """``GET /``."""
    board = desk.store.board(BOARD_CAP if desk.tenant is None else COUNT_CAP, desk.tenant)
    desk.now = board.now
    has_failed = any(each.shown == "failed" for each in board.counts)
    failures = desk.store.failures(FAILURES_LOOKED_AT, desk.tenant) if has_failed else []
    groups = grouped(failures)
    known = {handler.queue for handler in desk.tickwork.registry}
    # Ticks and alerts tell of everybody's jobs: they are not one tenant's to see.
    seen = rhythm.glance(desk) if desk.tenant is None else None
    return desk.page(
        "overview.html",
        tiles=tiles(board),
        queues=queue_rows(board, known if desk.tenant is None else ()),
        heart=rhythm.heartbeat(desk, seen.ticks) if seen else None,
        activity=rhythm.by_queue(desk, seen.buckets if seen else rhythm.lately(desk)),
        groups=groups[:GROUPS_SHOWN],
        more_groups=max(0, len(groups) - GROUPS_SHOWN),
        looked_at=len(failures) if len(failures) >= FAILURES_LOOKED_AT else None,
        all_paused="queue/all" in board.paused,
        alerts=[each for each in worst_first(seen.alerts if seen else ()) if each.is_open],
    )


def tiles(board: Board) -> list[Tile]:
    """A tile for each state that is counted: those that have ended well are history."""
    found: dict[str, list[QueueCount]] = defaultdict(list)
    for each in board.counts:
        found[each.shown].append(each)
    return [
        Tile(
            shown,
            min(COUNT_CAP, sum(each.jobs for each in found[shown])),
            any(each.capped for each in found[shown])
            or sum(each.jobs for each in found[shown]) > COUNT_CAP,
        )
        for shown in SHOWN_STATES
        if shown != "completed"
    ]


def queue_rows(board: Board, known: Iterable[str]) -> list[QueueRow]:
    """The queues, those of the code as well that have no jobs."""
    found: dict[str, dict[str, QueueCount]] = {name: {} for name in known}
    for each in board.counts:
        found.setdefault(each.queue, {})[each.shown] = each
    rows = []
    for name, counts in sorted(found.items()):
        waits = [counts[shown] for shown in ("pending", "paused") if shown in counts]
        rows.append(
            QueueRow(
                name,
                counts,
                sum(each.jobs for each in waits),
                any(each.capped for each in waits),
                min((each.oldest_at for each in waits if each.oldest_at), default=None),
                f"queue/{name}" in board.paused or "queue/all" in board.paused,
            )
        )
    return rows
