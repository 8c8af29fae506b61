"""Jobs that run because a message named them: the claims of a store, fed by a queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

from jobs.core.doorbell import Ring
from jobs.core.job import TERMINAL, Claimed
from jobs.core.ring import Message
from jobs.doorbells.sqs import SqsDoorbell
from jobs.stores.sql import SqlStore


class Hints:
    """The ids that messages have named and whose jobs have not ended; shared by all receivers.

    A message whose job cannot be run yet is kept, as a consumer keeps it by its visibility. In
    ``ring`` are the systems' own rings for what waits, for tests that claim by hand and never tick.
    """

    def __init__(self, receive: Callable[[], list[Message]]) -> None:
        self.receive = receive
        self.ring: list[Callable[[], Any]] = []
        self.lock = threading.RLock()
        self.ids: dict[str, None] = {}
        self.are_coming = False

    def look(self) -> list[str]:
        """What is known after receiving all that there is, if anything was sent at all."""
        with self.lock:
            for ring in self.ring:
                ring()
            if self.are_coming:
                self.are_coming = False
                self.ids.update(dict.fromkeys(message.job_id for message in self.receive()))
            return list(self.ids)


class NotedBell(SqsDoorbell):
    """Notes that there will be something to receive: a queue need not be asked in vain."""

    hints: Hints

    def ring(self, rings: Sequence[Ring]) -> list[str]:
        """As ever."""
        try:
            return super().ring(rings)
        finally:
            self.hints.are_coming = True


class DeliveredStore(SqlStore):
    """A store on which nothing is claimed but what messages named: no row is looked for."""

    hints: Hints

    def claim(
        self,
        limit: int,
        *,
        ids: Collection[str] | None = None,
        overdue_seconds: float = 0.0,
        **options: Any,
    ) -> list[Claimed]:
        """As any store does by ids; those of the messages unless some are given."""
        if ids is not None:
            return super().claim(limit, ids=ids, **options)
        with self.hints.lock:
            named = self.hints.look()
            claimed = super().claim(limit, ids=named, **options)
            for job in claimed:
                del self.hints.ids[job.id]
            standing = self.standing(named)
            for job_id in named:
                if job_id not in standing or standing[job_id].state in TERMINAL:
                    self.hints.ids.pop(job_id, None)
        return claimed

    def due_count(
        self,
        kinds: Collection[str],
        cap: int,
        lanes: Sequence[str] | None = None,
        *,
        overdue_seconds: float = 0.0,
    ) -> int:
        """All that is due: whoever is driven by messages waits for no overdue row."""
        return super().due_count(kinds, cap, lanes)
