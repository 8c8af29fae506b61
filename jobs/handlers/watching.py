"""Passes rows on while it reports how far they are, and asks now and then whether to go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

CHECKPOINT_SECONDS: Final = 1.0
"""How often work over rows asks whether to go on: each time is a statement on the jobs' store."""
WRITING_ENDS_AT: Final = 95.0
"""Percent of the progress that the rows make up; what remains is storing and mailing."""
_ROWS_PER_LOOK: Final = 100
_ROWS_PER_NOTE: Final = 10_000

Progress = Callable[[float, str], object]
Checkpoint = Callable[[], object]


def _nothing(*_: object) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of the progress some rows make up.

    first, last: percent, before the first row and after the last one
    prefix: what a note says before the numbers
    """

    first: float = 0.0
    last: float = WRITING_ENDS_AT
    prefix: str = ""


_WHOLE: Final = Share()


@dataclass(frozen=True, slots=True)
class Watch:
    """How work reports, and how it asks.

    progress: called with a percentage and a note, at most about a hundred times
    checkpoint: called every CHECKPOINT_SECONDS; what it raises ends the work there
    monotonic: the clock of the checkpoints, in seconds
    """

    progress: Progress = _nothing
    checkpoint: Checkpoint = _nothing
    monotonic: Callable[[], float] = time.monotonic

    def over(
        self,
        rows: Iterable[Sequence[Any]],
        expected_rows: int | None,
        share: Share = _WHOLE,
    ) -> Iterator[Sequence[Any]]:
        """Pass rows on; report when the percentage moves, or every 10,000 rows if it cannot.

        expected_rows: how many there will be, if that is known
        share: which part of the progress they are
        """
        reported = int(share.first)
        width = share.last - share.first
        asked_at = self.monotonic()
        for done, row in enumerate(rows, start=1):
            yield row
            if done % _ROWS_PER_LOOK:
                continue
            if expected_rows:
                reached = min(done / expected_rows, 1.0)
                percent = int(share.first + width * reached)
                if percent > reported:
                    note = f"{share.prefix}{done:,} of {expected_rows:,} rows"
                    self.progress(percent, note)
                    reported = percent
            elif done % _ROWS_PER_NOTE == 0:
                self.progress(int(share.first), f"{share.prefix}{done:,} rows")
            now = self.monotonic()
            if now - asked_at >= CHECKPOINT_SECONDS:
                asked_at = now
                self.checkpoint()


def rows_text(count: int) -> str:
    """Return "1 row" or "12,340 rows"."""
    return f"{count:,} row{'' if count == 1 else 's'}"


UNWATCHED: Final = Watch()
"""Reports to nobody, and always goes on."""
