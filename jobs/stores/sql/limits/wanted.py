"""What a claim looks at, and whether it needs turns."""

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


def need_turns(lanes: Collection[str], limits: Limits | None) -> bool:
    """Whether a claim of these lanes is more than taking the best rows."""
    if any(map(has_flow, lanes)):
        return True
    return bool(limits) and any(limits.of_lane(parsed(lane)) for lane in lanes)  # type: ignore[union-attr]
