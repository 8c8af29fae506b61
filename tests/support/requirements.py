"""Skip or fail when a counterpart is missing.

On a laptop a missing database is a skip that says what would bring it. Where the whole suite has
to run, `TICKWORK_REQUIRE=postgresql,mysql,pgbouncer,faketime,node` turns that skip into a failure.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

KNOWN = ("chromium", "faketime", "mysql", "node", "pgbouncer", "postgresql", "python312")


def required() -> frozenset[str]:
    """The counterparts that must not be missing.

    Raises:
        pytest.UsageError: `TICKWORK_REQUIRE` names something unknown; a misspelt name would
            otherwise quietly bring the skips back.
    """
    named = os.environ.get("TICKWORK_REQUIRE", "").split(",")
    names = frozenset(name.strip() for name in named if name.strip())
    unknown = sorted(names.difference(KNOWN))
    if unknown:
        message = f"TICKWORK_REQUIRE names {', '.join(unknown)}; known are {', '.join(KNOWN)}"
        raise pytest.UsageError(message)
    return names


def missing(name: str, reason: str) -> NoReturn:
    """End the asking test: failed where `name` is required, skipped with `reason` elsewhere."""
    if name in required():
        pytest.fail(f"{name} is required by TICKWORK_REQUIRE: {reason}", pytrace=False)
    pytest.skip(reason)
