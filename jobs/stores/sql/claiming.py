"""Claims leave a connection of the pool to others: results are written before more is taken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Pool, QueuePool

from jobs.core.errors import StoreUnavailable


class ClaimTurns:
    """How many claims of this process may be at the database at once: all its connections but one.

    A pool does not know who has waited longest. Claimers that come again at once would keep it
    busy, and a result that waits for a connection would outwait its lease.
    """

    def __init__(self, pool: Pool) -> None:
        most = _most(pool)
        self._wait_seconds = pool.timeout() if isinstance(pool, QueuePool) else None
        self._free = None if most is None else threading.BoundedSemaphore(max(1, most - 1))

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold one of them; a :class:`StoreUnavailable` after as long as the pool would wait."""
        if self._free is None:
            yield
            return
        if not self._free.acquire(timeout=self._wait_seconds):
            raise StoreUnavailable(
                f"no connection to the database: for {self._wait_seconds:g} s other claims of this "
                "process had all that claims may have; give the engine a larger pool"
            )
        try:
            yield
        finally:
            self._free.release()


def _most(pool: Pool) -> int | None:
    """How many connections a pool gives out at once; ``None`` for as many as are asked for."""
    if not isinstance(pool, QueuePool):
        return None
    overflow: int = pool._max_overflow
    return None if overflow < 0 or not pool.size() else pool.size() + overflow
