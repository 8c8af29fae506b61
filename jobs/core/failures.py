"""Failures that are one and the same: told by their kind and the first line of their error.

What differs from job to job in that line (numbers, ids, addresses) is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from jobs.core.store import Failure

LINE_MAX_CHARS = 200
_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_HEX = r"0x[0-9a-fA-F]+|\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b"
_NUMBER = r"\d+(?:[.,:]\d+)*"
_VARYING = re.compile(f"{_UUID}|{_HEX}|{_NUMBER}")


def error_line(error: str | None) -> str:
    """The first line of an error without what varies; failures with the same line are a group.

    >>> error_line("ValueError: order 4711 has no address\\nmore")
    'ValueError: order … has no address'
    """
    for line in (error or "").splitlines():
        if line.strip():
            return _VARYING.sub("…", line.strip()[: 2 * LINE_MAX_CHARS])[:LINE_MAX_CHARS]
    return "no error was written down"


class FailureGroup(NamedTuple):
    """Failures of one kind with the same line; ``example`` is the newest of them."""

    kind: str
    line: str
    ids: tuple[str, ...]
    example: Failure
    newest_at: datetime | None
    oldest_at: datetime | None

    @property
    def jobs(self) -> int:
        """How many they are."""
        return len(self.ids)


def grouped(failures: Iterable[Failure]) -> list[FailureGroup]:
    """Failures, newest first, in their groups, the largest group first."""
    found: dict[tuple[str, str], list[Failure]] = {}
    for failure in failures:
        found.setdefault((failure.kind, error_line(failure.error)), []).append(failure)
    groups = []
    for (kind, line), members in found.items():
        times = [each.finished_at for each in members if each.finished_at is not None]
        groups.append(
            FailureGroup(
                kind,
                line,
                tuple(each.id for each in members),
                members[0],
                max(times, default=None),
                min(times, default=None),
            )
        )
    return sorted(groups, key=lambda group: (-group.jobs, group.kind, group.line))
