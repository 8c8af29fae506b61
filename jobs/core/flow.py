"""The flow of a job: what shares a lane fairly, and what a limit by key holds back.

Jobs of one kind wait in one line per tenant and concurrency key. A flow is the short name of such a
line: it ends the job's lane (``priority/queue/kind/flow``), so that a claim steps from one tenant's
or key's jobs to the next without reading those in between.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

# The tenant stands first, so that all lines of one are neighbours and can be stepped over at once.
TENANT_CHARS, KEY_CHARS = 10, 14
FLOW_CHARS = TENANT_CHARS + KEY_CHARS
# Sorts after every flow of a base lane, and after every key of a tenant.
PAST_FLOWS = "g"


def flow_of(tenant: str, concurrency_key: str | None) -> str:
    """The flow of a tenant's jobs with this key: empty without either, else hexadecimal.

    Digests, since both may be any text; the lines of one tenant share their beginning. Two tenants
    whose digests meet only share their turns; the key's digest covers the tenant as well.
    """
    if not tenant and concurrency_key is None:
        return ""
    line = f"{tenant}\0{'' if concurrency_key is None else '=' + concurrency_key}"
    return _digest(tenant, TENANT_CHARS) + _digest(line, KEY_CHARS)


def _digest(text: str, chars: int) -> str:
    return blake2b(text.encode(), digest_size=chars // 2).hexdigest()


class Lane:
    """A lane taken apart; ``owner`` is the part of the flow that all lines of a tenant share."""

    __slots__ = ("flow", "kind", "owner", "priority", "queue")

    def __init__(self, lane: str) -> None:
        priority, self.queue, self.kind, self.flow = lane.split("/", 3)
        self.priority = int(priority)
        self.owner = self.flow[:TENANT_CHARS] or _NOBODY


@lru_cache(maxsize=4096)
def parsed(lane: str) -> Lane:
    """The lane taken apart; claims ask for the same ones again and again."""
    return Lane(lane)


# A job without a tenant takes its turns with those that have only a key.
_NOBODY = _digest("", TENANT_CHARS)
