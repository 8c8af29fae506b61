"""What is said of a queue, beside what its kinds say of themselves."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.core.limits import Limit, RateLike, as_rate, check_at_once
from jobs.core.names import check_queue


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """A queue's settings. ``None`` leaves a setting unsaid.

    ``max_concurrency`` is how many of its jobs run at once over all processes, ``rate_limit`` how
    many start in a while (``"100/s"``), ``concurrency_in_process`` how many at once in a process.
    """

    name: str
    max_concurrency: int | None = None
    rate_limit: RateLike | None = None
    concurrency_in_process: int | None = None

    def __post_init__(self) -> None:
        check_queue(self.name)
        check_at_once("max_concurrency", self.max_concurrency)
        check_at_once("concurrency_in_process", self.concurrency_in_process)
        as_rate("rate_limit", self.rate_limit)

    @property
    def limit(self) -> Limit:
        """What holds over all processes."""
        return Limit(self.max_concurrency, as_rate("rate_limit", self.rate_limit))
