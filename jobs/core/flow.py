"""The flow of a job: what shares a lane fairly, and what a limit by key holds back.

Jobs of one kind wait in one line per tenant and concurrency key. A flow is the short name of such a
line: it ends the job's lane (``priority/queue/kind/flow``), so that a claim steps from one tenant's
or key's jobs to the next without reading those in between.
"""

from __future__ import annotations

from hashlib import blake2b

FLOW_CHARS = 18


def flow_of(tenant: str, concurrency_key: str | None) -> str:
    """The flow of a tenant's jobs with this key: empty without either, else hexadecimal.

    A digest, since both may be any text; nine bytes of it keep two lines from meeting by chance.
    """
    if not tenant and concurrency_key is None:
        return ""
    named = f"{tenant}\0{'' if concurrency_key is None else '=' + concurrency_key}"
    return blake2b(named.encode(), digest_size=FLOW_CHARS // 2).hexdigest()


class Lane:
    """A lane taken apart."""

    __slots__ = ("flow", "kind", "priority", "queue")

    def __init__(self, lane: str) -> None:
        priority, self.queue, self.kind, self.flow = lane.split("/", 3)
        self.priority = int(priority)
