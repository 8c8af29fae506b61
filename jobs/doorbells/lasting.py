"""What keeps an instance awake after its response: Vercel's `waitUntil`."""

from __future__ import annotations

import sys
from collections.abc import Callable


def stay_awake(until: Callable[[], object]) -> None:
    """Ask the platform not to freeze this instance before ``until`` returns, in its own thread.

    For Vercel's Python where the application has the package ``vercel``: its runtime hands each
    request what to call. Elsewhere, and outside a request, ``until`` is not called.
    """
    # The runtime imports this as a request begins. Where it did not, nobody would listen, and
    # importing it here would cost a tenth of a second.
    context = sys.modules.get("vercel.cache.context")
    wait_until = context.get_context().wait_until if context is not None else None
    if wait_until is not None:
        import asyncio

        wait_until(asyncio.to_thread(until))
