"""Queues by the name of a kind of application: a start to be changed, not a rule.

Numbers that an application's own description gives; what it leaves open is left unsaid here, so the
settings' defaults hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from jobs.core.backoff import exponential, fixed
from jobs.core.errors import ConfigurationError
from jobs.core.queues import QueueSettings as Q

_HOUR = 3600.0
# Base 5 s, factor 5: 5, 25, 125, 625 s. Webhooks begin at 10 s.
_BY_FIVE, _WEBHOOKS_BY_FIVE = exponential(5, factor=5), exponential(10, factor=5)
# Immediate, 2 s, 4 s.
_BY_TWO = exponential(2)

PRESETS: Mapping[str, Mapping[str, Q]] = MappingProxyType(
    {
        "ecommerce": {
            "email": Q(max_concurrency=5, max_attempts=3, backoff=exponential(2)),
            "order": Q(max_concurrency=10, max_attempts=2),
            "payment-webhook": Q(max_concurrency=20, max_attempts=5, backoff=exponential(1)),
            "payment-retry": Q(max_concurrency=3, max_attempts=3, backoff=fixed(_HOUR)),
            "inventory-release": Q(max_concurrency=8, max_attempts=3),
            "manual-review": Q(max_concurrency=1),
            "reports": Q(max_concurrency=2),
        },
        "exports": {"exports": Q(max_concurrency=5)},
        "hse": {
            "email": Q(max_attempts=5, timeout=30, backoff=_BY_FIVE, priority=1),
            "reports": Q(max_attempts=3, timeout=300, backoff=_BY_FIVE),
            "data-exports": Q(max_attempts=2, timeout=600, backoff=_BY_FIVE),
            "webhooks": Q(max_attempts=5, timeout=30, backoff=_WEBHOOKS_BY_FIVE),
            "tenant-onboarding": Q(max_attempts=3, backoff=_BY_FIVE),
            "cleanup": Q(),
        },
        "insights": {
            "data-sync": Q(max_concurrency=2, max_attempts=3, timeout=300, backoff=_BY_TWO),
            "insights": Q(max_concurrency=2, max_attempts=3, timeout=180, backoff=_BY_TWO),
            "webhooks": Q(max_concurrency=10, max_attempts=3, timeout=30, backoff=_BY_TWO),
            "reports": Q(max_concurrency=2, max_attempts=3, backoff=_BY_TWO),
            "email": Q(max_concurrency=10, max_attempts=3, timeout=10, backoff=_BY_TWO),
            "alerts": Q(max_concurrency=10, max_attempts=3, backoff=_BY_TWO),
        },
        "escrow": {
            "email": Q(max_attempts=3, backoff=exponential(2)),
            "payments": Q(max_attempts=3, backoff=exponential(2)),
            "webhooks": Q(max_attempts=3, backoff=exponential(2)),
            "notifications": Q(max_attempts=3, backoff=exponential(2)),
            "audit": Q(max_attempts=3, backoff=exponential(2)),
        },
    }
)


def preset(name: str) -> Mapping[str, Q]:
    """The queues of a preset, or a ConfigurationError that lists the presets."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ConfigurationError(
            f"no preset is called {name!r}: there are {', '.join(PRESETS)}"
        ) from None
