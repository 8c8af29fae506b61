"""What a claim looks at, and whether that takes turns."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from jobs.core.flow import parsed
from jobs.core.limits import Limit, Limits
from jobs.stores.sql.lanes import has_flow


class Wanted(NamedTuple):
    """What a claim looks at: lanes with the limits on each, and all of those by name.

    With ``ids`` only those rows of the lanes.
    """

    lanes: dict[str, tuple[str, ...]]
    limits: dict[str, Limit]
    ids: list[str] | None = None

    @classmethod
    def of(cls, lanes: Collection[str], limits: Limits, ids: list[str] | None = None) -> Wanted:
        """Everything that holds for these lanes."""
        names: dict[str, tuple[str, ...]] = {}
        by_name: dict[str, Limit] = {}
        for lane in lanes:
            found = limits.of_lane(parsed(lane))
            names[lane] = tuple(found)
            by_name.update(found)
        return cls(names, by_name, ids)

    @classmethod
    def in_turns(cls, lanes: Collection[str], limits: Limits | None) -> Wanted | None:
        """The same, if a claim of these lanes is more than taking the best rows; else ``None``."""
        has_turns = any(map(has_flow, lanes))
        if not has_turns and not limits:
            return None
        wanted = cls.of(lanes, limits or Limits())
        return wanted if has_turns or wanted.limits else None
