"""The least that a consumer does: claim what the messages name, run it, keep what waits."""

from __future__ import annotations

import contextvars
from collections.abc import Sequence

from msgspec.structs import replace

from jobs import Tickwork
from jobs.core.deadline import tick_budget
from jobs.core.ring import Message, current_hops
from jobs.runtime.execute import Batch, BatchReport


def consume(tickwork: Tickwork, messages: Sequence[Message]) -> BatchReport:
    """Run what these messages name and may run now; it does not ring for what waits again."""
    runtime = replace(tickwork._runtime, rings_settled=False)
    now = runtime.clock.monotonic()
    budget = tick_budget(now, now, 300.0, 600.0)

    def run() -> BatchReport:
        current_hops.set(max((message.hops for message in messages), default=0))
        claimed = runtime.store.claim(
            len(messages),
            kinds=runtime.registry.kinds,
            lease_seconds=budget.lease_seconds,
            mark=len(messages),
            ids=[message.job_id for message in messages],
        )
        return Batch(runtime, claimed, budget, slots=4).run()

    return contextvars.copy_context().run(run)
