"""Many jobs at once: which are meant, how that is confirmed, and what is done to just those.

A set is a list of ids. What confirms it is a digest of the act, the filter and these ids: if
others are found by then, nothing is done. Each statement concerns a bounded number of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from jobs.core.errors import ConfigurationError, NotAllowed
from jobs.core.job import TERMINAL, State
from jobs.runtime.steer import Which
from jobs.system import Tickwork

# At most so many at once: what there is more comes with the next call.
MOST_AT_ONCE = 100_000
_ACTS = {
    "retry": (State.FAILED, State.CANCELLED),
    "cancel": (State.PENDING, State.PROCESSING),
    "delete": (State.PENDING, *TERMINAL),
}


class Chosen(NamedTuple):
    """The jobs that an act on a filter concerns, oldest first, and the word that confirms them.

    ``more`` says that there are more than may be changed at once.
    """

    action: str
    ids: tuple[str, ...]
    more: bool
    confirm: str

    @property
    def found(self) -> int:
        """How many they are."""
        return len(self.ids)


class NotConfirmed(NotAllowed):
    """The jobs of a filter are not those that were confirmed; ``chosen`` are those of now."""

    def __init__(self, chosen: Chosen) -> None:
        self.chosen = chosen
        super().__init__(
            f"this concerns {chosen.found:,} jobs now, and not the same as before: look again, and "
            "confirm these"
        )


class Spread(NamedTuple):
    """How jobs are retried: with so many ``attempts``, and so many due each second."""

    attempts: int | None = None
    per_second: float | None = None


def choose(tickwork: Tickwork, action: str, state: State, which: Which) -> Chosen:
    """The jobs of a filter, or a ConfigurationError for an act that is not for such."""
    _check(action, state)
    ids = tickwork.ids_of(state, limit=MOST_AT_ONCE + 1, **which)
    some = tuple(ids[:MOST_AT_ONCE])
    said = json.dumps([action, str(state), sorted(which.items()), *some], default=str)
    # Not a secret: it tells one set from another, so that a mistake is noticed.
    confirm = hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Chosen(action, some, len(ids) > len(some), confirm)


def change(
    tickwork: Tickwork,
    action: str,
    ids: Sequence[str],
    *,
    by: str,
    state: State | None = None,
    spread: Spread = Spread(),  # noqa: B008 - a tuple
) -> int:
    """Do it to the jobs with these ids, as far as they still are in ``state`` or allow it.

    Returns how many.
    """
    match action:
        case "retry":
            return tickwork.retry_these(
                ids, by=by, attempts=spread.attempts, per_second=spread.per_second
            )
        case "cancel":
            return tickwork.cancel_these(ids)
        case "delete":
            return tickwork.remove_these(ids, state=state)
    raise ConfigurationError(f"{action!r} is not done to many: there are {', '.join(_ACTS)}")


def _check(action: str, state: State) -> None:
    allowed = _ACTS.get(action)
    if allowed is None:
        raise ConfigurationError(f"{action!r} is not done to many: there are {', '.join(_ACTS)}")
    if state not in allowed:
        listed = ", ".join(allowed)
        raise ConfigurationError(f"{action} is for jobs that are {listed}, not {state}")
