"""Who may do what with an escrow in which state. Pure: no database, no HTTP.

    created -> funded -> releasing -> released
                      -> refunding -> refunded
                      -> disputed  -> releasing | refunding, by an arbiter

`releasing` and `refunding` are written before money is asked to move. So a process that dies there
leaves a row that says what it was about, and nobody can ask for the opposite meanwhile.
"""

from __future__ import annotations

from typing import Final

MOVING: Final = {"release": "releasing", "refund": "refunding"}
"""The state while an action's money moves."""
DONE: Final = {"release": "released", "refund": "refunded", "dispute": "disputed"}

_FROM: Final = {
    ("buyer", "release"): "funded",
    ("seller", "refund"): "funded",
    ("buyer", "dispute"): "funded",
    ("seller", "dispute"): "funded",
    ("arbiter", "release"): "disputed",
    ("arbiter", "refund"): "disputed",
}


class NotAllowedError(Exception):
    """The state machine says no; the text says why."""


def check(action: str, role: str, status: str) -> bool:
    """Whether the action begins now; false: it has begun before and may go on.

    Raises NotAllowedError for everything else.
    """
    start = _FROM.get((role, action))
    if start is None:
        raise NotAllowedError(f"a {role} cannot {action} an escrow")
    if status == MOVING.get(action):
        return False
    if status != start:
        raise NotAllowedError(f"an escrow that is {status} cannot be asked to {action}")
    return True
