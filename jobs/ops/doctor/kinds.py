"""The kinds that are handled here, and whether a tick has time for them."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.core.deadline import LEASE_MARGIN_SECONDS, tick_budget
from jobs.ops.doctor.base import Family, Finding, Surroundings, error, warning


def no_handlers(around: Surroundings) -> Iterator[Finding]:
    """A deployment that can run nothing."""
    if around.registry is None or around.registry.kinds:
        return
    named = around.settings.handlers if around.settings is not None else ()
    if named:
        yield error(
            "handlers-empty",
            f"no handler was found in {', '.join(named)} (JOBS_HANDLERS): nothing can run",
            "declare them with @handler(...) or @tickwork.handler(...) in those modules, or name "
            "the right ones",
        )
    else:
        yield warning(
            "handlers-missing",
            "JOBS_HANDLERS names no modules, so no kind is known from here",
            "set JOBS_HANDLERS to the modules with your handlers, as in JOBS_HANDLERS=shop.tasks",
        )


def long_kinds(around: Surroundings) -> Iterator[Finding]:
    """Kinds whose timeout is longer than any tick."""
    settings = around.settings
    if settings is None or around.registry is None:
        return
    budget = tick_budget(0.0, 0.0, settings.time_budget, settings.tick_limit)
    for kind in sorted(around.registry.kinds):
        timeout = around.registry.get(kind).timeout
        if timeout is not None and timeout > budget.give_up_deadline:
            yield warning(
                "kind-fits-no-tick",
                f"kind {kind!r} may take {timeout:g} s, but a tick ends after "
                f"{budget.give_up_deadline:g} s: it only starts first in a tick, and is cut off "
                "there",
                f"raise JOBS_TICK_LIMIT (and the platform's limit) above {timeout:g} s, lower the "
                "kind's timeout, or do the work over many ticks",
            )


def long_leases(around: Surroundings) -> Iterator[Finding]:
    """A tick limit so long that a dead runner's jobs wait for hours."""
    settings = around.settings
    if settings is None:
        return
    if settings.tick_limit > 3600:
        lease = settings.tick_limit + LEASE_MARGIN_SECONDS
        yield warning(
            "lease-long",
            f"JOBS_TICK_LIMIT is {settings.tick_limit:g} s, longer than any platform lets a "
            f"function run: the jobs of a runner that died wait for {lease:g} s",
            "set it to the platform's limit",
        )


FAMILY = Family("kinds", (no_handlers, long_kinds, long_leases))
