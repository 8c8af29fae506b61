"""Names of a test's cases that are the same in every process: several of them share the suite."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r" object at 0x[0-9a-f]+")


def case_id(value: object) -> str:
    """What `value` shows of itself, without where it lies in memory."""
    return _ADDRESS.sub("", ascii(value))
